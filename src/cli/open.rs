//! `kvm-timeline open`, and the end of `convert --open`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::Serialize;

use super::Exit;
use super::inputs::say;
use super::output::json_line;
use super::progress::stop_flag;
use crate::capture::trace_dat::is_trace_dat;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::nanoseconds;
use crate::open::{PERFETTO_UI, PORT, Served, Server};
use crate::printable::lossy;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The trace.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print the link as JSON.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    how: OpenArgs,
}

/// How a trace is opened.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Opening")]
pub(super) struct OpenArgs {
    /// Print the link, start no browser.
    #[arg(long)]
    no_browser: bool,
    /// A Perfetto UI that is served elsewhere.
    #[arg(long, value_name = "URL", default_value = PERFETTO_UI)]
    ui: String,
    /// The port to serve the trace from; the public UI fetches from no other than 9001.
    #[arg(long, value_name = "N", default_value_t = PORT)]
    port: u16,
    /// How long to wait for the UI to fetch the trace.
    #[arg(long, value_name = "TIME", default_value = "5min", value_parser = patience)]
    wait: Duration,
}

/// What `--json` prints before the trace is fetched.
#[derive(Serialize)]
struct Link<'a> {
    /// What to open in a browser.
    link: &'a str,
    /// The trace that is served.
    #[serde(serialize_with = "lossy")]
    file: &'a Path,
}

fn patience(text: &str) -> std::result::Result<Duration, String> {
    if let Some(minutes) = text.strip_suffix("min") {
        return minutes.parse().map(|m: u32| Duration::from_secs(u64::from(m) * 60)).map_err(|e| e.to_string());
    }
    nanoseconds(text, 1_000_000_000).map(Duration::from_nanos)
}

pub(super) fn run(args: &Args, quiet: bool) -> Result<Exit> {
    if starts_as_capture(&args.file) {
        return Err(Error::new(ErrorKind::Usage, "a capture, which the UI does not read")
            .in_file(&args.file)
            .hint("kvm-timeline convert --open -o FILE.pftrace CAPTURE"));
    }
    let server = args.how.bind(&args.file)?;
    if args.json {
        let link = Link { link: &server.link(), file: &args.file };
        return args.how.served(&server, &json_line("kvm-timeline/open", &link)?, &args.file, &stop_flag(), quiet);
    }
    args.how.serve(&server, &args.file, &stop_flag(), quiet)
}

/// A capture was named instead of what `convert` makes of it.
fn starts_as_capture(path: &Path) -> bool {
    let mut first = [0; 16];
    let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut first));
    read.is_ok_and(|count| is_trace_dat(&first[..count]))
}

impl OpenArgs {
    pub(super) fn bind(&self, file: &Path) -> Result<Server> {
        Server::bind(file, &self.ui, self.port)
    }

    pub(super) fn serve(&self, server: &Server, file: &Path, stop: &AtomicBool, quiet: bool) -> Result<Exit> {
        self.served(server, &format!("{}\n", server.link()), file, stop, quiet)
    }

    /// Prints `text` when it can be fetched.
    fn served(&self, server: &Server, text: &str, file: &Path, stop: &AtomicBool, quiet: bool) -> Result<Exit> {
        let link = server.link();
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|e| Error::io("stdout", "write", e))?;
        drop(stdout);
        if !self.no_browser && !browse(&link) {
            say(quiet, "no browser could be started: open the link by hand\n");
        }
        match server.serve(self.wait, stop)? {
            Served::Fetched => Ok(Exit::Done),
            Served::TimedOut => {
                Err(Error::new(ErrorKind::Io, format!("nobody fetched the trace within {:?}", self.wait))
                    .in_file(file)
                    .hint("run it again, or drop the file into https://ui.perfetto.dev by hand"))
            }
        }
    }
}

/// Asks the desktop to open a link.
fn browse(link: &str) -> bool {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let null = Stdio::null;
    Command::new(program).arg(link).stdin(null()).stdout(null()).stderr(null()).spawn().is_ok()
}
