//! `kvm-timeline inspect`.

use std::path::Path;

use super::Exit;
use super::exit::printable;
use super::inputs::{InputArgs, report_inputs, say};
use super::output::{json, print, write_all};
use super::progress::Progress;
use crate::error::{Error, ErrorKind, Result};
use crate::inspect::{inspect, text};
use crate::session::manifest;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    inputs: InputArgs,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
    /// Write what was found into a capture.toml in the directory, to be corrected by hand.
    #[arg(long)]
    write_manifest: bool,
}

pub(super) fn run(args: &Args, quiet: bool) -> Result<Exit> {
    let progress = Progress::new(quiet);
    let request = args.inputs.request()?;
    let directory = if args.write_manifest { Some(manifest_directory(&request.paths)?) } else { None };
    progress.stage("reading");
    let (found, session) = inspect(&request, &progress.monitor())?;
    progress.clear();
    let done = report_inputs(quiet, &found.warnings, &found.damaged);
    print(&if args.json { json("kvm-timeline/inspect", &found)? } else { printable(&text(&found)) })?;
    if let (Some(directory), Some(session)) = (directory, &session) {
        let path = directory.join(manifest::FILE_NAME);
        write_all(&path, manifest::write(session, &request, directory)?.as_bytes())?;
        say(quiet, &format!("{} written\n", path.display()));
    }
    Ok(if session.is_some() { done } else { Exit::Failed })
}

/// Where the manifest goes; refused before anything is read.
fn manifest_directory(paths: &[std::path::PathBuf]) -> Result<&Path> {
    let [directory] = paths else {
        return Err(Error::new(ErrorKind::Usage, "--write-manifest needs exactly one directory")
            .hint("put the captures into one directory and name that"));
    };
    if !directory.is_dir() {
        return Err(Error::new(ErrorKind::Usage, "is no directory, so no manifest can be written into it")
            .in_file(directory)
            .hint("unpack the archive, or name the directory of the captures"));
    }
    let path = directory.join(manifest::FILE_NAME);
    if path.symlink_metadata().is_ok() {
        return Err(Error::new(ErrorKind::Usage, "exists, and is not overwritten")
            .in_file(path)
            .hint("edit it, or remove it first"));
    }
    Ok(directory)
}
