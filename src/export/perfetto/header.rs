//! What stands before the first batch: clocks, rows, facts. Written once, so with prost structs.

use prost::Message;

use super::proto::clock_snapshot::{Clock, Clocks};
use super::proto::trace_attributes::{Attribute, attribute};
use super::proto::track_descriptor::{ChildTracksOrdering, SiblingMergeBehavior};
use super::proto::{
    ClockSnapshot, CounterDescriptor, Trace, TraceAttributes, TracePacket, TrackDescriptor, trace_packet,
};
use super::{machines, uuid};
use crate::timeline::drawing::{Batch, Track, TrackId, TrackKind, World};

/// Appends the packets that do not belong to a batch.
pub(super) fn write(world: &World, out: &mut Vec<u8>) {
    let mut packets = vec![packet(trace_packet::Data::ClockSnapshot(clocks(world)))];
    let attributes = attributes(world);
    if !attributes.attribute.is_empty() {
        packets.push(packet(trace_packet::Data::TraceAttributes(attributes)));
    }
    packets.extend(tracks(world).map(|track| packet(trace_packet::Data::TrackDescriptor(track))));
    packets.extend(machines::packets(world));
    out.extend_from_slice(&Trace { packet: packets }.encode_to_vec());
}

pub(super) fn packet(data: trace_packet::Data) -> TracePacket {
    TracePacket { data: Some(data), ..TracePacket::default() }
}

/// The clock of the axis, and its wall-clock time at `world.start` where that is known. It must be the first packet:
/// the trace processor settles the axis at the first timestamp it meets.
fn clocks(world: &World) -> ClockSnapshot {
    let clock =
        |id: Clocks, timestamp| Clock { clock_id: Some(id as u32), timestamp: Some(timestamp), is_incremental: None };
    let start = world.start.get();
    let mut clocks = vec![clock(Clocks::ClockBoottime, start)];
    // Both clocks move back by one distance, so that snapshots of the axis never go backwards.
    let wall = world.wall_clock.and_then(|(at, wall)| match at.get().checked_sub(start) {
        Some(later) => wall.checked_sub(later),
        None => wall.checked_add(start - at.get()),
    });
    clocks.extend(wall.map(|wall| clock(Clocks::ClockRealtime, wall)));
    ClockSnapshot { clocks, primary_trace_clock: Some(Clocks::ClockBoottime as i32) }
}

fn tracks(world: &World) -> impl Iterator<Item = TrackDescriptor> {
    let mut is_parent = vec![false; world.tracks.len()];
    for parent in world.tracks.iter().filter_map(|track| track.parent) {
        if let Some(flag) = is_parent.get_mut(parent.0 as usize) {
            *flag = true;
        }
    }
    let shown = world.tracks.iter().zip(is_parent).enumerate().filter(|(_, (track, _))| !track.hidden);
    shown.map(|(index, (track, is_parent))| descriptor(TrackId(index as u32), track, is_parent))
}

fn descriptor(id: TrackId, track: &Track, is_parent: bool) -> TrackDescriptor {
    let merge = match track.kind {
        TrackKind::Overlapping => SiblingMergeBehavior::ByTrackName,
        _ => SiblingMergeBehavior::None,
    };
    TrackDescriptor {
        uuid: Some(uuid(id)),
        parent_uuid: track.parent.map(uuid),
        name: Some(track.name.clone()),
        counter: matches!(track.kind, TrackKind::Counter { .. }).then(CounterDescriptor::default),
        child_ordering: is_parent.then_some(ChildTracksOrdering::Explicit as i32),
        sibling_order_rank: i32::try_from(id.0).ok(),
        description: (!track.description.is_empty()).then(|| track.description.clone()),
        sibling_merge_behavior: Some(merge as i32),
    }
}

/// Appends the rows that this batch is the first to use.
pub(super) fn late_tracks(batch: &Batch, out: &mut Vec<u8>) {
    let new = batch.tracks.iter().filter(|late| late.new && !late.track.hidden);
    let packet: Vec<TracePacket> = new
        .map(|late| {
            let is_parent = late.track.kind == TrackKind::Group;
            packet(trace_packet::Data::TrackDescriptor(descriptor(late.id, &late.track, is_parent)))
        })
        .collect();
    if !packet.is_empty() {
        out.extend_from_slice(&Trace { packet }.encode_to_vec());
    }
}

/// The top level of the world's metadata. What is no number and no text is written as JSON.
fn attributes(world: &World) -> TraceAttributes {
    let attribute = |(key, value): (&String, &serde_json::Value)| Attribute {
        key: Some(key.clone()),
        value: Some(match (value.as_i64(), value.as_str()) {
            (Some(number), _) => attribute::Value::LongValue(number),
            (_, Some(text)) => attribute::Value::StringValue(text.to_owned()),
            _ => attribute::Value::StringValue(value.to_string()),
        }),
    };
    TraceAttributes { attribute: world.metadata.as_object().into_iter().flatten().map(attribute).collect() }
}
