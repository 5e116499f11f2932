//! Kernel functions by address.

/// A kernel's functions, from the text of its `/proc/kallsyms`.
#[derive(Debug, Default)]
pub struct Symbols {
    /// Address and name, by address.
    functions: Vec<(u64, Box<str>)>,
}

impl Symbols {
    /// Parses lines of `address type name [module]`. Lines that are not such, data and zero addresses (what a user
    /// without rights sees) are passed over.
    pub fn parse(kallsyms: &str) -> Self {
        let mut functions: Vec<_> = kallsyms.lines().filter_map(function).collect();
        functions.sort_by_key(|&(address, _)| address);
        functions.dedup_by_key(|&mut (address, _)| address);
        Self { functions }
    }

    /// The function that an address lies in, and how far from its start.
    pub fn find(&self, address: u64) -> Option<(&str, u64)> {
        let index = self.functions.partition_point(|&(start, _)| start <= address).checked_sub(1)?;
        let (start, name) = self.functions.get(index)?;
        Some((name, address - start))
    }

    /// How many functions there are.
    pub fn len(&self) -> usize {
        self.functions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }
}

fn function(line: &str) -> Option<(u64, Box<str>)> {
    let mut words = line.split_ascii_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok().filter(|&address| address != 0)?;
    let kind = words.next()?;
    matches!(kind, "t" | "T" | "w" | "W").then_some((address, words.next()?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_by_any_address_in_them() {
        let symbols = Symbols::parse(
            "ffffffff81000200 T second\nffffffff81000100 t first\nffffffff81000180 d data\n0000000000000000 T hidden\nnonsense\n",
        );
        assert_eq!(symbols.len(), 2);
        assert_eq!(symbols.find(0xffff_ffff_8100_0100), Some(("first", 0)));
        assert_eq!(symbols.find(0xffff_ffff_8100_01ff), Some(("first", 0xff)));
        assert_eq!(symbols.find(0xffff_ffff_8100_0200), Some(("second", 0)));
        assert_eq!(symbols.find(0x1000), None);
    }
}
