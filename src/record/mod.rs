//! Recording on the host, with nothing but tracefs: a plan of writes that can be shown, carried out and put back, and
//! a result that the readers of this crate take as it is.
//!
//! Two tracing instances are made and removed again; nothing else of the kernel's tracing is touched, so that whoever
//! else traces this machine is not disturbed:
//!
//! - `kvm-timeline` records the events. Its sub-buffers are copied while it records.
//! - `tsc_offset` records `kvm_write_tsc_offset` alone, so that a busy buffer never overwrites the few events that
//!   place everything. Its text is copied and not consumed: one that was there before ([`plan::prepare`]) stays as it
//!   was and serves the next recording as well.

mod collect;
mod events;
mod facts;
pub mod guest;
mod output;
mod pages;
pub mod plan;
mod recipe;
mod setup;
mod system;
mod vms;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};

pub use output::Target;
pub use plan::{DEFAULT_EVENTS, Options, Plan, Step};
pub use recipe::{Part, TOGETHER, recipe};
pub use setup::Setup;
pub use system::{Roots, System};

/// How often it is looked whether the recording is over.
const LOOK: Duration = Duration::from_millis(20);

/// What a recording brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of sub-buffers.
    pub bytes: u64,
    /// Events in them, as the kernel counted.
    pub events: u64,
    /// Events that the kernel lost: overwritten, or dropped.
    pub lost: u64,
    /// VMs that ran at the end or at the beginning, with their number of vCPUs where it is known.
    pub vms: Vec<(String, usize)>,
    /// vCPUs whose offset debugfs told.
    pub offsets: usize,
    /// What a person should know.
    pub notes: Vec<String>,
    /// What the kernel refused to put back, and why.
    pub not_put_back: Option<String>,
}

/// Records until `over` says so, into `directory`, which must exist.
///
/// `over` is asked again and again while events are recorded, for the first time right after they began. Everything is
/// put back before this returns, whatever happens; [`Summary::not_put_back`] says where the kernel refused that.
///
/// # Errors
/// Where a file of the kernel cannot be read or written, or the result cannot be written; and what `over` returns.
pub fn record(
    system: &System,
    plan: &Plan,
    directory: &Path,
    over: &mut dyn FnMut() -> Result<bool>,
) -> Result<Summary> {
    let mut summary = Summary { notes: plan.notes.clone(), ..Summary::default() };
    let began = facts::Moment::now();
    let mut vms = vms::look(system);
    let host = directory.join("host");
    let setup = Setup::carry_out(system, plan)?;
    // The names of threads that end while it records are in the kernel's list, those of idle ones only here.
    let mut tasks = vms::tasks(system);
    summary.bytes = stream(system, plan, &host, over)?;
    collect::tracefs(system, plan, &host, &mut summary)?;
    // What was recorded is worth no less when something cannot be put back.
    summary.not_put_back = setup.put_back().err().map(|error| {
        let hint = error.hint_text().map_or_else(String::new, |hint| format!(" ({hint})"));
        format!("{error}{hint}")
    });
    tasks.extend(vms::tasks(system));
    collect::tasks(system, &tasks, &host)?;
    vms.join(vms::look(system));
    collect::facts(system, &vms, &began, directory)?;
    summary.vms = vms.vms.iter().map(|vm| (vm.name.clone(), vm.threads.len())).collect();
    summary.offsets = vms.vcpus_with_offsets();
    summary.notes.extend(vms.notes(plan.offsets_were_recorded));
    Ok(summary)
}

/// Copies sub-buffers, one thread for each CPU, until it is over and the buffers are empty. Returns how many bytes.
fn stream(system: &System, plan: &Plan, host: &Path, over: &mut dyn FnMut() -> Result<bool>) -> Result<u64> {
    let size = pages::size(system, &plan.buffer)?;
    let jobs = pages::jobs(system, &plan.buffer, host)?;
    let drain = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut pumps = Vec::new();
        let mut begun = Ok(());
        for job in jobs {
            let (name, drain) = (format!("cpu {}", job.cpu), &drain);
            match thread::Builder::new().name(name).spawn_scoped(scope, move || job.pump(size, drain)) {
                Ok(pump) => pumps.push(pump),
                Err(error) => {
                    begun = Err(Error::io(host, "start a thread for each CPU", error));
                    break;
                }
            }
        }
        plan.mark(system, "begin");
        let worked = begun.and_then(|()| {
            // A pump ends before it is told to only where it failed.
            while !over()? && !pumps.iter().any(thread::ScopedJoinHandle::is_finished) {
                thread::sleep(LOOK);
            }
            Ok(())
        });
        plan.mark(system, "end");
        let stopped = plan.stop(system);
        drain.store(true, Ordering::Release);
        let mut bytes = 0;
        let mut pumped = Ok(());
        for pump in pumps {
            pump.thread().unpark();
            match pump.join() {
                Ok(Ok(count)) => bytes += count,
                Ok(Err(error)) => pumped = Err(error),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        worked.and(pumped).and(stopped).map(|()| bytes)
    })
}
