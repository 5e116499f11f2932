//! The text of a `format` file: name, id, fields, print format.

use super::EventFormat;
use super::ctype::int_type;
use super::field::{Field, FieldKind};
use super::print::Program;
use super::special::Special;
use crate::capture::limits::{Limit, Limits};
use crate::error::{Error, Result};

/// Parses a whole `format` file.
pub(super) fn parse(system: &str, text: &str, limits: &Limits) -> Result<EventFormat> {
    limits.check(Limit::Format, text.len() as u64, "bytes of an event format")?;
    let lines = Lines { text, at: 0 };
    let mut name = None;
    let mut id = None;
    let mut print = None;
    let mut decls: [Vec<Decl<'_>>; 2] = [Vec::new(), Vec::new()];
    let mut own = 0;
    for (at, line) in lines {
        let here = at as u64;
        if let Some(rest) = line.strip_prefix("name:") {
            name.get_or_insert(rest.trim());
        } else if let Some(rest) = line.strip_prefix("ID:") {
            let rest = rest.trim();
            let value = rest.parse::<u16>().map_err(|_| {
                Error::format(format!("event id {rest:?} is no number below 65536")).at(here + 3).hint(HINT)
            })?;
            id.get_or_insert(value);
        } else if let Some(rest) = line.strip_prefix("print fmt:") {
            let start = at + (line.len() - rest.len());
            print = text.get(start..);
            break;
        } else if line.trim().is_empty() {
            // Only the first empty line counts: it ends the common fields.
            if decls.first().is_some_and(|common| !common.is_empty()) {
                own = 1;
            }
        } else if line.trim_start().starts_with("field") {
            let decl = Decl::parse(line).ok_or_else(|| {
                let shown: String = line.trim().chars().take(80).collect();
                Error::format(format!("field line {shown:?} has no type, name, offset or size")).at(here).hint(HINT)
            })?;
            if let Some(list) = decls.get_mut(own) {
                limits.check(Limit::Fields, list.len() as u64 + 1, "fields of an event").map_err(|e| e.at(here))?;
                list.push(decl);
            }
        }
    }
    let name = name
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Error::format("event format without a \"name:\" line").at(0).hint(HINT))?;
    let id = id.ok_or_else(|| Error::format(format!("event format of {name} has no \"ID:\" line")).at(0).hint(HINT))?;
    let long = long_size(decls.iter().flatten());
    let [common, fields] = decls.map(|list| list.iter().map(|decl| decl.field(long)).collect::<Vec<_>>());
    let program = Box::new(Program::compile(print.unwrap_or_default().trim(), &common, &fields, long));
    let pid = (0..).zip(&common).find(|(_, field)| &*field.name == "common_pid").map(|(index, _)| index);
    let special = Special::of(system, name, &fields);
    let own = common.iter().map(|field| field.offset.saturating_add(field.size)).max().unwrap_or(0);
    let printed_from = if print.unwrap_or_default().contains("common_") { 0 } else { own };
    let (system, name) = (system.into(), name.into());
    Ok(EventFormat { id, system, name, common, fields, program, special, pid, printed_from })
}

const HINT: &str = "the file should be a copy of events/SYSTEM/EVENT/format; record again, or leave this event out";

/// Lines with their byte offsets, without line ends.
struct Lines<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = (usize, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.at;
        let rest = self.text.get(start..).filter(|rest| !rest.is_empty())?;
        let line = rest.split_once('\n').map_or(rest, |(line, _)| line);
        self.at = start + line.len() + 1;
        Some((start, line.strip_suffix('\r').unwrap_or(line)))
    }
}

/// A field line, taken apart but not yet understood.
struct Decl<'a> {
    name: &'a str,
    /// The declaration with the name cut out: before and after it.
    before: &'a str,
    after: &'a str,
    offset: u16,
    size: u16,
    signed: Option<bool>,
}

impl<'a> Decl<'a> {
    /// `field:TYPE NAME[N]; offset:N; size:N; signed:N;`, with tabs or spaces between.
    fn parse(line: &'a str) -> Option<Self> {
        let (_, rest) = line.split_once(':')?;
        let mut parts = rest.split(';');
        let decl = parts.next()?;
        let (mut offset, mut size, mut signed) = (None, None, None);
        for part in parts {
            match part.trim().split_once(':') {
                Some(("offset", value)) => offset = value.trim().parse().ok(),
                Some(("size", value)) => size = value.trim().parse().ok(),
                Some(("signed", value)) => signed = Some(value.trim() != "0"),
                _ => {}
            }
        }
        let (start, end) = last_identifier(decl)?;
        let name = decl.get(start..end)?;
        let (before, after) = (decl.get(..start)?.trim(), decl.get(end..)?.trim());
        Some(Self { name, before, after, offset: offset?, size: size?, signed })
    }

    /// The words of the element type.
    fn words(&self) -> impl Iterator<Item = &'a str> {
        self.before
            .split(|c: char| c.is_whitespace() || c == '[' || c == ']' || c == '*')
            .filter(|word| !word.is_empty() && !matches!(*word, "__data_loc" | "__rel_loc"))
    }

    fn is_pointer(&self) -> bool {
        self.before.contains('*')
    }

    /// Size of an element of an array, at most 8.
    fn element(&self, long: u8) -> u8 {
        if self.is_pointer() {
            return long;
        }
        if let Some(int) = int_type(self.words(), long) {
            return int.size();
        }
        // An unknown type: the size divided by the count, where the count is a plain number.
        let count = self.after.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(count, _)| count.trim());
        match count.and_then(|count| count.parse::<u16>().ok()) {
            Some(count) if count > 0 && self.size.is_multiple_of(count) && matches!(self.size / count, 2 | 4 | 8) => {
                (self.size / count) as u8
            }
            _ => 1,
        }
    }

    fn field(&self, long: u8) -> Field {
        let int = int_type(self.words(), long);
        let is_char = !self.is_pointer() && self.words().filter(|&word| word != "const").eq(["char"]);
        let element = self.element(long);
        let kind = if self.before.contains("__data_loc") {
            if is_char { FieldKind::DynamicText } else { FieldKind::DynamicArray { element } }
        } else if self.before.contains("__rel_loc") {
            if is_char { FieldKind::RelativeText } else { FieldKind::RelativeArray { element } }
        } else if self.after.starts_with('[') || self.size == 0 {
            let element = if self.size.is_multiple_of(u16::from(element)) { element } else { 1 };
            if is_char { FieldKind::Text } else { FieldKind::Array { element } }
        } else if self.is_pointer() && matches!(self.size, 4 | 8) {
            FieldKind::Pointer
        } else if self.size == 1 && self.words().any(|word| matches!(word, "bool" | "_Bool")) {
            FieldKind::Bool
        } else if matches!(self.size, 1 | 2 | 4 | 8) {
            FieldKind::Number
        } else {
            FieldKind::Array { element: 1 }
        };
        let gap = if self.before.is_empty() || self.after.is_empty() || self.after.starts_with('[') { "" } else { " " };
        Field {
            name: self.name.into(),
            type_name: format!("{}{gap}{}", self.before, self.after).into(),
            offset: self.offset,
            size: self.size,
            signed: self.signed.unwrap_or_else(|| int.is_some_and(|int| int.signed)),
            kind,
        }
    }
}

/// Start and end of the last identifier outside brackets.
fn last_identifier(decl: &str) -> Option<(usize, usize)> {
    let mut found = None;
    let mut depth = 0_u32;
    let mut start = None;
    for (at, byte) in decl.bytes().chain([b' ']).enumerate() {
        if byte == b'_' || byte.is_ascii_alphanumeric() || byte >= 0x80 {
            start.get_or_insert(at);
            continue;
        }
        if let Some(start) = start.take().filter(|_| depth == 0) {
            found = Some((start, at));
        }
        match byte {
            b'[' => depth += 1,
            b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    found
}

/// Size of `long` in the kernel that wrote the format: 4 if a `long` or a pointer of that size is seen, else 8.
fn long_size<'a>(mut decls: impl Iterator<Item = &'a Decl<'a>>) -> u8 {
    let narrow = decls.any(|decl| {
        let longs = decl.words().filter(|&word| word == "long").count();
        let plain = decl.after.is_empty() && !decl.before.contains("_loc");
        decl.size == 4 && plain && (decl.is_pointer() || longs == 1)
    });
    if narrow { 4 } else { 8 }
}
