//! Holds a session against the truth.

use std::collections::BTreeMap;
use std::path::Path;

use kvm_timeline::capture::Chunk;
use kvm_timeline::check::{CheckReport, Verdict, check};
use kvm_timeline::clock::place::{PieceKind, Reason};
use kvm_timeline::clock::stamps::MapStamps;
use kvm_timeline::convert::{ConvertOptions, convert};
use kvm_timeline::error::Result;
use kvm_timeline::export::Format;
use kvm_timeline::monitor::Monitor;
use kvm_timeline::report::Report;
use kvm_timeline::selection::{Selection, Span};
use kvm_timeline::session::request::Request;
use kvm_timeline::session::{Session, is_tsc};
use kvm_timeline::time::RawStamp;
use kvm_timeline::timeline::setup::DrawOptions;

use crate::recording::Recorder;
use crate::world::World;

/// A recorded world.
pub(crate) struct Recorded {
    pub(crate) world: World,
    pub(crate) directory: tempfile::TempDir,
}

/// What became of the guest events of a session, all placed ones having been found right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// At exactly their true time.
    pub(crate) exact: u64,
    /// Within the stated range, which is wider than a cycle.
    pub(crate) within: u64,
    /// Two segments fit, and the report says so: may be wrong.
    pub(crate) ambiguous: u64,
    /// No host time, by reason.
    pub(crate) not_placed: BTreeMap<String, u64>,
}

impl Seen {
    pub(crate) fn unplaced(&self) -> u64 {
        self.not_placed.values().sum()
    }
}

impl Recorded {
    pub(crate) fn new(world: World, recorder: &Recorder) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        recorder.record(&world, directory.path());
        Self { world, directory }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The request for the whole directory.
    pub(crate) fn request(&self) -> Request {
        Request { paths: vec![self.path().to_owned()], ..Request::default() }
    }

    pub(crate) fn open(&self) -> Result<Session> {
        Session::open(&self.request(), &Monitor::silent())
    }

    /// All guest events of the world.
    pub(crate) fn events(&self) -> u64 {
        self.world.vms.iter().flat_map(|vm| &vm.vcpus).map(|v| v.events.len() as u64).sum()
    }

    /// Opens the directory, expects every placed event at its true time, a closed account, and gives the audit's report.
    pub(crate) fn prove(&self) -> (Seen, CheckReport) {
        self.prove_with(&self.request())
    }

    pub(crate) fn prove_with(&self, request: &Request) -> (Seen, CheckReport) {
        let session = Session::open(request, &Monitor::silent()).expect("opens");
        let seen = self.hold(&session);
        let report = check(&session, &Monitor::silent()).expect("checks");
        assert_eq!(account(&session).events.not_placed.values().sum::<u64>(), seen.unplaced());
        (seen, report)
    }

    /// Every placed event has its true time within the range that is stated for it.
    pub(crate) fn hold(&self, session: &Session) -> Seen {
        let mut seen = Seen::default();
        for stream in &session.streams {
            let input = &session.inputs[stream.input];
            let name = &session.vms[stream.vm].name;
            let vm = self.world.vms.iter().find(|vm| vm.name == *name).expect("the VM's name");
            let source = &input.capture.buffers[stream.buffer].streams[stream.stream];
            let format = input.capture.formats.find("test", "serial").and_then(|i| input.capture.formats.get(i));
            // A guest that runs guests recorded no numbered events.
            let Some(serial) = format.and_then(|f| f.field("serial")) else { continue };
            let cycle = is_tsc(&input.capture, stream.buffer);
            let truths = &vm.vcpus[source.cpu as usize].events;
            let mut nth = 0;
            for index in 0..source.source.chunks() {
                let mut chunk = Chunk::default();
                source.source.read(index, &mut chunk).expect("readable");
                for record in &chunk.records {
                    let number = serial.number(chunk.payload(record), input.capture.endian).expect("a number");
                    let truth = truths[number as usize].truth.get();
                    let mapped = stream.map(nth, record.ts);
                    let piece = stream.placement.index_at(nth).and_then(|i| stream.placement.pieces.get(i));
                    nth += 1;
                    let drawn = match mapped {
                        Ok(drawn) => drawn.get(),
                        Err(reason) => {
                            *seen.not_placed.entry(reason.name().to_owned()).or_default() += 1;
                            assert!(piece.is_none_or(|p| matches!(p.kind, PieceKind::NotPlaced(_))));
                            continue;
                        }
                    };
                    let piece = piece.expect("a placed event has a piece");
                    if piece.kind == PieceKind::Ambiguous {
                        seen.ambiguous += 1;
                        continue;
                    }
                    let range = piece.host(RawStamp::new(record.ts)).expect("placed");
                    let (first, last) = (range.first.get(), range.last.get());
                    assert_eq!(drawn, first);
                    let width = last - first + piece.uncertainty;
                    assert!(
                        first.saturating_sub(piece.uncertainty) <= truth
                            && truth <= last.saturating_add(piece.uncertainty),
                        "VM {name} CPU {}: event {number} at {truth} placed at {first}..{last} +- {}: {piece:?}",
                        source.cpu,
                        piece.uncertainty
                    );
                    let own = vm.scaling.is_none() || vm.scaling.ratio() >> vm.scaling.frac_bits() >= 1;
                    let fast = own && !name.contains('/');
                    assert!(width == 0 || !cycle || !fast || piece.uncertainty > 0, "not exact: {piece:?}");
                    if width == 0 {
                        seen.exact += 1;
                    } else {
                        seen.within += 1;
                    }
                }
            }
            assert!(
                !stream.placement.pieces.iter().any(|p| p.kind == PieceKind::NotPlaced(Reason::FitsNoSegment))
                    || seen.unplaced() > 0
            );
        }
        seen
    }
}

/// Converts into nothing; the account must be closed.
pub(crate) fn account(session: &Session) -> Report {
    let mut bytes = 0;
    let options = ConvertOptions {
        format: Format::Perfetto,
        compress: false,
        draw: DrawOptions::default(),
        limits: Default::default(),
    };
    let mut write = |out: &[u8]| {
        bytes += out.len();
        Ok(())
    };
    let report = convert(session, &Selection::all(session, Span::All), &options, &mut write, &Monitor::silent())
        .expect("converts");
    assert!(report.balances(), "{:?}", report.events);
    assert!(bytes > 0);
    report
}

/// The verdict of every vCPU with guest events.
pub(crate) fn verdicts(report: &CheckReport) -> Vec<Verdict> {
    report.vms.iter().flat_map(|vm| &vm.vcpus).filter_map(|v| v.verdict).collect()
}

/// All reasons, one per line.
pub(crate) fn reasons(report: &CheckReport) -> String {
    let lines = report.vms.iter().flat_map(|vm| {
        vm.vcpus.iter().flat_map(|v| v.reasons.iter().map(|r| format!("VM {} vCPU {}: {r}\n", vm.name, v.id)))
    });
    lines.collect()
}

/// The verdict `proved`, with all that speaks against it.
#[track_caller]
pub(crate) fn proved(report: &CheckReport) {
    let table = format!(
        "{:#?}",
        report
            .vms
            .iter()
            .flat_map(|vm| &vm.vcpus)
            .map(|v| (v.id, v.events, v.checked, v.inside, v.verdict, &v.worst))
            .collect::<Vec<_>>()
    );
    assert_eq!(report.verdict, Some(Verdict::Proved), "{}{}{table}", reasons(report), report.warnings.join("\n"));
}
