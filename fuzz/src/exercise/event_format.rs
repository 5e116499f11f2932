//! The text of a `format` file, and records read by it: the pieces behind the first are payloads.

use kvm_timeline::capture::Endian;
use kvm_timeline::capture::event_format::{EventFormat, PrintContext};

use super::pieces;

/// Longest text that a payload of some hundred bytes may be rendered as.
const MAX_LINE: usize = 1 << 20;

pub fn run(data: &[u8]) {
    let pieces = pieces(data);
    let Some((text, payloads)) = pieces.split_first() else { return };
    let Ok(format) = EventFormat::parse("kvm", &String::from_utf8_lossy(text)) else { return };
    exercise(&format, &[]);
    for payload in payloads.iter().take(8) {
        exercise(&format, payload);
    }
}

/// Uses everything that a format offers on a payload.
pub fn exercise(format: &EventFormat, payload: &[u8]) {
    let printk = [(0, "%*.*s %lld %pI4 %c %pS".into()), (u64::MAX, "%d".into())];
    let context = PrintContext { printk: &printk, symbols: None };
    for endian in [Endian::Little, Endian::Big] {
        let _ = format.pid(payload, endian);
        for field in format.common.iter().chain(&format.fields).take(64) {
            let _ = (field.number(payload, endian), field.value(payload, endian));
            let _ = (format.symbol(&field.name, payload, endian), format.symbols(&field.name).count());
        }
        let mut line = Vec::new();
        format.render(payload, endian, &context, &mut line);
        assert!(line.len() <= MAX_LINE, "{} bytes of text of {} bytes", line.len(), payload.len());
    }
}
