//! Tests of the format room, and what they share.

mod kernel_formats;
mod parsing;
mod printing;
mod robustness;
mod special;

use super::{EventFormat, PrintContext};
use crate::capture::Endian;

/// A record under construction: bytes put at offsets, zeros between.
#[derive(Clone)]
struct Record {
    bytes: Vec<u8>,
    endian: Endian,
}

impl Record {
    fn new(size: usize) -> Self {
        Self { bytes: vec![0; size], endian: Endian::Little }
    }

    fn big(size: usize) -> Self {
        Self { bytes: vec![0; size], endian: Endian::Big }
    }

    fn bytes(mut self, at: usize, bytes: &[u8]) -> Self {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// An integer of `size` bytes in the record's byte order.
    fn int(self, at: usize, size: usize, value: u64) -> Self {
        let bytes = match self.endian {
            Endian::Little => value.to_le_bytes()[..size].to_vec(),
            Endian::Big => value.to_be_bytes()[8 - size..].to_vec(),
        };
        self.bytes(at, &bytes)
    }

    fn u32(self, at: usize, value: u32) -> Self {
        self.int(at, 4, u64::from(value))
    }

    fn u64(self, at: usize, value: u64) -> Self {
        self.int(at, 8, value)
    }

    fn render(&self, format: &EventFormat) -> String {
        self.render_with(format, &PrintContext::default())
    }

    fn render_with(&self, format: &EventFormat, context: &PrintContext<'_>) -> String {
        let mut out = b"before:".to_vec();
        format.render(&self.bytes, self.endian, context, &mut out);
        String::from_utf8(out).expect("UTF-8").strip_prefix("before:").expect("what stood in the buffer").to_string()
    }
}

/// The usual common fields, own fields in short notation (`type name@offset:size[s]`), and a print format.
fn format_with(fields: &str, print: &str) -> EventFormat {
    EventFormat::parse("test", &text_with(fields, print)).expect("a good format")
}

fn text_with(fields: &str, print: &str) -> String {
    let mut text = String::from(
        "name: event\nID: 77\nformat:\n\
         \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
         \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
         \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
         \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n",
    );
    for field in fields.split(';').map(str::trim).filter(|field| !field.is_empty()) {
        let (decl, place) = field.split_once('@').expect("an offset");
        let (offset, size) = place.split_once(':').expect("a size");
        let signed = u8::from(size.ends_with('s'));
        let size = size.trim_end_matches('s');
        text.push_str(&format!("\tfield:{decl};\toffset:{offset};\tsize:{size};\tsigned:{signed};\n"));
    }
    text.push_str(&format!("\nprint fmt: {print}\n"));
    text
}

/// Renders `print` for one u64 field `x` at 8 and a signed int `i` at 16.
fn show(print: &str, x: u64, i: i32) -> String {
    let format = format_with("u64 x@8:8; int i@16:4s", print);
    assert!(format.has_print_format(), "{print} is not understood");
    Record::new(20).u64(8, x).u32(16, i as u32).render(&format)
}
