//! Lines of `/proc/kallsyms`: `address type name [module]`.

/// Address and name, and the module if there is one, of a line that is a function's.
#[inline]
pub(super) fn function(line: &[u8]) -> Option<(u64, &[u8])> {
    // Nearly all addresses have 16 digits.
    if let Some((digits, [b' ', kind, b' ', name @ ..])) = line.split_first_chunk() {
        if !is_function(*kind) {
            return None;
        }
        if let Some(address) = sixteen_digits(*digits) {
            return named(address, name);
        }
    }
    let (digits, rest) = line.split_at(line.iter().position(|&byte| byte == b' ')?);
    let [b' ', kind, b' ', name @ ..] = rest else { return None };
    if is_function(*kind) { named(some_digits(digits)?, name) } else { None }
}

/// Whether a line names a module.
pub(super) fn is_module(line: &[u8]) -> bool {
    line.trim_ascii_end().ends_with(b"]")
}

fn is_function(kind: u8) -> bool {
    matches!(kind, b't' | b'T' | b'w' | b'W')
}

fn named(address: u64, name: &[u8]) -> Option<(u64, &[u8])> {
    let empty = matches!(name.first(), None | Some(b' ' | b'\t' | b'\r' | b'\n'));
    (address != 0 && !empty).then_some((address, name))
}

/// The name at the start of lines.
pub(super) fn name_at(rest: &[u8]) -> &[u8] {
    let end = rest.iter().position(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest)
}

fn some_digits(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |address, &byte| {
        let digit = char::from(byte).to_digit(16)?;
        (address >> 60 == 0).then_some(address << 4 | u64::from(digit))
    })
}

#[inline]
fn sixteen_digits(digits: [u8; 16]) -> Option<u64> {
    let (high, low) = digits.split_first_chunk()?;
    Some(eight_digits(*high)? << 32 | eight_digits(*low.first_chunk()?)?)
}

/// All eight digits at once.
#[inline]
fn eight_digits(digits: [u8; 8]) -> Option<u64> {
    const EACH: u64 = u64::MAX / 0xff;
    let digits = u64::from_be_bytes(digits);
    // Letters differ from digits in this bit, and their lowest four bits count from 1.
    let letters = digits >> 6 & EACH;
    let values = (digits & (EACH * 0xf)) + letters * 9;
    // Letters are 10 to 15, and from its value each digit is again what it was; capital letters are made small before.
    let small = digits | (letters * 0x20);
    let again = values + EACH * u64::from(b'0') + letters * u64::from(b'a' - 10 - b'0');
    if small != again || values & (EACH * 0xf0) != 0 || (values + EACH * 6) >> 4 & EACH != letters {
        return None;
    }
    // Pairs of digits move together, then pairs of bytes, and so on.
    let values = (values >> 4 | values) & 0x00ff_00ff_00ff_00ff;
    let values = (values >> 8 | values) & 0x0000_ffff_0000_ffff;
    Some((values >> 16 | values) & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sixteen_digits_are_a_number(value: u64, upper: bool, at in 0..16_usize, other: u8) {
            let text = if upper { format!("{value:016X}") } else { format!("{value:016x}") };
            let mut digits: [u8; 16] = text.as_bytes().try_into().unwrap();
            prop_assert_eq!(sixteen_digits(digits), Some(value));
            digits[at] = other;
            let text = std::str::from_utf8(&digits).ok().filter(|text| !text.starts_with('+'));
            prop_assert_eq!(sixteen_digits(digits), text.and_then(|text| u64::from_str_radix(text, 16).ok()));
        }
    }
}
