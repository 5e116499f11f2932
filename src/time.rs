//! The four kinds of time in this program, as types that do not mix.
//!
//! A capture's pages hold [`RawStamp`]s: whatever clock the recorder chose. What they mean is decided once, by the
//! clock room: a guest's x86-tsc stamp is a [`GuestTsc`], a host's a [`HostTsc`], and only [`TraceNs`] reaches an
//! output file.

use std::fmt;

macro_rules! stamp {
    ($(#[$doc:meta])* $name:ident, $unit:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(u64);

        impl $name {
            /// The earliest value.
            pub const MIN: Self = Self(0);
            /// The latest value, also used for "no end".
            pub const MAX: Self = Self(u64::MAX);

            #[doc = concat!("Wraps a number of ", $unit, ".")]
            #[inline]
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            #[doc = concat!("The number of ", $unit, ".")]
            #[inline]
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

stamp!(
    /// A time stamp as the ring buffer holds it, in the unit of the capture's own clock.
    RawStamp, "clock units");
stamp!(
    /// A value of the time-stamp counter as a guest reads it: `(host_tsc * ratio >> frac_bits) + offset`, modulo 2^64.
    GuestTsc, "guest TSC cycles");
stamp!(
    /// A value of the host's time-stamp counter.
    HostTsc, "host TSC cycles");
stamp!(
    /// Nanoseconds on the one axis of the output.
    TraceNs, "nanoseconds");

/// What KVM adds to the (scaled) host TSC to get the guest's, modulo 2^64.
///
/// The sign is that of debugfs and of `kvm_write_tsc_offset`: `guest = host + offset`. trace-cmd's TIME_SHIFT holds
/// the negated value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TscOffset(u64);

impl TscOffset {
    /// Wraps the unsigned 64-bit value that the kernel's tracepoint prints.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// Wraps the signed value that debugfs prints.
    pub const fn from_signed(signed: i64) -> Self {
        Self(signed as u64)
    }

    /// The offset modulo 2^64, as the tracepoint prints it.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The offset as a signed number of cycles, as debugfs prints it.
    pub const fn signed(self) -> i64 {
        self.0 as i64
    }
}

impl fmt::Debug for TscOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TscOffset({})", self.signed())
    }
}

impl fmt::Display for TscOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.signed().fmt(f)
    }
}
