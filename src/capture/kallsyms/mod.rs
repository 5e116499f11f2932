//! A kernel's functions by address. The text of `/proc/kallsyms` is megabytes long, and most conversions need a handful of
//! names or none: it is read when the first name is asked for, and only as far as that name.

mod line;
mod part;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use self::part::{Next, Part, Reading};
use super::source::ReadAt;
use crate::error::{Error, ErrorKind, Result};

/// Appends the next piece of the text, of at most as many bytes as are asked for; false where there is no more.
pub type Pieces = dyn FnMut(usize, &mut Vec<u8>) -> Result<bool> + Send;

/// The text in `source`, `size` bytes from `start` on.
///
/// # Errors
/// Each piece fails with what the operating system says.
pub fn stored(source: Arc<dyn ReadAt>, start: u64, size: u64) -> Box<Pieces> {
    let (mut at, end) = (start, start.saturating_add(size).min(source.len()).max(start));
    Box::new(move |most, into| {
        let (before, count) = (into.len(), (most as u64).min(end - at));
        into.resize(before + count as usize, 0);
        source.read_exact_at(&mut into[before..], at).map_err(|error| {
            into.truncate(before);
            Error::new(ErrorKind::Io, format!("cannot read kallsyms: {error}")).at(at)
        })?;
        at += count;
        Ok(at < end)
    })
}

/// Begins to read the text.
type Open = dyn Fn() -> Result<Box<Pieces>> + Send + Sync;

/// The functions of a recorded kernel.
///
/// The kernel writes its own functions in order and its modules' behind them. What lies between two of its own is found without
/// a look at what comes behind them.
pub struct Kallsyms {
    open: Box<Open>,
    reading: Mutex<Option<Reading>>,
    /// Each is read when an address may be in it, and stays.
    parts: [OnceLock<Part>; PARTS],
    failure: OnceLock<Error>,
}

/// How many parts there may be.
const PARTS: usize = 32;
/// How much text is read for each of the first [`EQUAL`] parts; each further one gets twice as much as the one before.
const PART: usize = if cfg!(any(test, fuzzing)) { 1 << 10 } else { 128 << 10 };
const EQUAL: usize = 16;

/// How much text is read for a part: all that is left for the last one.
fn size(part: usize) -> usize {
    match part {
        0..EQUAL => PART,
        EQUAL..PARTS if part < PARTS - 1 => PART << (part - EQUAL + 1),
        _ => usize::MAX,
    }
}

impl Kallsyms {
    /// Symbols that `open` gets when they are first needed. What cannot be read is not there, and [`Kallsyms::failure`]
    /// says why: a name is worth no error.
    pub fn lazy(open: impl Fn() -> Result<Box<Pieces>> + Send + Sync + 'static) -> Self {
        Self {
            open: Box::new(open),
            reading: Mutex::new(None),
            parts: [const { OnceLock::new() }; PARTS],
            failure: OnceLock::new(),
        }
    }

    /// Symbols from text that is already there.
    pub fn from_text(text: impl Into<Vec<u8>>) -> Self {
        let text = Mutex::new(Some(text.into()));
        Self::lazy(move || {
            let mut text = text.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
            Ok(Box::new(move |_, into| {
                into.append(&mut text);
                Ok(false)
            }))
        })
    }

    fn part(&self, index: usize) -> Option<&Part> {
        let part = self.parts.get(index)?;
        Some(part.get_or_init(|| {
            self.read(size(index)).unwrap_or_else(|(part, error)| {
                let _ = self.failure.set(error);
                part
            })
        }))
    }

    fn read(&self, size: usize) -> std::result::Result<Part, (Part, Error)> {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = match &mut *reading {
            Some(reading) => reading,
            none => none.insert(Reading::new((self.open)().map_err(|error| (Part::none(Next::Unknown), error))?)),
        };
        match reading.part(size) {
            (part, Ok(())) => Ok(part),
            (part, Err(error)) => Err((part, error)),
        }
    }

    /// Why symbols that were needed could not be read.
    pub fn failure(&self) -> Option<&Error> {
        self.failure.get()
    }

    /// The function that an address lies in: its start and its name.
    pub fn find(&self, address: u64) -> Option<(u64, &str)> {
        let (start, name) = self.function(address)?;
        Some((start, std::str::from_utf8(name).ok()?))
    }

    fn function(&self, address: u64) -> Option<(u64, &[u8])> {
        if address == 0 {
            return None;
        }
        // The last part before that has functions in order.
        let mut before: Option<&Part> = None;
        for part in (0..PARTS).map_while(|index| self.part(index)) {
            let ordered = || part.find_ordered(address).or_else(|| before?.find_ordered(address));
            if part.reaches(address)
                && let Some(found) = ordered()
            {
                return Some(found);
            }
            match part.next {
                Next::Part => {}
                // Of one address, the ordered one has come first.
                Next::Nothing => {
                    let found = [part.find_other(address), ordered()];
                    return found.into_iter().flatten().max_by_key(|(start, _)| *start);
                }
                // It may lie in a function that was not read.
                Next::Unknown => return None,
            }
            before = Some(part).filter(|part| part.is_ordered()).or(before);
        }
        None
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        for part in (0..PARTS).map_while(|index| self.part(index)) {
            if part.next != Next::Part || !part.is_empty() {
                return part.is_empty();
            }
        }
        true
    }
}

impl fmt::Debug for Kallsyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts.iter().filter(|part| part.get().is_some()).count();
        f.debug_struct("Kallsyms").field("parts", &parts).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;

    /// Symbols whose text comes in pieces of `piece` bytes.
    fn in_pieces(text: &str, piece: usize) -> Kallsyms {
        let text: Arc<[u8]> = text.as_bytes().into();
        Kallsyms::lazy(move || {
            let mut stored = stored(Arc::new(Arc::clone(&text)), 0, ReadAt::len(&text));
            Ok(Box::new(move |most, into| stored(most.min(piece), into)))
        })
    }

    #[test]
    fn functions_are_found_by_any_address_in_them() {
        let symbols = Kallsyms::from_text(
            "ffffffff81000200 T second [module]\nffffffff81000100 t first\nffffffff81000180 d data\n\
             0000000000000000 T hidden\nnonsense\nffffffff81000300 T \nffffffff81000380 T ",
        );
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

    /// A function's start, name, and whether it is a module's.
    type Function<'a> = (u64, &'a str, bool);

    /// Functions as the plainest way reads them.
    fn functions(text: &str) -> Vec<Function<'_>> {
        let functions = text.lines().filter_map(|line| {
            let mut words = line.split([' ', '\t']);
            let (address, kind, name) = (words.next()?, words.next()?, words.next()?);
            let start = u64::from_str_radix(address, 16).ok()?;
            ("tTwW".contains(kind) && start != 0).then_some((start, name, words.next().is_some()))
        });
        functions.collect()
    }

    /// The function of an address as the plainest way finds it.
    fn plain<'a>(functions: &[Function<'a>], address: u64) -> Option<(u64, &'a str)> {
        let last = |of: &[Function<'a>]| {
            let found = of.iter().rev().filter(|f| f.0 <= address).max_by_key(|f| f.0)?;
            Some((found.0, found.1))
        };
        let before = std::iter::once(0).chain(functions.iter().map(|f| f.0));
        let own = functions.iter().zip(before).take_while(|(f, before)| f.0 >= *before && !f.2).count();
        let own = functions.get(..own).unwrap_or(&[]);
        let within = own.last().is_some_and(|last| address <= last.0);
        last(own).filter(|_| within).or_else(|| last(functions))
    }

    proptest! {
        #[test]
        fn every_address_has_its_function(
            lines in prop::collection::vec((0..40_u64, kinds(), 0..300_usize, (0..17_usize, modules())), 0..200),
            ordered in any::<prop::sample::Index>(),
            addresses in prop::collection::vec(0..9000_u64, 20),
            piece in 1..200_000_usize,
        ) {
            // Steps up to some line, then whatever comes.
            let ordered = ordered.index(lines.len() + 1);
            let (mut at, mut text) = (0, String::new());
            for (index, &(step, kind, length, (digits, module))) in lines.iter().enumerate() {
                let (next, module) =
                    if index < ordered { (at + step, "") } else { ((index as u64 * 37 % 200) * step, module) };
                at = next;
                text += &format!("{at:0digits$x} {kind} n{index}{:x<length$}{module}\n", "");
            }
            let (symbols, functions) = (in_pieces(&text, piece), functions(&text));
            for address in addresses {
                prop_assert_eq!(symbols.find(address), plain(&functions, address));
            }
        }
    }

    /// `count` functions of 16 bytes each, and a module's.
    fn kernel(count: u64) -> String {
        let line = |n: u64| format!("{:016x} t function_with_a_name_{n}\n", KERNEL + n * 16);
        (0..count).map(line).chain(["ffffffff00000000 t of_module [m]\n".into()]).collect()
    }

    const KERNEL: u64 = 0xffff_ffff_8100_0000;

    #[test]
    fn no_more_is_read_than_needed() {
        let text = kernel(200_000);
        let read = Arc::new(AtomicUsize::new(0));
        let (bytes, count) = (text.clone().into_bytes(), Arc::clone(&read));
        let symbols = Kallsyms::lazy(move || {
            let (mut left, count) = (bytes.clone(), Arc::clone(&count));
            Ok(Box::new(move |most, into| {
                let piece: Vec<u8> = left.drain(..most.min(left.len())).collect();
                count.fetch_add(piece.len(), Ordering::Relaxed);
                into.extend(piece);
                Ok(!left.is_empty())
            }))
        });
        let name = |n: u64| Some((KERNEL + n * 16, format!("function_with_a_name_{n}")));
        let find = |address| symbols.find(address).map(|(start, name)| (start, name.to_owned()));
        assert_eq!(find(0), None);
        assert_eq!(read.load(Ordering::Relaxed), 0);
        assert_eq!(find(KERNEL + 16 * 10 + 3), name(10));
        assert_eq!(read.load(Ordering::Relaxed), PART);
        for n in (0..200_000).rev().step_by(97).chain(0..9000) {
            assert_eq!(find(KERNEL + n * 16 + n % 16), name(n));
        }
        assert_eq!(find(0xffff_ffff_0000_0123), Some((0xffff_ffff_0000_0000, "of_module".to_owned())));
        assert_eq!(read.load(Ordering::Relaxed), text.len());
    }

    #[test]
    fn what_breaks_off_has_a_beginning() {
        let text = kernel(5000);
        let mut pieces = Some(text.as_bytes()[..PART + 10].to_vec());
        let pieces = Mutex::new(move || pieces.take().ok_or_else(|| Error::format("gone")));
        let pieces = Arc::new(pieces);
        let symbols = Kallsyms::lazy(move || {
            let pieces = Arc::clone(&pieces);
            Ok(Box::new(move |_, into| {
                into.extend(pieces.lock().unwrap()()?);
                Ok(true)
            }))
        });
        assert_eq!(symbols.find(KERNEL + 5).map(|found| found.1), Some("function_with_a_name_0"));
        assert!(symbols.failure().is_none());
        assert_eq!(symbols.find(KERNEL + 16 * 4999), None);
        assert_eq!(symbols.failure().map(Error::to_string).as_deref(), Some("gone"));
    }

    #[test]
    fn symbols_that_cannot_be_read_are_none() {
        let broken = Kallsyms::lazy(|| Err(crate::error::Error::format("gone")));
        assert!(broken.is_empty());
        assert_eq!(broken.find(1), None);
        assert_eq!(broken.failure().map(Error::to_string).as_deref(), Some("gone"));
    }
}
