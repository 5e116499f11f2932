//! C integer types: how wide, how signed, and how two of them combine.

/// A C integer type. Values of it are kept as 64 bits, extended as the type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Int {
    /// 8, 16, 32 or 64.
    pub(super) bits: u8,
    pub(super) signed: bool,
}

impl Int {
    pub(super) const I32: Self = Self { bits: 32, signed: true };
    pub(super) const U32: Self = Self { bits: 32, signed: false };
    pub(super) const I64: Self = Self { bits: 64, signed: true };
    pub(super) const U64: Self = Self { bits: 64, signed: false };

    /// The type of `size` bytes; `None` unless that is 1, 2, 4 or 8.
    pub(super) fn of_size(size: u16, signed: bool) -> Option<Self> {
        matches!(size, 1 | 2 | 4 | 8).then(|| Self { bits: size as u8 * 8, signed })
    }

    /// Size in bytes.
    pub(super) fn size(self) -> u8 {
        self.bits / 8
    }

    /// Converts a 64-bit value to this type: cut to its width, then extended by its sign.
    #[inline]
    pub(super) fn fit(self, value: u64) -> u64 {
        let shift = u32::from(64 - self.bits.min(64));
        let up = value << shift;
        if self.signed { ((up as i64) >> shift) as u64 } else { up >> shift }
    }

    /// Integer promotion: nothing is computed in less than an `int`.
    pub(super) fn promoted(self) -> Self {
        if self.bits < 32 { Self::I32 } else { self }
    }

    /// The usual arithmetic conversions: the type in which an operator computes.
    pub(super) fn common(self, other: Self) -> Self {
        let (a, b) = (self.promoted(), other.promoted());
        match a.bits.cmp(&b.bits) {
            std::cmp::Ordering::Greater => a,
            std::cmp::Ordering::Less => b,
            std::cmp::Ordering::Equal => Self { bits: a.bits, signed: a.signed && b.signed },
        }
    }
}

/// The integer type that the words of a C type name mean, `long` being `long_size` bytes. `None` for structures and
/// names that are not known here.
pub(super) fn int_type<'a>(words: impl Iterator<Item = &'a str>, long_size: u8) -> Option<Int> {
    let long = Int { bits: long_size * 8, signed: true };
    let mut base = None;
    let mut longs = 0;
    let mut unsigned = None;
    for word in words {
        let (bits, signed) = match word {
            "const" | "volatile" | "__user" | "__force" | "__bitwise" | "static" => continue,
            "unsigned" => {
                unsigned = Some(true);
                continue;
            }
            "signed" | "__signed__" => {
                unsigned = Some(false);
                continue;
            }
            "long" => {
                longs += 1;
                continue;
            }
            "int" => {
                base.get_or_insert(Int::I32);
                continue;
            }
            "enum" => return Some(Int::U32),
            "char" => (8, true),
            "short" => (16, true),
            "bool" | "_Bool" => (8, false),
            "u8" | "__u8" | "uint8_t" | "cc_t" => (8, false),
            "s8" | "__s8" | "int8_t" => (8, true),
            "u16" | "__u16" | "uint16_t" | "__le16" | "__be16" | "umode_t" | "sa_family_t" => (16, false),
            "s16" | "__s16" | "int16_t" => (16, true),
            "u32" | "__u32" | "uint32_t" | "__le32" | "__be32" | "dev_t" | "gfp_t" | "uid_t" | "gid_t" | "fmode_t"
            | "blk_opf_t" | "__poll_t" | "qid_t" | "projid_t" | "uint" => (32, false),
            "s32" | "__s32" | "int32_t" | "pid_t" | "key_serial_t" | "clockid_t" => (32, true),
            "u64" | "__u64" | "uint64_t" | "__le64" | "__be64" | "sector_t" | "blkcnt_t" | "dma_addr_t"
            | "phys_addr_t" | "resource_size_t" | "gpa_t" | "gfn_t" | "hpa_t" => (64, false),
            "s64" | "__s64" | "int64_t" | "loff_t" | "ktime_t" | "time64_t" => (64, true),
            "size_t" | "uintptr_t" | "ino_t" | "gva_t" | "pgoff_t" | "ulong" | "cpumask_t" | "nodemask_t" => {
                (long.bits, false)
            }
            "ssize_t" | "ptrdiff_t" | "intptr_t" | "off_t" | "clock_t" => (long.bits, true),
            _ => return None,
        };
        base = Some(Int { bits, signed });
    }
    let mut int = match (longs, base) {
        (0, None) => unsigned.map(|_| Int::I32)?,
        (0, Some(int)) => int,
        (1, _) => long,
        _ => Int::I64,
    };
    if let Some(unsigned) = unsigned {
        int.signed = !unsigned;
    }
    Some(int)
}
