//! Tables of `__print_symbolic` and `__print_flags`.

/// Numbers and their names, in the order of the print format.
#[derive(Debug)]
pub(super) struct Table {
    entries: Vec<(u64, Box<str>)>,
    /// For each value below [`DENSE`]: 1 + the index of the first entry with it, 0 for none.
    dense: Box<[u16]>,
    /// Larger values and the index of the first entry with each, sorted by value.
    sorted: Vec<(u64, u16)>,
    /// The bits that are compared.
    mask: u64,
}

/// Values below it are looked up directly: the numbers of interrupts and of most exit reasons.
const DENSE: usize = 256;

impl Table {
    /// A table for expressions of `bits` bits: `{ -1, "…" }` matches the 32-bit value 0xffffffff.
    pub(super) fn new(mut entries: Vec<(u64, Box<str>)>, bits: u8) -> Self {
        let mask = u64::MAX >> (64 - u32::from(bits.clamp(8, 64)));
        entries.truncate(usize::from(u16::MAX) - 1);
        let mut dense = vec![0_u16; DENSE];
        let mut sorted = Vec::new();
        for ((value, _), index) in entries.iter().zip(0_u16..) {
            let value = value & mask;
            match usize::try_from(value).ok().and_then(|value| dense.get_mut(value)) {
                Some(slot) if *slot == 0 => *slot = index + 1,
                Some(_) => {}
                None => sorted.push((value, index)),
            }
        }
        sorted.sort_unstable();
        sorted.dedup_by_key(|(value, _)| *value);
        Self { entries, dense: dense.into(), sorted, mask }
    }

    /// The name of `value`; the first entry wins.
    #[inline]
    pub(super) fn find(&self, value: u64) -> Option<&str> {
        let value = value & self.mask;
        let index = match usize::try_from(value).ok().and_then(|value| self.dense.get(value)) {
            Some(slot) => slot.checked_sub(1)?,
            None => {
                let at = self.sorted.partition_point(|(known, _)| *known < value);
                self.sorted.get(at).filter(|(known, _)| *known == value)?.1
            }
        };
        self.entries.get(usize::from(index)).map(|(_, name)| &**name)
    }

    /// All entries in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, &str)> {
        self.entries.iter().map(|(value, name)| (value & self.mask, &**name))
    }
}
