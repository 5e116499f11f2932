//! What the kernel's `%p…` conversions and array helpers write.

use super::PrintContext;
use super::field::read_int;
use super::printf::{self, Conversion, Style};
use crate::capture::Endian;

/// What a `%p` conversion was given.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    /// An address.
    Address(u64),
    /// Bytes of the record.
    Bytes(&'a [u8]),
}

/// Writes one `%p` conversion; `letters` are what follows the `p`.
pub(super) fn write(
    target: Target<'_>,
    letters: [u8; 4],
    width: Option<usize>,
    long: u8,
    endian: Endian,
    context: &PrintContext<'_>,
    out: &mut Vec<u8>,
) {
    match target {
        Target::Address(address) => match letters[0] {
            b'S' | b'B' | b'F' => symbol(address, true, context, out),
            b's' | b'f' => symbol(address, false, context, out),
            _ => {
                let style = Style { zero: true, ..Style::default() };
                printf::number(address, Conversion::Hex, style, usize::from(long) * 2, None, out);
            }
        },
        Target::Bytes(bytes) => match letters {
            [b'I' | b'i', b'4', ..] => ipv4(bytes, out),
            [b'I' | b'i', b'6', ..] => ipv6(bytes, out),
            [b'I' | b'i', b'S', ..] => socket_address(bytes, endian, out),
            [b'M', b'F', ..] => hex_bytes(bytes.get(..6).unwrap_or(bytes), Some(b'-'), out),
            [b'M', ..] => hex_bytes(bytes.get(..6).unwrap_or(bytes), Some(b':'), out),
            [b'm', ..] => hex_bytes(bytes.get(..6).unwrap_or(bytes), None, out),
            [b'U', variant, ..] => uuid(bytes, variant, out),
            [b'h', separator, ..] => {
                let bytes = bytes.get(..width.unwrap_or(bytes.len()).min(bytes.len())).unwrap_or(bytes);
                let separator = match separator {
                    b'C' => Some(b':'),
                    b'D' => Some(b'-'),
                    b'N' => None,
                    _ => Some(b' '),
                };
                hex_bytes(bytes, separator, out);
            }
            [b'b', b'l', ..] => bitmap_list(bytes, width.unwrap_or(bytes.len() * 8), long, endian, out),
            [b'b', ..] => bitmap(bytes, width.unwrap_or(bytes.len() * 8), long, endian, out),
            // The address of something in the record is not in the record: show what stands there.
            _ => match read_int(bytes, 0, bytes.len(), false, endian) {
                Some(value) => printf::hex(value, out),
                None => hex_bytes(bytes, None, out),
            },
        },
    }
}

/// The symbol at or before `address`, with the distance if `offset`; the bare address where there is none.
pub(super) fn symbol(address: u64, offset: bool, context: &PrintContext<'_>, out: &mut Vec<u8>) {
    let Some((start, name)) = context.symbol_at(address) else { return printf::hex(address, out) };
    out.extend_from_slice(name.as_bytes());
    if offset {
        out.push(b'+');
        printf::hex(address - start, out);
    }
}

/// Two digits per byte.
pub(super) fn hex_bytes(bytes: &[u8], separator: Option<u8>, out: &mut Vec<u8>) {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    for (index, byte) in bytes.iter().enumerate() {
        if let Some(separator) = separator.filter(|_| index > 0) {
            out.push(separator);
        }
        out.extend([digit(byte >> 4), digit(byte & 15)]);
    }
}

/// `{0x1,0x2}`.
pub(super) fn hex_list(bytes: &[u8], element: u8, endian: Endian, out: &mut Vec<u8>) {
    out.push(b'{');
    let size = usize::from(element.max(1));
    for (index, chunk) in bytes.chunks_exact(size).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        printf::hex(read_int(chunk, 0, size, false, endian).unwrap_or(0), out);
    }
    out.push(b'}');
}

/// The 32-bit word `index` of a bitmap that is an array of `long`.
fn word(bytes: &[u8], index: usize, long: u8, endian: Endian) -> u32 {
    let value = if long == 8 {
        let pair = read_int(bytes, index / 2 * 8, 8, false, endian);
        // A bitmap need not fill its last long.
        pair.map(|pair| if index % 2 == 1 { pair >> 32 } else { pair })
    } else {
        None
    };
    value.or_else(|| read_int(bytes, index * 4, 4, false, endian)).unwrap_or(0) as u32
}

/// `ffff,00000001`: 32 bits a group, highest first.
pub(super) fn bitmap(bytes: &[u8], bits: usize, long: u8, endian: Endian, out: &mut Vec<u8>) {
    let bits = bits.min(bytes.len() * 8);
    let groups = bits.div_ceil(32);
    for index in (0..groups).rev() {
        let used = if index + 1 == groups && !bits.is_multiple_of(32) { bits % 32 } else { 32 };
        let value = u64::from(word(bytes, index, long, endian)) & (u64::MAX >> (64 - used));
        let style = Style { zero: true, ..Style::default() };
        printf::number(value, Conversion::Hex, style, used.div_ceil(4), None, out);
        if index > 0 {
            out.push(b',');
        }
    }
}

/// `0-3,8`.
fn bitmap_list(bytes: &[u8], bits: usize, long: u8, endian: Endian, out: &mut Vec<u8>) {
    let bits = bits.min(bytes.len() * 8);
    let is_set = |bit: usize| word(bytes, bit / 32, long, endian) >> (bit % 32) & 1 == 1;
    let start = out.len();
    let mut bit = 0;
    while bit < bits {
        if !is_set(bit) {
            bit += 1;
            continue;
        }
        let first = bit;
        while bit < bits && is_set(bit) {
            bit += 1;
        }
        if out.len() > start {
            out.push(b',');
        }
        printf::decimal(first as u64, out);
        if bit - first > 1 {
            out.push(b'-');
            printf::decimal(bit as u64 - 1, out);
        }
    }
}

fn ipv4(bytes: &[u8], out: &mut Vec<u8>) {
    for (index, byte) in bytes.iter().take(4).enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        printf::decimal(u64::from(*byte), out);
    }
}

fn ipv6(bytes: &[u8], out: &mut Vec<u8>) {
    match bytes.first_chunk::<16>() {
        Some(address) => out.extend_from_slice(std::net::Ipv6Addr::from(*address).to_string().as_bytes()),
        None => hex_bytes(bytes, None, out),
    }
}

fn uuid(bytes: &[u8], variant: u8, out: &mut Vec<u8>) {
    let little = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let big = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    for (index, from) in if matches!(variant, b'l' | b'L') { little } else { big }.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        hex_bytes(&[bytes.get(from).copied().unwrap_or(0)], None, out);
    }
}

/// An IPv4 or IPv6 address with its port; other families as hexadecimal bytes.
pub(super) fn socket_address(bytes: &[u8], endian: Endian, out: &mut Vec<u8>) {
    let port = read_int(bytes, 2, 2, false, Endian::Big);
    match (read_int(bytes, 0, 2, false, endian), port, bytes.get(4..8), bytes.get(8..24)) {
        (Some(2), Some(port), Some(address), _) => {
            ipv4(address, out);
            out.push(b':');
            printf::decimal(port, out);
        }
        (Some(10), Some(port), _, Some(address)) => {
            out.push(b'[');
            ipv6(address, out);
            out.extend_from_slice(b"]:");
            printf::decimal(port, out);
        }
        _ => hex_bytes(bytes, None, out),
    }
}
