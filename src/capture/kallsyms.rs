//! A kernel's functions by address, read only when the first name is asked for: the text is megabytes long, and most
//! conversions need a handful of names or none.

use std::fmt;
use std::sync::OnceLock;

use crate::error::Result;

/// Gets the text of `/proc/kallsyms` as recorded.
type Load = dyn Fn() -> Result<Vec<u8>> + Send + Sync;

/// The functions of a recorded kernel.
pub struct Kallsyms {
    load: Box<Load>,
    table: OnceLock<Table>,
}

/// Where a function starts, and where its name lies in the text.
#[derive(Clone, Copy)]
struct Function {
    address: u64,
    name: (u32, u32),
}

#[derive(Default)]
struct Table {
    text: Vec<u8>,
    /// By address.
    functions: Vec<Function>,
}

impl Kallsyms {
    /// Symbols that `load` reads when they are first needed. If that fails there are none: a name is worth no error.
    pub fn lazy(load: impl Fn() -> Result<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self { load: Box::new(load), table: OnceLock::new() }
    }

    /// Symbols from text that is already there.
    pub fn from_text(text: impl Into<Vec<u8>>) -> Self {
        let table = OnceLock::new();
        let _ = table.set(Table::parse(text.into()));
        Self { load: Box::new(|| Ok(Vec::new())), table }
    }

    fn table(&self) -> &Table {
        self.table.get_or_init(|| Table::parse((self.load)().unwrap_or_default()))
    }

    /// The function that an address lies in: its start and its name.
    pub fn find(&self, address: u64) -> Option<(u64, &str)> {
        let table = self.table();
        let index = table.functions.partition_point(|f| f.address <= address).checked_sub(1)?;
        let function = table.functions.get(index)?;
        let (start, end) = function.name;
        let name = table.text.get(start as usize..end as usize)?;
        Some((function.address, std::str::from_utf8(name).ok()?))
    }

    /// How many functions there are.
    pub fn len(&self) -> usize {
        self.table().functions.len()
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
    fn parse(text: Vec<u8>) -> Self {
        let mut functions = Vec::new();
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let len = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            functions.extend(rest.get(..len).and_then(|line| function(line, at)));
            at += len + 1;
        }
        if !functions.is_sorted_by_key(|f| f.address) {
            functions.sort_by_key(|f| f.address);
        }
        functions.dedup_by_key(|f| f.address);
        Self { text, functions }
    }
}

/// A line that stands at `at` in the text.
#[inline]
fn function(line: &[u8], at: usize) -> Option<Function> {
    // Nearly all addresses have 16 digits.
    let space = if line.get(16) == Some(&b' ') { 16 } else { line.iter().position(|&b| b == b' ')? };
    let [kind, b' ', name @ ..] = line.get(space + 1..)? else { return None };
    if !matches!(kind, b't' | b'T' | b'w' | b'W') {
        return None;
    }
    let mut address = 0_u64;
    for &byte in line.get(..space)? {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => return None,
        };
        if address >> 60 != 0 {
            return None;
        }
        address = address << 4 | u64::from(digit);
    }
    let len = memchr::memchr3(b' ', b'\t', b'\r', name).unwrap_or(name.len());
    let start = u32::try_from(at + space + 3).ok()?;
    let end = start.checked_add(u32::try_from(len).ok()?)?;
    (address != 0 && len > 0).then_some(Function { address, name: (start, end) })
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn symbols_that_cannot_be_read_are_none() {
        let broken = Kallsyms::lazy(|| Err(crate::error::Error::format("gone")));
        assert!(broken.is_empty());
        assert_eq!(broken.find(1), None);
    }
}
