//! Batches that no timeline would draw.

use kvm_timeline::time::TraceNs;
use kvm_timeline::timeline::drawing::{Arg, Batch, Category, Correlation, Item, Shape, StringId, TrackId};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::drawn::START;

const CATEGORIES: [Category; 10] = [
    Category::None,
    Category::Task,
    Category::Syscall,
    Category::Irq,
    Category::Event,
    Category::Guest,
    Category::Exit,
    Category::OffCpu,
    Category::Offset,
    Category::Host,
];

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-z /:0-9]{1,20}".prop_map(String::into_bytes),
        2 => ".{0,40}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..200),
    ]
}

/// Numbers at the edges of what readers can take.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..300_u64,
        any::<u64>(),
        (0..5_u64).prop_map(|n| (1 << 53) - 2 + n),
        (0..5_u64).prop_map(|n| (1 << 63) - 2 + n),
        (0..3_u64).prop_map(|n| u64::MAX - n),
        (0..4_u64).prop_map(|n| 0xffff_ffff_8100_0000 + n),
    ]
}

fn arg(strings: u32) -> impl Strategy<Value = (Arg, Option<Vec<u8>>)> {
    let key = (0..strings).prop_map(StringId);
    let keyed = key.clone();
    prop_oneof![
        (key.clone(), number()).prop_map(|(key, value)| (Arg::Uint(key, value), None)),
        (key.clone(), number()).prop_map(|(key, value)| (Arg::Int(key, value as i64), None)),
        (key.clone(), number()).prop_map(|(key, value)| (Arg::Hex(key, value), None)),
        (key.clone(), any::<bool>()).prop_map(|(key, value)| (Arg::Bool(key, value), None)),
        (key, 0..strings).prop_map(|(key, text)| (Arg::Name(key, StringId(text)), None)),
        (keyed, text()).prop_map(|(key, text)| (Arg::Text(key, 0..0), Some(text))),
    ]
}

prop_compose! {
    fn item(strings: u32)(
        step in prop_oneof![6 => 0..3_000_i64, 1 => -50_000..0_i64, 1 => 0..1_i64 << 40],
        track in 0..8_u32,
        shape in prop_oneof![
            3 => Just(Shape::Begin),
            3 => Just(Shape::End),
            2 => Just(Shape::Instant),
            1 => (-1_i64 << 40..1 << 40).prop_map(|quarters| Shape::Counter(quarters as f64 / 4.0)),
        ],
        category in proptest::sample::select(CATEGORIES.as_slice()),
        correlation in proptest::sample::select([Correlation::None, Correlation::OffCpu, Correlation::Halted].as_slice()),
        name in 0..strings,
        args in vec(arg(strings), 0..5),
        flows in vec(any::<u64>(), 0..2),
    ) -> (i64, Item, Vec<(Arg, Option<Vec<u8>>)>, Vec<u64>) {
        let item = Item {
            ts: TraceNs::MIN, track: TrackId(track), shape, category, correlation, name: StringId(name), args: 0..0, flows: 0..0,
        };
        (step, item, args, flows)
    }
}

/// A batch that shows what it says.
pub struct Drawn(pub Batch);

impl std::fmt::Debug for Drawn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(super::drawn::said(&self.0)).finish()
    }
}

/// A batch over the eight tracks of [`super::drawn::world`], without records.
pub fn batch() -> impl Strategy<Value = Drawn> {
    btree_set(text(), 1..12).prop_flat_map(|strings| {
        let count = strings.len() as u32;
        vec(item(count), 0..60).prop_map(move |items| {
            let mut batch = Batch::default();
            strings.iter().for_each(|text| _ = batch.strings.push(text));
            let mut now = START + 100;
            for (step, mut item, args, flows) in items {
                now = now.saturating_add_signed(step);
                item.ts = TraceNs::new(now);
                let start = batch.args.len() as u32;
                for (mut arg, text) in args {
                    if let (Arg::Text(_, range), Some(text)) = (&mut arg, text) {
                        let at = batch.bytes.len() as u32;
                        batch.bytes.extend_from_slice(&text);
                        *range = at..batch.bytes.len() as u32;
                    }
                    batch.args.push(arg);
                }
                item.args = start..batch.args.len() as u32;
                let start = batch.flows.len() as u32;
                batch.flows.extend(flows);
                item.flows = start..batch.flows.len() as u32;
                batch.items.push(item);
            }
            Drawn(batch)
        })
    })
}
