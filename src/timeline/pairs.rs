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
    /// A prefix and the text of this field.
    Text(&'static str, &'static str),
    /// This.
    Fixed(&'static str),
}

/// A pair that is known by name.
struct Rule {
    system: &'static str,
    begin: &'static str,
    end: &'static str,
    /// The fields that say which begin an end belongs to.
    key: &'static [&'static str],
    name: Name,
    class: Class,
}

/// What a pair is, which says where it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// An interrupt or softirq: on host rows and guest rows.
    Irq,
    /// An interrupt by its vector, likewise.
    Vector,
    /// A high-resolution timer's function in interrupt context: on rows of guests, and of a host without guests.
    Timer,
    /// A function of the timer wheel in a softirq, likewise.
    Wheel,
    /// Work of the running task, likewise.
    Other,
    /// A request that begins on one CPU and ends on any other, while others are under way: on rows of its own.
    Request,
}

const RULES: &[Rule] = &[
    rule("irq", "irq_handler_entry", "irq_handler_exit", &["irq"], Name::Irq, Class::Irq),
    rule("irq", "softirq_entry", "softirq_exit", &["vec"], Name::Softirq, Class::Irq),
    rule("irq", "tasklet_entry", "tasklet_exit", &["tasklet"], Name::Function("tasklet ", "func"), Class::Irq),
    rule(
        "timer",
        "hrtimer_expire_entry",
        "hrtimer_expire_exit",
        &["hrtimer"],
        Name::Function("hrtimer ", "function"),
        Class::Timer,
    ),
    rule(
        "timer",
        "timer_expire_entry",
        "timer_expire_exit",
        &["timer"],
        Name::Function("timer ", "function"),
        Class::Wheel,
    ),
    rule(
        "workqueue",
        "workqueue_execute_start",
        "workqueue_execute_end",
        &["work"],
        Name::Function("work ", "function"),
        Class::Other,
    ),
    rule("net", "net_dev_start_xmit", "net_dev_xmit", &["skbaddr"], Name::Text("transmit ", "name"), Class::Other),
    rule(
        "block",
        "block_rq_issue",
        "block_rq_complete",
        &["dev", "sector"],
        Name::Text("block ", "rwbs"),
        Class::Request,
    ),
    rule(
        "nvme",
        "nvme_setup_cmd",
        "nvme_complete_rq",
        &["ctrl_id", "qid", "cid"],
        Name::Fixed("nvme command"),
        Class::Request,
    ),
    rule(
        "scsi",
        "scsi_dispatch_cmd_start",
        "scsi_dispatch_cmd_done",
        &["host_no", "channel", "id", "lun", "driver_tag"],
        Name::Fixed("scsi command"),
        Class::Request,
    ),
];

const fn rule(
    system: &'static str,
    begin: &'static str,
    end: &'static str,
    key: &'static [&'static str],
    name: Name,
    class: Class,
) -> Rule {
    Rule { system, begin, end, key, name, class }
}

/// Suffixes of pairs, and what such pairs are where no rule says so.
const SUFFIXES: &[(&str, &str, Class)] = &[
    ("_entry", "_exit", Class::Other),
    ("_enter", "_exit", Class::Other),
    ("_start", "_end", Class::Other),
    ("_begin", "_end", Class::Other),
    ("_issue", "_complete", Class::Request),
];

/// Systems whose halves are drawn by code of their own, or neither nest on a CPU nor have a key.
const NOT_BY_SUFFIX: &[&str] =
    &["kvm", "kvmmmu", "raw_syscalls", "syscalls", "sched", "block", "dma_fence", "writeback", "power", "ftrace"];

/// Which half of which pair an event is.
#[derive(Clone, Copy)]
pub(super) enum Half {
    /// It begins a slice.
    Begin {
        /// Which pair.
        pair: u16,
        /// What both halves have in common.
        key: Key,
        /// How the slice is named.
        label: Label,
        /// What the pair is.
        class: Class,
        /// What rows of its own are called, where it has any.
        row: NameId,
    },
    /// It ends one.
    End {
        /// Which pair.
        pair: u16,
        /// What both halves have in common.
        key: Key,
        /// What the pair is.
        class: Class,
    },
}

/// What the two halves of a pair have in common: some numbers, which are stirred into one.
#[derive(Clone, Copy, Default)]
pub(super) struct Key {
    parts: [Option<Num>; MAX_KEY],
}

const MAX_KEY: usize = 5;

impl Key {
    fn of(event: &EventFormat, fields: &[String], source: &FieldSource) -> Option<Self> {
        let mut key = Self::default();
        for (part, field) in key.parts.iter_mut().zip(fields) {
            *part = Some(Num::named(event, field, source.endian)?);
        }
        Some(key)
    }

    /// The key of a record: a single number as it is; 0 where there is none.
    #[inline]
    pub(super) fn get(&self, payload: &[u8]) -> u64 {
        let mut parts = self.parts.iter().map_while(|part| *part).map(|part| part.get(payload).unwrap_or(0));
        let first = parts.next().unwrap_or(0);
        parts.fold(first, |key, part| key.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) ^ part)
    }

    /// The number, where there is just one.
    pub(super) fn single(&self, payload: &[u8]) -> Option<u64> {
        self.parts[0].filter(|_| self.parts[1].is_none())?.get(payload)
    }
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
    /// A prefix and a short text.
    Text { prefix: NameId, text: Text },
}

impl Class {
    /// The category of its slices on a guest's row.
    pub(super) fn category(self) -> Category {
        match self {
            Self::Irq | Self::Vector | Self::Timer | Self::Wheel => Category::Irq,
            Self::Other | Self::Request => Category::Event,
        }
    }

    /// Whether it interrupts the running task, and ends before another one runs.
    pub(super) fn interrupts(self) -> bool {
        matches!(self, Self::Irq | Self::Vector | Self::Timer | Self::Wheel)
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
        let pair = pairs;
        // A key that only one half has tells nothing.
        let keys = Key::of(begin, &key, source).zip(Key::of(&events[end], &key, source));
        if keys.is_none() && class == Class::Request {
            continue;
        }
        let (begin_key, end_key) = keys.unwrap_or_default();
        let row = match class {
            Class::Request => names.intern(format!("{} requests", begin.system).as_bytes()),
            _ => NameId::EMPTY,
        };
        halves[index] = Some(Half::Begin { pair, key: begin_key, label, class, row });
        halves[end] = Some(Half::End { pair, key: end_key, class });
        pairs = pairs.saturating_add(1);
    }
    halves
}

/// The end of a begin: its index, the common fields, how to name the slice and what it is.
fn partner(
    begin: &EventFormat,
    events: &[EventFormat],
    by_name: &FxHashMap<(&str, &str), usize>,
) -> Option<(usize, Vec<String>, NameOrBase, Class)> {
    for rule in RULES {
        if *begin.system == *rule.system && *begin.name == *rule.begin {
            let end = *by_name.get(&(rule.system, rule.end))?;
            // A kernel may lack a field of the key.
            let both = |field: &&&str| begin.field(field).is_some() && events[end].field(field).is_some();
            let key = rule.key.iter().filter(both).map(|&field| field.to_owned()).collect();
            return Some((end, key, NameOrBase(rule.name, String::new()), rule.class));
        }
    }
    if NOT_BY_SUFFIX.contains(&&*begin.system) {
        return None;
    }
    SUFFIXES.iter().find_map(|&(first, last, class)| {
        let base = begin.name.strip_suffix(first)?;
        let end = *by_name.get(&(&*begin.system, &*format!("{base}{last}")))?;
        let (name, class) =
            if &*begin.system == "irq_vectors" { (Name::Base("irq "), Class::Vector) } else { (Name::Base(""), class) };
        let key: Vec<String> = common_field(begin, &events[end]).into_iter().collect();
        // Requests are told apart by their key alone.
        (class != Class::Request || !key.is_empty()).then(|| (end, key, NameOrBase(name, base.into()), class))
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
        // Older kernels do not say which function.
        Name::Function(prefix, field) => match Num::named(begin, field, source.endian) {
            Some(function) => Label::Function { prefix: names.intern(prefix.as_bytes()), function },
            None => Label::Fixed(names.intern(prefix.trim_end().as_bytes())),
        },
        Name::Text(prefix, field) => match Text::named(begin, field, source.endian) {
            Some(text) => Label::Text { prefix: names.intern(prefix.as_bytes()), text },
            None => Label::Fixed(names.intern(prefix.trim_end().as_bytes())),
        },
        Name::Fixed(name) => Label::Fixed(names.intern(name.as_bytes())),
    })
}
