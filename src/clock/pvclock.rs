//! kvm-clock: nanoseconds as a guest computes them from its TSC, exactly.

use crate::clock::history::History;
use crate::clock::infer::{Inference, Undecided, VcpuSample};
use crate::clock::place::Track;
use crate::clock::windows::Windows;
use crate::time::{GuestTsc, HostTsc};

/// What a `kvm_pvclock_update` event tells: `ns = system_time + (((tsc - tsc_timestamp) << shift) * mul >> 32)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// `tsc_timestamp`, in guest TSC cycles.
    pub tsc_timestamp: GuestTsc,
    /// `system_time` in nanoseconds.
    pub system_time: u64,
    /// `tsc_to_system_mul`.
    pub mul: u32,
    /// `tsc_shift`: a signed byte; negative shifts right. The tracepoint prints 255 for -1.
    pub shift: i8,
}

/// An update of one vCPU's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// Host time of the event; the parameters hold from the next kvm_entry on.
    pub at: HostTsc,
    /// The parameters.
    pub params: Params,
}

impl Params {
    /// kvm-clock at `tsc`, modulo 2^64. A TSC before `tsc_timestamp` is a huge distance for the guest as well.
    pub fn ns(&self, tsc: GuestTsc) -> u64 {
        let _ = tsc;
        todo!()
    }

    /// The first and last guest TSC (counted on from `tsc_timestamp`) at which kvm-clock shows `ns`, if it ever does.
    pub fn guest_range(&self, ns: u64) -> Option<(GuestTsc, GuestTsc)> {
        let _ = ns;
        todo!()
    }

    /// The guest's TSC rate as the kernel knows it, in Hz. `None` if `mul` is 0.
    pub fn hz(&self) -> Option<u64> {
        todo!()
    }
}

/// The tracks of a guest CPU that recorded kvm-clock less `constant` nanoseconds: one per update and offset segment.
pub fn tracks(history: &History, updates: &[Update], constant: i64) -> Vec<Track> {
    let _ = (history, updates, constant);
    todo!()
}

/// One vCPU of a guest whose constant is sought.
#[derive(Clone, Copy, Debug)]
pub struct ClockSample<'a> {
    /// Stamps in nanoseconds, and the run windows in host TSC.
    pub sample: VcpuSample<'a>,
    /// The vCPU's updates, by host time.
    pub updates: &'a [Update],
    /// The vCPU's offset history.
    pub history: &'a History,
}

/// Finds `kvm-clock - stamp`, in nanoseconds. The ranges of the result are nanoseconds, with the *negated* sign:
/// `stamp = kvm_clock + offset`.
///
/// # Errors
///
/// As [`crate::clock::infer::infer`].
pub fn infer_constant(samples: &[ClockSample<'_>]) -> Result<Inference, Undecided> {
    let _ = samples;
    todo!()
}

/// Run windows in kvm-clock nanoseconds instead of host TSC.
pub fn windows_in_ns(windows: &Windows, updates: &[Update], history: &History) -> Windows {
    let _ = (windows, updates, history);
    todo!()
}
