//! What the user said about the inputs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::capture::limits::Limits;
use crate::capture::source::ReadAt;
use crate::capture::tree::Tree;
use crate::error::{Error, ErrorKind, Result};
use crate::time::TscOffset;

/// The inputs of a command, as given.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Directories, archives or files whose roles are found out from their contents.
    pub paths: Vec<PathBuf>,
    /// The same, where they have no path of their own in the file system.
    pub given: Vec<Given>,
    /// The host's files.
    pub hosts: Vec<PathBuf>,
    /// The guests' files.
    pub guests: Vec<GuestSpec>,
    /// Files that hold nothing but offset writes of the host.
    pub offset_files: Vec<PathBuf>,
    /// Offsets that the user knows.
    pub offsets: Vec<OffsetSpec>,
    /// The host's TSC rate in Hz, where the user knows it.
    pub tsc_hz: Option<u64>,
    /// `tsc_hz` is from a manifest and not from a flag.
    pub tsc_hz_in_manifest: bool,
    /// What manifests say of VMs, by name; their paths are empty.
    pub vms: Vec<GuestSpec>,
    /// How much of anything is believed. [`crate::capture::limits::Limit::Unpacked`], where it is set, holds for all
    /// archives together.
    pub limits: Limits,
    /// Do not use recorded offsets, to see what inference makes of it.
    pub ignore_recorded_offsets: bool,
}

/// An input that the caller opened.
#[derive(Clone)]
pub enum Given {
    /// A directory, searched from its root.
    Tree(Arc<dyn Tree>),
    /// An archive or a single capture, and its name in messages.
    File(PathBuf, Arc<dyn ReadAt>),
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(tree) => f.debug_tuple("Tree").field(&tree.shown(Path::new(""))).finish(),
            Self::File(path, _) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// `NAME[,pid=N][,threads=A:B…]=FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestSpec {
    /// The VM's name; the same name again adds a file to that VM. `l1/l2` is guest `l2` inside guest `l1`.
    pub name: String,
    /// The VM's process.
    pub pid: Option<u32>,
    /// Its vCPU threads in vCPU order.
    pub threads: Vec<i32>,
    /// The file.
    pub path: PathBuf,
}

impl FromStr for GuestSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Error::new(ErrorKind::Usage, format!("guest `{text}`: {what}"))
                .hint("write NAME=FILE, NAME,pid=1234=FILE or NAME,threads=215:216=FILE")
        };
        let end = text.find([',', '=']).ok_or_else(|| wrong("no `=FILE`"))?;
        let (name, mut rest) = text.split_at(end);
        if name.is_empty() {
            return Err(wrong("the name is empty"));
        }
        let mut spec = Self { name: name.to_owned(), pid: None, threads: Vec::new(), path: PathBuf::new() };
        while let Some(option) = rest.strip_prefix(',') {
            let (key, value) = option.split_once('=').ok_or_else(|| wrong("an option has no value"))?;
            let end = value.find([',', '=']).ok_or_else(|| wrong("no `=FILE` at the end"))?;
            let (value, after) = value.split_at(end);
            match key {
                "pid" => spec.pid = Some(value.parse().map_err(|_| wrong("the pid is not a number"))?),
                "threads" => {
                    let threads: Result<Vec<i32>, _> = value.split(':').map(str::parse).collect();
                    spec.threads = threads.map_err(|_| wrong("the threads are not numbers with `:` between"))?;
                }
                _ => return Err(wrong(&format!("unknown option `{key}`"))),
            }
            rest = after;
        }
        let path = rest.strip_prefix('=').unwrap_or_default();
        if path.is_empty() {
            return Err(wrong("the file is missing"));
        }
        spec.path = PathBuf::from(path);
        Ok(spec)
    }
}

/// `VM[/VCPU]=CYCLES`: an offset in the sign of debugfs and of the tracepoint, `guest = host + offset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetSpec {
    /// The VM's name.
    pub vm: String,
    /// One vCPU, or all of them.
    pub vcpu: Option<u32>,
    /// The offset.
    pub offset: TscOffset,
}

impl OffsetSpec {
    /// From a virtual counter offset as arm64 has it: `guest = host - CNTVOFF`.
    #[must_use]
    pub fn from_cntvoff(self) -> Self {
        Self { offset: TscOffset::from_raw(self.offset.raw().wrapping_neg()), ..self }
    }
}

impl FromStr for OffsetSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Error::new(ErrorKind::Usage, format!("offset `{text}`: {what}"))
                .hint("write VM=CYCLES or VM/VCPU=CYCLES, decimal or 0x; guest TSC = host TSC + CYCLES")
        };
        let (whom, value) = text.rsplit_once('=').ok_or_else(|| wrong("no `=CYCLES`"))?;
        let (vm, vcpu) = match whom.rsplit_once('/') {
            Some((vm, number)) if number.bytes().all(|b| b.is_ascii_digit()) && !number.is_empty() => {
                (vm, Some(number.parse().map_err(|_| wrong("the vCPU number is too large"))?))
            }
            _ => (whom, None),
        };
        if vm.is_empty() {
            return Err(wrong("the VM's name is empty"));
        }
        let offset = parse_offset(value).ok_or_else(|| wrong("the value is not a 64-bit number"))?;
        Ok(Self { vm: vm.to_owned(), vcpu, offset })
    }
}

/// Signed or unsigned, decimal or `0x`: all are the same number modulo 2^64.
pub(in crate::session) fn parse_offset(text: &str) -> Option<TscOffset> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    Some(TscOffset::from_raw(if negative { value.wrapping_neg() } else { value }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_specs() {
        let spec: GuestSpec = "db,pid=1234,threads=215:216=dir/a=b,c.dat".parse().unwrap();
        assert_eq!((spec.name.as_str(), spec.pid, spec.threads.as_slice()), ("db", Some(1234), &[215, 216][..]));
        assert_eq!(spec.path, PathBuf::from("dir/a=b,c.dat"));
        let spec: GuestSpec = "web=guest-a.dat".parse().unwrap();
        assert_eq!((spec.name.as_str(), spec.pid), ("web", None));
        for bad in ["web", "=x", "web,pid=x=f", "web,pid=3", "web,colour=red=f", "web="] {
            let error = bad.parse::<GuestSpec>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{bad}");
            assert!(error.hint_text().unwrap().contains("NAME=FILE"));
        }
    }

    #[test]
    fn offsets_are_numbers_modulo_2_to_the_64() {
        let offset = |text: &str| text.parse::<OffsetSpec>().unwrap();
        assert_eq!(offset("a=-33610754878").offset, offset("a=18446744040098796738").offset);
        assert_eq!(offset("a=0xfffffff82ca494c2").offset, offset("a=-0x7d35b6b3e").offset);
        assert_eq!(offset("l1/l2/3=5").vm, "l1/l2");
        assert_eq!(offset("l1/l2/3=5").vcpu, Some(3));
        assert_eq!(offset("l1/l2=5").vcpu, None);
        assert!("a".parse::<OffsetSpec>().is_err() && "a=12x".parse::<OffsetSpec>().is_err());
    }
}
