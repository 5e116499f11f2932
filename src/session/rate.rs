//! Which TSC rate to use, and what the other sources say.

use crate::capture::Clock;
use crate::clock::rate::TscRate;
use crate::session::request::Request;
use crate::session::{Role, Session};

/// The rate that is used.
#[derive(Clone, Debug)]
pub struct RateChoice {
    /// Host TSC to nanoseconds.
    pub rate: TscRate,
    /// Cycles per second; `None` where nothing tells.
    pub hz: Option<u64>,
    /// Where it is from, in words.
    pub source: String,
    /// What else was found: source and Hz.
    pub others: Vec<(String, u64)>,
}

impl Default for RateChoice {
    fn default() -> Self {
        let source = "unknown: one cycle is shown as one nanosecond".to_owned();
        Self { rate: TscRate::UNKNOWN, hz: None, source, others: Vec::new() }
    }
}

/// Chooses by the order of trust: TSC2NSEC, the user, pvclock, clocks inside events, the kernel log.
pub(super) fn choose(session: &Session, request: &Request, warnings: &mut Vec<String>) -> RateChoice {
    let mut found: Vec<(String, TscRate)> = Vec::new();
    let mut hosts_first: Vec<_> = session.inputs.iter().collect();
    hosts_first.sort_by_key(|i| i.role != Role::Host);
    if let Some(ns) = nanosecond_host(session) {
        return ns;
    }
    for input in &hosts_first {
        let Some(t) = input.capture.info.tsc2nsec else { continue };
        match TscRate::from_mult_shift(t.mult, t.shift) {
            Some(rate) => found.push(("TSC2NSEC of trace.dat".to_owned(), rate)),
            None => warnings.push(format!(
                "{}: TSC2NSEC is ignored: mult {}, shift {} make no rate",
                input.capture.path.display(),
                t.mult,
                t.shift
            )),
        }
    }
    found.truncate(1);
    let said = if request.tsc_hz_in_manifest { "capture.toml" } else { "--tsc-hz" };
    found.extend(request.tsc_hz.and_then(TscRate::from_hz).map(|rate| (said.to_owned(), rate)));
    found.extend(pvclock_hz(session).and_then(TscRate::from_hz).map(|r| ("kvm_pvclock_update".to_owned(), r)));
    for input in &hosts_first {
        if let Some(rate) = slope(&input.survey.ns_pairs).and_then(TscRate::from_hz) {
            found.push(("clock inside hrtimer_expire_entry".to_owned(), rate));
            break;
        }
    }
    found.extend(session.facts.log_tsc_hz.and_then(TscRate::from_hz).map(|r| ("kernel log".to_owned(), r)));
    let mut found = found.into_iter();
    let Some((source, rate)) = found.next() else { return RateChoice::default() };
    RateChoice { rate, hz: Some(rate.hz()), source, others: found.map(|(source, rate)| (source, rate.hz())).collect() }
}

/// A host that recorded a nanosecond clock needs no rate.
fn nanosecond_host(session: &Session) -> Option<RateChoice> {
    let host = session.inputs.iter().find(|i| i.role == Role::Host)?;
    match &host.capture.buffers.first()?.clock {
        Clock::X86Tsc => None,
        Clock::Other(name) => Some(RateChoice {
            rate: TscRate::from_hz(1_000_000_000)?,
            hz: Some(1_000_000_000),
            source: format!("the host's clock `{name}` counts nanoseconds"),
            others: Vec::new(),
        }),
    }
}

/// The guest's rate as the kernel knows it; without scaling it is the host's too.
fn pvclock_hz(session: &Session) -> Option<u64> {
    let scaled = session.vms.iter().flat_map(|vm| &vm.vcpus).flat_map(|v| &v.history.segments);
    if scaled.clone().any(|s| !s.scaling.is_none()) {
        return None;
    }
    let hosts = session.inputs.iter().filter(|i| i.role == Role::Host);
    let last = hosts.filter_map(|i| i.survey.pvclock.last()).next()?;
    let mul = u128::from(last.mul);
    if mul == 0 {
        return None;
    }
    // ns = (tsc << shift) * mul >> 32, so Hz = 10^9 * 2^32 / (mul * 2^shift).
    let hz = match last.shift {
        shift @ 0.. => (1_000_000_000_u128 << 32) / (mul << shift.min(31)),
        shift => (1_000_000_000_u128 << (32 + u32::from(shift.unsigned_abs()).min(31))) / mul,
    };
    // The kernel knows the rate in whole kHz.
    u64::try_from((hz + 500) / 1000 * 1000).ok()
}

/// Cycles per second by the first and the last pair of (cycles, nanoseconds), if they are a second or more apart.
fn slope(pairs: &[(u64, u64)]) -> Option<u64> {
    let first = pairs.iter().min()?;
    let last = pairs.iter().max()?;
    let ns = last.1.checked_sub(first.1).filter(|&ns| ns >= 1_000_000_000)?;
    let cycles = last.0.checked_sub(first.0)?;
    u64::try_from(u128::from(cycles) * 1_000_000_000 / u128::from(ns)).ok().filter(|&hz| hz > 0)
}

#[cfg(test)]
mod tests {
    use super::slope;

    #[test]
    fn a_slope_needs_a_second() {
        assert_eq!(slope(&[(100, 7), (5_192_000_100, 2_000_000_007), (50_000, 20_000)]), Some(2_596_000_000));
        assert_eq!(slope(&[(100, 7), (2_000, 900_000_000)]), None);
        assert_eq!(slope(&[]), None);
    }
}
