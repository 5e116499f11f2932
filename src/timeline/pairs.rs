//! Which events are the two halves of a slice, in one table.
//!
//! A pair is looked for in the formats of a capture: the rules with a name first, then those that go by suffix, which
//! need both halves to be there.

use rustc_hash::FxHashMap;

use super::accessor::{Num, Text};
use super::drawing::{Category, FieldSource};
use super::names::{NameId, Names};
use crate::capture::event_format::{EventFormat, FieldKind};

/// How a pair's slice is named.
#[derive(Clone, Copy)]
enum Name {
    /// A prefix and the events' common name.
    Base(&'static str),
    /// `irq <name>`.
    Irq,
    /// `softirq <NAME>`.
    Softirq,
    /// A prefix and the symbol of the function at this field.
    Function(&'static str, &'static str),
}

/// A pair that is known by name.
struct Rule {
    system: &'static str,
    begin: &'static str,
    end: &'static str,
    key: &'static str,
    name: Name,
    class: Class,
}

/// What a pair is, which says where it is drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// An interrupt or softirq: on host rows and guest rows.
    Irq,
    /// An interrupt by its vector, likewise.
    Vector,
    /// A timer's function in interrupt context: on rows of guests, and of a host without guests.
    Timer,
    /// Anything else, likewise.
    Other,
}

const RULES: &[Rule] = &[
    rule("irq", "irq_handler_entry", "irq_handler_exit", "irq", Name::Irq, Class::Irq),
    rule("irq", "softirq_entry", "softirq_exit", "vec", Name::Softirq, Class::Irq),
    rule(
        "timer",
        "hrtimer_expire_entry",
        "hrtimer_expire_exit",
        "hrtimer",
        Name::Function("hrtimer ", "function"),
        Class::Timer,
    ),
    rule("ftrace", "funcgraph_entry", "funcgraph_exit", "func", Name::Function("", "func"), Class::Other),
];

const fn rule(
    system: &'static str,
    begin: &'static str,
    end: &'static str,
    key: &'static str,
    name: Name,
    class: Class,
) -> Rule {
    Rule { system, begin, end, key, name, class }
}

const SUFFIXES: &[(&str, &str)] = &[("_entry", "_exit"), ("_enter", "_exit"), ("_start", "_end"), ("_begin", "_end")];

/// Systems whose halves are drawn by code of their own, or do not nest on a CPU.
const NOT_BY_SUFFIX: &[&str] =
    &["kvm", "kvmmmu", "raw_syscalls", "syscalls", "sched", "block", "dma_fence", "writeback", "power"];

/// Which half of which pair an event is.
#[derive(Clone, Copy)]
pub(super) enum Half {
    /// It begins a slice.
    Begin {
        /// Which pair.
        pair: u16,
        /// What both halves have in common.
        key: Option<Num>,
        /// How the slice is named.
        label: Label,
        /// What the pair is.
        class: Class,
    },
    /// It ends one.
    End {
        /// Which pair.
        pair: u16,
        /// What both halves have in common.
        key: Option<Num>,
        /// What the pair is.
        class: Class,
    },
}

/// How a slice is named, ready for use.
#[derive(Clone, Copy)]
pub(super) enum Label {
    /// By a name.
    Fixed(NameId),
    /// `irq <name>`.
    Irq { irq: Num, name: Text },
    /// `softirq <NAME>`.
    Softirq { vec: Num },
    /// A prefix and a function's symbol.
    Function { prefix: NameId, function: Num },
}

impl Class {
    /// The category of its slices on a guest's row.
    pub(super) fn category(self) -> Category {
        match self {
            Self::Irq | Self::Vector | Self::Timer => Category::Irq,
            Self::Other => Category::Event,
        }
    }
}

/// Finds all halves among a capture's formats; the result is indexed by event.
pub(super) fn find(source: &FieldSource, names: &mut Names) -> Vec<Option<Half>> {
    let events = source.formats.events();
    let by_name: FxHashMap<(&str, &str), usize> =
        events.iter().enumerate().map(|(index, e)| ((&*e.system, &*e.name), index)).collect();
    let mut halves = vec![None; events.len()];
    let mut pairs = 0_u16;
    for (index, begin) in events.iter().enumerate() {
        let Some((end, key, name, class)) = partner(begin, events, &by_name) else { continue };
        if halves[index].is_some() || halves[end].is_some() {
            continue;
        }
        let Some(label) = label(name, begin, source, names) else { continue };
        let key = |event: &EventFormat| key.as_deref().and_then(|key| Num::named(event, key, source.endian));
        let (pair, begin_key, end_key) = (pairs, key(begin), key(&events[end]));
        // A key that only one half has tells nothing.
        let both = begin_key.is_some() && end_key.is_some();
        halves[index] = Some(Half::Begin { pair, key: begin_key.filter(|_| both), label, class });
        halves[end] = Some(Half::End { pair, key: end_key.filter(|_| both), class });
        pairs = pairs.saturating_add(1);
    }
    halves
}

/// The end of a begin: its index, the common field, how to name the slice and what it is.
fn partner(
    begin: &EventFormat,
    events: &[EventFormat],
    by_name: &FxHashMap<(&str, &str), usize>,
) -> Option<(usize, Option<String>, NameOrBase, Class)> {
    for rule in RULES {
        if *begin.system == *rule.system && *begin.name == *rule.begin {
            let end = *by_name.get(&(rule.system, rule.end))?;
            return Some((end, Some(rule.key.into()), NameOrBase(rule.name, String::new()), rule.class));
        }
    }
    if NOT_BY_SUFFIX.contains(&&*begin.system) {
        return None;
    }
    SUFFIXES.iter().find_map(|(first, last)| {
        let base = begin.name.strip_suffix(first)?;
        let end = *by_name.get(&(&*begin.system, &*format!("{base}{last}")))?;
        let (name, class) = if &*begin.system == "irq_vectors" {
            (Name::Base("irq "), Class::Vector)
        } else {
            (Name::Base(""), Class::Other)
        };
        let key = common_field(begin, &events[end]);
        Some((end, key, NameOrBase(name, base.into()), class))
    })
}

/// The first number that both halves have under one name.
fn common_field(begin: &EventFormat, end: &EventFormat) -> Option<String> {
    let number = |kind, size| kind == FieldKind::Pointer || kind == FieldKind::Number && size >= 4;
    let found = begin.fields.iter().find(|field| {
        number(field.kind, field.size)
            && end.fields.iter().any(|other| other.name == field.name && other.kind == field.kind)
    });
    found.map(|field| field.name.to_string())
}

struct NameOrBase(Name, String);

fn label(name: NameOrBase, begin: &EventFormat, source: &FieldSource, names: &mut Names) -> Option<Label> {
    Some(match name.0 {
        Name::Base(prefix) => Label::Fixed(names.intern(format!("{prefix}{}", name.1).as_bytes())),
        Name::Irq => Label::Irq {
            irq: Num::named(begin, "irq", source.endian)?,
            name: Text::named(begin, "name", source.endian)?,
        },
        Name::Softirq => Label::Softirq { vec: Num::named(begin, "vec", source.endian)? },
        Name::Function(prefix, field) => Label::Function {
            prefix: names.intern(prefix.as_bytes()),
            function: Num::named(begin, field, source.endian)?,
        },
    })
}
