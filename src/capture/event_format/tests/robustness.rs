//! Whatever the bytes: no panic, and bounded time.

use proptest::prelude::*;

use super::{Record, format_with, text_with};
use crate::capture::Endian;
use crate::capture::event_format::{EventFormat, PrintContext};

const EXIT: &str = include_str!("../../../../tests/data/formats/kvm.kvm_exit.txt");
const BPRINT: &str = include_str!("../../../../tests/data/formats/ftrace.bprint.txt");

/// Uses everything that a format offers on a payload.
fn exercise(format: &EventFormat, payload: &[u8]) {
    let printk = [(0, "%*.*s %lld %pI4 %c".into())];
    let context = PrintContext { printk: &printk, symbols: None };
    for endian in [Endian::Little, Endian::Big] {
        for field in format.common.iter().chain(&format.fields) {
            let _ = (field.number(payload, endian), field.value(payload, endian));
            let _ = (format.symbol(&field.name, payload, endian), format.symbols(&field.name).count());
        }
        format.render(payload, endian, &context, &mut Vec::new());
    }
}

proptest! {
    #[test]
    fn any_text_is_a_format_or_an_error(text in "\\PC*", payload: Vec<u8>) {
        if let Ok(format) = EventFormat::parse("x", &text) {
            exercise(&format, &payload);
        }
    }

    #[test]
    fn any_print_format_is_survived(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "REC->x", "REC->t", "(", ")", "{", "}", "[", "]", ",", "?", ":", "+", "-", "*", "/", "%", "<<", ">>",
                "&&", "||", "~", "!", "&", "==", "<", "1", "0x7fffffffffffffff", "-1", "\"%d %s %*s\"", "\"a\"",
                "__print_symbolic(", "__print_flags(", "__get_str(", "t", "__print_array(", "__print_hex(", "(u8)",
                "(unsigned long *)", "sizeof(", "htonl(", "?:", "__get_dynamic_array_len(", "__get_bitmask(", "{1,\"b\"}",
            ]),
            0..40,
        ),
        payload in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let print = format!("\"%d %s %llx %p %pI4 %*pbl %.*s %c\", {}", words.join(" "));
        exercise(&format_with("u64 x@8:8; __data_loc char[] t@16:4; s16 x2@20:2s", &print), &payload);
    }

    #[test]
    fn damaged_formats_and_records_are_survived(
        at in 0..EXIT.len(), byte: u8, cut in 0..EXIT.len(), payload in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut bytes = EXIT.as_bytes().to_vec();
        bytes[at] = byte;
        bytes.truncate(cut.max(700));
        if let Ok(format) = EventFormat::parse("kvm", &String::from_utf8_lossy(&bytes)) {
            exercise(&format, &payload);
        }
        exercise(&EventFormat::parse("ftrace", BPRINT).expect("a kernel's format"), &payload);
    }

    #[test]
    fn numbers_print_as_rusts(x: u64, i: i32) {
        let shown = super::show("\"%llx %lld %d %u %#llx %llo %016llx\", REC->x, REC->x, REC->i, REC->i, REC->x, REC->x, REC->x", x, i);
        prop_assert_eq!(shown, format!("{x:x} {} {i} {} {x:#x} {x:o} {x:016x}", x as i64, i as u32));
    }

    #[test]
    fn arithmetic_is_that_of_the_types(a: i32, b: i32, x: u64) {
        let format = format_with("int a@8:4s; int b@12:4s; u64 x@16:8", "\"%d %d %d %u %llu %d %lld\", REC->a + REC->b, \
            REC->a * REC->b, REC->a ^ REC->b, (unsigned)REC->a >> (REC->b & 31), REC->x + REC->a, REC->a < REC->b, \
            (long long)REC->x >> (REC->b & 63)");
        let shown = Record::new(24).u32(8, a as u32).u32(12, b as u32).u64(16, x).render(&format);
        let expected = format!(
            "{} {} {} {} {} {} {}", a.wrapping_add(b), a.wrapping_mul(b), a ^ b, (a as u32) >> (b & 31),
            x.wrapping_add(a as i64 as u64), i32::from(a < b), (x as i64) >> (b & 63),
        );
        prop_assert_eq!(shown, expected);
    }
}

#[test]
fn deep_and_long_print_formats_end() {
    let nested = |open: &str, core: &str, close: &str, n: usize| format!("{}{core}{}", open.repeat(n), close.repeat(n));
    let prints = [
        nested("(", "1", ")", 50_000),
        nested("!", "1", "", 50_000),
        nested("REC->x + ", "1", "", 50_000),
        nested("REC->x ? 1 : ", "2", "", 50_000),
        nested("htonl(", "REC->x", ")", 30),
        format!("{}1{}", "(".repeat(30), " ?: REC->x)".repeat(30)),
        nested("{", "", "}", 50_000),
        nested("__print_symbolic(", "1", ", {1, \"a\"})", 1000),
        "1, ".repeat(60_000),
    ];
    for expression in prints {
        let text = text_with("u64 x@8:8", &format!("\"%d\", {expression}"));
        let format = EventFormat::parse("test", &text).expect("an odd print format costs only the rendering");
        exercise(&format, &[0; 16]);
    }
    let wide = format_with("u64 x@8:8", "\"%999999999d %*d\", 1, REC->x, 2");
    let record = Record::new(16).u64(8, u64::from(i32::MAX as u32));
    assert!(record.render(&wide).len() < 1000, "padding has a limit");
}
