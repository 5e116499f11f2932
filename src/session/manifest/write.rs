//! Writes a manifest of what was found.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;

use super::cycles::Cycles;
use super::{FileRole, FileText, Text, VmText};
use crate::error::{Error, ErrorKind, Result};
use crate::session::request::Request;
use crate::session::{Role, Session, Vm};
use crate::time::TscOffset;

const HEADING: &str = "\
# What the files in this directory are. Everything here goes before what kvm-timeline would find out by itself;
# lines may be changed or removed.
";

/// The manifest of `session`, whose files lie in the directory `root`.
///
/// # Errors
/// `Unsupported` where a file's name is no text or lies elsewhere.
pub fn write(session: &Session, request: &Request, root: &Path) -> Result<String> {
    let mut text = Text {
        notes: session.manifest_notes(),
        wall_clock: session.manifests.iter().find_map(|m| m.wall_clock.clone()),
        tsc_hz: request.tsc_hz.map(unplaced),
        ..Text::default()
    };
    // A directory of which several captures were made is named once.
    let mut named: BTreeMap<String, (FileRole, Option<String>)> = BTreeMap::new();
    for input in session.inputs.iter().filter(|input| !input.beside) {
        let path = relative(&input.capture.path, root)?;
        let role = match input.role {
            Role::Host => (FileRole::Host, None),
            Role::Offsets => (FileRole::Offsets, None),
            Role::Nobody => (FileRole::Ignore, None),
            Role::Guest(vm) => (FileRole::Guest, session.vms.get(vm).map(|vm| vm.name.clone())),
        };
        named.insert(path, role);
    }
    for left in session.left_out.iter().filter(|left| left.capture) {
        if let Ok(path) = relative(&left.path, root) {
            named.entry(path).or_insert((FileRole::Ignore, None));
        }
    }
    text.files = named.into_iter().map(|(path, (role, vm))| FileText { path: unplaced(path), role, vm }).collect();
    text.vms = session.vms.iter().map(|vm| vm_text(vm, request)).collect();
    let body = toml::to_string(&text)
        .map_err(|error| Error::new(ErrorKind::Unsupported, format!("cannot write the manifest: {error}")))?;
    Ok(format!("{HEADING}\n{body}"))
}

fn vm_text(vm: &Vm, request: &Request) -> VmText {
    // Threads are in vCPU order, and are written only where that order is vcpu_id's.
    let in_order = (0..).zip(&vm.vcpus).all(|(number, v)| v.vcpu_id == Some(number));
    let threads: Option<Vec<i32>> = vm.vcpus.iter().map(|v| v.thread).collect();
    // Recorded offsets speak for themselves; what the user gave is kept.
    let given = |number: u32| crate::session::evidence::given(&request.offsets, &vm.name, number);
    let offsets: Option<Vec<TscOffset>> = vm.vcpus.iter().map(|v| given(v.number)).collect();
    VmText {
        name: unplaced(vm.name.clone()),
        pid: vm.pid,
        threads: threads.filter(|_| in_order).unwrap_or_default(),
        offsets: offsets.unwrap_or_default().into_iter().map(Cycles).collect(),
        cntvoff: Vec::new(),
    }
}

/// The `[[vm]]` tables that give back offsets which hold for a vCPU's whole recording: of VMs with one for each vCPU.
///
/// `offsets` has VM names and offsets in vCPU order.
pub(crate) fn vm_tables(offsets: impl IntoIterator<Item = (String, Vec<TscOffset>)>) -> String {
    let vm = |(name, offsets): (String, Vec<TscOffset>)| VmText {
        name: unplaced(name),
        pid: None,
        threads: Vec::new(),
        offsets: offsets.into_iter().map(Cycles).collect(),
        cntvoff: Vec::new(),
    };
    let text = Text { vms: offsets.into_iter().map(vm).collect(), ..Text::default() };
    // Names and numbers always fit TOML.
    toml::to_string(&text).unwrap_or_default()
}

/// The manifest of a recording that was just made: the host's copied tracefs in the directory `host` beside it, and the
/// VMs that ran, as (name, process, threads in the order of vcpu_id).
pub(crate) fn of_recording(
    notes: String,
    wall_clock: String,
    host: &str,
    vms: Vec<(String, Option<u32>, Vec<i32>)>,
) -> String {
    let vm =
        |(name, pid, threads)| VmText { name: unplaced(name), pid, threads, offsets: Vec::new(), cntvoff: Vec::new() };
    let text = Text {
        notes: Some(notes),
        wall_clock: Some(wall_clock),
        files: vec![FileText { path: unplaced(host.to_owned()), role: FileRole::Host, vm: None }],
        vms: vms.into_iter().map(vm).collect(),
        ..Text::default()
    };
    // Names and numbers always fit TOML.
    format!("{HEADING}\n{}", toml::to_string(&text).unwrap_or_default())
}

/// Nothing that is written has a place in a file yet.
fn unplaced<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

fn relative(path: &Path, root: &Path) -> Result<String> {
    let inside = path.strip_prefix(root).ok().and_then(Path::to_str).filter(|text| !text.is_empty());
    inside.map(str::to_owned).ok_or_else(|| {
        let message = format!("cannot be named in a manifest in {}", root.display());
        Error::new(ErrorKind::Unsupported, message)
            .in_file(path)
            .hint("a manifest describes the files of one directory: put the captures into one")
    })
}
