//! The native layer: which events it has, and chains of switches that stay whole.

use super::bench::{Bench, assert_log, setup};
use crate::timeline::setup::{Layers, NativeEvents};

fn bench(overlay: bool, native: NativeEvents) -> Bench {
    let mut setup = setup();
    setup.options.layers = Layers { overlay, native };
    Bench::new(setup)
}

#[test]
fn a_chain_begins_in_full_and_ends_idle() {
    let mut bench = bench(false, NativeEvents::Sched);
    bench.feed(
        "100 a0 sched_waking common_pid=5 pid=761
         110 a0 sched_switch prev_pid=5 next_comm=dd next_pid=761
         110 a0 sched_switch prev_pid=761 next_comm=cat next_pid=762
         120 a0 sched_waking common_pid=762 pid=5
         130 a0 sched_waking common_pid=999 pid=5
         140 a0 sys_enter pid=762 id=0
         150 b0 sched_switch prev_pid=0 next_comm=dd next_pid=761
         160 a0 sched_switch prev_pid=762 next_pid=0
         170 a0 timer_start pid=0 timer=1
         180 b0 timer_start pid=761 timer=1",
    );
    let (log, outcome, _) = bench.finish();
    assert_log(
        &log,
        "100 a0 sched_waking common_pid=5 pid=761
           100 1/0 full sched_waking
         110 a0 sched_switch prev_pid=5 next_comm=dd next_pid=761
           110 1/0 full sched_switch
         110 a0 sched_switch prev_pid=761 next_comm=cat next_pid=762
           110 1/0 full sched_switch
         120 a0 sched_waking common_pid=762 pid=5
           120 1/0 follows sched_waking
         130 a0 sched_waking common_pid=999 pid=5
           130 1/0 full sched_waking
         140 a0 sys_enter pid=762 id=0
         150 b0 sched_switch prev_pid=0 next_comm=dd next_pid=761
           150 2/0 full sched_switch
         160 a0 sched_switch prev_pid=762 next_pid=0
           160 1/0 follows sched_switch
         170 a0 timer_start pid=0 timer=1
         180 b0 timer_start pid=761 timer=1
         FINISH
           180 2/0 ends",
    );
    assert_eq!((&outcome.counts.written[2..], &outcome.counts.filtered[2..]), (&[6, 0, 1][..], &[2, 0, 1][..]));
}

#[test]
fn what_a_hole_hides_is_idle() {
    let mut bench = bench(false, NativeEvents::All);
    bench.feed(
        "100 a0 sched_switch prev_pid=0 next_comm=dd next_pid=761
         110 a0 timer_start pid=761 timer=1
         200 a0 LOST 7
         210 a0 sched_waking common_pid=763 pid=5
         220 a0 sched_switch prev_comm=cat prev_pid=763 next_pid=764
         230 a0 LOST 7
         240 a0 sched_switch prev_pid=0 next_pid=765",
    );
    assert_log(
        &bench.log,
        "100 a0 sched_switch prev_pid=0 next_comm=dd next_pid=761
           100 1/0 full sched_switch
         110 a0 timer_start pid=761 timer=1
           110 1/0 full timer_start
         200 a0 LOST 7
           110 1/0 ends
         210 a0 sched_waking common_pid=763 pid=5
           210 1/0 full sched_waking
         220 a0 sched_switch prev_comm=cat prev_pid=763 next_pid=764
           220 1/0 resumes sched_switch
           220 1/0 follows sched_switch
         230 a0 LOST 7
           220 1/0 ends
         240 a0 sched_switch prev_pid=0 next_pid=765
           240 1/0 follows sched_switch",
    );
}

#[test]
fn a_host_that_stops_first_is_idle_from_then_on() {
    let mut bench = bench(false, NativeEvents::Sched);
    bench.feed(
        "100 h0 sched_switch prev_pid=0 next_comm=x next_pid=70
         110 h1 sched_switch prev_pid=0 next_comm=y next_pid=71
         150 a0 sched_switch prev_pid=0 next_pid=0",
    );
    let (log, ..) = bench.finish();
    let last = log.split_once("FINISH").expect("the end").1;
    assert_log(last, "110 0/0 ends\n111 0/1 ends");
}

#[test]
fn both_layers_count_an_event_once() {
    let lines = "100 h0 sched_switch prev_pid=0 next_comm=x next_pid=70
         110 h0 sched_waking common_pid=70 pid=71
         120 h0 timer_start pid=70 timer=1
         130 a0 timer_start pid=7 timer=1
         140 a0 sched_switch prev_pid=0 next_comm=dd next_pid=761";
    let counts = |overlay, native| {
        let mut bench = bench(overlay, native);
        bench.feed(lines);
        let counts = bench.finish().1.counts;
        assert_eq!(counts.written.iter().sum::<u64>() + counts.filtered.iter().sum::<u64>(), 5);
        counts.written.iter().sum::<u64>()
    };
    assert_eq!(counts(true, NativeEvents::None), 3);
    assert_eq!(counts(true, NativeEvents::Sched), 4);
    assert_eq!(counts(false, NativeEvents::Sched), 3);
    assert_eq!(counts(false, NativeEvents::All), 5);
    assert_eq!(counts(true, NativeEvents::All), 5);
}
