//! Events of ftrace itself, whose text the kernel writes by hand and not by their print format.

use super::expr::Input;
use super::field::{Field, Place, read_int, until_nul};
use super::pointer;
use super::printf::{self, Conversion, Length, Pieces, Size, Spec};
use super::{Int, PrintContext};

/// How an event of the system `ftrace` is rendered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Special {
    /// By its print format.
    No,
    /// `print`: the text written to trace_marker.
    Print { text: Place },
    /// `bputs`: the address of a constant string.
    Puts { text: Place },
    /// `bprint`: the address of a format and its packed arguments.
    Printf { format: Place, arguments: Place },
    /// `function`: `callee <-caller`.
    Function { ip: Place, parent: Place },
    /// `kernel_stack`, `user_stack`: addresses from the innermost on.
    Stack { from: u16 },
}

impl Special {
    /// How to render `system`:`name` with these fields.
    pub(super) fn of(system: &str, name: &str, fields: &[Field]) -> Self {
        if system != "ftrace" {
            return Self::No;
        }
        let place = |name: &str| fields.iter().find(|field| &*field.name == name).map(Field::place);
        let special = match name {
            "print" => place("buf").map(|text| Self::Print { text }),
            "bputs" => place("str").map(|text| Self::Puts { text }),
            "bprint" => place("fmt").zip(place("buf")).map(|(format, arguments)| Self::Printf { format, arguments }),
            "function" => place("ip").zip(place("parent_ip")).map(|(ip, parent)| Self::Function { ip, parent }),
            "kernel_stack" | "user_stack" => {
                fields.iter().find(|field| &*field.name == "caller").map(|field| Self::Stack { from: field.offset })
            }
            _ => None,
        };
        special.unwrap_or(Self::No)
    }

    /// Appends the text; false, and nothing appended, if the record is rendered by its print format.
    pub(super) fn render(self, input: Input<'_>, long: u8, context: &PrintContext<'_>, out: &mut Vec<u8>) -> bool {
        let bytes = |place: Place| place.bytes(input.payload, input.endian).unwrap_or(&[]);
        let address = |place: Place| {
            let bytes = bytes(place);
            read_int(bytes, 0, bytes.len(), false, input.endian).unwrap_or(0)
        };
        match self {
            Self::No => return false,
            Self::Print { text } => out.extend_from_slice(until_nul(bytes(text))),
            Self::Puts { text } => match context.printk_text(address(text)) {
                Some(text) => out.extend_from_slice(text.as_bytes()),
                None => printf::hex(address(text), out),
            },
            Self::Printf { format, arguments } => match context.printk_text(address(format)) {
                Some(format) => {
                    let mut packed = Packed { bytes: bytes(arguments), at: 0, input };
                    binary_printf(format.as_bytes(), &mut packed, long, context, out);
                }
                None => {
                    printf::hex(address(format), out);
                    out.push(b' ');
                    pointer::hex_list(bytes(arguments), 4, input.endian, out);
                }
            },
            Self::Function { ip, parent } => {
                pointer::symbol(address(ip), false, context, out);
                out.extend_from_slice(b" <-");
                pointer::symbol(address(parent), false, context, out);
            }
            Self::Stack { from } => {
                let size = usize::from(long);
                let all = input.payload.get(usize::from(from)..).unwrap_or(&[]);
                for chunk in all.chunks_exact(size) {
                    let address = read_int(chunk, 0, size, false, input.endian).unwrap_or(0);
                    // The list ends with all ones, or with zero in older kernels.
                    if address == 0 || address == u64::MAX || (size == 4 && address == u64::from(u32::MAX)) {
                        break;
                    }
                    out.extend_from_slice(b"=> ");
                    pointer::symbol(address, false, context, out);
                    out.push(b' ');
                }
                out.pop_if(|byte| *byte == b' ');
            }
        }
        true
    }
}

/// The arguments of trace_printk, packed as the kernel's vbin_printf does it.
struct Packed<'a> {
    bytes: &'a [u8],
    at: usize,
    input: Input<'a>,
}

impl<'a> Packed<'a> {
    /// An integer of `size` bytes; 8-byte ones are aligned to 4 only.
    fn int(&mut self, size: u8, signed: bool) -> Option<u64> {
        let align = usize::from(size.clamp(1, 4));
        let at = self.at.next_multiple_of(align);
        let value = read_int(self.bytes, at, usize::from(size), signed, self.input.endian)?;
        self.at = at + usize::from(size);
        Some(value)
    }

    /// A string with its NUL.
    fn text(&mut self) -> Option<&'a [u8]> {
        let text = until_nul(self.bytes.get(self.at..)?);
        self.at += text.len() + 1;
        Some(text)
    }
}

fn binary_printf(format: &[u8], packed: &mut Packed<'_>, long: u8, context: &PrintContext<'_>, out: &mut Vec<u8>) {
    // Behind a missing argument nobody knows where the next one starts.
    let mut complete = true;
    for piece in Pieces::new(format) {
        match piece {
            printf::Piece::Literal(start, end) => out.extend_from_slice(format.get(start..end).unwrap_or(&[])),
            printf::Piece::Spec(spec) => {
                complete = complete && argument(&spec, packed, long, context, out).is_some();
                if !complete {
                    out.push(b'?');
                }
            }
        }
    }
}

fn argument(
    spec: &Spec,
    packed: &mut Packed<'_>,
    long: u8,
    context: &PrintContext<'_>,
    out: &mut Vec<u8>,
) -> Option<()> {
    let mut size = |size: Size| match size {
        Size::None => Some(None),
        Size::Fixed(value) => Some(Some(usize::from(value))),
        Size::Argument => packed.int(4, true).map(|value| usize::try_from(value as i64).ok()),
    };
    let (width, precision) = (size(spec.width)?, size(spec.precision)?);
    let start = out.len();
    match spec.conversion {
        Conversion::Text => {
            let text = packed.text()?;
            out.extend_from_slice(text.get(..precision.unwrap_or(text.len()).min(text.len()))?);
        }
        Conversion::Char => out.push(packed.int(1, false)? as u8),
        // Symbols and plain addresses are stored as addresses, all else as finished text.
        Conversion::Pointer(letters) => match letters[0] {
            0 | b'S' | b's' | b'x' | b'K' | b'e' => {
                let target = pointer::Target::Address(packed.int(long, false)?);
                pointer::write(target, letters, width, long, packed.input.endian, context, out);
            }
            _ => out.extend_from_slice(packed.text()?),
        },
        conversion => {
            let bits = match spec.length {
                Length::Char => 8,
                Length::Short => 16,
                Length::Int => 32,
                Length::Long => long * 8,
                Length::LongLong => 64,
            };
            let int = Int { bits, signed: conversion == Conversion::Signed };
            let value = packed.int(int.size(), int.signed)?;
            printf::number(value, conversion, spec.style, width.unwrap_or(0), precision, out);
            return Some(());
        }
    }
    printf::pad(start, width.unwrap_or(0), spec.style.left, out);
    Some(())
}
