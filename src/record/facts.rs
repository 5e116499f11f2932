//! What is said about a recording beside its events: when, on which machine, with which counter.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use super::system::{System, text};

/// A moment of wall-clock time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    seconds: u64,
    nanoseconds: u32,
}

impl Moment {
    /// Now.
    pub(super) fn now() -> Self {
        // Before 1970 no clock is right.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { seconds: since.as_secs(), nanoseconds: since.subsec_nanos() }
    }

    /// Seconds since 1970 with nine digits behind the point.
    pub(super) fn seconds(self) -> String {
        format!("{}.{:09}", self.seconds, self.nanoseconds)
    }

    /// `2026-11-26T15:00:00Z`.
    pub(super) fn rfc3339(self) -> String {
        let (year, month, day) = date(self.seconds / 86_400);
        let of_day = self.seconds % 86_400;
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }

    /// The text of a mark in the recording.
    pub(super) fn mark(what: &str, seconds: &str) -> String {
        format!("kvm-timeline: {what}, wall clock {seconds}")
    }
}

/// The Gregorian date of a number of days since 1970-01-01.
fn date(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    // 400 years have the same number of days wherever they begin.
    let mut year = 1970 + days / 146_097 * 400;
    days %= 146_097;
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

/// Words for people about the machine.
pub(super) fn notes(system: &System) -> String {
    let mut notes = format!("recorded by kvm-timeline record {}", env!("CARGO_PKG_VERSION"));
    let facts = [
        ("host", "proc/sys/kernel/hostname"),
        ("kernel", "proc/version"),
        ("boot", "proc/sys/kernel/random/boot_id"),
        ("clocksource", "sys/devices/system/clocksource/clocksource0/current_clocksource"),
    ];
    for (what, path) in facts {
        if let Ok(text) = text(&system.path(path)) {
            let _ = write!(notes, "\n{what}: {}", text.trim());
        }
    }
    let cpu = text(&system.path("proc/cpuinfo")).unwrap_or_default();
    if let Some((_, model)) = cpu.lines().find_map(|line| line.split_once(':').filter(|l| l.0.trim() == "model name")) {
        let _ = write!(notes, "\ncpu: {}", model.trim());
    }
    notes
}

/// The lines of the kernel's log about the TSC, in the form that `dmesg` prints.
pub(super) fn tsc_log(kmsg: &str) -> String {
    let mut log = String::new();
    for line in kmsg.lines() {
        // `PRIORITY,NUMBER,MICROSECONDS,FLAGS;TEXT` in /dev/kmsg.
        let stamped = line.split_once(';').and_then(|(head, text)| {
            let microseconds: u64 = head.split(',').nth(2)?.parse().ok()?;
            Some((microseconds, text))
        });
        let Some((microseconds, text)) = stamped.filter(|(_, text)| text.starts_with("tsc: ")) else { continue };
        let _ = writeln!(log, "[{:5}.{:06}] {text}", microseconds / 1_000_000, microseconds % 1_000_000);
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let at = |seconds| Moment { seconds, nanoseconds: 5 }.rfc3339();
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(at(1_735_689_600), "2025-01-01T00:00:00Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(at(13_574_563_200), "2400-02-29T00:00:00Z");
        assert_eq!(Moment { seconds: 7, nanoseconds: 5 }.seconds(), "7.000000005");
    }

    #[test]
    fn the_kernel_log_becomes_what_dmesg_prints() {
        let kmsg = "6,0,0,-;Linux version 6.1\n6,40,28000,-;tsc: Detected 2596.151 MHz processor\n SUBSYSTEM=x\n\
                    6,400,2381019,-;tsc: Refined TSC clocksource calibration: 2596.116 MHz\n";
        let log = tsc_log(kmsg);
        assert_eq!(
            log,
            "[    0.028000] tsc: Detected 2596.151 MHz processor\n\
             [    2.381019] tsc: Refined TSC clocksource calibration: 2596.116 MHz\n"
        );
        assert_eq!(crate::clock::rate::hz_from_kernel_log(&log), Some(2_596_116_000));
    }
}
