//! A Perfetto trace rewritten as a simple writer would write it: every name, category, argument name and text in full,
//! every time absolute, every row named. The same events; what the trace processor makes of both tells what interning is
//! worth.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use super::container::Result;

/// A field's value as it stands in a message.
enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Of four or eight bytes.
    Fixed(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or("a message ends in a number")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("a number without an end".into())
}

/// Calls `each` with every field of a message.
fn fields<'a>(mut bytes: &'a [u8], mut each: impl FnMut(u32, Value<'a>) -> Result<()>) -> Result<()> {
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let length = match tag & 7 {
            0 => {
                each((tag >> 3) as u32, Value::Varint(varint(&mut bytes)?))?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)?)?,
            5 => 4,
            other => return Err(format!("wire type {other}").into()),
        };
        let (value, rest) = bytes.split_at_checked(length).ok_or("a field ends behind its message")?;
        bytes = rest;
        each((tag >> 3) as u32, if tag & 7 == 2 { Value::Bytes(value) } else { Value::Fixed(value) })?;
    }
    Ok(())
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put(out: &mut Vec<u8>, number: u32, value: &Value<'_>) {
    let kind = match value {
        Value::Varint(_) => 0,
        Value::Bytes(_) => 2,
        Value::Fixed(bytes) if bytes.len() == 8 => 1,
        Value::Fixed(_) => 5,
    };
    put_varint(out, u64::from(number) << 3 | kind);
    match value {
        Value::Varint(value) => put_varint(out, *value),
        Value::Bytes(bytes) => {
            put_varint(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
        Value::Fixed(bytes) => out.extend_from_slice(bytes),
    }
}

/// What packets of the sequence refer to.
#[derive(Default)]
struct State {
    /// By field of `InternedData`, and number.
    strings: HashMap<(u32, u64), Vec<u8>>,
    /// Where the delta clock stands.
    now: u64,
    /// The clock of packets that name none.
    clock: Option<u64>,
    /// The row of events that name none.
    row: Option<u64>,
}

/// `TracePacket` and what is in it.
mod number {
    pub(super) const TIMESTAMP: u32 = 8;
    pub(super) const CLOCK: u32 = 58;
    pub(super) const FLAGS: u32 = 13;
    pub(super) const INTERNED: u32 = 12;
    pub(super) const DEFAULTS: u32 = 59;
    pub(super) const TRACK_EVENT: u32 = 11;
    pub(super) const SNAPSHOT: u32 = 6;
    pub(super) const ROW: u32 = 11;
}
use number::*;

/// Rewrites `from` into `to`; says how large both are.
pub fn naive(from: &Path, to: &Path) -> Result<String> {
    let mut input = BufReader::new(File::open(from)?);
    let mut output = BufWriter::new(File::create(to)?);
    let mut state = State::default();
    let (mut packet, mut out) = (Vec::new(), Vec::new());
    let (mut read, mut written) = (0, 0);
    while next(&mut input, &mut packet)? {
        read += packet.len() as u64;
        out.clear();
        let body = rewrite(&packet, &mut state)?;
        put(&mut out, 1, &Value::Bytes(&body));
        output.write_all(&out)?;
        written += out.len() as u64;
    }
    output.flush()?;
    Ok(format!("{read} bytes became {written}"))
}

/// The next packet of a file.
fn next(input: &mut impl Read, packet: &mut Vec<u8>) -> Result<bool> {
    let mut byte = [0];
    if input.read(&mut byte)? == 0 {
        return Ok(false);
    }
    if byte != [0x0a] {
        return Err("not a Perfetto trace".into());
    }
    let mut length = Vec::new();
    loop {
        input.read_exact(&mut byte)?;
        length.push(byte[0]);
        if byte[0] < 0x80 {
            break;
        }
    }
    packet.resize(usize::try_from(varint(&mut &length[..])?)?, 0);
    input.read_exact(packet)?;
    Ok(true)
}

fn rewrite(packet: &[u8], state: &mut State) -> Result<Vec<u8>> {
    let (mut time, mut clock, mut event) = (None, None, None);
    let mut out = Vec::new();
    fields(packet, |number, value| {
        match (number, value) {
            (TIMESTAMP, Value::Varint(value)) => time = Some(value),
            (CLOCK, Value::Varint(value)) => clock = Some(value),
            (FLAGS, Value::Varint(flags)) => {
                if flags & 1 != 0 {
                    *state = State { now: state.now, ..State::default() };
                }
            }
            (INTERNED, Value::Bytes(bytes)) => intern(bytes, state)?,
            (DEFAULTS, Value::Bytes(bytes)) => fields(bytes, |number, value| {
                match (number, value) {
                    (CLOCK, Value::Varint(clock)) => state.clock = Some(clock),
                    (TRACK_EVENT, Value::Bytes(bytes)) => fields(bytes, |number, value| {
                        if let (ROW, Value::Varint(row)) = (number, value) {
                            state.row = Some(row);
                        }
                        Ok(())
                    })?,
                    _ => {}
                }
                Ok(())
            })?,
            (SNAPSHOT, Value::Bytes(bytes)) => {
                if let Some(start) = delta_start(bytes)? {
                    state.now = start;
                } else {
                    put(&mut out, SNAPSHOT, &Value::Bytes(bytes));
                }
            }
            (TRACK_EVENT, Value::Bytes(bytes)) => event = Some(bytes),
            (number, value) => put(&mut out, number, &value),
        }
        Ok(())
    })?;
    if let Some(time) = time {
        let time = if clock.or(state.clock).is_some_and(|clock| clock >= 64) {
            state.now += time;
            state.now
        } else {
            time
        };
        put(&mut out, TIMESTAMP, &Value::Varint(time));
    }
    if let Some(event) = event {
        put(&mut out, TRACK_EVENT, &Value::Bytes(&track_event(event, state)?));
    }
    Ok(out)
}

/// The reading of a snapshot's incremental clock, if it has one.
fn delta_start(snapshot: &[u8]) -> Result<Option<u64>> {
    let mut start = None;
    fields(snapshot, |_, value| {
        let Value::Bytes(clock) = value else { return Ok(()) };
        let (mut time, mut incremental) = (None, false);
        fields(clock, |number, value| {
            match (number, value) {
                (2, Value::Varint(value)) => time = Some(value),
                (3, Value::Varint(value)) => incremental = value != 0,
                _ => {}
            }
            Ok(())
        })?;
        start = start.or(time.filter(|_| incremental));
        Ok(())
    })?;
    Ok(start)
}

fn intern(data: &[u8], state: &mut State) -> Result<()> {
    fields(data, |kind, value| {
        let Value::Bytes(entry) = value else { return Ok(()) };
        let (mut id, mut text) = (0, Vec::new());
        fields(entry, |number, value| {
            match (number, value) {
                (1, Value::Varint(value)) => id = value,
                (2, Value::Bytes(bytes)) => text = bytes.to_vec(),
                _ => {}
            }
            Ok(())
        })?;
        state.strings.insert((kind, id), text);
        Ok(())
    })
}

/// A message in which numbers of strings stand as strings. `known`: field of the number, of `InternedData`, of the text.
fn spell(message: &[u8], known: &[(u32, u32, u32)], state: &State, out: &mut Vec<u8>) -> Result<()> {
    fields(message, |number, value| {
        let found = known.iter().find(|(id, ..)| *id == number);
        match (found, value) {
            (Some(&(_, kind, text)), Value::Varint(id)) => {
                let string = state.strings.get(&(kind, id)).ok_or("a string that was not interned")?;
                put(out, text, &Value::Bytes(string));
            }
            (_, value) => put(out, number, &value),
        }
        Ok(())
    })
}

fn track_event(event: &[u8], state: &State) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    let mut row = false;
    let mut out = Vec::new();
    fields(event, |number, value| {
        row |= number == ROW;
        match (number, value) {
            (4, Value::Bytes(annotation)) => {
                let mut spelled = Vec::new();
                spell(annotation, &[(1, 3, 10), (17, 29, 6)], state, &mut spelled)?;
                put(&mut out, 4, &Value::Bytes(&spelled));
            }
            (number, value) => put(&mut plain, number, &value),
        }
        Ok(())
    })?;
    spell(&plain, &[(3, 1, 22), (10, 2, 23), (54, 43, 53)], state, &mut out)?;
    if let Some(row) = state.row.filter(|_| !row) {
        put(&mut out, ROW, &Value::Varint(row));
    }
    Ok(out)
}
