//! Records made of messages: one layout per event, with a format made up for it whose fields have the kernel's names, so
//! that nothing downstream knows where they came from.

use super::exits;
use super::wire::{Fields, Value};
use crate::capture::event_format::EventFormat;

/// How a value is kept in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    S32,
    U32,
    S64,
    U64,
    Bool,
    Text,
    /// The arguments of a system call.
    Arguments,
}

impl Kind {
    /// Size, and the C declaration before and behind the name.
    const fn declaration(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::S32 => (4, "int ", ""),
            Self::U32 => (4, "unsigned int ", ""),
            Self::S64 => (8, "s64 ", ""),
            Self::U64 => (8, "u64 ", ""),
            Self::Bool => (1, "bool ", ""),
            Self::Text => (4, "__data_loc char[] ", ""),
            Self::Arguments => (48, "unsigned long ", "[6]"),
        }
    }

    const fn conversion(self) -> &'static str {
        match self {
            Self::S32 => "%d",
            Self::U32 | Self::Bool => "%u",
            Self::S64 => "%lld",
            Self::U64 => "%llu",
            Self::Text => "%s",
            Self::Arguments => "%lx, %lx, %lx, %lx, %lx, %lx",
        }
    }
}

/// Where a message's field goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    kind: Kind,
    offset: u16,
    /// Zigzag, as `sint32` and `sint64` are written.
    pub(super) zigzag: bool,
    /// A number that does not fit into 63 bits, as text.
    pub(super) hex: bool,
}

/// A layout.
#[derive(Debug)]
pub(super) struct Layout {
    id: u16,
    /// Index of the format.
    pub(super) event: u16,
    /// Bytes before the texts.
    size: u16,
    /// By the message's field.
    slots: Vec<Option<Slot>>,
    /// By name, for events that name their fields.
    names: Vec<(Box<[u8]>, Slot)>,
}

/// The common fields; `common_pid` is at 4.
const COMMON: &str = "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
    \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
    \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
    \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n";

/// The softirqs (include/linux/interrupt.h).
const SOFTIRQS: [&str; 10] =
    ["HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU"];

/// A field of a layout that is to be made.
pub(super) struct Wanted<'a> {
    /// The message's field; 0 for one that is known by name.
    pub(super) number: u32,
    pub(super) name: &'a str,
    pub(super) kind: Kind,
    pub(super) zigzag: bool,
}

impl Layout {
    /// A layout and its format, whose index will be `event`.
    pub(super) fn new(event: u16, system: &str, name: &str, fields: &[Wanted<'_>]) -> Option<(EventFormat, Self)> {
        let id = event.checked_add(1)?;
        let mut layout = Self { id, event, size: 8, slots: Vec::new(), names: Vec::new() };
        let mut lines = String::new();
        let mut kept: Vec<(&str, Kind, Slot)> = Vec::new();
        for field in fields {
            let known = kept.iter().find(|(name, ..)| *name == field.name);
            let slot = match known {
                // The same once more, for large numbers.
                Some((_, Kind::U64 | Kind::S64, slot)) if field.kind == Kind::Text => Slot { hex: true, ..*slot },
                Some(_) => continue,
                None => {
                    let (size, before, after) = field.kind.declaration();
                    let offset = layout.size.next_multiple_of(size.min(8));
                    layout.size = offset.checked_add(size)?;
                    let signed = u8::from(matches!(field.kind, Kind::S32 | Kind::S64));
                    let name = field.name;
                    lines.push_str(&format!(
                        "\tfield:{before}{name}{after};\toffset:{offset};\tsize:{size};\tsigned:{signed};\n"
                    ));
                    let slot = Slot { kind: field.kind, offset, zigzag: field.zigzag, hex: false };
                    kept.push((name, field.kind, slot));
                    slot
                }
            };
            if field.number == 0 {
                layout.names.push((field.name.as_bytes().into(), slot));
            } else {
                let index = field.number as usize;
                layout.slots.resize(layout.slots.len().max(index + 1), None);
                *layout.slots.get_mut(index)? = Some(slot);
            }
        }
        let print = print(system, name, &kept);
        let text = format!("name: {name}\nID: {id}\nformat:\n{COMMON}{lines}\nprint fmt: {print}\n");
        Some((EventFormat::parse(system, &text).ok()?, layout))
    }

    /// Appends a record of a thread without its fields; gives where it starts.
    pub(super) fn begin(&self, pid: i32, flags: u8, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.resize(start + usize::from(self.size), 0);
        put(out, start, &self.id.to_le_bytes());
        put(out, start + 2, &[flags]);
        put(out, start + 4, &pid.to_le_bytes());
        start
    }

    /// Fills in a field of the record that starts at `start`.
    pub(super) fn set(&self, number: u32, value: Value<'_>, start: usize, out: &mut Vec<u8>) {
        if let Some(Some(slot)) = self.slots.get(number as usize) {
            slot.put(value, start, out);
        }
    }

    /// Appends a record of a message.
    pub(super) fn record(&self, message: &[u8], pid: i32, flags: u8, out: &mut Vec<u8>) {
        let start = self.begin(pid, flags, out);
        let mut argument = 0;
        for (number, value) in Fields::new(message) {
            let Some(Some(slot)) = self.slots.get(number as usize) else { continue };
            match (slot.kind, value) {
                (Kind::Arguments, Value::Number(value)) if argument < 6 => {
                    put(out, start + usize::from(slot.offset) + 8 * argument, &value.to_le_bytes());
                    argument += 1;
                }
                _ => slot.put(value, start, out),
            }
        }
    }

    /// Appends a record of a `GenericFtraceEvent`, which names its fields. They mostly come in the order of the layout.
    pub(super) fn named_record(&self, message: &[u8], pid: i32, out: &mut Vec<u8>) {
        let start = self.begin(pid, 0, out);
        for (next, (name, value)) in named_fields(message).enumerate() {
            let in_order = self.names.get(next).filter(|(known, _)| **known == *name);
            let found = in_order.or_else(|| self.names.iter().find(|(known, _)| **known == *name));
            if let (Some((_, slot)), Some(value)) = (found, value) {
                slot.put(value, start, out);
            }
        }
    }
}

impl Slot {
    fn put(self, value: Value<'_>, start: usize, out: &mut Vec<u8>) {
        let at = start + usize::from(self.offset);
        match (self.kind, value) {
            (Kind::Arguments, _) => {}
            (Kind::Text, Value::Bytes(text)) => {
                // Offset and length are 16 bits each.
                let offset = out.len() - start;
                let room = 0xff00_usize.saturating_sub(offset);
                let text = text.get(..text.len().min(room)).unwrap_or(&[]);
                let location = ((text.len() as u32 + 1) << 16) | (offset as u32 & 0xffff);
                put(out, at, &location.to_le_bytes());
                out.extend_from_slice(text);
                out.push(0);
            }
            (Kind::Text, Value::Number(_)) => {}
            (kind, Value::Bytes(text)) => {
                if self.hex
                    && let Some(number) = hexadecimal(text)
                {
                    number_at(kind, number, at, out);
                }
            }
            (kind, Value::Number(number)) => {
                let number = if self.zigzag { (number >> 1) ^ (number & 1).wrapping_neg() } else { number };
                number_at(kind, number, at, out);
            }
        }
    }
}

fn number_at(kind: Kind, number: u64, at: usize, out: &mut [u8]) {
    let bytes = number.to_le_bytes();
    match kind {
        Kind::Bool => put(out, at, &[u8::from(number != 0)]),
        _ => put(out, at, bytes.get(..usize::from(kind.declaration().0)).unwrap_or(&[])),
    }
}

/// The names and values of a `GenericFtraceEvent`'s fields; its own name is not among them.
pub(super) fn named_fields(message: &[u8]) -> impl Iterator<Item = (&[u8], Option<Value<'_>>)> {
    let fields = Fields::new(message).filter(|(number, _)| *number == 2);
    fields.filter_map(|(_, field)| {
        let (mut name, mut value) = (None, None);
        for (number, inner) in Fields::new(field.bytes()?) {
            match number {
                1 => name = inner.bytes(),
                3..=5 => value = Some(inner),
                _ => {}
            }
        }
        Some((name?, value))
    })
}

fn hexadecimal(text: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?.strip_prefix("0x")?, 16).ok()
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// The print format: reasons and softirqs have names, all else is `name=value`.
fn print(system: &str, name: &str, fields: &[(&str, Kind, Slot)]) -> String {
    let has = |name: &str| fields.iter().any(|(known, ..)| *known == name);
    let (mut format, mut arguments) = (Vec::new(), Vec::new());
    if (system, name) == ("kvm", "kvm_exit")
        && let Some((conversion, names)) = exits::print(has)
    {
        format.push(conversion.to_owned());
        arguments.push(names);
    }
    for (field, kind, _) in fields {
        let conversion = kind.conversion();
        format.push(format!("{field}={conversion}"));
        match kind {
            Kind::Text => arguments.push(format!("__get_str({field})")),
            Kind::Arguments => arguments.extend((0..6).map(|index| format!("REC->{field}[{index}]"))),
            _ => arguments.push(format!("REC->{field}")),
        }
    }
    if system == "irq" && name.starts_with("softirq_") && has("vec") {
        let table: String =
            SOFTIRQS.iter().enumerate().map(|(number, name)| format!(", {{ {number}, \"{name}\" }}")).collect();
        format.push("[action=%s]".to_owned());
        arguments.push(format!("__print_symbolic(REC->vec{table})"));
    }
    let arguments: String = arguments.iter().map(|argument| format!(", {argument}")).collect();
    format!("\"{}\"{arguments}", format.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Endian;
    use crate::capture::event_format::PrintContext;
    use crate::export::perfetto::wire::Out;

    fn wanted<'a>(number: u32, name: &'a str, kind: Kind) -> Wanted<'a> {
        Wanted { number, name, kind, zigzag: false }
    }

    fn rendered(format: &EventFormat, record: &[u8]) -> String {
        let mut out = Vec::new();
        format.render(record, Endian::Little, &PrintContext::default(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_record_says_what_the_message_said() {
        let fields = [
            wanted(1, "comm", Kind::Text),
            wanted(2, "pid", Kind::S32),
            Wanted { zigzag: true, ..wanted(3, "delta", Kind::S64) },
            wanted(5, "args", Kind::Arguments),
            wanted(6, "address", Kind::U64),
            wanted(7, "address", Kind::Text),
        ];
        let (format, layout) = Layout::new(4, "x", "y", &fields).unwrap();
        let mut message = Out::default();
        message.bytes(1, b"qemu");
        message.int(2, -3);
        message.uint(3, 3);
        (1..=7).for_each(|argument| message.uint(5, argument));
        message.bytes(7, b"0xfffffffffffffff0");
        message.uint(99, 1);
        let mut out = b"before".to_vec();
        layout.record(message.written(), 77, 9, &mut out);
        let record = &out[6..];
        assert_eq!(format.id, 5);
        assert_eq!(record[..8], [5, 0, 9, 0, 77, 0, 0, 0]);
        let expected = "comm=qemu pid=-3 delta=-2 args=1, 2, 3, 4, 5, 6 address=18446744073709551600";
        assert_eq!(rendered(&format, record), expected);
    }

    #[test]
    fn exits_have_names() {
        let x86 = ["exit_reason", "guest_rip", "isa"].map(|name| wanted(0, name, Kind::U64));
        let (format, layout) = Layout::new(0, "kvm", "kvm_exit", &x86).unwrap();
        let exit = |reason: u64, isa: u64| {
            let mut message = Out::default();
            message.bytes(1, b"kvm_exit");
            for (name, value) in [("isa", isa), ("exit_reason", reason)] {
                let field = message.open(2);
                message.bytes(1, name.as_bytes());
                message.uint(5, value);
                message.close(field);
            }
            let mut out = Vec::new();
            layout.named_record(message.written(), 1, &mut out);
            format.symbol("exit_reason", &out, Endian::Little).map(str::to_owned)
        };
        assert_eq!(exit(0x78, 2).as_deref(), Some("hlt"));
        assert_eq!(exit(0xffff_ffff, 2).as_deref(), Some("invalid_guest_state"));
        assert_eq!(exit(0x8000_0030, 1).as_deref(), Some("EPT_VIOLATION"));
        let arm64 = [wanted(1, "esr_ec", Kind::U32), wanted(2, "ret", Kind::S32)];
        let (format, layout) = Layout::new(0, "kvm", "kvm_exit", &arm64).unwrap();
        let mut out = Vec::new();
        layout.record(b"\x08\x01\x10\x02", 1, 0, &mut out);
        assert_eq!(format.symbol("ret", &out, Endian::Little), Some("TRAP"));
        assert_eq!(format.symbol("esr_ec", &out, Endian::Little), Some("WFx"));
        assert_eq!(rendered(&format, &out), "TRAP: WFx esr_ec=1 ret=2");
    }
}
