//! Tests of the text reader, and what they share.

mod lines;
mod patterns;
mod reading;
mod robustness;

use std::path::Path;
use std::sync::Arc;

use super::open_chunked;
use crate::capture::event_format::{PrintContext, Value};
use crate::capture::{Capture, Chunk, Lost};
use crate::error::Result;

/// A kernel's `trace` file of Linux 6.1, shortened.
const KERNEL: &str = "\
# tracer: nop
#
# entries-in-buffer/entries-written: 14/20   #P:2
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
          <idle>-0       [001] d.h1.  25201253908: softirq_raise: vec=7 [action=SCHED]
            init-1       [000] d.s3.  25206022152: sched_waking: comm=rcu_preempt pid=15 prio=120 target_cpu=001
          <idle>-0       [001] d..2.  25206936208: sched_switch: prev_comm=swapper/1 prev_pid=0 prev_prio=120 prev_state=R ==> next_comm=CPU 0/KVM next_pid=203 next_prio=120
       CPU 0/KVM-203     [001] d..1.  29384356520: kvm_entry: vcpu 0, rip 0xfff0
       CPU 0/KVM-203     [001] .....  29396465630: kvm_exit: vcpu 0 reason npf rip 0xfff0 info1 0x0000000100000014 info2 0x00000000fffffff0 intr_info 0x00000000 error_code 0x00000000
       CPU 0/KVM-203     [001] d..1.  29396465640: kvm_write_tsc_offset: vcpu=0 prev=0 next=18446744050585433974
       CPU 0/KVM-203     [001] .....  29396465650: kvm_fpu: unload
            init-1       [000] .....  29396465660: sys_enter: NR 33 (b, 1, 189d36f0, 5cee200fa1059dcd, 7, 189d9c20)
CPU:0 [LOST 253 EVENTS]
            init-1       [000] .....  29396465670: sys_exit: NR 33 = -9
            init-1       [000] d..2.  29396465680: sched_stat_runtime: comm=CPU 0/KVM pid=203 runtime=1946217 [ns] vruntime=4237864923 [ns]
            init-1       [000] .....  29396465690: tracing_mark_write: B|42|a frame: 1
            init-1       [000] .....  29396465700: page_fault_user: address=0x7efdb091b0b0 ip=do_it error_code=0x14
            init-1       [000] .....  29396465705: page_fault_user: address=0x7efdb091b0b1 ip=0x7efdb091b0b0 error_code=0x14
            init-1       [000] d..2.  29396465710: kvm_pvclock_update: vcpu_id 0, pvclock { version 2, tsc_timestamp 0x5a2, system_time 0x1c, tsc_to_system_mul 0xc5a5c5a5, tsc_shift -1, flags 0x1 }
";

fn open(text: &str) -> Capture {
    try_open(text, super::CHUNK).expect("a text")
}

fn try_open(text: &str, chunk: u64) -> Result<Capture> {
    open_chunked(Path::new("trace.txt"), Arc::new(text.as_bytes().to_vec()), None, chunk)
}

/// Every record of a stream: stamp, event, rendered text, and where something was lost.
fn records(capture: &Capture, buffer: usize, cpu: u32) -> Vec<(u64, String, String)> {
    all(capture, buffer, cpu).0
}

fn all(capture: &Capture, buffer: usize, cpu: u32) -> (Vec<(u64, String, String)>, Vec<Lost>) {
    let stream = capture.buffers[buffer].streams.iter().find(|stream| stream.cpu == cpu).expect("the CPU");
    let (mut list, mut lost) = (Vec::new(), Vec::new());
    let mut chunk = Chunk::default();
    for index in 0..stream.source.chunks() {
        stream.source.read(index, &mut chunk).expect("a chunk");
        lost.extend(chunk.lost.iter().map(|lost| Lost { before: lost.before + list.len(), ..*lost }));
        for record in &chunk.records {
            let format = capture.formats.get(record.event).expect("a format");
            let mut out = Vec::new();
            format.render(chunk.payload(record), capture.endian, &PrintContext::default(), &mut out);
            let name = format!("{}:{}", format.system, format.name);
            list.push((record.ts, name, String::from_utf8_lossy(&out).into_owned()));
        }
    }
    (list, lost)
}

/// The fields of the first record of an event, as text.
fn fields(capture: &Capture, system: &str, name: &str) -> Vec<String> {
    let event = capture.formats.find(system, name).expect("the event");
    let format = capture.formats.get(event).expect("the format");
    let mut chunk = Chunk::default();
    for stream in capture.buffers.iter().flat_map(|buffer| &buffer.streams) {
        for index in 0..stream.source.chunks() {
            stream.source.read(index, &mut chunk).expect("a chunk");
            let Some(record) = chunk.records.iter().find(|record| record.event == event) else { continue };
            let payload = chunk.payload(record);
            let show = |value| match value {
                None => "none".to_string(),
                Some(Value::Text(text)) => String::from_utf8_lossy(text).into_owned(),
                Some(Value::Uint(value)) => value.to_string(),
                Some(Value::Int(value)) => value.to_string(),
                Some(other) => format!("{other:?}"),
            };
            let list = format.common.iter().skip(1).chain(&format.fields);
            return list.map(|f| format!("{}={}", f.name, show(f.value(payload, capture.endian)))).collect();
        }
    }
    panic!("no record of {system}:{name}");
}
