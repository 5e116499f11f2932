//! Whatever the events are: slices nest, and nothing goes back in time where that is promised.

use std::collections::HashMap;

use proptest::prelude::*;

use super::bench::{Bench, payload, setup};
use crate::time::HostTsc;
use crate::timeline::drawing::{Category, Item, Shape, TrackKind};
use crate::timeline::setup::Flows;

#[derive(Clone, Debug)]
enum Step {
    Event { stream: usize, event: usize, pid: i32, other: i32, number: u8, flags: u8 },
    Lost(usize),
    Ends(usize),
    Take,
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let pid = prop_oneof![Just(0), Just(5), Just(6), Just(10), Just(11), Just(20)];
    let event =
        (0..5_usize, 0..42_usize, pid.clone(), pid, 0..3_u8, prop_oneof![4 => Just(0_u8), 1 => Just(8)]).prop_map(
            |(stream, event, pid, other, number, flags)| Step::Event { stream, event, pid, other, number, flags },
        );
    let step = prop_oneof![
        60 => event,
        1 => (0..5_usize).prop_map(Step::Lost),
        1 => (0..5_usize).prop_map(Step::Ends),
        2 => Just(Step::Take),
    ];
    proptest::collection::vec((prop_oneof![Just(0_u64), 0..200_u64, Just(150_000)], step), 0..300)
}

/// Runs the steps; returns all items, the end of time and the sum of events.
fn run(steps: &[(u64, Step)]) -> (Vec<Item>, u64, crate::timeline::Outcome, HashMap<u32, TrackKind>) {
    let mut setup = setup();
    setup.options.flows = Flows::All;
    let mut bench = Bench::new(setup);
    let kinds = bench.timeline.world().tracks.iter().enumerate().map(|(i, track)| (i as u32, track.kind)).collect();
    let mut now = 1000;
    for (passed, step) in steps {
        now += passed;
        let ts = HostTsc::new(now);
        match *step {
            Step::Event { stream, event, pid, other, number, flags } => {
                let (_, formats) = bench.formats(stream);
                let Some(format) = formats.events().get(event) else { continue };
                let mut words = vec![format!("common_pid={pid}"), format!("common_flags={flags}")];
                let numbers = [
                    ("prev_pid", pid),
                    ("next_pid", other),
                    ("pid", other),
                    ("prev_state", i32::from(number)),
                    ("exit_reason", if number == 0 { 12 } else { 48 }),
                    ("isa", 1),
                    ("target_cpu", i32::from(number)),
                    ("dest_cpu", i32::from(number)),
                    ("vec", i32::from(number)),
                    ("vector", i32::from(number)),
                    ("type", i32::from(number)),
                    ("irq", i32::from(number)),
                    ("id", i32::from(number)),
                    ("func", other),
                    ("depth", i32::from(number)),
                    ("ip", other),
                    ("parent_ip", pid),
                    ("sector", i32::from(number)),
                ];
                for (name, value) in numbers {
                    if format.fields.iter().any(|field| &*field.name == name) {
                        words.push(format!("{name}={value}"));
                    }
                }
                if format.fields.iter().any(|field| &*field.name == "buf") {
                    let texts = ["B|1|x", "E|1", "C|1|n|1", "S|1|s|1", "F|1|s|1", "S|1|s|2", "note"];
                    words.push(format!("buf={}", texts[(other as usize + usize::from(number)) % texts.len()]));
                }
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                bench.timeline.event(stream as u32, ts, event as u16, &payload(format, &words));
            }
            Step::Lost(stream) => bench.timeline.lost(stream as u32, ts, None),
            Step::Ends(stream) => bench.timeline.stream_ends(stream as u32, ts),
            Step::Take => bench.take(),
        }
    }
    let (_, outcome, items) = bench.finish();
    (items, now, outcome, kinds)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn slices_nest_in_time_order(steps in steps()) {
        let (items, end, outcome, kinds) = run(&steps);
        let mut tracks: HashMap<u32, Vec<&Item>> = HashMap::new();
        for item in &items {
            tracks.entry(item.track.0).or_default().push(item);
        }
        for (track, items) in &tracks {
            // Items of every row come in time order, marks included.
            prop_assert!(items.windows(2).all(|pair| pair[0].ts <= pair[1].ts), "row {track} goes back in time");
            let mut open = Vec::new();
            for item in items {
                prop_assert!(item.ts.get() <= end);
                match item.shape {
                    Shape::Begin => open.push(item),
                    Shape::End => {
                        let begin = open.pop();
                        prop_assert!(begin.is_some(), "an end without a begin in row {track}");
                        prop_assert!(item.flows.is_empty());
                    }
                    Shape::Instant => {}
                    Shape::Counter(value) => prop_assert_eq!(value, 1.0),
                }
                // Off-CPU marks hold nothing: they are innermost.
                if kinds.get(track) == Some(&TrackKind::Vcpu) && item.shape == Shape::Begin {
                    let outer = open.len().checked_sub(2).map(|index| open[index].category);
                    prop_assert!(outer != Some(Category::OffCpu) && outer != Some(Category::Exit));
                }
            }
            prop_assert!(open.is_empty(), "row {track} has open slices at the end");
        }
        for vcpu in &outcome.vcpus {
            prop_assert!(vcpu.check.inside <= vcpu.check.checked);
            prop_assert!(vcpu.states.total() <= end - 1000);
        }
    }

    #[test]
    fn state_times_are_what_the_row_shows(steps in steps()) {
        let (items, _, outcome, kinds) = run(&steps);
        let mut rows: Vec<u32> = kinds.iter().filter(|(_, kind)| **kind == TrackKind::HostState).map(|(id, _)| *id).collect();
        rows.sort_unstable();
        for (vcpu, row) in outcome.vcpus.iter().zip(rows) {
            // Depth 0 covers the row's span without gaps, except where events were lost.
            let (mut depth, mut since, mut span) = (0_u32, 0, 0);
            for item in items.iter().filter(|item| item.track.0 == row) {
                if item.shape == Shape::Begin {
                    if depth == 0 {
                        since = item.ts.get();
                    }
                    depth += 1;
                } else {
                    depth -= 1;
                    if depth == 0 {
                        span += item.ts.get() - since;
                    }
                }
            }
            prop_assert_eq!(vcpu.states.total(), span);
        }
    }
}
