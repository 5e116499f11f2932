//! Which shapes of events a text holds, found in a first pass, and the record layout of each.
//!
//! An event gets one format per shape of its text: a pattern that is known, the keys of `key=value` pairs, or plain
//! text. Shapes are collected in the order of the file, so the formats are the same for any number of threads.

use rustc_hash::FxHashMap;

use super::body::{Body, system_of};
use super::builtin::Builtin;
use super::encode::Slot;
use super::keys::{self, Pair, Seen};
use super::pattern::Captures;
use crate::capture::event_format::{EventFormat, FormatTable};

/// Most shapes of a file, and most sets of keys of one event; beyond, events are plain text.
const MAX_SHAPES: usize = 8192;
const MAX_KEY_SETS: usize = 16;

/// The shape of one line's text.
pub(super) enum Variant<'a> {
    Pattern(u16, Captures),
    Keys(&'a [Pair<'a>]),
    Text,
}

impl<'a> Variant<'a> {
    /// Finds the shape; `pairs` is scratch space.
    pub(super) fn of(body: &Body<'a>, pairs: &'a mut Vec<Pair<'a>>) -> Self {
        if body.prefix.is_empty()
            && let Some((pattern, captures)) = Builtin::get().find(body.event, body.text)
        {
            return Self::Pattern(pattern, captures);
        }
        if keys::split(body.text, pairs) { Self::Keys(pairs) } else { Self::Text }
    }
}

/// The name under which shapes of an event are kept: `system:event` where the line has a system.
pub(super) fn full_name<'a>(body: &Body<'a>, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    if body.system.is_empty() && body.prefix.is_empty() {
        return body.event;
    }
    scratch.clear();
    if !body.system.is_empty() {
        scratch.extend_from_slice(body.system);
        scratch.push(b':');
    }
    scratch.extend_from_slice(body.prefix.as_bytes());
    scratch.extend_from_slice(body.event);
    scratch
}

/// A shape as far as it is known while the file is being read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Draft {
    Pattern(u16),
    Keys(Vec<(Box<[u8]>, Seen)>),
    Text,
}

/// The shapes seen so far.
#[derive(Default)]
pub(super) struct Discovery {
    list: Vec<(Box<[u8]>, Draft)>,
    by_name: FxHashMap<Box<[u8]>, Vec<usize>>,
}

impl Discovery {
    /// Notes one line.
    pub(super) fn add(&mut self, name: &[u8], variant: &Variant<'_>) {
        let known = self.by_name.get(name).map_or(&[][..], Vec::as_slice);
        for &index in known {
            let Some((_, draft)) = self.list.get_mut(index) else { continue };
            match (draft, variant) {
                (Draft::Pattern(a), Variant::Pattern(b, _)) if a == b => return,
                (Draft::Text, Variant::Text) => return,
                (Draft::Keys(keys), Variant::Keys(pairs)) if same_keys(keys.iter().map(|(key, _)| &**key), pairs) => {
                    for ((_, seen), pair) in keys.iter_mut().zip(*pairs) {
                        *seen = seen.join(Seen::of(pair.value));
                    }
                    return;
                }
                _ => {}
            }
        }
        let draft = match variant {
            Variant::Pattern(index, _) => Draft::Pattern(*index),
            Variant::Keys(pairs) => Draft::Keys(pairs.iter().map(|p| (p.key.into(), Seen::of(p.value))).collect()),
            Variant::Text => Draft::Text,
        };
        self.push(name.into(), draft);
    }

    /// Adds what a later part of the file holds.
    pub(super) fn merge(&mut self, later: Self) {
        for (name, draft) in later.list {
            let known = self.by_name.get(&name).map_or(&[][..], Vec::as_slice);
            let same = known.iter().copied().find(|&index| match (self.list.get(index), &draft) {
                (Some((_, Draft::Keys(a))), Draft::Keys(b)) => a.iter().map(|k| &k.0).eq(b.iter().map(|k| &k.0)),
                (Some((_, known)), draft) => known == draft,
                (None, _) => false,
            });
            match (same.and_then(|index| self.list.get_mut(index)), draft) {
                (Some((_, Draft::Keys(known))), Draft::Keys(later)) => {
                    for ((_, seen), (_, more)) in known.iter_mut().zip(later) {
                        *seen = seen.join(more);
                    }
                }
                (Some(_), _) => {}
                (None, draft) => self.push(name, draft),
            }
        }
    }

    fn push(&mut self, name: Box<[u8]>, draft: Draft) {
        let known = self.by_name.entry(name.clone()).or_default();
        let many_keys = matches!(draft, Draft::Keys(_)) && known.len() >= MAX_KEY_SETS;
        let draft = if many_keys { Draft::Text } else { draft };
        let again = many_keys && known.iter().any(|&index| matches!(self.list.get(index), Some((_, Draft::Text))));
        if !again && self.list.len() < MAX_SHAPES {
            known.push(self.list.len());
            self.list.push((name, draft));
        }
    }

    /// The formats and how records are laid out.
    pub(super) fn finish(self) -> (FormatTable, Shapes) {
        let mut table = FormatTable::new();
        let mut shapes = Shapes { list: Vec::new(), by_name: FxHashMap::default() };
        for (name, draft) in self.list {
            let id = shapes.list.len() + 1;
            let (text, shape) = Shape::new(id, &name, draft);
            // The text is our own: it parses.
            let Ok(format) = EventFormat::parse(&shape.system, &text) else { continue };
            let Ok(index) = table.add(format) else { continue };
            debug_assert_eq!(usize::from(index), shapes.list.len());
            shapes.by_name.entry(name).or_default().push(index);
            shapes.list.push(shape);
        }
        (table, shapes)
    }
}

fn same_keys<'k>(keys: impl ExactSizeIterator<Item = &'k [u8]>, pairs: &[Pair<'_>]) -> bool {
    keys.len() == pairs.len() && keys.zip(pairs).all(|(key, pair)| key == pair.key)
}

/// How the lines of one shape become records.
#[derive(Debug)]
pub(super) struct Shape {
    system: Box<str>,
    keys: Option<Vec<Box<[u8]>>>,
    pattern: Option<u16>,
    /// Where each value goes.
    pub(super) slots: Vec<Slot>,
    /// Bytes before the texts.
    pub(super) size: u16,
}

/// All shapes; a shape's index is that of its format.
#[derive(Debug)]
pub(super) struct Shapes {
    list: Vec<Shape>,
    by_name: FxHashMap<Box<[u8]>, Vec<u16>>,
}

impl Shapes {
    /// The shape of a line; plain text where its keys are not kept.
    pub(super) fn find(&self, name: &[u8], variant: &Variant<'_>) -> Option<(u16, &Shape)> {
        let candidates = self.by_name.get(name)?;
        let at = |index: u16| self.list.get(usize::from(index)).map(|shape| (index, shape));
        let fits = |shape: &Shape| match (variant, &shape.keys, shape.pattern) {
            (Variant::Pattern(wanted, _), None, Some(pattern)) => *wanted == pattern,
            (Variant::Keys(pairs), Some(keys), None) => same_keys(keys.iter().map(|key| &**key), pairs),
            (Variant::Text, None, None) => true,
            _ => false,
        };
        let exact = candidates.iter().filter_map(|&index| at(index)).find(|(_, shape)| fits(shape));
        exact.or_else(|| candidates.iter().filter_map(|&index| at(index)).find(|(_, shape)| shape.is_text()))
    }
}

impl Shape {
    /// Whether records hold the line's text and nothing else.
    pub(super) fn is_text(&self) -> bool {
        self.keys.is_none() && self.pattern.is_none()
    }

    /// The text of the format, and the layout.
    fn new(id: usize, name: &[u8], draft: Draft) -> (String, Self) {
        let name: String = String::from_utf8_lossy(name).chars().filter(|c| !c.is_control()).collect();
        let (given, event) = name.split_once(':').unwrap_or(("", &name));
        let mut shape = Self { system: given.into(), keys: None, pattern: None, slots: Vec::new(), size: 8 };
        let mut fields = String::new();
        let mut add = |shape: &mut Self, name: &str, slot: Slot| {
            let (size, before, after) = slot.declaration();
            let offset = shape.size.next_multiple_of(size.min(8));
            let line =
                format!("\tfield:{before}{name}{after};\toffset:{offset};\tsize:{size};\tsigned:{};\n", slot.sign());
            fields.push_str(&line);
            shape.size = offset + size;
            shape.slots.push(slot.at(offset));
        };
        let print = match draft {
            Draft::Pattern(index) => {
                shape.pattern = Some(index);
                let mut print = String::new();
                if let Some(pattern) = Builtin::get().pattern(index) {
                    if shape.system.is_empty() {
                        shape.system = pattern.system.into();
                    }
                    for (name, kind) in &pattern.fields {
                        add(&mut shape, name, Slot::of_pattern(*kind));
                    }
                    print = pattern.print.map_or_else(|| pattern.print_format(), str::to_owned);
                }
                print
            }
            Draft::Keys(list) => {
                let mut names: Vec<String> = Vec::new();
                let mut format = String::new();
                let mut arguments = String::new();
                for (key, seen) in &list {
                    let mut name: String = String::from_utf8_lossy(key).replace(' ', "_");
                    while names.contains(&name) {
                        name.push('_');
                    }
                    let slot = Slot::of_key(seen.result());
                    add(&mut shape, &name, slot);
                    let gap = if format.is_empty() { "" } else { " " };
                    format.push_str(&format!("{gap}{}={}", String::from_utf8_lossy(key), slot.conversion()));
                    arguments.push_str(&format!(", REC->{name}"));
                    names.push(name);
                }
                shape.keys = Some(list.into_iter().map(|(key, _)| key).collect());
                format!("\"{format}\"{arguments}")
            }
            Draft::Text => {
                add(&mut shape, "text", Slot::TEXT);
                "\"%s\", REC->text".to_owned()
            }
        };
        if shape.system.is_empty() {
            shape.system = system_of(event).into();
        }
        let text = format!("name: {event}\nID: {id}\nformat:\n{COMMON}\n{fields}\nprint fmt: {print}\n");
        (text, shape)
    }
}

/// The common fields, as in all kernels of the last ten years.
const COMMON: &str = "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
    \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
    \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
    \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n";
