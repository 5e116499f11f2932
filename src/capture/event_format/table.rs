//! Tables of `__print_symbolic` and `__print_flags`.

/// Numbers and their names, in the order of the print format.
#[derive(Debug)]
pub(super) struct Table {
    entries: Vec<(u64, Box<str>)>,
    /// Value and index of the first entry with it, sorted by value.
    sorted: Vec<(u64, u32)>,
    /// The bits that are compared.
    mask: u64,
}

impl Table {
    /// A table for expressions of `bits` bits: `{ -1, "…" }` matches the 32-bit value 0xffffffff.
    pub(super) fn new(entries: Vec<(u64, Box<str>)>, bits: u8) -> Self {
        let mask = u64::MAX >> (64 - u32::from(bits.clamp(8, 64)));
        let mut sorted: Vec<_> = entries.iter().zip(0..).map(|((value, _), index)| (value & mask, index)).collect();
        sorted.sort_unstable();
        sorted.dedup_by_key(|(value, _)| *value);
        Self { entries, sorted, mask }
    }

    /// The name of `value`; the first entry wins.
    #[inline]
    pub(super) fn find(&self, value: u64) -> Option<&str> {
        let value = value & self.mask;
        let at = self.sorted.partition_point(|(known, _)| *known < value);
        let &(known, index) = self.sorted.get(at)?;
        if known != value {
            return None;
        }
        self.entries.get(index as usize).map(|(_, name)| &**name)
    }

    /// All entries in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, &str)> {
        self.entries.iter().map(|(value, name)| (value & self.mask, &**name))
    }
}
