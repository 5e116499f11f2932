//! Events of ftrace itself.

use super::Record;
use crate::capture::event_format::{EventFormat, PrintContext};
use crate::capture::kallsyms::Kallsyms;

fn ftrace(text: &str) -> EventFormat {
    EventFormat::parse("ftrace", text).expect("a kernel's format")
}

#[test]
fn marker_text_ends_at_its_line() {
    let format = ftrace(include_str!("../../../../tests/data/formats/ftrace.print.txt"));
    let record = Record::new(32).u64(8, 0xffff_ffff_8111_0000).bytes(16, b"B|42|frame\n\0xyz");
    assert_eq!(record.render(&format), "B|42|frame");
}

#[test]
fn functions_and_stacks_by_symbol() {
    let symbols = Kallsyms::from_text("ffff0000 T vfs_read\nffff1000 T ksys_read\n");
    let context = PrintContext { symbols: Some(&symbols), printk: &[] };
    let format = ftrace(include_str!("../../../../tests/data/formats/ftrace.function.txt"));
    let record = Record::new(24).u64(8, 0xffff_0000).u64(16, 0xffff_1042);
    assert_eq!(record.render_with(&format, &context), "vfs_read <-ksys_read");
    assert_eq!(record.render(&format), "0xffff0000 <-0xffff1042");
    let format = ftrace(include_str!("../../../../tests/data/formats/ftrace.kernel_stack.txt"));
    let record = Record::new(40).u32(8, 2).u64(16, 0xffff_0010).u64(24, 0xffff_1042).u64(32, u64::MAX);
    assert_eq!(record.render_with(&format, &context), "=> vfs_read => ksys_read");
}

#[test]
fn trace_printk_by_its_format() {
    let printk = [(0x1000, "%s=%d %lld %c%hd|%5s|%ps %pI4".into()), (0x2000, "constant\\n".into())];
    let symbols = Kallsyms::from_text("ffff0000 T vfs_read\n");
    let context = PrintContext { printk: &printk, symbols: Some(&symbols) };
    let format = ftrace(include_str!("../../../../tests/data/formats/ftrace.bprint.txt"));
    // Arguments as the kernel packs them: strings in line, numbers aligned to at most 4 bytes.
    let record = Record::new(24 + 56)
        .u64(16, 0x1000)
        .bytes(24, b"count\0")
        .u32(32, -3_i32 as u32)
        .u64(36, -4_i64 as u64)
        .bytes(44, b"k")
        .int(46, 2, 7)
        .bytes(48, b"abc\0")
        .u64(52, 0xffff_0000)
        .bytes(60, b"10.0.0.1\0");
    assert_eq!(record.render_with(&format, &context), "count=-3 -4 k7|  abc|vfs_read 10.0.0.1");
    assert!(record.render(&format).starts_with("0x1000 {0x6e756f63,"), "the address where the text is not known");
    let short = Record { bytes: record.bytes[..34].to_vec(), ..record.clone() };
    assert_eq!(short.render_with(&format, &context), "count=? ? ??|?|? ?");
    let format = ftrace(include_str!("../../../../tests/data/formats/ftrace.bputs.txt"));
    assert_eq!(Record::new(24).u64(16, 0x2000).render_with(&format, &context), "constant\\n");
}
