//! `kvm-timeline completions`.

use clap::CommandFactory;
use clap_complete::Shell;
use serde::Serialize;

use super::output::{json, print};
use super::{Cli, Exit};
use crate::error::Result;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
bash: kvm-timeline completions bash > ~/.local/share/bash-completion/completions/kvm-timeline
zsh:  kvm-timeline completions zsh > a directory of $fpath, as _kvm-timeline
fish: kvm-timeline completions fish > ~/.config/fish/completions/kvm-timeline.fish")]
pub(super) struct Args {
    /// The shell.
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
    /// Print the script within JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Script {
    shell: String,
    script: String,
}

pub(super) fn run(args: &Args) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "kvm-timeline", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    // For bash, clap_complete 4.6 writes a hyphen of the program's name in two ways, so that no subcommand's options are
    // completed; where it does not, this changes nothing.
    let script = script.replace("kvm__subcmd__timeline__subcmd__", "kvm__timeline__subcmd__");
    if args.json {
        let script = Script { shell: args.shell.to_string(), script };
        return print(&json("kvm-timeline/completions", &script)?).map(|()| Exit::Done);
    }
    print(&script).map(|()| Exit::Done)
}
