//! The command line tool: see `kvm-timeline --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    kvm_timeline::cli::main().into()
}
