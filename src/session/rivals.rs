//! What a guest whose events fit its VM badly may be instead: another VM's, or in another unit.

use crate::capture::Clock;
use crate::clock::infer::{VcpuSample, Verdict, infer};
use crate::clock::place::tracks;
use crate::clock::scaling::{HostRange, Scaling};
use crate::clock::windows::Windows;
use crate::error::Result;
use crate::monitor::Monitor;
use crate::session::runs::windows;
use crate::session::samples::{Tried, inside_and_checked, sample, sound};
use crate::session::{Role, Session, Vcpu};
use crate::time::HostTsc;

/// Chunks per stream that are looked at.
const CHUNKS: usize = 8;

/// How a VM's guest files fit some VM's histories and run windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rival {
    /// Index into [`Session::vms`].
    pub vm: usize,
    /// Sampled events inside its run windows.
    pub inside: u64,
    /// Sampled events of which it is known whether they are.
    pub checked: u64,
}

/// The VM whose run windows the guest files of `vm` fit clearly better than those of `vm` itself, if there is one.
///
/// # Errors
///
/// If an input can no longer be read.
pub fn better_vm(session: &Session, vm: usize, monitor: &Monitor<'_>) -> Result<Option<Rival>> {
    let own = fit(session, vm, vm, monitor)?;
    let mut best: Option<Rival> = None;
    for other in (0..session.vms.len()).filter(|&other| other != vm) {
        let found = fit(session, vm, other, monitor)?;
        let better = |a: Rival, b: Rival| a.inside * b.checked.max(1) > b.inside * a.checked.max(1);
        if found.inside * 10 >= found.checked * 9 && found.checked > 0 && better(found, own) {
            best = Some(best.filter(|&b| !better(found, b)).unwrap_or(found));
        }
    }
    Ok(best)
}

/// Whether the stamps of a guest's files that say x86-tsc are nanoseconds: one distance puts them all into run windows
/// once those are in nanoseconds too.
///
/// # Errors
///
/// If an input can no longer be read.
pub fn stamps_are_nanoseconds(session: &Session, vm: usize, monitor: &Monitor<'_>) -> Result<bool> {
    if session.rate.hz.is_none() {
        return Ok(false);
    }
    let cycles = windows(&session.hosts(), &[HostRange::ALL], monitor)?;
    let rate = &session.rate.rate;
    let ns = |range: &HostRange| {
        let at = |tsc: HostTsc| HostTsc::new(rate.ns(tsc).get());
        HostRange::new(at(range.first), at(range.last))
    };
    let in_ns = |thread: i32| {
        let windows = cycles.get(&thread)?;
        Some(Windows::from_certain(
            windows.windows().iter().filter_map(ns).collect(),
            windows.gaps().iter().filter_map(ns).collect(),
        ))
    };
    let mut known = Vec::new();
    for input in session.inputs.iter().filter(|i| i.role == Role::Guest(vm)) {
        if input.capture.buffers.iter().any(|b| b.clock != Clock::X86Tsc) {
            return Ok(false);
        }
        for stream in sample(&input.capture, &input.survey, CHUNKS, |_| true)? {
            let vcpu = session.vms[vm].vcpus.iter().find(|v| v.number == stream.cpu);
            known.extend(vcpu.and_then(|v| in_ns(v.thread?)).map(|windows| (sound(&stream), windows)));
        }
    }
    let samples: Vec<VcpuSample<'_>> = known.iter().map(|(stamps, windows)| VcpuSample { stamps, windows }).collect();
    let found = infer(&samples, Scaling::NONE);
    Ok(found.is_ok_and(|i| i.verdict == Verdict::Unique && i.inside * 1000 >= i.checked * 999))
}

/// The files of VM `of`, placed as if they were those of VM `on`.
fn fit(session: &Session, of: usize, on: usize, monitor: &Monitor<'_>) -> Result<Rival> {
    let mut streams = Vec::new();
    for input in session.inputs.iter().filter(|i| i.role == Role::Guest(of)) {
        if input.capture.buffers.iter().all(|b| b.clock == Clock::X86Tsc) {
            streams.extend(sample(&input.capture, &input.survey, CHUNKS, |_| true)?);
        }
    }
    // Rows of a VM without files are numbered by vcpu_id.
    let by_number = session.streams.iter().any(|s| s.vm == on);
    let vcpu_of = |cpu: u32| {
        let fits = |&(rank, v): &(usize, &Vcpu)| {
            if by_number { v.number == cpu } else { u32::try_from(rank) == Ok(cpu) }
        };
        session.vms[on].vcpus.iter().enumerate().find(fits).map(|(_, v)| v)
    };
    let mut tried = Vec::new();
    for stream in &streams {
        let Some((vcpu, thread)) = vcpu_of(stream.cpu).and_then(|v| Some((v, v.thread?))) else { continue };
        let tracks = tracks(&vcpu.history);
        tried.extend(stream.pieces.iter().map(|piece| Tried { thread, tracks: tracks.clone(), piece }));
    }
    let (inside, checked) = inside_and_checked(&session.hosts(), None, &tried, monitor)?;
    Ok(Rival { vm: on, inside, checked })
}
