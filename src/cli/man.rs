//! `kvm-timeline man`.

use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_mangen::Man;
use serde::Serialize;

use super::inputs::say;
use super::output::{json, print, write_all};
use super::{Cli, Exit};
use crate::error::{Error, ErrorKind, Result};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
kvm-timeline man | man -l -
kvm-timeline man ~/.local/share/man/man1")]
pub(super) struct Args {
    /// Where to write the pages: kvm-timeline.1, and one for each subcommand [default: the first of them to stdout].
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Print the names of the pages as JSON.
    #[arg(long, requires = "directory")]
    pub(super) json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Files {
    files: Vec<PathBuf>,
}

pub(super) fn run(args: &Args, quiet: bool) -> Result<Exit> {
    let mut command = Cli::command();
    // With its parts' full names, and the options that all of them take.
    command.build();
    let Some(directory) = &args.directory else {
        return print(&page(command)?).map(|()| Exit::Done);
    };
    std::fs::create_dir_all(directory).map_err(|e| Error::io(directory, "create the directory", e))?;
    let parts = command.get_subcommands().filter(|part| part.get_name() != "help").cloned();
    let files = std::iter::once(command.clone()).chain(parts).map(|part| write(part, directory));
    let files = files.collect::<Result<Vec<PathBuf>>>()?;
    if args.json {
        print(&json("kvm-timeline/man", &Files { files })?)?;
    } else {
        say(quiet, &format!("{} pages written to {}\n", files.len(), directory.display()));
    }
    Ok(Exit::Done)
}

fn write(command: clap::Command, directory: &Path) -> Result<PathBuf> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let path = directory.join(format!("{name}.1"));
    write_all(&path, page(command)?.as_bytes())?;
    Ok(path)
}

fn page(command: clap::Command) -> Result<String> {
    let mut text = Vec::new();
    let failed = |e| Error::new(ErrorKind::Io, format!("cannot write the manual page: {e}"));
    Man::new(command).render(&mut text).map_err(failed)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
