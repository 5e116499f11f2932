//! What is to be opened, and who watches.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{Capture, Tick};
use crate::error::{Error, ErrorKind, Result};
use crate::monitor::Monitor;
use crate::session::Session;
use crate::session::request::{GuestSpec, OffsetSpec, Request};
use crate::time::TscOffset;

/// The inputs of a [`Capture`].
///
/// ```no_run
/// use kvm_timeline::Capture;
///
/// let capture = Capture::builder()
///     .host("host.dat")
///     .guest("web", "guest-a.dat")
///     .guest("db", "guest-b.dat")
///     .tsc_hz(2_596_116_000)
///     .open()?;
/// # Ok::<(), kvm_timeline::error::Error>(())
/// ```
#[must_use]
pub struct CaptureBuilder {
    request: Request,
    tick: Tick,
    stop: Arc<AtomicBool>,
}

impl CaptureBuilder {
    pub(super) fn new() -> Self {
        Self { request: Request::default(), tick: Arc::new(|_| {}), stop: Arc::default() }
    }

    /// Adds a directory, an archive or a file whose role is found out from its contents.
    pub fn path(mut self, path: impl AsRef<Path>) -> Self {
        self.request.paths.push(path.as_ref().to_owned());
        self
    }

    /// Adds a file of the host.
    pub fn host(mut self, path: impl AsRef<Path>) -> Self {
        self.request.hosts.push(path.as_ref().to_owned());
        self
    }

    /// Adds a file of the guest called `name`. [`GuestSpec`] can also name its process or its vCPU threads.
    pub fn guest(self, name: impl Into<String>, path: impl AsRef<Path>) -> Self {
        let path: PathBuf = path.as_ref().to_owned();
        self.guest_spec(GuestSpec { name: name.into(), pid: None, threads: Vec::new(), path })
    }

    /// Adds a file of a guest of which more is known than its name.
    pub fn guest_spec(mut self, guest: GuestSpec) -> Self {
        self.request.guests.push(guest);
        self
    }

    /// Gives the TSC offset of a vCPU, or of all of a VM's: guest TSC = host TSC + `offset`.
    pub fn offset(mut self, vm: impl Into<String>, vcpu: Option<u32>, offset: TscOffset) -> Self {
        self.request.offsets.push(OffsetSpec { vm: vm.into(), vcpu, offset });
        self
    }

    /// Gives the host's TSC rate, for captures that do not tell it.
    pub fn tsc_hz(mut self, hz: u64) -> Self {
        self.request.tsc_hz = Some(hz);
        self
    }

    /// Infers offsets from the run windows even where they were recorded.
    pub fn infer(mut self) -> Self {
        self.request.ignore_recorded_offsets = true;
        self
    }

    /// Replaces all that was said of the inputs so far.
    pub fn request(mut self, request: Request) -> Self {
        self.request = request;
        self
    }

    /// Calls `tick` with the number of events that were just read, now and in all later work; from any thread.
    pub fn on_progress(mut self, tick: impl Fn(u64) + Send + Sync + 'static) -> Self {
        self.tick = Arc::new(tick);
        self
    }

    /// A flag that ends the work, now and later, with [`ErrorKind::Interrupted`] once it is up.
    pub fn stop_flag(mut self, stop: Arc<AtomicBool>) -> Self {
        self.stop = stop;
        self
    }

    /// Reads everything once and finds out who is who.
    ///
    /// # Errors
    ///
    /// If nothing was named or can be read, if there is no host, if a guest cannot be placed at all, or if the work was
    /// interrupted.
    pub fn open(self) -> Result<Capture> {
        let Self { request, tick, stop } = self;
        if request.paths.is_empty() && request.hosts.is_empty() {
            return Err(Error::new(ErrorKind::Usage, "no capture was named")
                .hint("name a directory, or the host's file and the guests'"));
        }
        if request.tsc_hz == Some(0) {
            return Err(Error::new(ErrorKind::Usage, "the TSC rate is 0 Hz").hint("leave it out where it is not known"));
        }
        let session = Session::open(&request, &Monitor { tick: &*tick, stop: &stop })?;
        Ok(Capture::new(session, tick, stop))
    }
}
