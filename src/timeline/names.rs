//! Names that are drawn: each text is stored once, and each batch gets its own copy of those that it uses.

use rustc_hash::FxHashMap;

use super::drawing::{StringId, StringTable};

/// A name known to the timeline, for as long as it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NameId(u32);

macro_rules! fixed {
    ($($id:ident = $text:literal,)*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum Fixed { $($id,)* }

        impl NameId {
            $(pub(super) const $id: Self = Self(Fixed::$id as u32);)*
            const FIXED: &'static [&'static str] = &[$($text,)*];
        }
    };
}

fixed! {
    EMPTY = "",
    GUEST = "guest",
    BEFORE_FIRST_ENTRY = "before first entry",
    UNRECORDED_EXIT = "exit not recorded",
    PREEMPTED = "preempted",
    WAITING = "waiting for CPU",
    HALTED = "halted",
    BLOCKED = "blocked",
    RECORDING_STARTS = "guest recording starts",
    RECORDING_ENDS = "guest recording ends",
    BY = "by",
    BY_VM = "by_vm",
    WAKES = "wakes ",
    KICKS = "kicks ",
    CPU = "cpu",
    WOKEN_BY = "woken_by",
    WOKEN_ON_CPU = "woken_on_cpu",
    RAN_1 = "ran_instead_1",
    RAN_2 = "ran_instead_2",
    RAN_3 = "ran_instead_3",
    RAN_4 = "ran_instead_4",
    RAN_5 = "ran_instead_5",
    RAN_6 = "ran_instead_6",
    RIP = "rip",
    INFO1 = "info1",
    INFO2 = "info2",
    TRUNCATED = "truncated",
    CONTINUED = "continued",
    EVENTS_LOST = "events_lost",
    SOURCE = "source",
    CHANGED_FROM = "changed_from",
    SCALING = "scaling",
    AN_INTERRUPT = "an interrupt",
    A_SOFTIRQ = "a softirq",
    IDLE = "swapper",
    FUNCTION_NS = "function_ns",
    PARENT = "parent",
    A_MARKER = "marker",
    A_FUNCTION = "function",
    A_SYSCALL = "syscall",
}

impl NameId {
    /// Argument names of the tasks that ran instead, longest first.
    pub(super) const RAN_INSTEAD: [Self; 6] =
        [Self::RAN_1, Self::RAN_2, Self::RAN_3, Self::RAN_4, Self::RAN_5, Self::RAN_6];
}

/// All names, and which of them the current batch holds already.
pub(super) struct Names {
    texts: Vec<Box<[u8]>>,
    ids: FxHashMap<Box<[u8]>, NameId>,
    tasks: FxHashMap<(i32, u128), NameId>,
    joined: FxHashMap<(NameId, NameId), NameId>,
    /// By the lowest byte of the vector: "sends 0xec to ".
    sends: [Option<NameId>; 256],
    /// Per name: the batch that holds it last, and where in it.
    local: Vec<(u32, StringId)>,
    batch: u32,
    /// How many texts came from [`Names::intern_some`].
    made_up: usize,
    scratch: Vec<u8>,
}

/// What programs write must not fill the memory.
const MAX_MADE_UP: usize = 1 << 16;

impl Names {
    pub(super) fn new() -> Self {
        let mut names = Self {
            texts: Vec::new(),
            ids: FxHashMap::default(),
            tasks: FxHashMap::default(),
            joined: FxHashMap::default(),
            sends: [None; 256],
            local: Vec::new(),
            batch: 1,
            made_up: 0,
            scratch: Vec::new(),
        };
        for text in NameId::FIXED {
            names.intern(text.as_bytes());
        }
        names
    }

    /// The id of a text, new or not.
    pub(super) fn intern(&mut self, text: &[u8]) -> NameId {
        if let Some(&id) = self.ids.get(text) {
            return id;
        }
        let id = NameId(self.texts.len() as u32);
        self.texts.push(text.into());
        self.ids.insert(text.into(), id);
        self.local.push((0, StringId(0)));
        id
    }

    /// The id of a text that records make up, of which there may be any number: `None` for a new one where there are too
    /// many already.
    pub(super) fn intern_some(&mut self, text: &[u8]) -> Option<NameId> {
        if let Some(&id) = self.ids.get(text) {
            return Some(id);
        }
        if self.made_up >= MAX_MADE_UP {
            return None;
        }
        self.made_up += 1;
        Some(self.intern(text))
    }

    /// "comm [pid]".
    pub(super) fn task(&mut self, pid: i32, comm: &[u8; 16]) -> NameId {
        let key = (pid, u128::from_ne_bytes(*comm));
        if let Some(&id) = self.tasks.get(&key) {
            return id;
        }
        let len = comm.iter().position(|&b| b == 0).unwrap_or(comm.len());
        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        text.extend_from_slice(&comm[..len]);
        text.extend_from_slice(b" [");
        text.extend_from_slice(itoa::Buffer::new().format(pid).as_bytes());
        text.push(b']');
        let id = self.intern(&text);
        self.scratch = text;
        self.tasks.insert(key, id);
        id
    }

    /// Two names, one after the other.
    pub(super) fn join(&mut self, first: NameId, second: NameId) -> NameId {
        if let Some(&id) = self.joined.get(&(first, second)) {
            return id;
        }
        let text = [self.text(first), self.text(second)].concat();
        let id = self.intern(&text);
        self.joined.insert((first, second), id);
        id
    }

    /// "sends 0xec to web vCPU 1".
    pub(super) fn sends(&mut self, vector: u64, to: NameId) -> NameId {
        let vector = vector as u8;
        let sends = self.sends[usize::from(vector)];
        let sends = sends.unwrap_or_else(|| self.intern(format!("sends {vector:#x} to ").as_bytes()));
        self.sends[usize::from(vector)] = Some(sends);
        self.join(sends, to)
    }

    /// The text of a name.
    pub(super) fn text(&self, id: NameId) -> &[u8] {
        self.texts.get(id.0 as usize).map_or(&[], |text| text)
    }

    /// The text of a name, for people.
    pub(super) fn display(&self, id: NameId) -> String {
        String::from_utf8_lossy(self.text(id)).into_owned()
    }

    /// The name in the current batch's strings.
    #[inline]
    pub(super) fn local(&mut self, id: NameId, strings: &mut StringTable) -> StringId {
        let Some(slot) = self.local.get_mut(id.0 as usize) else { return StringId(0) };
        if slot.0 != self.batch {
            *slot = (self.batch, strings.push(self.texts.get(id.0 as usize).map_or(&[], |text| text)));
        }
        slot.1
    }

    /// The number of the current batch; never 0.
    pub(super) fn batch(&self) -> u32 {
        self.batch
    }

    /// The next batch starts without strings.
    pub(super) fn next_batch(&mut self) {
        self.batch = self.batch.wrapping_add(1).max(1);
    }
}

/// A comm as the kernel stores it: cut to 16 bytes, zeros behind its end.
pub(super) fn comm(text: &[u8]) -> [u8; 16] {
    let mut comm = [0; 16];
    let len = text.iter().position(|&b| b == 0).unwrap_or(text.len()).min(16);
    comm[..len].copy_from_slice(&text[..len]);
    comm
}
