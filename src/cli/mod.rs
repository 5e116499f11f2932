//! The command line: one file per subcommand, and nothing that a library user would miss.

mod batch;
mod check;
mod completions;
mod convert;
mod draw;
mod exit;
mod filters;
mod inputs;
mod inspect;
mod man;
mod offsets;
mod open;
mod print;
mod progress;
mod recipe;
mod record;
mod stats;

use clap::{Parser, Subcommand};

pub use exit::Exit;

use crate::error::{Error, ErrorKind};
use crate::output;

/// Put a Linux KVM host and its guests on one timeline.
///
/// Reads ftrace captures of a host and of its guests, places every guest event in host time with each vCPU's own
/// TSC-offset history, and writes a trace for ui.perfetto.dev.
#[derive(Debug, Parser)]
#[command(name = "kvm-timeline", version, max_term_width = 100, after_help = exit::TABLE)]
struct Cli {
    /// Use this many threads [default: RAYON_NUM_THREADS, else all CPUs].
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print nothing but results and errors.
    #[arg(short, long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a timeline: Perfetto protobuf (.pftrace) or Chrome JSON (.json).
    Convert(convert::Args),
    /// Convert many captures, several at a time; safe to run again, and to share among machines.
    Batch(Box<batch::Args>),
    /// Prove that every guest event lies inside a run window of its vCPU.
    Check(check::Args),
    /// Show each vCPU's TSC-offset history.
    Offsets(offsets::Args),
    /// Print the merged events of host and guests as text, in host-time order.
    Print(print::Args),
    /// Open a trace in the Perfetto UI, served from this machine to this machine.
    Open(open::Args),
    /// Say what the captures are, who is who, and what is missing for a good merge.
    Inspect(inspect::Args),
    /// Sum up where each vCPU's time went.
    Stats(stats::Args),
    /// Record this host's side of a timeline, with nothing but tracefs.
    Record(record::Args),
    /// Tell how to record a host and its guests.
    Recipe(recipe::Args),
    /// Print what makes a shell complete the arguments.
    Completions(completions::Args),
    /// Print the manual page, or write one for every subcommand.
    Man(man::Args),
}

impl Command {
    /// Whether stdout is to hold JSON.
    fn json(&self) -> bool {
        match self {
            Self::Convert(args) => args.json,
            Self::Batch(args) => args.json,
            Self::Check(args) => args.json,
            Self::Offsets(args) => args.json,
            Self::Print(args) => args.json,
            Self::Open(args) => args.json,
            Self::Inspect(args) => args.json,
            Self::Stats(args) => args.json,
            Self::Record(args) => args.json,
            Self::Recipe(args) => args.json,
            Self::Completions(args) => args.json,
            Self::Man(args) => args.json,
        }
    }
}

/// Parses the arguments, does the work, says how it went.
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout and are no error.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    let mut pool = rayon::ThreadPoolBuilder::new().thread_name(|i| format!("worker {i}"));
    if let Some(threads) = cli.threads {
        pool = pool.num_threads(usize::from(threads));
    }
    // One thread fewer to start, and the memory of this one grows in larger steps. A batch only waits here.
    if !matches!(cli.command, Command::Batch(_)) {
        pool = pool.use_current_thread();
    }
    let quiet = cli.quiet;
    let done = match pool.build() {
        Ok(pool) => match &cli.command {
            // It hands its captures to the pool itself.
            Command::Batch(args) => batch::run(args, quiet, &pool),
            Command::Convert(args) => pool.install(|| convert::run(args, quiet)),
            Command::Check(args) => pool.install(|| check::run(args, quiet)),
            Command::Offsets(args) => pool.install(|| offsets::run(args, quiet)),
            Command::Print(args) => pool.install(|| print::run(args, quiet)),
            Command::Open(args) => pool.install(|| open::run(args, quiet)),
            Command::Inspect(args) => pool.install(|| inspect::run(args, quiet)),
            Command::Stats(args) => pool.install(|| stats::run(args, quiet)),
            Command::Record(args) => pool.install(|| record::run(args, quiet)),
            Command::Recipe(args) => recipe::run(args),
            Command::Completions(args) => completions::run(args),
            Command::Man(args) => man::run(args, quiet),
        },
        Err(error) => Err(Error::new(ErrorKind::Io, format!("cannot start threads: {error}"))),
    };
    match done {
        Ok(exit) => exit,
        Err(error) => exit::report(&error, cli.command.json()),
    }
}
