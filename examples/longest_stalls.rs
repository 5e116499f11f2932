//! The ten longest times in which a vCPU wanted to run and did not: preempted, kept waiting after a wakeup, or held up by an
//! exit that the host took long to handle (the time that the thread was off its CPU meanwhile not counted). Made from
//! events alone, nothing is converted.
//!
//! `cargo run --release --example longest_stalls -- fixtures/two-vm`

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::Write as _;

use kvm_timeline::Capture;
use kvm_timeline::error::Result;

/// A time in which a vCPU did not run.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stall {
    /// How long, in nanoseconds.
    pub length_ns: u64,
    /// Since when, in nanoseconds.
    pub start_ns: u64,
    /// Which VM.
    pub vm: String,
    /// Which vCPU.
    pub vcpu: u32,
    /// Why.
    pub why: String,
}

/// What is known of a vCPU's thread while events go by.
#[derive(Default)]
struct Thread {
    /// Off the CPU although it wanted it: since when, and why.
    waits: Option<(u64, &'static str)>,
    /// Asleep: only a wakeup makes it want the CPU.
    asleep: bool,
    /// Out of guest mode: since when, why, and how long of that it was off the CPU.
    exit: Option<(u64, String, u64)>,
    /// Since when it is off the CPU.
    off: Option<u64>,
}

/// The longest stalls of a capture, longest first.
pub fn longest_stalls(capture: &Capture, count: usize) -> Result<Vec<Stall>> {
    let mut threads: BTreeMap<i64, Thread> = BTreeMap::new();
    // The shortest of those that are kept is on top.
    let mut longest: BinaryHeap<Reverse<Stall>> = BinaryHeap::new();
    let mut keep = |thread: i64, start_ns: u64, length_ns: u64, why: &str| {
        if longest.len() == count && longest.peek().is_some_and(|Reverse(least)| least.length_ns >= length_ns) {
            return;
        }
        let Some((vm, vcpu)) = i32::try_from(thread).ok().and_then(|thread| capture.vcpu_of_thread(thread)) else {
            return;
        };
        longest.push(Reverse(Stall { length_ns, start_ns, vm: vm.to_owned(), vcpu, why: why.to_owned() }));
        if longest.len() > count {
            longest.pop();
        }
    };
    for clock in capture.clocks() {
        threads.extend(clock.thread.map(|thread| (i64::from(thread), Thread::default())));
    }
    for event in capture.events()? {
        let event = event?;
        if !event.is_host() {
            continue;
        }
        let now = event.time().get();
        match event.name() {
            "sched_switch" => {
                let (Some(prev), Some(next)) = (event.number("prev_pid"), event.number("next_pid")) else { continue };
                if let Some(thread) = threads.get_mut(&prev) {
                    // No bit of the low byte: it was runnable, and was preempted.
                    thread.asleep = event.number("prev_state").is_some_and(|state| state & 0xff != 0);
                    thread.waits = (!thread.asleep).then_some((now, "preempted"));
                    thread.off = Some(now);
                }
                if let Some(thread) = threads.get_mut(&next) {
                    if let Some((since, why)) = thread.waits.take() {
                        keep(next, since, now - since, why);
                    }
                    if let (Some(off), Some((_, _, away))) = (thread.off.take(), &mut thread.exit) {
                        *away += now - off;
                    }
                    thread.asleep = false;
                }
            }
            "sched_waking" => {
                let Some(woken) = event.number("pid") else { continue };
                if let Some(thread) = threads.get_mut(&woken).filter(|thread| thread.asleep) {
                    thread.asleep = false;
                    thread.waits = Some((now, "woken, and kept waiting"));
                }
            }
            "kvm_exit" => {
                let reason = event.symbol("exit_reason").unwrap_or("an exit").to_owned();
                if let Some(thread) = event.pid().and_then(|pid| threads.get_mut(&i64::from(pid))) {
                    thread.exit = Some((now, reason, 0));
                }
            }
            "kvm_entry" => {
                let Some(pid) = event.pid().map(i64::from) else { continue };
                if let Some((since, reason, away)) = threads.get_mut(&pid).and_then(|thread| thread.exit.take()) {
                    keep(pid, since, (now - since).saturating_sub(away), &reason);
                }
            }
            _ => {}
        }
    }
    Ok(longest.into_sorted_vec().into_iter().map(|Reverse(stall)| stall).collect())
}

fn main() -> Result<()> {
    let mut out = std::io::stdout().lock();
    for path in std::env::args_os().skip(1) {
        let capture = Capture::open(path)?;
        for Stall { length_ns, start_ns, vm, vcpu, why } in longest_stalls(&capture, 10)? {
            let (length, start) = (length_ns as f64 / 1e6, start_ns as f64 / 1e6);
            let _ = writeln!(out, "{length:>10.3} ms at {start:.3} ms: VM {vm} vCPU {vcpu}: {why}");
        }
    }
    Ok(())
}
