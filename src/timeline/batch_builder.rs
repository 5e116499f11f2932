//! Collects drawn items into the current batch.

use super::drawing::{ARRIVES, Arg, Batch, Category, Correlation, Item, LateTrack, Shape, StringId, TrackId};
use super::names::{NameId, Names};
use super::native::{NativeEvent, Recorded};
use crate::time::TraceNs;

/// The current batch and the names.
///
/// Arguments and flows are pushed first; the next item takes all that were pushed since the last one.
pub(super) struct Canvas {
    batch: Batch,
    args_from: usize,
    flows_from: usize,
    pub(super) names: Names,
    spare: Vec<Batch>,
    /// What is drawn is thrown away, except for the native layer.
    pub(super) native_only: bool,
}

/// Batches whose memory is kept for later.
const MAX_SPARE: usize = 8;

/// Beyond this many bytes of payload a batch draws items without their fields, so that its ranges stay within 32 bits.
const MAX_BYTES: usize = 1 << 31;

impl Canvas {
    pub(super) fn new() -> Self {
        Self {
            batch: Batch::default(),
            args_from: 0,
            flows_from: 0,
            names: Names::new(),
            spare: Vec::new(),
            native_only: false,
        }
    }

    /// Items in the current batch.
    pub(super) fn len(&self) -> usize {
        self.batch.items.len() + self.batch.native.len()
    }

    /// Hands over the current batch and starts the next.
    pub(super) fn take(&mut self) -> Batch {
        self.names.next_batch();
        (self.args_from, self.flows_from) = (0, 0);
        if self.native_only {
            self.batch.clear_overlay();
        }
        let next = self.spare.pop().unwrap_or_default();
        std::mem::replace(&mut self.batch, next)
    }

    /// Keeps the memory of a batch that is not needed any more.
    pub(super) fn recycle(&mut self, mut batch: Batch) {
        if self.spare.len() < MAX_SPARE {
            batch.clear();
            self.spare.push(batch);
        }
    }

    fn item(
        &mut self,
        ns: u64,
        track: TrackId,
        shape: Shape,
        category: Category,
        correlation: Correlation,
        name: StringId,
    ) {
        let (args, flows) = (self.batch.args.len(), self.batch.flows.len());
        self.batch.items.push(Item {
            ts: TraceNs::new(ns),
            track,
            shape,
            category,
            correlation,
            name,
            args: self.args_from as u32..args as u32,
            flows: self.flows_from as u32..flows as u32,
        });
        (self.args_from, self.flows_from) = (args, flows);
    }

    #[inline]
    pub(super) fn begin(
        &mut self,
        ns: u64,
        track: TrackId,
        category: Category,
        correlation: Correlation,
        name: NameId,
    ) {
        let name = self.string(name);
        self.item(ns, track, Shape::Begin, category, correlation, name);
    }

    #[inline]
    pub(super) fn end(&mut self, ns: u64, track: TrackId) {
        self.item(ns, track, Shape::End, Category::None, Correlation::None, StringId(0));
    }

    #[inline]
    pub(super) fn instant(&mut self, ns: u64, track: TrackId, category: Category, name: NameId) {
        let name = self.string(name);
        self.item(ns, track, Shape::Instant, category, Correlation::None, name);
    }

    pub(super) fn counter(&mut self, ns: u64, track: TrackId, value: Shape) {
        self.item(ns, track, value, Category::None, Correlation::None, StringId(0));
    }

    /// The batch uses this track.
    pub(super) fn late_track(&mut self, track: LateTrack) {
        self.batch.tracks.push(track);
    }

    /// Draws something else while arguments and flows wait for the next item.
    pub(super) fn aside(&mut self, draw: impl FnOnce(&mut Self)) {
        let args = self.batch.args.split_off(self.args_from);
        let flows = self.batch.flows.split_off(self.flows_from);
        draw(self);
        self.batch.args.extend(args);
        self.batch.flows.extend(flows);
    }

    /// Drops the arguments and flows that were pushed for an item that is not drawn after all.
    pub(super) fn discard(&mut self) {
        self.batch.args.truncate(self.args_from);
        self.batch.flows.truncate(self.flows_from);
    }

    #[inline]
    fn string(&mut self, name: NameId) -> StringId {
        self.names.local(name, &mut self.batch.strings)
    }

    pub(super) fn flow(&mut self, id: u64) {
        self.batch.flows.push(id);
    }

    /// The next item is where this arrow ends, or goes on.
    pub(super) fn arrive(&mut self, id: u64) {
        self.batch.flows.push(id | ARRIVES);
    }

    pub(super) fn uint(&mut self, key: NameId, value: u64) {
        let key = self.string(key);
        self.batch.args.push(Arg::Uint(key, value));
    }

    pub(super) fn int(&mut self, key: NameId, value: i64) {
        let key = self.string(key);
        self.batch.args.push(Arg::Int(key, value));
    }

    pub(super) fn hex(&mut self, key: NameId, value: u64) {
        let key = self.string(key);
        self.batch.args.push(Arg::Hex(key, value));
    }

    pub(super) fn truth(&mut self, key: NameId, value: bool) {
        let key = self.string(key);
        self.batch.args.push(Arg::Bool(key, value));
    }

    pub(super) fn name(&mut self, key: NameId, value: NameId) {
        let (key, value) = (self.string(key), self.string(value));
        self.batch.args.push(Arg::Name(key, value));
    }

    /// A task and how long it ran: "task 12.082 ms".
    pub(super) fn task_time(&mut self, key: NameId, task: NameId, ns: u64) {
        let key = self.string(key);
        let start = self.batch.bytes.len();
        if start >= MAX_BYTES {
            return;
        }
        let us = ns.saturating_add(500) / 1000;
        let bytes = &mut self.batch.bytes;
        bytes.extend_from_slice(self.names.text(task));
        bytes.push(b' ');
        bytes.extend_from_slice(itoa::Buffer::new().format(us / 1000).as_bytes());
        bytes.push(b'.');
        let rest = us % 1000;
        bytes.extend([rest / 100, rest / 10 % 10, rest % 10].map(|digit| b'0' + digit as u8));
        bytes.extend_from_slice(b" ms");
        let end = bytes.len();
        self.batch.args.push(Arg::Text(key, start as u32..end as u32));
    }

    /// All fields of a record.
    #[inline]
    pub(super) fn fields(&mut self, source: u16, event: u16, payload: &[u8]) {
        if let Some(payload) = self.payload(payload) {
            self.batch.args.push(Arg::Fields { source, event, payload });
        }
    }

    /// A record as its kernel would print it.
    pub(super) fn rendered(&mut self, key: NameId, source: u16, event: u16, payload: &[u8]) {
        let key = self.string(key);
        if let Some(payload) = self.payload(payload) {
            self.batch.args.push(Arg::Rendered { key, source, event, payload });
        }
    }

    /// Keeps a record for the native layer; `None` where the batch is full.
    #[inline]
    pub(super) fn record(&mut self, source: u16, event: u16, payload: &[u8]) -> Option<Recorded> {
        let payload = append(&mut self.batch.records, payload)?;
        Some(Recorded { source, event, payload })
    }

    /// An event of the native layer.
    #[inline]
    pub(super) fn native(&mut self, event: NativeEvent) {
        self.batch.native.push(event);
    }

    #[inline]
    fn payload(&mut self, payload: &[u8]) -> Option<std::ops::Range<u32>> {
        append(&mut self.batch.bytes, payload)
    }
}

#[inline]
fn append(bytes: &mut Vec<u8>, payload: &[u8]) -> Option<std::ops::Range<u32>> {
    let start = bytes.len();
    if start >= MAX_BYTES || payload.len() >= MAX_BYTES {
        return None;
    }
    bytes.extend_from_slice(payload);
    Some(start as u32..bytes.len() as u32)
}
