//! Tools of the whole-program benches (`benches/all.py`), built like the program that they measure.
//!
//! `volume multiply CAPTURE OUTPUT --times N [--machines N] [--compression none|zstd] [--hz N]`: a larger capture.
//! `volume floor CAPTURE --bytes N -o FILE`: the least that a converter must do.
//! `volume naive TRACE -o FILE`: the same Perfetto trace without interned strings, delta times and defaults.

#![allow(missing_docs, unreachable_pub, clippy::print_stdout, clippy::print_stderr)]

mod container;
mod edits;
mod floor;
mod multiply;
mod naive;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use container::{Compression, Result};

fn main() -> ExitCode {
    // `cargo bench` adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(words) => {
            println!("{words}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

const USAGE: &str = "volume multiply CAPTURE OUTPUT --times N [--machines N] [--compression none|zstd] [--hz N]
volume floor CAPTURE --bytes N -o FILE
volume naive TRACE -o FILE";

/// The value behind `name`.
fn option<'a>(args: &[&'a str], name: &str) -> Option<&'a str> {
    args.iter().position(|arg| *arg == name).and_then(|at| args.get(at + 1)).copied()
}

fn run(args: &[&str]) -> Result<String> {
    let number = |name: &str, default: u64| option(args, name).map_or(Ok(default), str::parse::<u64>);
    let output = || option(args, "-o").map(Path::new).ok_or("-o is missing");
    match args {
        [] => Ok(USAGE.to_owned()),
        ["multiply", from, to, ..] => {
            let compression = match option(args, "--compression") {
                None => None,
                Some("none") => Some(Compression::None),
                Some("zstd") => Some(Compression::Zstd),
                Some(other) => return Err(format!("compression {other}: none or zstd").into()),
            };
            let machines = u32::try_from(number("--machines", 1)?)?;
            let times = number("--times", 1)?;
            let hz = option(args, "--hz").map(str::parse).transpose()?;
            let (from, to) = (from.into(), to.into());
            let made = multiply::multiply(&multiply::Plan { from, to, times, machines, compression, hz })?;
            Ok(format!("{} events, {} bytes", made.events, made.bytes))
        }
        ["floor", from, ..] => {
            let mut files: Vec<PathBuf> = Vec::new();
            for entry in std::fs::read_dir(from)? {
                let path = entry?.path();
                if path.extension().is_some_and(|e| e == "dat") {
                    files.push(path);
                }
            }
            files.sort();
            Ok(format!("{} bytes of pages", floor::floor(&files, number("--bytes", 0)?, output()?)?))
        }
        ["naive", from, ..] => naive::naive(Path::new(from), output()?),
        _ => Err(USAGE.into()),
    }
}
