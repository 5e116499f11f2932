//! `kvm-timeline recipe`.

use super::Exit;
use super::output::print;
use crate::error::Result;
use crate::record::{Part, recipe};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only what is done on the host.
    #[arg(long, conflicts_with = "guest")]
    host: bool,
    /// Only what is done in each guest.
    #[arg(long)]
    guest: bool,
}

pub(super) fn run(args: &Args) -> Result<Exit> {
    let part = match (args.host, args.guest) {
        (true, _) => Some(Part::Host),
        (_, true) => Some(Part::Guest),
        _ => None,
    };
    print(&recipe(part)).map(|()| Exit::Done)
}
