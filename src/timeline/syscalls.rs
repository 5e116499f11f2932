//! System calls by number. `raw_syscalls` events hold nothing else.

use super::drawing::FieldSource;
use super::names::{NameId, Names};
use crate::capture::event_format::FieldKind;

/// Lines of "number name".
const X86_64: &str = include_str!("syscalls_x86_64.txt");
const I386: &str = include_str!("syscalls_i386.txt");
/// What x32 programs add to a number.
const X32_BIT: u64 = 0x4000_0000;

/// The syscalls of one kernel. A 32-bit program on a 64-bit kernel has other numbers, but its events do not tell.
pub(super) struct Syscalls {
    names: Vec<NameId>,
}

impl Syscalls {
    /// The table for a kernel whose `uname` (if known) is given.
    pub(super) fn new(source: &FieldSource, uname: Option<&str>, names: &mut Names) -> Self {
        let Some(enter) = source.formats.find("raw_syscalls", "sys_enter").and_then(|event| source.formats.get(event))
        else {
            return Self { names: Vec::new() };
        };
        let other_machine = uname.is_some_and(|uname| {
            let machine = uname.split_ascii_whitespace().next_back().unwrap_or("");
            ["aarch64", "arm", "riscv", "s390", "ppc", "loongarch", "mips"]
                .iter()
                .any(|other| machine.starts_with(other))
        });
        // `unsigned long args[6]`
        let narrow = enter.field("args").is_some_and(|args| args.kind == FieldKind::Array { element: 4 });
        let table = match (other_machine, narrow) {
            (true, _) => "",
            (_, true) => I386,
            _ => X86_64,
        };
        let mut list = Vec::new();
        for (number, name) in lines(table) {
            list.resize(list.len().max(number + 1), NameId::EMPTY);
            list[number] = names.intern(name.as_bytes());
        }
        Self { names: list }
    }

    /// The name of a syscall; numbers without a name are named by their number.
    #[inline]
    pub(super) fn name(&self, id: u64, names: &mut Names) -> NameId {
        let index = usize::try_from(id & !X32_BIT).unwrap_or(usize::MAX);
        match self.names.get(index) {
            Some(&name) if name != NameId::EMPTY => name,
            _ => names.intern_some(format!("syscall {}", id as i64).as_bytes()).unwrap_or(NameId::A_SYSCALL),
        }
    }
}

fn lines(table: &'static str) -> impl Iterator<Item = (usize, &'static str)> {
    table.lines().filter_map(|line| {
        let (number, name) = line.split_once(' ')?;
        Some((number.parse().ok().filter(|&number: &usize| number < 4096)?, name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_two_architectures() {
        let find = |table, number| lines(table).find(|&(n, _)| n == number).map(|(_, name)| name);
        assert_eq!(find(X86_64, 0), Some("read"));
        assert_eq!(find(X86_64, 56), Some("clone"));
        assert_eq!(find(X86_64, 202), Some("futex"));
        assert_eq!(find(X86_64, 257), Some("openat"));
        assert_eq!(find(X86_64, 435), Some("clone3"));
        assert_eq!(find(I386, 3), Some("read"));
        assert_eq!(find(I386, 240), Some("futex"));
        assert_eq!(find(I386, 295), Some("openat"));
        for table in [X86_64, I386] {
            assert_eq!(lines(table).count(), table.lines().count());
            assert!(lines(table).zip(lines(table).skip(1)).all(|(a, b)| a.0 < b.0));
        }
    }
}
