//! `capture.toml`: what somebody knows about the files beside it. It goes before anything that is inferred, and flags
//! go before it.
//!
//! ```toml
//! notes = "database stalls, third try"
//! wall_clock = "2026-11-26T15:00:00Z"
//! tsc_hz = 2596116000
//!
//! [[file]]
//! path = "host.dat"
//! role = "host"
//!
//! [[file]]
//! path = "db.dat"
//! role = "guest"
//! vm = "db"
//!
//! [[vm]]
//! name = "db"
//! pid = 1234
//! threads = [1240, 1241]
//! offsets = [-33610754878, -33610754878]
//! ```

mod cycles;
mod write;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::error::{Code, Error, ErrorKind, Result};
use crate::session::request::{GuestSpec, OffsetSpec};
use cycles::Cycles;
pub use write::write;
pub(crate) use write::{of_recording, vm_tables};

/// The name of the file.
pub const FILE_NAME: &str = "capture.toml";

/// What the file says, as it stands there.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wall_clock: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tsc_hz: Option<Spanned<u64>>,
    #[serde(default, rename = "file", skip_serializing_if = "Vec::is_empty")]
    files: Vec<FileText>,
    #[serde(default, rename = "vm", skip_serializing_if = "Vec::is_empty")]
    vms: Vec<VmText>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    path: Spanned<String>,
    role: FileRole,
    #[serde(skip_serializing_if = "Option::is_none")]
    vm: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct VmText {
    name: Spanned<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    threads: Vec<i32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    offsets: Vec<Cycles>,
    /// Virtual counter offsets of arm64, which have the other sign.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cntvoff: Vec<Cycles>,
}

/// What a file is for, in the file's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileRole {
    /// The host's capture.
    Host,
    /// A guest's capture.
    Guest,
    /// Only offset writes of the host are of interest.
    Offsets,
    /// Not to be opened.
    Ignore,
}

/// One `[[file]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestFile {
    /// Relative to the manifest.
    pub path: PathBuf,
    /// What it is for.
    pub role: FileRole,
    /// The VM, for guests.
    pub vm: Option<String>,
    /// The line that names it.
    pub line: usize,
}

/// One `[[vm]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestVm {
    /// Its name.
    pub name: String,
    /// Its process on the host.
    pub pid: Option<u32>,
    /// Its vCPU threads in vCPU order.
    pub threads: Vec<i32>,
    /// The line that names it.
    pub line: usize,
}

/// A manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Where it is.
    pub path: PathBuf,
    /// Words for people.
    pub notes: Option<String>,
    /// When it was recorded, for people.
    pub wall_clock: Option<String>,
    /// The host's TSC rate, and the line that says it.
    pub tsc_hz: Option<(u64, usize)>,
    /// What the files are.
    pub files: Vec<ManifestFile>,
    /// What is known of VMs.
    pub vms: Vec<ManifestVm>,
    /// TSC offsets.
    pub offsets: Vec<OffsetSpec>,
}

impl Manifest {
    /// Reads `text`, which stands in the file `path`.
    ///
    /// # Errors
    /// `Format`, naming the line.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let line_of = |at: usize| text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1;
        let wrong = |line: usize, what: String| damaged(line, &what).in_file(path);
        let parsed: Text = toml::from_str(text).map_err(|error| {
            let what = error.message().trim().replace('\n', ", ");
            wrong(error.span().map_or(1, |span| line_of(span.start)), what)
                .hint("it holds notes, wall_clock, tsc_hz, [[file]] with path, role and vm, [[vm]] with name, pid, threads, offsets and cntvoff")
        })?;
        let mut manifest =
            Self { path: path.to_path_buf(), notes: parsed.notes, wall_clock: parsed.wall_clock, ..Self::default() };
        if let Some(hz) = parsed.tsc_hz {
            let line = line_of(hz.span().start);
            if *hz.get_ref() == 0 {
                return Err(wrong(line, "tsc_hz is 0".to_owned()));
            }
            manifest.tsc_hz = Some((hz.into_inner(), line));
        }
        let mut seen: BTreeMap<PathBuf, usize> = BTreeMap::new();
        for file in parsed.files {
            let line = line_of(file.path.span().start);
            let name = file.path.into_inner();
            let path = beside(&name).map_err(|what| wrong(line, format!("path \"{name}\" {what}")))?;
            if let Some(first) = seen.insert(path.clone(), line) {
                return Err(wrong(line, format!("\"{name}\" is described already, in line {first}")));
            }
            match (file.role, &file.vm) {
                (FileRole::Guest, None) => return Err(wrong(line, format!("guest \"{name}\" has no vm = \"NAME\""))),
                (FileRole::Guest, Some(vm)) if vm.is_empty() => {
                    return Err(wrong(line, "the VM's name is empty".into()));
                }
                (FileRole::Guest, Some(_)) | (_, None) => {}
                (_, Some(_)) => return Err(wrong(line, format!("vm is for guests, \"{name}\" is none"))),
            }
            manifest.files.push(ManifestFile { path, role: file.role, vm: file.vm, line });
        }
        for vm in parsed.vms {
            let line = line_of(vm.name.span().start);
            let name = vm.name.into_inner();
            if name.is_empty() || manifest.vms.iter().any(|known| known.name == name) {
                return Err(wrong(line, format!("VM \"{name}\" is described twice, or has no name")));
            }
            if !vm.offsets.is_empty() && !vm.cntvoff.is_empty() {
                return Err(wrong(line, format!("VM \"{name}\" has offsets and cntvoff, which say the same")));
            }
            let offset = |(number, offset): (u32, &Cycles)| OffsetSpec {
                vm: name.clone(),
                vcpu: Some(number),
                offset: offset.0,
            };
            manifest.offsets.extend((0..).zip(&vm.offsets).map(offset));
            manifest.offsets.extend((0..).zip(&vm.cntvoff).map(|v| offset(v).from_cntvoff()));
            manifest.vms.push(ManifestVm { name, pid: vm.pid, threads: vm.threads, line });
        }
        Ok(manifest)
    }

    /// What is said of the file at `path`, relative to the manifest.
    pub fn file(&self, path: &Path) -> Option<&ManifestFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// What is known of the VM whose file it is.
    pub fn guest(&self, file: &ManifestFile) -> Option<GuestSpec> {
        let name = file.vm.clone()?;
        let vm = self.vms.iter().find(|vm| vm.name == name);
        Some(GuestSpec {
            name,
            pid: vm.and_then(|vm| vm.pid),
            threads: vm.map(|vm| vm.threads.clone()).unwrap_or_default(),
            path: file.path.clone(),
        })
    }

    /// An error about a line.
    pub fn error(&self, line: usize, what: &str) -> Error {
        damaged(line, what).in_file(&self.path)
    }
}

fn damaged(line: usize, what: &str) -> Error {
    Error::new(ErrorKind::Format, format!("line {line}: {what}")).coded(Code::DamagedManifest)
}

/// A path that stays beside the manifest.
fn beside(name: &str) -> std::result::Result<PathBuf, &'static str> {
    let mut path = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => return Err("leads away from the manifest's directory"),
        }
    }
    if path.as_os_str().is_empty() { Err("is empty") } else { Ok(path) }
}

#[cfg(test)]
mod tests;
