//! Rows known beforehand, and the check against run windows.

use super::bench::{Bench, setup, vcpu, vm};
use crate::time::{HostTsc, TraceNs, TscOffset};
use crate::timeline::drawing::{Owner, TrackKind};
use crate::timeline::setup::{Group, SegmentSetup, Setup};
use crate::timeline::{RunCheck, Timeline};

fn rows(setup: Setup) -> Vec<String> {
    let world = Timeline::new(setup).world();
    let depth = |mut index: usize| {
        let mut depth = 0;
        while let Some(parent) = world.tracks[index].parent {
            assert!((parent.0 as usize) < index, "parents come first");
            index = parent.0 as usize;
            depth += 1;
        }
        depth
    };
    world
        .tracks
        .iter()
        .enumerate()
        .map(|(index, track)| format!("{}{}", "  ".repeat(depth(index)), track.name))
        .collect()
}

#[test]
fn rows_are_named_and_ordered() {
    assert_eq!(
        rows(setup()),
        [
            "Host",
            "  Host CPU 0",
            "  Host CPU 1",
            "VM a vCPU 0",
            "  Host state, a vCPU 0",
            "  Events, a vCPU 0",
            "VM a vCPU 1",
            "  Host state, a vCPU 1",
            "  Events, a vCPU 1",
            "VM b vCPU 0",
            "  Host state, b vCPU 0",
            "  Events, b vCPU 0",
        ]
    );
}

#[test]
fn many_vcpus_are_grouped_and_padded() {
    let mut many = setup();
    many.streams.truncate(2);
    many.vms = vec![vm("a", (0..51).map(|n| vcpu(n, None)).collect())];
    let grouped = rows(many);
    assert_eq!(grouped[3..6], ["VM a", "  VM a vCPU 00", "  VM a vCPU 01"]);
    let mut few = setup();
    few.options.group = Group::Always;
    assert_eq!(rows(few)[3..5], ["VM a", "  VM a vCPU 0"]);
}

#[test]
fn offsets_are_drawn_beforehand() {
    let mut with = setup();
    with.span = (HostTsc::new(1000), HostTsc::new(9000));
    let segment = |from, to, offset, changed_from: Option<i64>| SegmentSetup {
        from: HostTsc::new(from),
        to: HostTsc::new(to),
        offset: TscOffset::from_signed(offset),
        changed_from: changed_from.map(TscOffset::from_signed),
        source: "kvm_write_tsc_offset".into(),
        scaling: None,
    };
    with.vms[0].vcpus[0].segments = vec![
        segment(0, 500, 1, None),
        segment(500, 4000, -33_610_754_878, Some(1)),
        segment(4000, u64::MAX, 5, Some(-33)),
    ];
    let mut bench = Bench::new(with);
    bench.feed("1000 a0 ENDS");
    assert_eq!(
        bench.log,
        "1000 a0 ENDS\n    \
         1000 TSC offset, a vCPU 0: + offset -33610754878 [offset] (source kvm_write_tsc_offset, changed_from 1)\n    \
         4000 TSC offset, a vCPU 0: -\n    \
         4000 TSC offset, a vCPU 0: + offset 5 [offset] (source kvm_write_tsc_offset, changed_from -33)\n    \
         9000 TSC offset, a vCPU 0: -\n"
    );
    let world = bench.timeline.world();
    assert_eq!(world.start, TraceNs::new(1000));
    let track = world.tracks.iter().find(|track| track.kind == TrackKind::TscOffset).unwrap();
    assert_eq!(track.owner, Owner::Vm(0));
}

#[test]
fn guest_events_are_checked_against_run_windows() {
    let mut bench = Bench::new(setup());
    bench.feed(
        "90 a0 timer_start
         100 h0 kvm_entry pid=10
         110 a0 timer_start
         200 h0 kvm_exit pid=10 exit_reason=1 isa=1
         200 a0 timer_start
         230 a0 timer_start
         300 h0 kvm_entry pid=10
         310 a1 timer_start",
    );
    let (_, outcome, _) = bench.finish();
    assert_eq!(outcome.vcpus[0].check, RunCheck { checked: 4, inside: 2 });
    assert_eq!(outcome.vcpus[1].check, RunCheck::default());
}

#[test]
fn unknown_streams_and_events_are_no_harm() {
    let mut timeline = Timeline::new(setup());
    timeline.event(99, HostTsc::new(5), 0, &[]);
    timeline.event(0, HostTsc::new(5), u16::MAX, &[]);
    timeline.lost(99, HostTsc::new(6), None);
    timeline.stream_ends(99, HostTsc::new(6));
    for event in 0..30 {
        for stream in 0..5 {
            timeline.event(stream, HostTsc::new(7), event, &[]);
            timeline.event(stream, HostTsc::new(7), event, &[0xff; 9]);
        }
    }
    let outcome = timeline.finish();
    assert_eq!(outcome.counts.filtered[0] + outcome.counts.written[0], 61);
}
