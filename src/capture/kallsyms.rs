//! A kernel's functions by address, read only when the first name is asked for: the text is megabytes long, and most
//! conversions need a handful of names or none.

use std::fmt;
use std::sync::OnceLock;

use crate::error::{Error, Result};

/// Gets the text of `/proc/kallsyms` as recorded.
type Load = dyn Fn() -> Result<Vec<u8>> + Send + Sync;

/// The functions of a recorded kernel.
pub struct Kallsyms {
    load: Box<Load>,
    table: OnceLock<Result<Table>>,
}

/// Where a function starts, and where its name starts in [`Table::names`].
#[derive(Clone, Copy)]
struct Function {
    address: u64,
    name: u32,
}

/// What is kept of the text: less than half of it.
#[derive(Default)]
struct Table {
    /// A line each.
    names: Vec<u8>,
    /// By address.
    functions: Vec<Function>,
}

impl Kallsyms {
    /// Symbols that `load` reads when they are first needed. If that fails there are none, and [`Kallsyms::failure`] says
    /// why: a name is worth no error.
    pub fn lazy(load: impl Fn() -> Result<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self { load: Box::new(load), table: OnceLock::new() }
    }

    /// Symbols from text that is already there.
    pub fn from_text(text: impl Into<Vec<u8>>) -> Self {
        let table = OnceLock::new();
        let _ = table.set(Ok(Table::parse(&text.into())));
        Self { load: Box::new(|| Ok(Vec::new())), table }
    }

    fn table(&self) -> Option<&Table> {
        self.table.get_or_init(|| (self.load)().map(|text| Table::parse(&text))).as_ref().ok()
    }

    /// Why symbols that were needed could not be read.
    pub fn failure(&self) -> Option<&Error> {
        self.table.get()?.as_ref().err()
    }

    /// The function that an address lies in: its start and its name.
    pub fn find(&self, address: u64) -> Option<(u64, &str)> {
        let table = self.table()?;
        let index = table.functions.partition_point(|f| f.address <= address).checked_sub(1)?;
        let function = table.functions.get(index)?;
        let name = name_at(table.names.get(function.name as usize..)?);
        Some((function.address, std::str::from_utf8(name).ok()?))
    }

    /// How many functions there are.
    pub fn len(&self) -> usize {
        self.table().map_or(0, |table| table.functions.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Kallsyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kallsyms").field("read", &self.table.get().is_some()).finish_non_exhaustive()
    }
}

impl Table {
    /// Lines of `address type name [module]`. Lines that are not such, data and zero addresses (what a user without
    /// rights sees) are passed over.
    fn parse(text: &[u8]) -> Self {
        let (mut names, mut functions) = (Vec::new(), Vec::new());
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', text).chain([text.len()]) {
            if let Some((address, name)) = text.get(from..end).and_then(function)
                && let Ok(start) = u32::try_from(names.len())
            {
                names.extend_from_slice(name);
                names.push(b'\n');
                functions.push(Function { address, name: start });
            }
            from = end + 1;
        }
        names.shrink_to_fit();
        functions.shrink_to_fit();
        if !functions.is_sorted_by_key(|f| f.address) {
            functions.sort_by_key(|f| f.address);
        }
        functions.dedup_by_key(|f| f.address);
        Self { names, functions }
    }
}

/// Address and name, and the module if there is one, of a line that is a function's.
#[inline]
fn function(line: &[u8]) -> Option<(u64, &[u8])> {
    // Nearly all addresses have 16 digits.
    let space = if line.get(16) == Some(&b' ') { 16 } else { line.iter().position(|&b| b == b' ')? };
    let [kind, b' ', name @ ..] = line.get(space + 1..)? else { return None };
    if !matches!(kind, b't' | b'T' | b'w' | b'W') {
        return None;
    }
    let address = match line.first_chunk().filter(|_| space == 16) {
        Some(&digits) => sixteen_digits(digits)?,
        None => some_digits(line.get(..space)?)?,
    };
    let empty = matches!(name.first(), None | Some(b' ' | b'\t' | b'\r'));
    (address != 0 && !empty).then_some((address, name))
}

/// The name at the start of lines.
fn name_at(rest: &[u8]) -> &[u8] {
    let end = rest.iter().position(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest)
}

fn some_digits(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |address, &byte| {
        let digit = char::from(byte).to_digit(16)?;
        (address >> 60 == 0).then_some(address << 4 | u64::from(digit))
    })
}

/// All sixteen digits at once.
#[inline]
fn sixteen_digits(digits: [u8; 16]) -> Option<u64> {
    const EACH: u128 = u128::MAX / 0xff;
    let digits = u128::from_be_bytes(digits);
    // Letters differ from digits in this bit, and their lowest four bits count from 1.
    let letters = digits >> 6 & EACH;
    let values = (digits & (EACH * 0xf)) + letters * 9;
    // Letters are 10 to 15, and from its value each digit is again what it was; capital letters are made small before.
    let small = digits | (letters * 0x20);
    let again = values + EACH * u128::from(b'0') + letters * u128::from(b'a' - 10 - b'0');
    if small != again || values & (EACH * 0xf0) != 0 || (values + EACH * 6) >> 4 & EACH != letters {
        return None;
    }
    // Pairs of digits move together, then pairs of bytes, and so on.
    let values = (values >> 4 | values) & 0x00ff_00ff_00ff_00ff_00ff_00ff_00ff_00ff;
    let values = (values >> 8 | values) & 0x0000_ffff_0000_ffff_0000_ffff_0000_ffff;
    let values = (values >> 16 | values) & 0x0000_0000_ffff_ffff_0000_0000_ffff_ffff;
    Some((values >> 32 | values) as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn functions_are_found_by_any_address_in_them() {
        let symbols = Kallsyms::lazy(|| {
            let text = "ffffffff81000200 T second [module]\nffffffff81000100 t first\nffffffff81000180 d data\n\
                        0000000000000000 T hidden\nnonsense\nffffffff81000300 T ";
            Ok(text.into())
        });
        assert_eq!(symbols.len(), 2);
        assert_eq!(symbols.find(0xffff_ffff_8100_0100), Some((0xffff_ffff_8100_0100, "first")));
        assert_eq!(symbols.find(0xffff_ffff_8100_01ff), Some((0xffff_ffff_8100_0100, "first")));
        assert_eq!(symbols.find(0xffff_ffff_8100_0200), Some((0xffff_ffff_8100_0200, "second")));
        assert_eq!(symbols.find(0x1000), None);
    }

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

    #[test]
    fn symbols_that_cannot_be_read_are_none() {
        let broken = Kallsyms::lazy(|| Err(crate::error::Error::format("gone")));
        assert!(broken.is_empty());
        assert_eq!(broken.find(1), None);
        assert_eq!(broken.failure().map(Error::to_string).as_deref(), Some("gone"));
    }
}
