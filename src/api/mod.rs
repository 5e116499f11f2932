//! What programs use: a [`Capture`] is opened once, then asked for clocks, the audit, statistics, a converted trace, or its
//! events one by one in host time.

mod builder;
mod certainty;
mod clocks;
mod event;
mod events;
mod json;
mod view;

#[cfg(test)]
mod tests;

pub use builder::CaptureBuilder;
pub use certainty::{Certainty, Placed};
pub use clocks::VcpuClock;
pub use event::{Event, EventKind, Gap};
pub use events::Events;
pub use view::View;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustc_hash::FxHashMap;

use crate::check::CheckReport;
use crate::error::Result;
use crate::monitor::Monitor;
use crate::report::{OffsetReport, Report};
use crate::session::Session;

/// How far work is: called with the number of events that were just read, from any thread.
type Tick = Arc<dyn Fn(u64) + Send + Sync>;

/// A host and its guests on one timeline, ready to be asked.
///
/// Opening reads every event once and finds out who is who and which clock each vCPU had when. What it keeps is small:
/// events are read again from the files whenever they are needed. It can be shared between threads, and work runs on
/// the current rayon pool.
pub struct Capture {
    session: Session,
    /// Index of VM and vCPU by host thread.
    threads: FxHashMap<i32, (usize, usize)>,
    tick: Tick,
    stop: Arc<AtomicBool>,
}

impl Capture {
    /// Opens a directory, an archive or a single capture; what is what is found out from the contents. For anything else
    /// there is [`Capture::builder`].
    ///
    /// # Errors
    ///
    /// If nothing can be read there, if there is no host, or if a guest cannot be placed at all.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().path(path).open()
    }

    /// To name hosts and guests, to give offsets, to watch, to interrupt.
    pub fn builder() -> CaptureBuilder {
        CaptureBuilder::new()
    }

    fn new(session: Session, tick: Tick, stop: Arc<AtomicBool>) -> Self {
        let mut threads = FxHashMap::default();
        for (v, vm) in session.vms.iter().enumerate() {
            for (c, vcpu) in vm.vcpus.iter().enumerate() {
                threads.extend(vcpu.thread.map(|thread| (thread, (v, c))));
            }
        }
        Self { session, threads, tick, stop }
    }

    /// A session that is watched by nobody.
    pub(crate) fn of_session(session: Session, stop: Arc<AtomicBool>) -> Self {
        Self::new(session, Arc::new(|_| {}), stop)
    }

    fn monitor(&self) -> Monitor<'_> {
        Monitor { tick: &*self.tick, stop: &self.stop }
    }

    /// Everything that was found out, as the rest of this crate works with it.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The clock of every vCPU, VM by VM: the history of its TSC offset, and how well each stretch of it is known.
    pub fn clocks(&self) -> Vec<VcpuClock<'_>> {
        clocks::clocks(&self.session)
    }

    /// The same as a table, one row per stretch: what `kvm-timeline offsets` shows.
    pub fn offsets(&self) -> Vec<OffsetReport> {
        crate::convert::offset_reports(&self.session)
    }

    /// The VM and the number of the vCPU that this host thread runs, if it runs one.
    pub fn vcpu_of_thread(&self, thread: i32) -> Option<(&str, u32)> {
        let (vm, vcpu) = self.vcpu_at(*self.threads.get(&thread)?)?;
        Some((&vm.name, vcpu.number))
    }

    fn vcpu_at(&self, (vm, vcpu): (usize, usize)) -> Option<(&crate::session::Vm, &crate::session::Vcpu)> {
        let vm = self.session.vms.get(vm)?;
        Some((vm, vm.vcpus.get(vcpu)?))
    }

    /// The audit: whether every guest event lies where its vCPU was in guest mode, and a verdict per vCPU.
    ///
    /// # Errors
    ///
    /// If an input can no longer be read, or if the work was interrupted.
    pub fn check(&self) -> Result<CheckReport> {
        crate::check::check(&self.session, &self.monitor())
    }

    /// What a person should know before trusting any result.
    pub fn warnings(&self) -> Vec<String> {
        self.session.all_warnings()
    }

    /// What of the inputs was damaged, cut short or skipped.
    pub fn damaged(&self) -> Vec<String> {
        self.session.damaged()
    }

    /// A part of the capture, or another output; everything, unless the view is told otherwise.
    pub fn view(&self) -> View<'_> {
        View::new(self)
    }

    /// Writes a Perfetto trace of the guests' recordings and what the host did meanwhile; [`View::convert`] knows more.
    ///
    /// # Errors
    ///
    /// If an input can no longer be read, if `writer` fails, or if the work was interrupted.
    pub fn convert(&self, writer: impl io::Write + Send) -> Result<Report> {
        self.view().convert(writer)
    }

    /// All events of host and guests in host-time order.
    ///
    /// # Errors
    ///
    /// None without a filter; see [`View::events`].
    pub fn events(&self) -> Result<Events<'_>> {
        self.view().events()
    }
}
