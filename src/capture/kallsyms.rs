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

/// Where a function starts, and where its line stands in the text.
#[derive(Clone, Copy)]
struct Function {
    address: u64,
    line: u32,
}

/// Functions that are in order by address: the first, and which lines they stand in.
struct Stretch {
    address: u64,
    start: u32,
    end: u32,
}

/// How long a stretch is, in bytes: what is searched line by line.
const STRETCH: usize = 1 << 10;

/// The lines of functions, and how to find an address in them. The kernel writes its own symbols in order and its
/// modules' behind them, so that only the latter have to be sorted.
struct Table {
    text: Vec<u8>,
    /// The functions up to the first that is out of order, by address.
    ordered: Vec<Stretch>,
    /// The others, by address.
    others: Vec<Function>,
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
        let _ = table.set(Ok(Table::parse(text.into())));
        Self { load: Box::new(|| Ok(Vec::new())), table }
    }

    fn table(&self) -> Option<&Table> {
        self.table.get_or_init(|| (self.load)().map(Table::parse)).as_ref().ok()
    }

    /// Why symbols that were needed could not be read.
    pub fn failure(&self) -> Option<&Error> {
        self.table.get()?.as_ref().err()
    }

    /// The function that an address lies in: its start and its name.
    pub fn find(&self, address: u64) -> Option<(u64, &str)> {
        let (start, name) = self.table()?.find(address)?;
        Some((start, std::str::from_utf8(name).ok()?))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.table().is_none_or(|table| table.ordered.is_empty() && table.others.is_empty())
    }
}

impl fmt::Debug for Kallsyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kallsyms").field("read", &self.table.get().is_some()).finish_non_exhaustive()
    }
}

impl Table {
    /// Lines of `address type name [module]`. Lines that are not such, data and zero addresses (what a user without
    /// rights sees) are passed over; of several names of one address the first counts.
    fn parse(mut text: Vec<u8>) -> Self {
        let (mut ordered, mut others) = (Vec::<Stretch>::new(), Vec::new());
        let (mut last, mut at, mut kept) = (0, 0, 0);
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let len = memchr::memchr(b'\n', rest).map_or(rest.len(), |feed| feed + 1);
            let line = at..at + len;
            at = line.end;
            let Some((address, _)) = text.get(line.clone()).and_then(function) else { continue };
            // Only functions are kept, and they move up.
            text.copy_within(line, kept);
            let (Ok(start), Ok(end)) = (u32::try_from(kept), u32::try_from(kept + len)) else { break };
            kept += len;
            if address < last || !others.is_empty() {
                others.push(Function { address, line: start });
                continue;
            }
            match ordered.last_mut() {
                // Another name of it.
                Some(_) if address == last => {}
                Some(stretch) if (end - stretch.start) as usize <= STRETCH => stretch.end = end,
                _ => ordered.push(Stretch { address, start, end }),
            }
            last = address;
        }
        text.truncate(kept);
        text.shrink_to_fit();
        ordered.shrink_to_fit();
        others.shrink_to_fit();
        others.sort_by_key(|f| f.address);
        others.dedup_by_key(|f| f.address);
        Self { text, ordered, others }
    }

    /// The last function that starts at `address` or before.
    fn find(&self, address: u64) -> Option<(u64, &[u8])> {
        let found = [self.find_other(address), self.find_ordered(address)];
        // Of one address, the ordered one has come first.
        let (address, name) = found.into_iter().flatten().max_by_key(|(address, _)| *address)?;
        Some((address, name_at(name)))
    }

    fn find_ordered(&self, address: u64) -> Option<(u64, &[u8])> {
        let index = self.ordered.partition_point(|s| s.address <= address).checked_sub(1)?;
        let Stretch { start, end, .. } = *self.ordered.get(index)?;
        let lines = self.text.get(start as usize..end as usize)?.split(|&byte| byte == b'\n').filter_map(function);
        let mut found: Option<(u64, &[u8])> = None;
        for line in lines.take_while(|line| line.0 <= address) {
            if found.is_none_or(|before| before.0 < line.0) {
                found = Some(line);
            }
        }
        found
    }

    fn find_other(&self, address: u64) -> Option<(u64, &[u8])> {
        let index = self.others.partition_point(|f| f.address <= address).checked_sub(1)?;
        let rest = self.text.get(self.others.get(index)?.line as usize..)?;
        function(rest.split(|&byte| byte == b'\n').next()?)
    }
}

/// Address and name, and the module if there is one, of a line that is a function's.
#[inline]
fn function(line: &[u8]) -> Option<(u64, &[u8])> {
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

fn is_function(kind: u8) -> bool {
    matches!(kind, b't' | b'T' | b'w' | b'W')
}

fn named(address: u64, name: &[u8]) -> Option<(u64, &[u8])> {
    let empty = matches!(name.first(), None | Some(b' ' | b'\t' | b'\r' | b'\n'));
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

    #[test]
    fn functions_are_found_by_any_address_in_them() {
        let symbols = Kallsyms::lazy(|| {
            let text = "ffffffff81000200 T second [module]\nffffffff81000100 t first\nffffffff81000180 d data\n\
                        0000000000000000 T hidden\nnonsense\nffffffff81000300 T \n\
                        ffffffff81000380 T ";
            Ok(text.into())
        });
        assert_eq!(symbols.find(0xffff_ffff_8100_0100), Some((0xffff_ffff_8100_0100, "first")));
        assert_eq!(symbols.find(0xffff_ffff_8100_01ff), Some((0xffff_ffff_8100_0100, "first")));
        assert_eq!(symbols.find(0xffff_ffff_8100_0200), Some((0xffff_ffff_8100_0200, "second")));
        assert_eq!(symbols.find(0x1000), None);
    }

    fn kinds() -> impl Strategy<Value = &'static str> {
        prop::sample::select(&["t", "T", "d", "w"])
    }

    fn modules() -> impl Strategy<Value = &'static str> {
        prop::sample::select(&["", " [m]", "\t[m]"])
    }

    /// Functions as the plainest way finds them.
    fn plain(text: &str, address: u64) -> Option<(u64, &str)> {
        let functions = text.lines().filter_map(|line| {
            let mut words = line.split([' ', '\t']);
            let (address, kind, name) = (words.next()?, words.next()?, words.next()?);
            let start = u64::from_str_radix(address, 16).ok()?;
            ("tTwW".contains(kind) && start != 0).then_some((start, name))
        });
        functions.filter(|(start, _)| *start <= address).rev().max_by_key(|(start, _)| *start)
    }

    proptest! {
        #[test]
        fn every_address_has_its_function(
            lines in prop::collection::vec((0..40_u64, kinds(), 0..300_usize, (0..17_usize, modules())), 0..200),
            ordered in any::<prop::sample::Index>(),
            addresses in prop::collection::vec(0..9000_u64, 20),
        ) {
            // Steps up to some line, then whatever comes.
            let ordered = ordered.index(lines.len() + 1);
            let (mut at, mut text) = (0, String::new());
            for (index, &(step, kind, length, (digits, module))) in lines.iter().enumerate() {
                at = if index < ordered { at + step } else { (index as u64 * 37 % 200) * step };
                text += &format!("{at:0digits$x} {kind} n{index}{:x<length$}{module}\n", "");
            }
            let symbols = Kallsyms::from_text(text.as_str());
            for address in addresses {
                prop_assert_eq!(symbols.find(address), plain(&text, address));
            }
        }

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
