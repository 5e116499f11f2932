//! The events, pulled one by one.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Capture;
use super::event::{Block, Event, Gap, Place, Row, World};
use crate::capture::Record;
use crate::clock::place::Placement;
use crate::convert::event_report;
use crate::error::Result;
use crate::pipeline::Limits;
use crate::pipeline::lanes::{Lanes, lanes};
use crate::pipeline::pull::{Pull, Sink};
use crate::report::EventReport;
use crate::selection::Selection;
use crate::session::GuestStream;
use crate::time::HostTsc;
use crate::timeline::setup::StreamRole;

/// Events per block, which is what a kept [`Event`] keeps in memory.
const BLOCK: usize = 1024;

/// The events of a capture, of host and guests, in host-time order.
///
/// It reads as it goes: in memory are about 24 chunks of the files (some megabytes; at most what
/// [`Limits::memory`] says, or one chunk if that is larger) whatever the size of the capture. Dropping it
/// ends the work. After an error there are no more events.
pub struct Events<'a> {
    capture: &'a Capture,
    lanes: Lanes<'a>,
    placements: Vec<Option<&'a Placement>>,
    pull: Pull,
    blocks: Blocks<'a>,
    /// Position in the front block.
    at: usize,
    over: bool,
}

impl<'a> Events<'a> {
    pub(super) fn new(capture: &'a Capture, selection: &Selection, limits: Limits) -> Self {
        let session = &capture.session;
        let lanes = lanes(session, selection);
        let placement = |stream: &crate::capture::Stream| {
            let is = |s: &&GuestStream| {
                let buffer = session.inputs.get(s.input).and_then(|i| i.capture.buffers.get(s.buffer));
                buffer.and_then(|b| b.streams.get(s.stream)).is_some_and(|own| std::ptr::eq(own, stream))
            };
            session.streams.iter().find(is)
        };
        let mut placements = Vec::new();
        let mut places = Vec::new();
        for ((lane, role), &input) in lanes.lanes.iter().zip(&lanes.roles).zip(&lanes.inputs) {
            let stream = match role {
                StreamRole::Host { .. } => None,
                StreamRole::Guest { .. } => placement(lane.stream),
            };
            placements.push(stream.map(|s| &s.placement));
            places.push(Place { input, cpu: lane.stream.cpu, stream });
        }
        let pull = Pull::new(&lanes.lanes, limits);
        let blocks = Blocks::new(Arc::new(World { capture, places }));
        Self { capture, lanes, placements, pull, blocks, at: 0, over: false }
    }

    /// What became of the events so far; closed at the end: `read = written + filtered + the sum of not_placed`, where
    /// `written` are those that were handed out.
    pub fn account(&self) -> EventReport {
        let ledgers = self.pull.ledgers();
        let passed: Vec<u64> = ledgers.iter().map(|l| l.passed).collect();
        event_report(&self.capture.session, &self.lanes, ledgers, &passed, &[])
    }

    fn more(&mut self) -> Result<bool> {
        self.pull.step(&self.lanes.lanes, &self.placements, &mut self.blocks, &self.capture.monitor())
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Result<Event<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(block) = self.blocks.full.front() {
                if self.at < block.rows.len() {
                    let event = Event { block: Arc::clone(block), at: self.at };
                    self.at += 1;
                    return Some(Ok(event));
                }
                self.blocks.full.pop_front();
                self.at = 0;
                continue;
            }
            if self.over {
                return None;
            }
            match self.more() {
                Ok(more) => self.over = !more,
                Err(error) => {
                    self.over = true;
                    return Some(Err(error));
                }
            }
            self.blocks.close();
        }
    }
}

impl std::iter::FusedIterator for Events<'_> {}

/// Copies of the events of a group.
struct Blocks<'a> {
    world: Arc<World<'a>>,
    full: VecDeque<Arc<Block<'a>>>,
    filling: Block<'a>,
    /// Per lane: what was lost before its next event.
    lost: Vec<Gap>,
}

impl<'a> Blocks<'a> {
    fn new(world: Arc<World<'a>>) -> Self {
        let lost = vec![Gap::None; world.places.len()];
        let filling = Block { world: Arc::clone(&world), rows: Vec::new(), bytes: Vec::new() };
        Self { world, full: VecDeque::new(), filling, lost }
    }

    fn close(&mut self) {
        if self.filling.rows.is_empty() {
            return;
        }
        let bytes = Vec::with_capacity(self.filling.bytes.len() + self.filling.bytes.len() / 8);
        let next = Block { world: Arc::clone(&self.world), rows: Vec::with_capacity(BLOCK), bytes };
        self.full.push_back(Arc::new(std::mem::replace(&mut self.filling, next)));
    }
}

impl Sink for Blocks<'_> {
    #[inline]
    fn event(&mut self, lane: u32, ts: HostTsc, piece: u32, record: &Record, payload: &[u8]) {
        let lost = self.lost.get_mut(lane as usize).map_or(Gap::None, std::mem::take);
        let block = &mut self.filling;
        // A block is full long before its bytes are; a single payload is no larger than its chunk.
        let at = block.bytes.len() as u32;
        block.bytes.extend_from_slice(payload);
        block.rows.push(Row { ts, lost, at, len: payload.len() as u32, lane, piece, event: record.event });
        if block.rows.len() >= BLOCK || block.bytes.len() >= 1 << 24 {
            self.close();
        }
    }

    fn lost(&mut self, lane: u32, count: Option<u64>) {
        if let Some(gap) = self.lost.get_mut(lane as usize) {
            *gap = gap.and(count.map_or(Gap::Uncounted, Gap::Events));
        }
    }
}
