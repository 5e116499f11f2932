//! The clock of one VM: the history of each vCPU, inferred where nothing was recorded, for whichever clock the guest's
//! stamps are in.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use crate::capture::{Capture, Clock};
use crate::clock::history::{Change, Evidence, Given, History, InferredOffset, Source};
use crate::clock::infer::{Effort, Inference, Undecided, VcpuSample, Verdict, infer_vm};
use crate::clock::mapping::Step;
use crate::clock::place::{Track, tracks};
use crate::clock::pvclock::{self, ClockSample, Params, Update};
use crate::clock::rate::TscRate;
use crate::clock::scaling::{HostRange, Scaling};
use crate::clock::windows::Windows;
use crate::error::{Code, Error, ErrorKind, Result};
use crate::monitor::Monitor;
use crate::session::evidence::{Extra, HostEvidence, evidence, given};
use crate::session::facts::Facts;
use crate::session::groups::Group;
use crate::session::inputs::Opened;
use crate::session::request::Request;
use crate::session::runs::{Host, windows};
use crate::session::samples::{StreamSample, Tried, inside_and_checked, sample, sound};
use crate::session::survey::Survey;
use crate::time::{GuestTsc, HostTsc, RawStamp, TscOffset};

/// Chunks per stream that are looked at to see whose run windows a guest fits.
pub(super) const FIT_CHUNKS: usize = 3;
/// Chunks per stream that inference looks at.
pub(super) const INFER_CHUNKS: usize = 48;

/// What the host's side offers to any guest.
pub(super) struct HostSide<'a> {
    pub(super) evidence: HostEvidence,
    pub(super) hosts: Vec<Host<'a>>,
    pub(super) facts: &'a Facts,
    pub(super) request: &'a Request,
    /// The clock of the hosts' events.
    pub(super) axis: Clock,
    pub(super) all_windows: OnceCell<BTreeMap<i32, Windows>>,
    /// What may be spent on searches for offsets.
    pub(super) effort: Effort,
}

impl HostSide<'_> {
    /// The run windows of all threads in all of the host's trace; read once, when inference asks for them.
    fn windows(&self, monitor: &Monitor<'_>) -> Result<&BTreeMap<i32, Windows>> {
        if let Some(windows) = self.all_windows.get() {
            return Ok(windows);
        }
        let all = windows(&self.hosts, &[HostRange::ALL], monitor)?;
        Ok(self.all_windows.get_or_init(|| all))
    }
}

/// A guest's capture.
#[derive(Clone, Copy)]
pub(super) struct Guest<'a> {
    capture: &'a Capture,
    survey: &'a Survey,
}

impl<'a> Guest<'a> {
    pub(super) fn new(opened: &'a Opened) -> Self {
        Self { capture: &opened.capture, survey: &opened.survey }
    }

    /// The clock of the buffer with most events.
    fn clock(&self) -> Clock {
        let events = |b: usize| self.survey.streams.iter().filter(|s| s.buffer == b).map(|s| s.events).sum::<u64>();
        let busiest = (0..self.capture.buffers.len()).max_by_key(|&b| (events(b), std::cmp::Reverse(b)));
        busiest.map_or(Clock::X86Tsc, |b| self.capture.buffers[b].clock.clone())
    }
}

/// A vCPU with its clock.
pub(super) struct PairedVcpu {
    pub(super) vcpu_id: u32,
    /// The guest's CPU.
    pub(super) cpu: u32,
    pub(super) thread: i32,
    pub(super) history: History,
    /// What is known of it even where no offset is.
    scaling: Scaling,
    changes: Vec<Change>,
    updates: Vec<Update>,
    pub(super) note: Option<String>,
    pub(super) time_shift_apart: Option<i64>,
}

/// A VM's threads together with the guest files that are (or might be) its.
pub(super) struct Pairing {
    /// In the order of the group.
    pub(super) vcpus: Vec<PairedVcpu>,
    pub(super) has_files: bool,
    /// The host's clock: a guest's of the same kind differs by an offset.
    axis: Clock,
    /// kvm-clock minus stamp, in nanoseconds, per guest clock that is no TSC, and how far it may be off.
    constants: Vec<(String, i64, u64)>,
    /// How many host cycles a stamp of the host's and one of a guest's may be off together.
    stamp_cycles: u64,
    pub(super) warnings: Vec<String>,
}

impl Pairing {
    /// Collects the evidence for every vCPU of `group`, and infers what is missing if there are guest files.
    pub(super) fn new(
        side: &HostSide<'_>,
        name: &str,
        group: &Group,
        guests: &[Guest<'_>],
        monitor: &Monitor<'_>,
    ) -> Result<Self> {
        let shift = guests.iter().find_map(|g| g.capture.info.time_shift.as_ref());
        let early = |capture: &Capture| capture.info.stamp_cycles.saturating_sub(1);
        let host = side.hosts.iter().map(|(capture, _)| early(capture)).max().unwrap_or(0);
        let mut pairing = Self {
            vcpus: Vec::new(),
            has_files: !guests.is_empty(),
            axis: side.axis.clone(),
            constants: Vec::new(),
            stamp_cycles: guests.iter().map(|g| early(g.capture)).max().unwrap_or(0).saturating_add(host),
            warnings: Vec::new(),
        };
        let tsc = side.axis == Clock::X86Tsc;
        for (rank, &(vcpu_id, thread)) in group.vcpus.iter().enumerate() {
            let extra = Extra {
                given: given(&side.request.offsets, name, group.cpu(rank)),
                time_shift: shift.map(|s| (s, group.cpu(rank) as usize)),
                facts: side.facts,
                tsc,
                ignore_recorded: side.request.ignore_recorded_offsets,
            };
            let evidence = evidence(&side.evidence, group, vcpu_id, thread, &extra);
            let updates = match side.request.ignore_recorded_offsets || !tsc {
                true => Vec::new(),
                false => side.evidence.updates(thread),
            };
            let scaling = known_scaling(&evidence);
            let history = History::build(&evidence);
            let only_samples = history.segments.iter().all(|s| s.source == Source::TimeShift);
            let time_shift_apart = history.apart(&evidence.samples).filter(|_| !only_samples);
            pairing.vcpus.push(PairedVcpu {
                vcpu_id,
                cpu: group.cpu(rank),
                thread,
                history,
                scaling,
                changes: evidence.changes,
                updates,
                note: None,
                time_shift_apart,
            });
        }
        for guest in guests {
            match guest.clock() {
                clock if clock == side.axis => pairing.infer_offsets(side, guest, monitor)?,
                Clock::Other(clock) => pairing.infer_constant(side, guest, &clock, monitor)?,
                // Refused before.
                Clock::X86Tsc => {}
            }
        }
        Ok(pairing)
    }

    /// Index of the vCPU that is the guest's CPU `cpu`.
    pub(super) fn vcpu_of_cpu(&self, cpu: u32) -> Option<usize> {
        self.vcpus.iter().position(|v| v.cpu == cpu)
    }

    /// How the stamps of a guest's buffer are mapped for a vCPU.
    pub(super) fn tracks(&self, vcpu: usize, capture: &Capture, buffer: usize) -> Vec<Track> {
        let Some(v) = self.vcpus.get(vcpu) else { return Vec::new() };
        let mut tracks = match capture.buffers.get(buffer).map(|b| &b.clock) {
            Some(clock) if *clock == self.axis => tracks(&v.history),
            Some(Clock::Other(name)) => match self.constants.iter().find(|(clock, ..)| clock == name) {
                Some((_, constant, off)) => pvclock_tracks(v, *constant, *off),
                None => Vec::new(),
            },
            Some(Clock::X86Tsc) | None => Vec::new(),
        };
        for track in &mut tracks {
            track.uncertainty = track.uncertainty.saturating_add(self.stamp_cycles);
        }
        tracks
    }

    /// How many host cycles one reading of the guest's clock may last.
    pub(super) fn reading_cycles(&self, vcpu: &PairedVcpu) -> u64 {
        let tsc = vcpu.history.segments.iter().map(|s| s.scaling.host_cycles(1)).max().unwrap_or(1).max(1);
        let tsc = tsc.saturating_add(self.stamp_cycles);
        let Some(params) = vcpu.updates.first().map(|u| u.params).filter(|_| !self.constants.is_empty()) else {
            return tsc;
        };
        // A nanosecond, and what a shift to the right drops.
        let dropped = 1_u64.checked_shl(u32::from(params.shift.min(0).unsigned_abs())).unwrap_or(u64::MAX);
        let nanosecond = params.hz().unwrap_or(1_000_000_000).div_ceil(1_000_000_000);
        tsc.saturating_mul(nanosecond.saturating_add(dropped - 1))
    }

    /// The histories that a scan of the host can narrow.
    pub(super) fn tightenable(&mut self) -> Vec<(i32, &mut History, Vec<Change>)> {
        self.vcpus.iter_mut().map(|v| (v.thread, &mut v.history, v.changes.clone())).collect()
    }

    fn infer_offsets(&mut self, side: &HostSide<'_>, guest: &Guest<'_>, monitor: &Monitor<'_>) -> Result<()> {
        let unknown = |cpu| self.vcpu_of_cpu(cpu).is_some_and(|v| self.vcpus[v].history.segments.is_empty());
        let missing: Vec<StreamSample> = sample(guest.capture, guest.survey, INFER_CHUNKS, unknown)?;
        if missing.is_empty() {
            return Ok(());
        }
        let all = side.windows(monitor)?;
        let mut stamps: Vec<(usize, Vec<RawStamp>)> =
            missing.iter().filter_map(|s| Some((self.vcpu_of_cpu(s.cpu)?, sound(s)))).collect();
        // One rate for all vCPUs of a VM.
        let scaling = self.vcpus.first().map_or(Scaling::NONE, |v| v.scaling);
        let found: Vec<Result<Inference, Undecided>> = {
            let windows = |vcpu: usize| all.get(&self.vcpus[vcpu].thread);
            let samples = stamps.iter().filter_map(|(v, stamps)| Some(VcpuSample { stamps, windows: windows(*v)? }));
            infer_vm(&samples.collect::<Vec<_>>(), scaling, &side.effort)
        };
        stamps.retain(|(v, _)| all.contains_key(&self.vcpus[*v].thread));
        let found = found.into_iter().collect::<Result<Vec<_>, _>>().map_err(|why| cannot_infer(guest.capture, why))?;
        for (index, (vcpu, _)) in stamps.iter().enumerate() {
            // vCPUs with one range have one offset, so a reading of any of their clocks is one of all.
            let shared = (stamps.iter().zip(&found)).filter(|(_, other)| other.hull == found[index].hull);
            let threads: Vec<i32> = shared.map(|((v, _), _)| self.vcpus[*v].thread).collect();
            let readings: Vec<(GuestTsc, HostTsc)> = timer_readings(side, &threads).collect();
            self.set_inferred(*vcpu, &found[index].clone().with_readings(scaling, &readings));
        }
        Ok(())
    }

    fn set_inferred(&mut self, vcpu: usize, inference: &Inference) {
        let width = inference.hull.width();
        // The estimate need not be in the middle.
        let distance = |end: TscOffset| end.raw().wrapping_sub(inference.estimate.raw()).cast_signed().unsigned_abs();
        let uncertainty = distance(inference.hull.lo).max(distance(inference.hull.hi));
        let inferred = InferredOffset { offset: inference.estimate, uncertainty };
        let v = &mut self.vcpus[vcpu];
        let given = Some(Given { offset: None, scaling: Some(v.scaling) });
        v.history = History::build(&Evidence { given, inferred: Some(inferred), ..Evidence::default() });
        v.note = Some(format!(
            "offset between {} and {} ({width} cycles)",
            inference.hull.lo.signed(),
            inference.hull.hi.signed()
        ));
        if inference.verdict == Verdict::Several {
            self.warnings.push(format!("vCPU {vcpu}: the run windows leave several offsets open"));
        }
    }

    fn infer_constant(
        &mut self,
        side: &HostSide<'_>,
        guest: &Guest<'_>,
        clock: &str,
        monitor: &Monitor<'_>,
    ) -> Result<()> {
        if self.constants.iter().any(|(known, ..)| known == clock) {
            return Ok(());
        }
        let unusable = |why: &str| {
            Error::new(ErrorKind::Evidence, format!("recorded with the clock `{clock}`, which cannot be placed: {why}"))
                .coded(Code::NoClock)
                .in_file(&guest.capture.path)
                .hint("record the guest with `trace-cmd record -C x86-tsc …`")
        };
        if self.vcpus.iter().all(|v| v.updates.is_empty()) {
            let cycles = |vcpu: usize, _: &Guest<'_>| tracks(&self.vcpus[vcpu].history);
            let (inside, checked) = self.score_by(side, &[*guest], FIT_CHUNKS, &cycles, monitor)?;
            if checked > 0 && inside * 10 >= checked * 9 {
                return Err(unusable("its stamps are TSC cycles, whatever it says"));
            }
            let known = self.assume_rate(side);
            if !known {
                return Err(unusable("the host has no kvm_pvclock_update events, and nothing tells the TSC rate"));
            }
        }
        let all = side.windows(monitor)?;
        let samples = sample(guest.capture, guest.survey, INFER_CHUNKS, |cpu| self.vcpu_of_cpu(cpu).is_some())?;
        let stamps: Vec<(usize, Vec<RawStamp>)> =
            samples.iter().filter_map(|s| Some((self.vcpu_of_cpu(s.cpu)?, sound(s)))).collect();
        let clock_samples: Vec<ClockSample<'_>> = stamps
            .iter()
            .filter_map(|(vcpu, stamps)| {
                let v = &self.vcpus[*vcpu];
                let sample = VcpuSample { stamps, windows: all.get(&v.thread)? };
                Some(ClockSample { sample, updates: &v.updates, history: &v.history })
            })
            .collect();
        let (constant, inference) =
            pvclock::infer_constant(&clock_samples, &side.effort).map_err(|why| unusable(undecided(why)))?;
        let note = format!("clock `{clock}`: kvm-clock less {constant} ns, within {} ns", inference.hull.width());
        self.vcpus.iter_mut().for_each(|v| v.note = Some(note.clone()));
        self.constants.push((clock.to_owned(), constant, inference.hull.width().div_ceil(2)));
        Ok(())
    }

    /// Without pvclock updates, a guest's clock is taken to run at the host's rate, on the host's TSC itself. Whether
    /// something tells that rate.
    fn assume_rate(&mut self, side: &HostSide<'_>) -> bool {
        let stored = side.hosts.iter().find_map(|(capture, _)| capture.info.tsc2nsec);
        let stored = stored.and_then(|t| TscRate::from_mult_shift(t.mult, t.shift)).map(|rate| rate.hz());
        let hz = stored.or(side.request.tsc_hz).or(side.facts.log_tsc_hz);
        let Some(params) = hz.and_then(Params::at_rate) else { return false };
        for v in &mut self.vcpus {
            v.updates = vec![Update { at: HostTsc::MIN, params }];
            v.history = History::constant(TscOffset::default(), Scaling::NONE, Source::Inferred, 0);
        }
        true
    }

    /// (inside, checked) over at most `chunks` chunks of each guest stream.
    pub(super) fn score(
        &self,
        side: &HostSide<'_>,
        guests: &[Guest<'_>],
        chunks: usize,
        monitor: &Monitor<'_>,
    ) -> Result<(u64, u64)> {
        let tracks = |vcpu: usize, guest: &Guest<'_>| {
            let buffer = guest.capture.buffers.iter().position(|b| b.clock == guest.clock()).unwrap_or(0);
            self.tracks(vcpu, guest.capture, buffer)
        };
        self.score_by(side, guests, chunks, &tracks, monitor)
    }

    fn score_by(
        &self,
        side: &HostSide<'_>,
        guests: &[Guest<'_>],
        chunks: usize,
        tracks: &dyn Fn(usize, &Guest<'_>) -> Vec<Track>,
        monitor: &Monitor<'_>,
    ) -> Result<(u64, u64)> {
        let mut streams = Vec::new();
        for (nth, guest) in guests.iter().enumerate() {
            for stream in sample(guest.capture, guest.survey, chunks, |cpu| self.vcpu_of_cpu(cpu).is_some())? {
                streams.extend(self.vcpu_of_cpu(stream.cpu).map(|vcpu| (vcpu, nth, stream)));
            }
        }
        let mut tried = Vec::new();
        for (vcpu, nth, stream) in &streams {
            let tracks = tracks(*vcpu, &guests[*nth]);
            let thread = self.vcpus[*vcpu].thread;
            tried.extend(stream.pieces.iter().map(|piece| Tried { thread, tracks: tracks.clone(), piece }));
        }
        inside_and_checked(&side.hosts, side.all_windows.get(), &tried, monitor)
    }
}

/// The tracks of a kvm-clock guest whose constant is known within `off` nanoseconds.
fn pvclock_tracks(vcpu: &PairedVcpu, constant: i64, off: u64) -> Vec<Track> {
    let mut tracks = pvclock::tracks(&vcpu.history, &vcpu.updates, constant);
    for track in &mut tracks {
        let hz = track.mapping.steps().iter().find_map(|step| match step {
            Step::PvClock { params, .. } => params.hz(),
            Step::Tsc { .. } => None,
        });
        let cycles = u128::from(off) * u128::from(hz.unwrap_or(1_000_000_000));
        let cycles = u64::try_from(cycles.div_ceil(1_000_000_000)).unwrap_or(u64::MAX);
        let scaling = vcpu.history.segments.get(track.segment).map_or(Scaling::NONE, |s| s.scaling);
        track.uncertainty = track.uncertainty.saturating_add(scaling.host_cycles(cycles));
    }
    tracks
}

/// The scaling that `evidence` names, in the order of its sources.
fn known_scaling(evidence: &Evidence) -> Scaling {
    let given = evidence.given.and_then(|given| given.scaling);
    let snapshots = evidence.snapshots.iter().filter_map(|s| s.scaling);
    let samples = evidence.samples.iter().filter_map(|s| s.scaling);
    given.into_iter().chain(snapshots).chain(samples).next().unwrap_or(Scaling::NONE)
}

fn undecided(why: Undecided) -> &'static str {
    match why {
        Undecided::NoData => "there are no events, or no run windows",
        Undecided::NothingFits => "no single constant puts its events into run windows",
        Undecided::TooVague => "the run windows fit too many constants",
    }
}

fn cannot_infer(capture: &Capture, why: Undecided) -> Error {
    Error::new(
        ErrorKind::Evidence,
        format!("no TSC offset was recorded for this guest, and it cannot be inferred: {}", undecided(why)),
    )
    .coded(Code::NoClock)
    .in_file(&capture.path)
    .hint(
        "record kvm:kvm_write_tsc_offset on the host before the VM starts, or give the offset of \
         /sys/kernel/debug/kvm/*/vcpu*/tsc-offset with --offset VM=CYCLES",
    )
}

/// What the host read of the clocks of these threads' guests.
fn timer_readings(side: &HostSide<'_>, threads: &[i32]) -> impl Iterator<Item = (GuestTsc, HostTsc)> {
    let readings = side.hosts.iter().flat_map(|(_, survey)| &survey.timer_readings);
    readings.filter(|r| threads.contains(&r.tid)).map(|r| (GuestTsc::new(r.guest), HostTsc::new(r.ts)))
}
