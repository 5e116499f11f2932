//! What the timeline must know before the first event: who is who, and what to draw.

use crate::clock::rate::TscRate;
use crate::time::{HostTsc, TscOffset};
use crate::timeline::drawing::FieldSource;
use crate::timeline::native::Machine;

/// Everything that is known before the first event.
pub struct Setup {
    /// One per capture.
    pub sources: Vec<FieldSource>,
    /// What each merged stream is; [`crate::timeline::Timeline::event`] names streams by index.
    pub streams: Vec<StreamRole>,
    /// The VMs, in the order of their rows.
    pub vms: Vec<VmSetup>,
    /// Comm of host threads by thread id, as last known (saved command lines); sched events know better.
    pub host_comms: Vec<(i32, Box<str>)>,
    /// Host TSC to nanoseconds.
    pub rate: TscRate,
    /// The host's time span that is drawn; events outside it do not reach the timeline.
    pub span: (HostTsc, HostTsc),
    /// Wall-clock time (nanoseconds since 1970) at a trace time, where known.
    pub wall_clock: Option<(crate::time::TraceNs, u64)>,
    /// The host, then the VMs; only for the native layer.
    pub machines: Vec<Machine>,
    /// Facts for the output's metadata.
    pub metadata: serde_json::Value,
    /// What to draw.
    pub options: DrawOptions,
}

/// What a stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamRole {
    /// A host CPU (any of the host's buffers).
    Host {
        /// Index into [`Setup::sources`].
        source: u16,
        /// Physical CPU number.
        cpu: u32,
    },
    /// A guest CPU.
    Guest {
        /// Index into [`Setup::sources`].
        source: u16,
        /// Index into [`Setup::vms`].
        vm: u32,
        /// Index into that VM's `vcpus`.
        vcpu: u32,
    },
}

/// A VM.
#[derive(Clone, Debug)]
pub struct VmSetup {
    /// Shown name.
    pub name: String,
    /// Process id on the host, where the capture shows it.
    pub pid: Option<u32>,
    /// Host threads of its process, as far as known; vCPUs' threads may be among them.
    pub threads: Vec<i32>,
    /// The guest kernel (`uname`), where known.
    pub kernel: Option<String>,
    /// vCPUs in row order.
    pub vcpus: Vec<VcpuSetup>,
}

/// A vCPU.
#[derive(Clone, Debug)]
pub struct VcpuSetup {
    /// The number in its rows' names: the guest's CPU number, or the vcpu_id without a guest file.
    pub number: u32,
    /// KVM's vcpu_id.
    pub vcpu_id: Option<u32>,
    /// Its host thread.
    pub thread: Option<i32>,
    /// The offset history that is drawn, in host-time order.
    pub segments: Vec<SegmentSetup>,
    /// Clock source and quality, for the row's description.
    pub description: String,
    /// The user does not want to see it: its thread is still called by its name, but it has no rows.
    pub hidden: bool,
}

/// One segment of an offset history.
#[derive(Clone, Debug)]
pub struct SegmentSetup {
    /// First host TSC at which it holds.
    pub from: HostTsc,
    /// First host TSC at which it no longer holds; [`HostTsc::MAX`] for "to the end".
    pub to: HostTsc,
    /// The offset.
    pub offset: TscOffset,
    /// The offset before it, if any.
    pub changed_from: Option<TscOffset>,
    /// Where it is known from.
    pub source: String,
    /// TSC scaling in words, where there is any.
    pub scaling: Option<String>,
}

/// What to draw.
#[derive(Clone, Debug)]
pub struct DrawOptions {
    /// An exit that is handled on a CPU for at least this many nanoseconds becomes a mark.
    pub stall_ns: u64,
    /// Which arrows to draw.
    pub flows: Flows,
    /// Whether VMs are groups around their rows.
    pub group: Group,
    /// Whether a guest's first and last event are where its recording starts and ends, which is then shown.
    pub whole_recordings: bool,
    /// Which layers are drawn.
    pub layers: Layers,
}

impl Default for DrawOptions {
    fn default() -> Self {
        Self {
            stall_ns: 100_000,
            flows: Flows::Stalls,
            group: Group::Auto,
            whole_recordings: true,
            layers: Layers::default(),
        }
    }
}

/// Which layers are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layers {
    /// The rows: what a person looks at.
    pub overlay: bool,
    /// Each machine's own events, for Perfetto's scheduling tracks and SQL.
    pub native: NativeEvents,
}

impl Default for Layers {
    fn default() -> Self {
        Self { overlay: true, native: NativeEvents::None }
    }
}

/// Which events the native layer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NativeEvents {
    /// There is no native layer.
    None,
    /// Those of the scheduler.
    Sched,
    /// All.
    All,
}

/// Which arrows are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flows {
    /// None.
    None,
    /// From a stall mark to the preemptor's slice.
    Stalls,
    /// Stalls, and causes across the boundary: injected interrupts, IPIs, wakeups, kicks.
    All,
}

/// Whether each VM is a group around its vCPU rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// With more than 50 vCPUs in all.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}
