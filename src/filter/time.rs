//! Times and durations as a user writes them, and what they are in host time.

use std::str::FromStr;

use crate::clock::rate::TscRate;
use crate::clock::scaling::HostRange;
use crate::error::{Error, ErrorKind, Result};
use crate::session::{Session, Vcpu};
use crate::time::{HostTsc, RawStamp};

/// A moment: `26.5` (seconds on the output's axis), `26500ms`, `+1.5s` (from the start), `VM:TSC` or `VM/VCPU:TSC`
/// (guest TSC), `host:TSC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeSpec {
    /// Nanoseconds on the output's axis.
    Trace(u64),
    /// Nanoseconds after the start of what would be shown otherwise.
    FromStart(u64),
    /// A TSC value of the host.
    Host(u64),
    /// A TSC value that a guest read.
    Guest {
        /// The VM's name.
        vm: String,
        /// The vCPU's number; the VM's first one that knows the value otherwise.
        vcpu: Option<u32>,
        /// The value.
        tsc: u64,
    },
}

impl FromStr for TimeSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: String| {
            Error::new(ErrorKind::Usage, format!("time `{text}`: {why}"))
                .hint("write seconds such as 26.5, a unit such as 26500ms, +1.5s from the start, or VM:TSC")
        };
        if let Some((machine, tsc)) = text.rsplit_once(':') {
            let tsc = tsc.parse().map_err(|_| wrong("the TSC value is not a 64-bit number".to_owned()))?;
            let (vm, vcpu) = match machine.rsplit_once('/') {
                Some((vm, number)) if number.bytes().all(|b| b.is_ascii_digit()) => match number.parse() {
                    Ok(number) => (vm, Some(number)),
                    Err(_) => (machine, None),
                },
                _ => (machine, None),
            };
            return match (vm, vcpu) {
                ("", _) => Err(wrong("the VM's name is empty".to_owned())),
                ("host", None) => Ok(Self::Host(tsc)),
                _ => Ok(Self::Guest { vm: vm.to_owned(), vcpu, tsc }),
            };
        }
        match text.strip_prefix('+') {
            Some(rest) => Ok(Self::FromStart(nanoseconds(rest, 1_000_000_000).map_err(wrong)?)),
            None => Ok(Self::Trace(nanoseconds(text, 1_000_000_000).map_err(wrong)?)),
        }
    }
}

/// A number with or without `ns`, `us`, `ms`, `s`; without, it counts in `default` nanoseconds.
pub fn nanoseconds(text: &str, default: u64) -> Result<u64, String> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale: u64 = match unit {
        "" => default,
        "ns" => 1,
        "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        _ => return Err(format!("unknown unit `{unit}`: use ns, us, ms or s")),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let wrong = || "write a number and a unit, such as 100us or 1.5ms".to_owned();
    let whole: u64 = if whole.is_empty() && !fraction.is_empty() { 0 } else { whole.parse().map_err(|_| wrong())? };
    let mut ns = whole.checked_mul(scale).ok_or_else(wrong)?;
    let mut unit = scale;
    for digit in fraction.chars() {
        unit /= 10;
        let digit = digit.to_digit(10).ok_or_else(wrong)?;
        ns = ns.checked_add(unit * u64::from(digit)).ok_or_else(wrong)?;
    }
    Ok(ns)
}

/// The first host time that is shown at `ns` or later.
pub fn first_at(rate: &TscRate, ns: u64) -> HostTsc {
    let at = |tsc: u64| rate.ns(HostTsc::new(tsc)).get();
    let (mut low, mut high) = (0, u64::MAX);
    while low < high {
        let middle = low + (high - low) / 2;
        if at(middle) >= ns { high = middle } else { low = middle + 1 }
    }
    HostTsc::new(low)
}

impl TimeSpec {
    /// The host times that are meant; several where one nanosecond is several cycles. `start` is what `+` counts from.
    pub(super) fn resolve(&self, session: &Session, start: HostTsc) -> Result<HostRange> {
        let rate = &session.rate.rate;
        let shown_at = |ns: u64| {
            let next = first_at(rate, ns.saturating_add(1));
            let first = first_at(rate, ns);
            HostRange { first, last: first.max(HostTsc::new(next.get().saturating_sub(1))) }
        };
        match self {
            Self::Trace(ns) => Ok(shown_at(*ns)),
            Self::FromStart(ns) => Ok(shown_at(rate.ns(start).get().saturating_add(*ns))),
            Self::Host(tsc) => Ok(HostRange::at(HostTsc::new(*tsc))),
            Self::Guest { vm, vcpu, tsc } => {
                let found = super::find_vm(session, vm)?;
                let mut vcpus = found.vcpus.iter().filter(|v| vcpu.is_none_or(|number| v.number == number));
                vcpus.find_map(|v| host_time(v, *tsc)).ok_or_else(|| {
                    let of = vcpu.map_or_else(|| format!("VM {vm}"), |number| format!("VM {vm} vCPU {number}"));
                    Error::new(ErrorKind::Usage, format!("{of} never read TSC {tsc} as far as its offsets are known"))
                        .hint("see `kvm-timeline offsets` for the history: guest TSC = host TSC + offset")
                })
            }
        }
    }
}

/// When a vCPU read this value: the first time, if it jumped back.
fn host_time(vcpu: &Vcpu, tsc: u64) -> Option<HostRange> {
    vcpu.history.segments.iter().find_map(|s| s.mapping().host(RawStamp::new(tsc), s.ran?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(nanoseconds("100us", 1), Ok(100_000));
        assert_eq!(nanoseconds("1.5ms", 1), Ok(1_500_000));
        assert_eq!(nanoseconds(".25s", 1), Ok(250_000_000));
        assert_eq!(nanoseconds("7", 1), Ok(7));
        for wrong in ["7h", "", ".", "99999999999999s", "1.2.3s"] {
            assert!(nanoseconds(wrong, 1).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times() {
        let time = |text: &str| text.parse::<TimeSpec>().ok();
        assert_eq!(time("26.865123456"), Some(TimeSpec::Trace(26_865_123_456)));
        assert_eq!(time("26865ms"), Some(TimeSpec::Trace(26_865_000_000)));
        assert_eq!(time("+1.5s"), Some(TimeSpec::FromStart(1_500_000_000)));
        assert_eq!(time("host:12"), Some(TimeSpec::Host(12)));
        assert_eq!(time("a:12"), Some(TimeSpec::Guest { vm: "a".into(), vcpu: None, tsc: 12 }));
        assert_eq!(time("l1/l2/3:12"), Some(TimeSpec::Guest { vm: "l1/l2".into(), vcpu: Some(3), tsc: 12 }));
        for wrong in ["", "x", "a:", ":5", "-3"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_time_on_the_axis_becomes_the_cycles_that_are_shown_there() {
        let rate = TscRate::from_hz(2_596_116_000).unwrap();
        for ns in [0, 1, 999, 26_865_123_456, u64::MAX / 4] {
            let first = first_at(&rate, ns);
            assert!(rate.ns(first).get() >= ns);
            assert!(first.get() == 0 || rate.ns(HostTsc::new(first.get() - 1)).get() < ns);
        }
    }
}
