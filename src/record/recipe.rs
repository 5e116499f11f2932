//! The recipe for a good capture, for people.

use super::guest;
use super::plan::{DEFAULT_BUFFER_KIB, DEFAULT_EVENTS};

/// Which part of the recipe is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What is done on the host.
    Host,
    /// What is done in each guest.
    Guest,
}

/// The recipe, or one part of it.
pub fn recipe(part: Option<Part>) -> String {
    let host = host();
    let guest = guest();
    match part {
        Some(Part::Host) => host,
        Some(Part::Guest) => guest,
        None => format!("{host}\n{guest}\n{TOGETHER}"),
    }
}

fn host() -> String {
    let events = wrapped(DEFAULT_EVENTS.iter().map(|event| (*event).to_owned()), "\n     ");
    let options = options(&DEFAULT_EVENTS);
    format!(
        "\
ON THE HOST, as root

1. Before the VMs start, so that no TSC offset is missed:

     kvm-timeline record --prepare

   It makes a tracing instance with nothing but the offset event, which stays until `record --unprepare`. By hand:

     modprobe kvm_intel || modprobe kvm_amd
     cd /sys/kernel/tracing && mkdir instances/tsc_offset && cd instances/tsc_offset
     echo x86-tsc > trace_clock
     echo 1 > events/kvm/kvm_write_tsc_offset/enable

   VMs that run already need nothing: `record` reads their offsets from /sys/kernel/debug/kvm. They hold as long as
   nothing changes them, which the recording then shows.

2. While the guests record too:

     kvm-timeline record -o capture

   until Ctrl-C, or for --duration 10s, or as long as a command runs: record -o capture -- COMMAND. `--dry-run` shows
   every write. The events, all with the clock x86-tsc:

     {events}

   kvm tells when a vCPU runs and why not, sched who ran instead, irq what interrupted it. Each CPU has a buffer of
   {DEFAULT_BUFFER_KIB} KiB (--buffer-size-kb) that is copied while it fills.

   The same with trace-cmd:

     trace-cmd record -C x86-tsc -b {DEFAULT_BUFFER_KIB} \\
         {options} \\
         -B tsc_offset -C x86-tsc -e kvm:kvm_write_tsc_offset -o host.dat

   and beside its file, for VMs that run already, and for the TSC's rate:

     for d in /sys/kernel/debug/kvm/*-*/vcpu*; do echo \"$d tsc-offset=$(cat $d/tsc-offset) \\
         ratio=$(cat $d/tsc-scaling-ratio 2>/dev/null) frac=$(cat $d/tsc-scaling-ratio-frac-bits 2>/dev/null)\"; \\
     done > offsets-debugfs.txt
     dmesg | grep 'tsc: ' > host-dmesg.txt
"
    )
}

fn guest() -> String {
    let options = options(&guest::DEFAULT_EVENTS);
    let kib = guest::DEFAULT_BUFFER_KIB;
    format!(
        "\
IN EACH GUEST, as root

   With nothing but a shell and tracefs: on the host, `kvm-timeline record --guest-script guest.sh` writes a script.
   Bring it into the guest, and there:

     sh guest.sh -d 10

   It leaves guest-HOSTNAME and guest-HOSTNAME.tar. All of the recording has to fit into the buffers: {kib} KiB for
   each CPU (-b).

   With trace-cmd:

     trace-cmd record -C x86-tsc -b {kib} -o guest-NAME.dat \\
         {options} sleep 10

   Or both sides at once over vsock, `trace-cmd agent` in the guest, and on the host:

     trace-cmd record -C x86-tsc -e kvm -e sched -e irq -o host.dat -A NAME \\
         {options} sleep 10
"
    )
}

/// As options of trace-cmd, on lines that a shell joins.
fn options(events: &[&str]) -> String {
    wrapped(events.iter().map(|event| format!("-e {event}")), " \\\n         ")
}

/// Words on lines of about 100 columns.
fn wrapped(words: impl Iterator<Item = String>, line_end: &str) -> String {
    let (mut text, mut line) = (String::new(), 0);
    for word in words {
        if line + word.len() > 90 {
            text.push_str(line_end);
            line = 0;
        } else if line > 0 {
            text.push(' ');
        }
        line += word.len() + 1;
        text.push_str(&word);
    }
    text
}

/// What is done with the results of host and guests.
pub const TOGETHER: &str = "\
TOGETHER

   Put the guests' files into the host's directory, or name them beside it, and look what is there before it is drawn:

     kvm-timeline inspect capture
     kvm-timeline check capture
     kvm-timeline convert capture -o timeline.pftrace
";
