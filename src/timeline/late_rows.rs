//! Rows that nobody knows of before their first event: counters, and slices that overlap on no CPU in particular.
//!
//! A machine's late rows stand together: the host's in its group, a VM's in a group of their own. Slices that overlap are
//! spread over as many rows as they need; the rows of one kind share a name.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::batch_builder::Canvas;
use super::drawing::{Category, Correlation, LateTrack, Owner, Shape, Track, TrackId, TrackKind};
use super::names::NameId;
use super::row::Closing;

/// More rows than anybody looks at: beyond, what would need a row is an instant.
const MAX_ROWS: usize = 4096;
/// Slices of one kind that may overlap.
const MAX_LANES: usize = 64;

/// What the slices of some rows have in common, within a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Family {
    /// A process marked them, on a track of this name.
    Marked { pid: i32, track: NameId },
    /// They are requests: this pair of events of this source.
    Pair { source: u16, pair: u16 },
}

struct LateRow {
    track: Arc<Track>,
    machine: u32,
    /// The batch that mentions it last.
    batch: u32,
    /// What is open on it.
    open: Option<(Family, u64)>,
    last: u64,
}

/// All late rows.
pub(super) struct LateRows {
    first: u32,
    rows: Vec<LateRow>,
    machines: Vec<Machine>,
    counters: FxHashMap<(u32, i32, NameId), usize>,
    lanes: FxHashMap<(u32, Family), Vec<usize>>,
    open: FxHashMap<(u32, Family, u64), usize>,
}

/// Where a machine's late rows go.
struct Machine {
    owner: Owner,
    name: String,
    group: Option<TrackId>,
    hidden: bool,
}

impl LateRows {
    /// `first` is the number of the first late row. Machines are numbered as they are [added](Self::machine).
    pub(super) fn new(first: usize) -> Self {
        Self {
            first: first as u32,
            rows: Vec::new(),
            machines: Vec::new(),
            counters: FxHashMap::default(),
            lanes: FxHashMap::default(),
            open: FxHashMap::default(),
        }
    }

    /// Adds the next machine: a VM of this name, or the host, whose rows go into a group that is there already.
    pub(super) fn machine(&mut self, owner: Owner, name: String, group: Option<TrackId>, hidden: bool) {
        self.machines.push(Machine { owner, name, group, hidden });
    }

    fn add(&mut self, machine: u32, kind: TrackKind, name: String, description: String) -> Option<usize> {
        let place = self.machines.get(machine as usize)?;
        let (owner, hidden) = (place.owner, place.hidden);
        if hidden || self.rows.len() + 2 > MAX_ROWS {
            return None;
        }
        let parent = match place.group {
            Some(group) => group,
            None => {
                let group = TrackId(self.first + self.rows.len() as u32);
                let name = format!("VM {}, all vCPUs", place.name);
                let description = "What is of no vCPU in particular: counters and requests".into();
                let track = Track { parent: None, name, description, kind: TrackKind::Group, owner, hidden };
                self.push(machine, track);
                self.machines[machine as usize].group = Some(group);
                group
            }
        };
        Some(self.push(machine, Track { parent: Some(parent), name, description, kind, owner, hidden }))
    }

    fn push(&mut self, machine: u32, track: Track) -> usize {
        self.rows.push(LateRow { track: Arc::new(track), machine, batch: 0, open: None, last: 0 });
        self.rows.len() - 1
    }

    fn id(&self, index: usize) -> TrackId {
        TrackId(self.first + index as u32)
    }

    /// The next item is drawn on this row, not earlier than the one before it.
    fn at(&mut self, index: usize, ns: u64, canvas: &mut Canvas) -> (u64, TrackId) {
        self.mention(index, canvas);
        let row = &mut self.rows[index];
        row.last = row.last.max(ns);
        (row.last, self.id(index))
    }

    /// Says in the current batch what the row is, and the row around it.
    fn mention(&mut self, index: usize, canvas: &mut Canvas) {
        let batch = canvas.names.batch();
        let row = &self.rows[index];
        if row.batch == batch {
            return;
        }
        let parent = row.track.parent.and_then(|parent| parent.0.checked_sub(self.first));
        if let Some(parent) = parent {
            self.mention(parent as usize, canvas);
        }
        let id = self.id(index);
        let row = &mut self.rows[index];
        canvas.late_track(LateTrack { id, track: Arc::clone(&row.track), new: row.batch == 0 });
        row.batch = batch;
    }

    /// A counter of a process has a new value. False where there is no room for its row.
    pub(super) fn counter(
        &mut self,
        canvas: &mut Canvas,
        (machine, pid, name): (u32, i32, NameId),
        ns: u64,
        value: f64,
    ) -> bool {
        let index = match self.counters.get(&(machine, pid, name)) {
            Some(&index) => index,
            None => {
                let description = format!("Counter of process {pid}");
                let text = canvas.names.display(name);
                let Some(index) = self.add(machine, TrackKind::Counter { pid: Some(pid) }, text, description) else {
                    return false;
                };
                self.counters.insert((machine, pid, name), index);
                index
            }
        };
        let (ns, track) = self.at(index, ns, canvas);
        canvas.counter(ns, track, Shape::Counter(value));
        true
    }

    /// A slice begins, with the arguments that the canvas has gathered. False where there is no room for it.
    pub(super) fn start(
        &mut self,
        canvas: &mut Canvas,
        (machine, family, key): (u32, Family, u64),
        ns: u64,
        category: Category,
        (row, name): (NameId, NameId),
    ) -> bool {
        if self.open.contains_key(&(machine, family, key)) {
            // Its end was not seen. The arguments are those of the new one.
            canvas.aside(|canvas| _ = self.finish(canvas, (machine, family, key), ns, Closing::Truncated));
        }
        let lanes = self.lanes.get(&(machine, family)).map_or(&[][..], Vec::as_slice);
        let free = lanes.iter().copied().find(|&index| self.rows[index].open.is_none());
        let full = lanes.len() >= MAX_LANES;
        let index = match free {
            Some(index) => index,
            None if full => return false,
            None => {
                let (text, description) = match family {
                    Family::Marked { pid, .. } => (canvas.names.display(row), format!("Marked by process {pid}")),
                    Family::Pair { .. } => {
                        let Some(of) = self.machines.get(machine as usize).map(|machine| &machine.name) else {
                            return false;
                        };
                        (format!("{}, {of}", canvas.names.display(row)), String::new())
                    }
                };
                let Some(index) = self.add(machine, TrackKind::Overlapping, text, description) else { return false };
                self.lanes.entry((machine, family)).or_default().push(index);
                index
            }
        };
        let (ns, track) = self.at(index, ns, canvas);
        canvas.begin(ns, track, category, Correlation::None, name);
        self.rows[index].open = Some((family, key));
        self.open.insert((machine, family, key), index);
        true
    }

    /// A slice ends. False where none is open.
    pub(super) fn finish(
        &mut self,
        canvas: &mut Canvas,
        (machine, family, key): (u32, Family, u64),
        ns: u64,
        why: Closing,
    ) -> bool {
        let Some(index) = self.open.remove(&(machine, family, key)) else { return false };
        let (ns, track) = self.at(index, ns, canvas);
        why.args(canvas);
        canvas.end(ns, track);
        self.rows[index].open = None;
        true
    }

    /// Ends all slices of a machine, or of all machines.
    pub(super) fn close_all(&mut self, canvas: &mut Canvas, machine: Option<u32>, ns: u64, why: Closing) {
        if self.open.is_empty() {
            return;
        }
        for index in 0..self.rows.len() {
            let row = &self.rows[index];
            if machine.is_none_or(|machine| machine == row.machine)
                && let Some((family, key)) = row.open
            {
                self.finish(canvas, (row.machine, family, key), ns, why);
            }
        }
    }
}
