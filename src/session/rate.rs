//! Which TSC rate to use, and what the other sources say.

use crate::capture::Clock;
use crate::clock::pvclock::Params;
use crate::clock::rate::{self, Candidate, RateSource, TscRate};
use crate::clock::scaling::Scaling;
use crate::session::request::Request;
use crate::session::{Input, Role, Session};
use crate::time::{GuestTsc, HostTsc};

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
    let mut hosts_first: Vec<&Input> = session.inputs.iter().collect();
    hosts_first.sort_by_key(|i| i.role != Role::Host);
    if let Some(ns) = nanosecond_host(session) {
        return ns;
    }
    let mut found = Vec::new();
    found.extend(tsc2nsec(&hosts_first, warnings).map(|rate| Candidate { source: RateSource::Tsc2Nsec, rate }));
    let mut add = |source: RateSource, hz: Option<u64>| {
        found.extend(hz.and_then(TscRate::from_hz).map(|rate| Candidate { source, rate }));
    };
    add(RateSource::Given, request.tsc_hz);
    add(RateSource::PvClock, pvclock_hz(session));
    add(RateSource::ClockPairs, hosts_first.iter().find_map(|i| pairs_hz(&i.survey.ns_pairs)));
    add(RateSource::KernelLog, session.facts.log_tsc_hz);
    let given = if request.tsc_hz_in_manifest { "capture.toml" } else { "--tsc-hz" };
    let chosen = rate::choose(&found);
    if chosen.source == RateSource::Unknown {
        return RateChoice::default();
    }
    if let Some((_, ppm)) = chosen.deviations.iter().find(|(source, _)| *source == RateSource::Given) {
        warnings.push(format!(
            "the rate of {given} is not used: {} knows it, {} Hz; {given} is {ppm} ppm off",
            words(chosen.source, given),
            chosen.rate.hz()
        ));
    }
    let others = found.iter().filter(|c| c.source != chosen.source);
    let others = others.map(|c| (words(c.source, given).to_owned(), c.rate.hz())).collect();
    let from_perf = hosts_first.iter().find(|i| i.capture.info.tsc2nsec.is_some());
    let source = match chosen.source {
        RateSource::Tsc2Nsec if from_perf.is_some_and(|i| i.capture.info.stamp_cycles > 0) => "TIME_CONV of perf.data",
        source => words(source, given),
    };
    RateChoice { rate: chosen.rate, hz: Some(chosen.rate.hz()), source: source.to_owned(), others }
}

/// A source in words; `given` is where the user said it.
fn words(source: RateSource, given: &'static str) -> &'static str {
    match source {
        RateSource::Tsc2Nsec => "TSC2NSEC of trace.dat",
        RateSource::Given => given,
        RateSource::PvClock => "kvm_pvclock_update",
        RateSource::ClockPairs => "clock inside hrtimer_expire_entry",
        RateSource::KernelLog => "kernel log",
        RateSource::Unknown => "unknown",
    }
}

/// The first TSC2NSEC that makes a rate; those of other files are the same clock's.
fn tsc2nsec(inputs: &[&Input], warnings: &mut Vec<String>) -> Option<TscRate> {
    for input in inputs {
        let Some(t) = input.capture.info.tsc2nsec else { continue };
        let rate = TscRate::from_mult_shift(t.mult, t.shift);
        if rate.is_some() {
            return rate;
        }
        let path = input.capture.path.display();
        warnings.push(format!("{path}: TSC2NSEC is ignored: mult {}, shift {} make no rate", t.mult, t.shift));
    }
    None
}

/// A host that recorded a nanosecond clock needs no rate.
fn nanosecond_host(session: &Session) -> Option<RateChoice> {
    session.inputs.iter().find(|i| i.role == Role::Host)?;
    match &session.clock {
        Clock::X86Tsc => None,
        Clock::Other(name) => Some(RateChoice {
            rate: TscRate::from_hz(1_000_000_000)?,
            hz: Some(1_000_000_000),
            source: format!("the host's clock `{name}` counts nanoseconds"),
            others: Vec::new(),
        }),
    }
}

/// The host's rate from the guest's, as the kernel knows it: divided by the VM's scaling.
fn pvclock_hz(session: &Session) -> Option<u64> {
    let hosts = session.inputs.iter().filter(|i| i.role == Role::Host);
    let last = hosts.filter_map(|i| i.survey.pvclock.last()).next()?;
    let vcpus = session.vms.iter().flat_map(|vm| &vm.vcpus);
    let segment = vcpus.filter(|v| v.thread == Some(last.tid)).find_map(|v| v.history.segments.last());
    let params = Params {
        tsc_timestamp: GuestTsc::new(last.tsc_timestamp),
        system_time: last.system_time,
        mul: last.mul,
        shift: last.shift,
    };
    rate::host_hz(params.hz()?, segment.map_or(Scaling::NONE, |s| s.scaling))
}

/// Cycles per second by pairs of (cycles, nanoseconds), if they span a second or more.
fn pairs_hz(pairs: &[(u64, u64)]) -> Option<u64> {
    let (first, last) = (pairs.iter().map(|p| p.1).min()?, pairs.iter().map(|p| p.1).max()?);
    if last - first < 1_000_000_000 {
        return None;
    }
    rate::hz_from_pairs(&pairs.iter().map(|&(tsc, ns)| (HostTsc::new(tsc), ns)).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::pairs_hz;

    #[test]
    fn a_slope_needs_a_second() {
        assert_eq!(pairs_hz(&[(100, 7), (5_192_000_100, 2_000_000_007), (51_927, 20_007)]), Some(2_596_000_000));
        assert_eq!(pairs_hz(&[(100, 7), (2_000, 900_000_000)]), None);
        assert_eq!(pairs_hz(&[]), None);
    }
}
