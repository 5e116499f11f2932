//! `kvm-timeline recipe`.

use serde::Serialize;

use super::Exit;
use super::output::{json, print};
use crate::error::Result;
use crate::record::{Part, TOGETHER, recipe};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only what is done on the host.
    #[arg(long, conflicts_with = "guest")]
    host: bool,
    /// Only what is done in each guest.
    #[arg(long)]
    guest: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Texts {
    /// What is done on the host.
    host: Option<String>,
    /// What is done in each guest.
    guest: Option<String>,
    /// What is done with both results.
    together: Option<&'static str>,
}

pub(super) fn run(args: &Args) -> Result<Exit> {
    let part = match (args.host, args.guest) {
        (true, _) => Some(Part::Host),
        (_, true) => Some(Part::Guest),
        _ => None,
    };
    if args.json {
        let wanted = |this: Part| part.is_none_or(|part| part == this).then(|| recipe(Some(this)));
        let together = part.is_none().then_some(TOGETHER);
        let texts = Texts { host: wanted(Part::Host), guest: wanted(Part::Guest), together };
        return print(&json("kvm-timeline/recipe", &texts)?).map(|()| Exit::Done);
    }
    print(&recipe(part)).map(|()| Exit::Done)
}
