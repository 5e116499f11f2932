//! `kvm-timeline inspect`.

use std::path::Path;

use super::Exit;
use super::inputs::{InputArgs, say, warn};
use super::output::{print, write_all};
use super::progress::{Progress, stop_flag};
use crate::error::{Error, ErrorKind, Result};
use crate::inspect::{inspect, text};
use crate::monitor::Monitor;
use crate::session::manifest;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    inputs: InputArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Write what was found into a capture.toml in the directory, to be corrected by hand.
    #[arg(long)]
    write_manifest: bool,
}

pub(super) fn run(args: &Args, quiet: bool) -> Result<Exit> {
    let stop = stop_flag();
    let progress = Progress::new(quiet);
    let tick = |events| progress.tick(events);
    let monitor = Monitor { tick: &tick, stop: &stop };
    let request = args.inputs.request()?;
    let directory = if args.write_manifest { Some(manifest_directory(&request.paths)?) } else { None };
    progress.stage("reading");
    let (found, session) = inspect(&request, &monitor)?;
    progress.clear();
    warn(quiet, &found.warnings);
    warn(quiet, &found.damaged);
    print(&if args.json {
        let mut json = serde_json::to_string_pretty(&found)
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot write the inspection: {e}")))?;
        json.push('\n');
        json
    } else {
        super::exit::printable(&text(&found))
    })?;
    if let (Some(directory), Some(session)) = (directory, &session) {
        let path = directory.join(manifest::FILE_NAME);
        write_all(&path, manifest::write(session, &request, directory)?.as_bytes())?;
        say(quiet, &format!("{} written\n", path.display()));
    }
    Ok(match (session.is_some(), found.damaged.is_empty()) {
        (false, _) => Exit::Failed,
        (true, false) => Exit::Damaged,
        (true, true) => Exit::Done,
    })
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
