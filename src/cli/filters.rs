//! The options that say what of a session is wanted.

use clap::Args;

use crate::error::Result;
use crate::filter::{Around, Filter, TimeSpec, VcpuSpec};
use crate::monitor::Monitor;
use crate::selection::{EventPattern, Selection, Span};
use crate::session::Session;

#[derive(Debug, Args)]
#[command(next_help_heading = "Filters")]
pub(super) struct FilterArgs {
    /// Only these events: SYSTEM:EVENT with * and ?, or a system's or an event's name alone; host/… or VM/… for one
    /// machine. What draws on events that are left out is not drawn.
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    events: Vec<EventPattern>,
    /// Not these events.
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    exclude: Vec<EventPattern>,
    /// Only these VMs: guest events and host kvm events of others are left out.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    vm: Vec<String>,
    /// Only these vCPUs.
    #[arg(long, value_name = "[VM/]N", value_delimiter = ',')]
    vcpu: Vec<VcpuSpec>,
    /// From this time on: seconds on the output's axis or with a unit, +TIME from the start, or VM[/VCPU]:TSC (guest)
    /// or host:TSC.
    #[arg(long, value_name = "TIME")]
    from: Option<TimeSpec>,
    /// Up to this time.
    #[arg(long, value_name = "TIME")]
    to: Option<TimeSpec>,
    /// Only this long before and after each event that matches [default window: 10ms].
    #[arg(long, value_name = "PATTERN[,TIME]")]
    around: Vec<Around>,
}

impl FilterArgs {
    pub(super) fn filter(&self) -> Filter {
        Filter {
            events: self.events.clone(),
            exclude: self.exclude.clone(),
            vms: self.vm.clone(),
            vcpus: self.vcpu.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            around: self.around.clone(),
        }
    }

    /// What is wanted of `session`.
    pub(super) fn select(&self, session: &Session, span: Span, monitor: &Monitor<'_>) -> Result<Selection> {
        self.filter().select(session, span, monitor)
    }
}
