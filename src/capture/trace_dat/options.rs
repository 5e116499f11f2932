//! Options: small typed records of metadata, the same in both file versions but for BUFFER.

use super::metadata::Metadata;
use super::time_shift;
use crate::capture::bytes::Cursor;
use crate::capture::{CpuStats, Endian, GuestOption, Tsc2Nsec};
use crate::error::Result;

/// Option and section ids.
pub(super) mod id {
    pub(in super::super) const DONE: u16 = 0;
    pub(super) const DATE: u16 = 1;
    pub(super) const CPUSTAT: u16 = 2;
    pub(in super::super) const BUFFER: u16 = 3;
    pub(in super::super) const TRACECLOCK: u16 = 4;
    pub(super) const UNAME: u16 = 5;
    pub(super) const HOOK: u16 = 6;
    pub(super) const OFFSET: u16 = 7;
    pub(in super::super) const CPUCOUNT: u16 = 8;
    pub(super) const VERSION: u16 = 9;
    pub(super) const PROCMAPS: u16 = 10;
    pub(super) const TRACEID: u16 = 11;
    pub(super) const TIME_SHIFT: u16 = 12;
    pub(super) const GUEST: u16 = 13;
    pub(super) const TSC2NSEC: u16 = 14;
    pub(in super::super) const HEADER_INFO: u16 = 16;
    pub(in super::super) const FTRACE_EVENTS: u16 = 17;
    pub(in super::super) const EVENT_FORMATS: u16 = 18;
    pub(in super::super) const KALLSYMS: u16 = 19;
    pub(in super::super) const PRINTK: u16 = 20;
    pub(in super::super) const CMDLINES: u16 = 21;
    pub(in super::super) const BUFFER_TEXT: u16 = 22;
    /// BTF_FILE, LAST_BOOT_INFO, MODULES_FILE: known, of no use here.
    pub(super) const IGNORED: std::ops::RangeInclusive<u16> = 23..=25;
}

/// An option as it stands in the file.
#[derive(Clone, Debug)]
pub(super) struct RawOption {
    pub(super) id: u16,
    pub(super) payload: Vec<u8>,
    /// Where the payload stands in the file.
    pub(super) offset: u64,
}

/// Text up to the first NUL, without the white space around it.
pub(super) fn text(payload: &[u8]) -> String {
    let end = payload.iter().position(|&byte| byte == 0).unwrap_or(payload.len());
    String::from_utf8_lossy(payload.get(..end).unwrap_or(&[])).trim().to_owned()
}

/// The active clock in the text of a trace_clock file: the word in brackets, or the only word.
pub(super) fn active_clock(text: &str) -> Option<&str> {
    let bracketed = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(clock, _)| clock);
    bracketed.or_else(|| text.split_whitespace().next()).filter(|clock| !clock.is_empty())
}

/// A number as strtoull reads it: decimal or `0x` hexadecimal, with a sign.
fn number(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (digits, 10),
    };
    // from_str_radix would accept a second sign.
    let value = i64::from_str_radix(digits, radix).ok().filter(|_| digits.starts_with(|c: char| c.is_ascii_hexdigit()));
    value.map(|value| if negative { -value } else { value })
}

fn other(endian: Endian) -> Endian {
    if endian == Endian::Little { Endian::Big } else { Endian::Little }
}

/// Reads options in file order; some depend on those before.
#[derive(Default)]
pub(super) struct OptionReader {
    /// Buffer of the CPUSTAT options to come.
    stat_buffer: String,
    unknown: u32,
}

impl OptionReader {
    /// Stores what `option` says in `meta`. One that makes no sense is noted, never an error: the events are worth
    /// more than any option.
    pub(super) fn read(&mut self, option: &RawOption, endian: Endian, meta: &mut Metadata) {
        let RawOption { id, payload, offset } = option;
        if let Err(error) = self.try_read(*id, payload, *offset, endian, meta) {
            meta.notes.warn(format!("option {id} ignored: {error}"));
        }
    }

    /// Reports what was skipped.
    pub(super) fn finish(self, meta: &mut Metadata) {
        if self.unknown > 0 {
            meta.notes.warn(format!("{} options of a kind unknown to this program were skipped", self.unknown));
        }
    }

    fn try_read(&mut self, id: u16, payload: &[u8], offset: u64, endian: Endian, meta: &mut Metadata) -> Result<()> {
        let info = &mut meta.info;
        let mut cursor = Cursor::new(payload, offset, endian);
        match id {
            id::DATE => {
                let nanoseconds = number(&text(payload)).and_then(|us| u64::try_from(us).ok()?.checked_mul(1000));
                info.date_ns = nanoseconds;
                if nanoseconds.is_none() {
                    meta.notes.warn(format!("DATE option \"{}\" is no time, ignored", text(payload)));
                }
            }
            id::OFFSET => {
                info.ts_offset = number(&text(payload));
                if info.ts_offset.is_none() {
                    meta.notes.warn(format!("OFFSET option \"{}\" is no number, ignored", text(payload)));
                }
            }
            id::CPUSTAT => self.cpu_stat(&text(payload), &mut info.cpu_stats, &mut meta.used_cpus),
            id::TRACECLOCK => {
                let text = text(payload);
                meta.trace_clock = Some(active_clock(&text).unwrap_or_default().to_owned());
            }
            id::UNAME => info.uname = Some(text(payload)).filter(|text| !text.is_empty()),
            id::VERSION => meta.recorder = Some(text(payload)),
            id::CPUCOUNT => info.cpu_count = cursor.u32("the number of CPUs")?,
            id::TRACEID => info.trace_id = Some(cursor.u64("TRACEID")?),
            id::TIME_SHIFT => {
                let (shift, order) = time_shift::parse(payload, offset, endian)?;
                if order != endian {
                    meta.notes.warn("the TIME_SHIFT option is in the other byte order than the file".to_owned());
                }
                if info.time_shift.replace(shift).is_some() {
                    meta.notes.warn("more than one TIME_SHIFT option, the last one is used");
                }
            }
            id::GUEST => {
                let (guest, order) = guest(payload, offset, endian)?;
                if order != endian {
                    meta.notes.warn(format!("the GUEST option of \"{}\" is in the other byte order", guest.name));
                }
                info.guests.push(guest);
            }
            id::TSC2NSEC => {
                let mut rate = tsc2nsec(payload, offset, endian)?;
                if rate.is_none() {
                    rate = tsc2nsec(payload, offset, other(endian))?;
                    meta.notes.warn(match rate {
                        Some(_) => "the TSC2NSEC option is in the other byte order than the file",
                        None => "the TSC2NSEC option has a multiplier of 0 or a shift above 63, ignored",
                    });
                }
                info.tsc2nsec = rate.or(info.tsc2nsec);
            }
            id::DONE | id::HOOK | id::PROCMAPS | id::BUFFER | id::HEADER_INFO..=id::BUFFER_TEXT => {}
            _ if id::IGNORED.contains(&id) => {}
            _ => self.unknown += 1,
        }
        Ok(())
    }

    /// `per_cpu/cpuN/stats`, or `Buffer: NAME` for the ones behind it.
    fn cpu_stat(&mut self, text: &str, stats: &mut Vec<CpuStats>, used: &mut Vec<(String, u32)>) {
        if let Some(name) = text.strip_prefix("Buffer:") {
            name.trim().clone_into(&mut self.stat_buffer);
            return;
        }
        let value = |key: &str| {
            text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.trim().parse::<u64>().ok())
        };
        let Some(cpu) = value("CPU").and_then(|cpu| u32::try_from(cpu).ok()) else { return };
        if ["entries", "bytes", "read events"].into_iter().any(|key| value(key).is_some_and(|n| n > 0)) {
            used.push((self.stat_buffer.clone(), cpu));
        }
        stats.push(CpuStats {
            buffer: self.stat_buffer.clone(),
            cpu,
            overrun: value("overrun").unwrap_or(0),
            dropped: value("dropped events").unwrap_or(0),
            entries: value("entries").unwrap_or(0),
        });
    }
}

/// GUEST; gives the byte order in which it makes sense, the file's if both or none do.
fn guest(payload: &[u8], offset: u64, endian: Endian) -> Result<(GuestOption, Endian)> {
    let parse = |endian| {
        let mut cursor = Cursor::new(payload, offset, endian);
        let name = String::from_utf8_lossy(cursor.cstr("the guest's name")?).into_owned();
        let trace_id = cursor.u64("the guest's TRACEID")?;
        let count = cursor.u32("the number of vCPUs")?;
        let mut vcpus = Vec::new();
        for _ in 0..count {
            vcpus.push((cursor.u32("a vCPU number")?, cursor.u32("a vCPU's thread")?.cast_signed()));
        }
        Ok(GuestOption { name, trace_id, vcpus })
    };
    match (parse(endian), parse(other(endian))) {
        (Ok(guest), _) => Ok((guest, endian)),
        (Err(_), Ok(guest)) => Ok((guest, other(endian))),
        (Err(error), Err(_)) => Err(error),
    }
}

/// TSC2NSEC, where its numbers make sense.
fn tsc2nsec(payload: &[u8], offset: u64, endian: Endian) -> Result<Option<Tsc2Nsec>> {
    let mut cursor = Cursor::new(payload, offset, endian);
    let (mult, shift) = (cursor.u32("TSC2NSEC mult")?, cursor.u32("TSC2NSEC shift")?);
    let rate = Tsc2Nsec { mult, shift, offset: cursor.u64("TSC2NSEC offset")? };
    Ok(Some(rate).filter(|rate| rate.mult != 0 && rate.shift <= 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks() {
        assert_eq!(active_clock("local global [x86-tsc] boot\n"), Some("x86-tsc"));
        assert_eq!(active_clock("mono\n"), Some("mono"));
        assert_eq!(active_clock(" \n"), None);
    }

    #[test]
    fn numbers_as_strtoull() {
        assert_eq!(number("0x10"), Some(16));
        assert_eq!(number("-0x10"), Some(-16));
        assert_eq!(number("+12"), Some(12));
        assert_eq!(number("12 apples"), None);
        assert_eq!(number("--1"), None);
    }

    #[test]
    fn stats_of_an_instance() {
        let mut reader = OptionReader::default();
        let (mut stats, mut used) = (Vec::new(), Vec::new());
        reader.cpu_stat("CPU: 1\nentries: 5\noverrun: 7\ncommit overrun: 9\ndropped events: 11", &mut stats, &mut used);
        reader.cpu_stat("Buffer: side", &mut stats, &mut used);
        reader.cpu_stat("CPU: 0\noverrun: 1", &mut stats, &mut used);
        let expected = [
            CpuStats { buffer: String::new(), cpu: 1, overrun: 7, dropped: 11, entries: 5 },
            CpuStats { buffer: "side".into(), cpu: 0, overrun: 1, dropped: 0, entries: 0 },
        ];
        assert_eq!(stats, expected);
        assert_eq!(used, [(String::new(), 1)]);
    }
}
