//! One line of ftrace text, as the kernel's `trace` file or `trace-cmd report` writes it.
//!
//! `COMM-PID (TGID) [CPU] FLAGS STAMP: BODY`, where TGID and FLAGS may be missing; `trace-cmd report -l` glues CPU and
//! flags together (`1d.h2.`); a report of several buffers puts `NAME:` in front.

/// An event line, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Buffer or file in front of the line, without its colon; mostly empty.
    pub(super) prefix: &'a [u8],
    pub(super) comm: &'a [u8],
    pub(super) pid: i32,
    /// The process, where the column exists and the kernel knew it.
    pub(super) tgid: Option<i32>,
    pub(super) cpu: u32,
    /// As `common_flags`.
    pub(super) flags: u8,
    /// As `common_preempt_count`.
    pub(super) preempt: u8,
    pub(super) stamp: Stamp,
    /// Event name and text.
    pub(super) body: &'a [u8],
}

/// A time as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamp {
    /// A plain integer: cycles or a count.
    Count(u64),
    /// Seconds with a fraction, in nanoseconds.
    Nanoseconds(u64),
}

/// What else a line can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Other<'a> {
    /// `CPU:1 [LOST 253 EVENTS]`, `CPU:1 [EVENTS DROPPED]`.
    Lost { prefix: &'a [u8], cpu: u32, count: Option<u64> },
    /// `NAME: cpus=2` (a name only where several files were merged), or `#P:2`.
    Cpus { prefix: &'a [u8], count: u32 },
    /// `# tracer: NAME`.
    Tracer(&'a [u8]),
    /// `# entries-in-buffer/entries-written: 12/345`.
    Entries { left: u64, written: u64 },
    /// Comments, empty lines, `CPU 1 is empty`, the lines of a stack trace.
    Nothing,
    /// None of all this.
    Unknown,
}

/// Flag bits of `common_flags` (include/linux/trace_events.h).
const IRQS_OFF: u8 = 1;
const NEED_RESCHED: u8 = 4;
const HARDIRQ: u8 = 8;
const SOFTIRQ: u8 = 16;
const PREEMPT_RESCHED: u8 = 32;
const NMI: u8 = 64;
const BH_OFF: u8 = 128;

impl<'a> Line<'a> {
    /// Takes an event line apart; `None` for any other line.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        // The stamp is the first number that ends in a colon: search forward, then read what stands before it.
        let mut from = 0;
        loop {
            let colon = from + line.get(from..)?.iter().position(|&byte| byte == b':')?;
            from = colon + 1;
            if !matches!(line.get(from), None | Some(b' ')) {
                continue;
            }
            let before = line.get(..colon)?;
            let Some((head, stamp)) = split_stamp(before) else { continue };
            if let Some(head) = Head::parse(trim_end(head)) {
                let body = trim(line.get(from..)?);
                let Head { prefix, comm, pid, tgid, cpu, flags, preempt } = head;
                return Some(Self { prefix, comm, pid, tgid, cpu, flags, preempt, stamp, body });
            }
        }
    }
}

/// Splits a stamp off the end. `trace-cmd report` leaves no space before one of 12 digits: `[001]145130378503`, and
/// with `-l` `1d.h2.145130378503`, whose flags are five.
fn split_stamp(text: &[u8]) -> Option<(&[u8], Stamp)> {
    let start = text.iter().rposition(|&byte| byte == b' ').map_or(0, |space| space + 1);
    let word = text.get(start..)?;
    let at = |length: usize| Some((text.get(..start + length)?, Stamp::parse(word.get(length..)?)?));
    at(0).or_else(|| match word.iter().position(|&byte| byte == b']') {
        Some(end) => at(end + 1),
        None => at(word.iter().position(|byte| !byte.is_ascii_digit()).filter(|&digits| digits > 0)? + 5),
    })
}

impl Stamp {
    fn parse(text: &[u8]) -> Option<Self> {
        match text.iter().position(|&byte| byte == b'.') {
            None => decimal(text).map(Self::Count),
            Some(dot) => {
                let (seconds, fraction) = (decimal(text.get(..dot)?)?, text.get(dot + 1..)?);
                let digits = u32::try_from(fraction.len()).ok().filter(|digits| (1..=9).contains(digits))?;
                let ns = decimal(fraction)? * 10_u64.pow(9 - digits);
                seconds.checked_mul(1_000_000_000)?.checked_add(ns).map(Self::Nanoseconds)
            }
        }
    }
}

/// What stands before the stamp.
struct Head<'a> {
    prefix: &'a [u8],
    comm: &'a [u8],
    pid: i32,
    tgid: Option<i32>,
    cpu: u32,
    flags: u8,
    preempt: u8,
}

impl<'a> Head<'a> {
    fn parse(head: &'a [u8]) -> Option<Self> {
        let (rest, last) = last_word(head);
        let (rest, cpu, flags) = if let Some(cpu) = bracketed(last) {
            (rest, cpu, &[][..])
        } else {
            let (before, word) = last_word(rest);
            match bracketed(word) {
                Some(cpu) => (before, cpu, last),
                None => {
                    // `1d.h2.`: CPU and flags in one; `1-0x9` of `report -R -l`: the flags as a number.
                    let digits = last.iter().position(|byte| !byte.is_ascii_digit())?;
                    let flags = last.get(digits..)?;
                    let raw = flags.strip_prefix(b"-0x").filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
                    let flags = if raw.is_some() { &[][..] } else { Some(flags).filter(|f| f.len() >= 4)? };
                    (rest, decimal(last.get(..digits)?)?, flags)
                }
            }
        };
        let cpu = u32::try_from(cpu).ok().filter(|&cpu| cpu < 1 << 16)?;
        let (flags, preempt) = context(flags)?;
        let (rest, tgid) = match rest.strip_suffix(b")") {
            Some(inner) => {
                let open = inner.iter().rposition(|&byte| byte == b'(')?;
                let tgid = trim(inner.get(open + 1..)?);
                // A comm may end in a bracket; a thread group is a number or dashes.
                if tgid.is_empty() || !tgid.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-') {
                    (rest, None)
                } else {
                    let tgid = decimal(tgid).and_then(|tgid| i32::try_from(tgid).ok());
                    (trim_end(inner.get(..open)?), tgid)
                }
            }
            None => (rest, None),
        };
        let dash = rest.iter().rposition(|byte| !byte.is_ascii_digit()).filter(|&at| rest.get(at) == Some(&b'-'))?;
        let pid = decimal(rest.get(dash + 1..)?).and_then(|pid| i32::try_from(pid).ok())?;
        let (prefix, comm) = split_prefix(trim_start(rest.get(..dash)?));
        Some(Self { prefix, comm, pid, tgid, cpu, flags, preempt })
    }
}

/// Longest comm of the kernel.
const MAX_COMM: usize = 15;

/// `NAME:` in front of a comm. A comm may look the same; but the comm's column is padded to more than the longest comm,
/// and what is longer is no comm.
fn split_prefix(text: &[u8]) -> (&[u8], &[u8]) {
    let whole = (&[][..], text);
    let Some(colon) = text.windows(2).position(|window| window == b": ") else { return whole };
    let (Some(prefix), Some(rest)) = (text.get(..colon), text.get(colon + 1..)) else { return whole };
    let padded = rest.starts_with(b"  ") || text.len() > MAX_COMM;
    if prefix.is_empty() || prefix.contains(&b' ') || !padded { whole } else { (prefix, trim_start(rest)) }
}

/// The flags column: interrupts, rescheduling, context, preempt depth, migrate depth, as far as it goes.
fn context(flags: &[u8]) -> Option<(u8, u8)> {
    let mut bits = 0;
    let mut preempt = 0;
    for (at, byte) in flags.iter().enumerate() {
        match (at, byte) {
            (_, b'.') => {}
            (0, b'd') => bits |= IRQS_OFF,
            (0, b'b') => bits |= BH_OFF,
            (0, b'D') => bits |= IRQS_OFF | BH_OFF,
            (1, b'N' | b'B') => bits |= NEED_RESCHED | PREEMPT_RESCHED,
            (1, b'n' | b'L' | b'l' | b'b') => bits |= NEED_RESCHED,
            (1, b'p') => bits |= PREEMPT_RESCHED,
            (2, b'Z') => bits |= NMI | HARDIRQ,
            (2, b'z') => bits |= NMI,
            (2, b'H') => bits |= HARDIRQ | SOFTIRQ,
            (2, b'h') => bits |= HARDIRQ,
            (2, b's') => bits |= SOFTIRQ,
            (3 | 4, digit) if digit.is_ascii_hexdigit() => {
                let depth = char::from(*digit).to_digit(16).unwrap_or(0) as u8;
                preempt |= if at == 3 { depth } else { depth << 4 };
            }
            // Letters of other versions say nothing that is used; anything else is no flags column.
            (_, byte) if at < 8 && (byte.is_ascii_alphanumeric() || matches!(byte, b'#' | b'+' | b'!' | b'*')) => {}
            _ => return None,
        }
    }
    Some((bits, preempt))
}

impl<'a> Other<'a> {
    /// What a line is that is no event.
    pub(super) fn parse(line: &'a [u8]) -> Self {
        let line = trim(line);
        if let Some(comment) = line.strip_prefix(b"#") {
            return Self::comment(trim(comment));
        }
        let starts = [&b"=> "[..], b"version = "];
        let is_empty = line.starts_with(b"CPU ") && line.ends_with(b" is empty");
        if line.is_empty() || is_empty || starts.iter().any(|start| line.starts_with(start)) {
            return Self::Nothing;
        }
        let (prefix, rest) = match line.windows(2).position(|window| window == b": ") {
            Some(colon) if !line.starts_with(b"CPU:") => {
                (line.get(..colon).unwrap_or(&[]), trim(line.get(colon + 1..).unwrap_or(&[])))
            }
            _ => (&[][..], line),
        };
        if let Some(count) = rest.strip_prefix(b"cpus=").and_then(decimal) {
            return Self::Cpus { prefix, count: u32::try_from(count).unwrap_or(0) };
        }
        Self::lost(prefix, rest).unwrap_or(Self::Unknown)
    }

    fn comment(comment: &'a [u8]) -> Self {
        if let Some(tracer) = comment.strip_prefix(b"tracer:") {
            return Self::Tracer(trim(tracer));
        }
        let Some(rest) = comment.strip_prefix(b"entries-in-buffer/entries-written:") else { return Self::Nothing };
        let mut numbers = rest.split(|byte| !byte.is_ascii_digit()).filter_map(decimal);
        match (numbers.next(), numbers.next()) {
            (Some(left), Some(written)) => Self::Entries { left, written },
            _ => Self::Nothing,
        }
    }

    /// `CPU:1 [LOST 253 EVENTS]`.
    fn lost(prefix: &'a [u8], rest: &'a [u8]) -> Option<Self> {
        let rest = rest.strip_prefix(b"CPU:")?;
        let space = rest.iter().position(|&byte| byte == b' ')?;
        let cpu = u32::try_from(decimal(rest.get(..space)?)?).ok().filter(|&cpu| cpu < 1 << 16)?;
        let inner = trim(rest.get(space..)?).strip_prefix(b"[")?.strip_suffix(b"]")?;
        let mut words = inner.split(|&byte| byte == b' ');
        if !words.clone().any(|word| word == b"LOST" || word == b"DROPPED") {
            return None;
        }
        Some(Self::Lost { prefix, cpu, count: words.find_map(decimal) })
    }
}

/// `[012]`.
fn bracketed(word: &[u8]) -> Option<u64> {
    decimal(word.strip_prefix(b"[")?.strip_suffix(b"]")?)
}

/// A number of decimal digits only.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Splits off the last word: what stands before it, without trailing spaces, and the word.
fn last_word(text: &[u8]) -> (&[u8], &[u8]) {
    let start = text.iter().rposition(|&byte| byte == b' ').map_or(0, |space| space + 1);
    let (rest, word) = text.split_at_checked(start).unwrap_or((text, &[]));
    (trim_end(rest), word)
}

fn trim_start(text: &[u8]) -> &[u8] {
    text.trim_ascii_start()
}

fn trim_end(text: &[u8]) -> &[u8] {
    text.trim_ascii_end()
}

fn trim(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}
