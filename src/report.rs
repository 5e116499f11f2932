//! The report of a conversion: what was read, what became of it, and whether to trust the picture.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::printable::line;

/// Everything a report says; serialised as it is by `--report FILE`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The captures that were read.
    pub inputs: Vec<InputReport>,
    /// What became of the events: `read = written + filtered + the sum of not_placed`.
    pub events: EventReport,
    /// The VMs.
    pub vms: Vec<VmReport>,
    /// The host's TSC rate.
    pub tsc: TscReport,
    /// The longest stall marks, longest first, ten at most.
    pub longest_stalls: Vec<StallReport>,
    /// Stall marks that had to be cut because a guest event lies inside one.
    pub marks_cut: u64,
    /// Events drawn later than stamped because their stream's clock stepped back.
    pub out_of_order: u64,
    /// What a person should know before trusting the picture.
    pub warnings: Vec<String>,
    /// What of the inputs was damaged, cut short or skipped (exit code 3).
    pub damaged: Vec<String>,
}

/// One capture.
#[derive(Clone, Debug, Default, Serialize)]
pub struct InputReport {
    /// Where it is.
    pub path: String,
    /// `host`, `guest` or `offsets`.
    pub role: String,
    /// What it is, in words.
    pub kind: String,
    /// The VM it belongs to, for guests.
    pub vm: Option<String>,
    /// Every record of every buffer.
    pub events_read: u64,
    /// Events that the kernel lost while recording.
    pub events_lost: u64,
    /// Places where the kernel lost events without counting them.
    pub losses_uncounted: u64,
    /// Packets of a Perfetto trace that are in the output as they are. They are no part of the account of events.
    pub packets_passed: u64,
}

/// What became of the events.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EventReport {
    /// Records read.
    pub read: u64,
    /// Drawn, or shaped something that is drawn.
    pub written: u64,
    /// Left out on purpose: outside the span, second copies, filters, layers that were not asked for.
    pub filtered: u64,
    /// Left out for want of a host time, by reason.
    pub not_placed: BTreeMap<String, u64>,
}

/// One VM.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VmReport {
    /// Name.
    pub name: String,
    /// Process on the host, where the capture shows it.
    pub pid: Option<u32>,
    /// vCPUs in row order.
    pub vcpus: Vec<VcpuReport>,
}

/// One vCPU.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VcpuReport {
    /// The number in its rows' names.
    pub id: u32,
    /// KVM's number, where known.
    pub vcpu_id: Option<u32>,
    /// Its host thread, where known.
    pub thread: Option<i32>,
    /// Guest events of this vCPU that were read.
    pub events: u64,
    /// Guest events within the host trace's span.
    pub checked: u64,
    /// Of those, inside a run window of the vCPU's thread.
    pub inside: u64,
    /// The offset history.
    pub segments: Vec<SegmentReport>,
    /// How far trace-cmd's TIME_SHIFT would move this vCPU's events from where they are, in nanoseconds; null where the
    /// guest's file has none, or where nothing better is known.
    pub time_shift_apart_ns: Option<i64>,
}

/// One offset segment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SegmentReport {
    /// First host TSC at which it holds; null: from before the trace.
    pub from: Option<u64>,
    /// First host TSC at which it no longer holds; null: to the end.
    pub to: Option<u64>,
    /// `guest = host + offset`, signed.
    pub offset: i64,
    /// The same modulo 2^64, as the tracepoint prints it.
    pub offset_unsigned: u64,
    /// Scaling ratio, where there is scaling.
    pub ratio: Option<u64>,
    /// Fraction bits of the ratio.
    pub frac_bits: Option<u8>,
    /// Where it is known from.
    pub source: String,
    /// How far the offset may be off, in cycles.
    pub uncertainty: u64,
}

/// A segment and whose it is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OffsetReport {
    /// VM name.
    pub vm: String,
    /// The vCPU's number.
    pub vcpu: u32,
    /// The segment; in JSON its fields stand beside the other two.
    #[serde(flatten)]
    pub segment: SegmentReport,
}

/// The host's TSC rate.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct TscReport {
    /// Cycles per second; null where nothing tells it, and one cycle is shown as one nanosecond.
    pub hz: Option<u64>,
    /// Where the rate is from.
    pub source: String,
    /// What other sources say, and by how many parts per million they differ from the one used.
    pub others: Vec<RateReport>,
}

/// A TSC rate that was not used.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct RateReport {
    /// Where the rate is from.
    pub source: String,
    /// Cycles per second.
    pub hz: u64,
    /// Difference from the rate used, in parts per million.
    pub ppm: i64,
}

/// One stall mark.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct StallReport {
    /// VM name.
    pub vm: String,
    /// The vCPU's number.
    pub vcpu: u32,
    /// Start on the output's axis, in nanoseconds.
    pub start_ns: u64,
    /// Length in nanoseconds.
    pub duration_ns: u64,
    /// The mark's name.
    pub name: String,
    /// Why, in words.
    pub cause: String,
}

impl Report {
    /// Whether the account is closed.
    pub fn balances(&self) -> bool {
        let not_placed: u64 = self.events.not_placed.values().sum();
        self.events.read == self.events.written + self.events.filtered + not_placed
    }

    /// The short summary for a terminal.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        let events = &self.events;
        let not_placed: u64 = events.not_placed.values().sum();
        let _ = writeln!(
            text,
            "{} events read: {} written, {} filtered, {not_placed} not placed",
            events.read, events.written, events.filtered
        );
        for (reason, count) in &events.not_placed {
            let _ = writeln!(text, "  not placed, {reason}: {count}");
        }
        let lost: u64 = self.inputs.iter().map(|i| i.events_lost).fold(0, u64::saturating_add);
        let places: u64 = self.inputs.iter().map(|i| i.losses_uncounted).sum();
        if lost > 0 || places > 0 {
            let _ = writeln!(text, "{lost} events lost while recording, and at {places} places an unknown number");
        }
        for input in self.inputs.iter().filter(|input| input.packets_passed > 0) {
            let _ = writeln!(
                text,
                "{} packets of {} are in the output as they are",
                input.packets_passed,
                line(&input.path)
            );
        }
        for vm in &self.vms {
            let (checked, inside) = vm.vcpus.iter().fold((0, 0), |(c, i), v| (c + v.checked, i + v.inside));
            let pid = vm.pid.map_or(String::new(), |pid| format!(", process {pid}"));
            let _ = write!(text, "VM {}{pid}, {} vCPUs", line(&vm.name), vm.vcpus.len());
            let _ = match checked {
                0 => writeln!(text, ": no guest events to check"),
                _ => writeln!(
                    text,
                    ": {inside} of {checked} guest events inside run windows ({})",
                    share(inside, checked)
                ),
            };
        }
        let _ = match self.tsc.hz {
            Some(hz) => writeln!(text, "TSC rate {}.{:06} MHz ({})", hz / 1_000_000, hz % 1_000_000, self.tsc.source),
            None => writeln!(text, "TSC rate unknown: one cycle is shown as one nanosecond"),
        };
        if let Some(stall) = self.longest_stalls.first() {
            let _ = writeln!(
                text,
                "longest stall: VM {} vCPU {}, {}.{:03} ms, {}",
                line(&stall.vm),
                stall.vcpu,
                stall.duration_ns / 1_000_000,
                stall.duration_ns / 1000 % 1000,
                line(&stall.name)
            );
        }
        text
    }
}

/// A percentage that says 100 % only when it is.
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let thousandths = u128::from(part) * 100_000 / u128::from(whole);
    format!("{}.{:03} %", thousandths / 1000, thousandths % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_rounded_up() {
        assert_eq!(share(185_145, 185_146), "99.999 %");
        assert_eq!(share(3, 3), "100.000 %");
        assert_eq!(share(1, 3), "33.333 %");
        assert_eq!(share(0, 0), "-");
    }
}
