//! What in a chunk of sub-buffers must change when it is repeated at another time, or on other CPUs.

use kvm_timeline::capture::event_format::FormatTable;

use super::container::Result;

/// Where a repetition stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// Cycles later than the original.
    pub cycles: u64,
    /// The same in nanoseconds.
    pub ns: u64,
    /// Added to thread ids, but for 0, the idle tasks'.
    pub pids: u32,
    /// Added to CPU numbers.
    pub cpus: u32,
    /// Whether the same stands earlier in the file, on the same CPUs.
    pub again: bool,
}

#[derive(Clone, Copy, Debug)]
enum Edit {
    /// A u64 of cycles.
    Cycles,
    /// A u64 of nanoseconds.
    Ns,
    /// An absolute time entry.
    Absolute,
    /// A u32 thread id.
    Pid,
    /// A u32 CPU number.
    Cpu,
    /// An entry that becomes padding in repetitions.
    Drop,
}

/// Fields that hold a time, by system, event and name.
const TIMES: [(&str, &str, &str, Edit); 5] = [
    ("kvm", "kvm_pvclock_update", "tsc_timestamp", Edit::Cycles),
    ("kvm", "kvm_pvclock_update", "system_time", Edit::Ns),
    ("timer", "hrtimer_expire_entry", "now", Edit::Ns),
    ("timer", "hrtimer_start", "expires", Edit::Ns),
    ("timer", "hrtimer_start", "softexpires", Edit::Ns),
];
const PIDS: [&str; 7] = ["common_pid", "pid", "prev_pid", "next_pid", "parent_pid", "child_pid", "old_pid"];
const CPUS: [&str; 4] = ["target_cpu", "orig_cpu", "dest_cpu", "cpu"];
/// What a guest writes its deadlines to: `data` is a guest time.
const TSC_DEADLINE: u32 = 0x6e0;

/// What to look for in the records of one file.
pub struct Rules {
    /// Per event id: offset and kind of each field to change.
    fields: Vec<Vec<(usize, Edit)>>,
    /// The ids of `kvm_write_tsc_offset` and `kvm_msr`.
    offset_write: Option<u16>,
    msr: Option<(u16, usize, usize)>,
}

impl Rules {
    /// The rules for files with these formats. `numbers`: thread ids and CPU numbers are changed too.
    pub fn new(formats: &FormatTable, numbers: bool) -> Self {
        let mut rules = Self { fields: vec![Vec::new(); 1 << 16], offset_write: None, msr: None };
        for event in formats.events() {
            let fields = &mut rules.fields[usize::from(event.id)];
            let name = (&*event.system, &*event.name);
            for (system, event_name, field, edit) in TIMES {
                let field = event.field(field).filter(|f| name == (system, event_name) && f.size == 8);
                fields.extend(field.map(|f| (usize::from(f.offset), edit)));
            }
            for field in event.common.iter().chain(&event.fields).filter(|f| numbers && f.size == 4) {
                let edit = match &*field.name {
                    name if PIDS.contains(&name) => Edit::Pid,
                    name if CPUS.contains(&name) => Edit::Cpu,
                    _ => continue,
                };
                fields.push((usize::from(field.offset), edit));
            }
            let at = |field: &str| event.field(field).map(|f| usize::from(f.offset));
            match name {
                ("kvm", "kvm_write_tsc_offset") => rules.offset_write = Some(event.id),
                ("kvm", "kvm_msr") => rules.msr = at("ecx").zip(at("data")).map(|(e, d)| (event.id, e, d)),
                _ => {}
            }
        }
        rules
    }
}

/// A chunk of sub-buffers, and what changes in it.
pub struct Chunk {
    bytes: Vec<u8>,
    edits: Vec<(u32, Edit)>,
    /// Events in it.
    pub events: u64,
    /// Those among them that repetitions lack.
    pub dropped: u64,
    /// The earliest and the latest stamp.
    pub stamps: Option<(u64, u64)>,
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or("an entry ends behind its sub-buffer")?;
    Ok(u32::from_le_bytes(*bytes))
}

fn wide(bytes: &[u8], at: usize) -> Result<u64> {
    Ok(u64::from(word(bytes, at)?) | u64::from(word(bytes, at + 4)?) << 32)
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

fn add(bytes: &mut [u8], at: usize, more: u64) -> Result<()> {
    let sum = wide(bytes, at)?.wrapping_add(more);
    put(bytes, at, sum.to_le_bytes());
    Ok(())
}

impl Chunk {
    /// Looks through sub-buffers of `page` bytes each.
    pub fn new(bytes: &[u8], page: usize, rules: &Rules) -> Result<Self> {
        let mut chunk = Self { bytes: bytes.to_vec(), edits: Vec::new(), events: 0, dropped: 0, stamps: None };
        for start in (0..bytes.len()).step_by(page) {
            let length = wide(bytes, start + 8)? & ((1 << 27) - 1);
            let end = start + 16 + length as usize;
            if end > (start + page).min(bytes.len()) {
                return Err("a sub-buffer claims more bytes than it has".into());
            }
            chunk.edits.push((start as u32, Edit::Cycles));
            chunk.sub_buffer(bytes, start, end, rules)?;
        }
        Ok(chunk)
    }

    fn sub_buffer(&mut self, bytes: &[u8], start: usize, end: usize, rules: &Rules) -> Result<()> {
        let mut now = wide(bytes, start)?;
        let mut at = start + 16;
        while at < end {
            let head = word(bytes, at)?;
            let (kind, delta) = (head & 31, u64::from(head >> 5));
            let second = || Ok::<_, Box<dyn std::error::Error>>(word(bytes, at + 4)? as usize);
            let (payload, next) = match kind {
                29 if delta == 0 => break,
                0 | 29 => (at + 8, at + 4 + second()?.next_multiple_of(4)),
                30 | 31 => (at + 8, at + 8),
                words => (at + 4, at + 4 + 4 * words as usize),
            };
            match kind {
                29 => now += if delta == 1 { 0 } else { delta },
                30 => now += ((second()? as u64) << 27) + delta,
                31 => {
                    now = (((second()? as u64) << 27) + delta) | (now & (0x1f << 59));
                    self.edits.push((at as u32, Edit::Absolute));
                }
                _ => {
                    now += delta;
                    let (low, high) = self.stamps.unwrap_or((now, now));
                    self.stamps = Some((low.min(now), high.max(now)));
                    self.record(bytes, at, payload, rules)?;
                }
            }
            at = next;
        }
        Ok(())
    }

    fn record(&mut self, bytes: &[u8], at: usize, payload: usize, rules: &Rules) -> Result<()> {
        self.events += 1;
        let id = word(bytes, payload)? as u16;
        if rules.offset_write == Some(id) {
            self.dropped += 1;
            self.edits.push((at as u32, Edit::Drop));
        }
        if let Some((_, ecx, data)) = rules.msr.filter(|(msr, ..)| *msr == id)
            && word(bytes, payload + ecx)? == TSC_DEADLINE
            && wide(bytes, payload + data)? != 0
        {
            self.edits.push(((payload + data) as u32, Edit::Cycles));
        }
        self.edits
            .extend(rules.fields[usize::from(id)].iter().map(|&(offset, edit)| ((payload + offset) as u32, edit)));
        Ok(())
    }

    /// Bytes of the chunk.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The chunk at another place, into `out`.
    pub fn at(&self, place: Place, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        out.extend_from_slice(&self.bytes);
        for &(at, edit) in &self.edits {
            let at = at as usize;
            match edit {
                Edit::Cycles => add(out, at, place.cycles)?,
                Edit::Ns => add(out, at, place.ns)?,
                Edit::Cpu => {
                    let cpu = word(out, at)?.wrapping_add(place.cpus);
                    put(out, at, cpu.to_le_bytes());
                }
                Edit::Pid => {
                    let pid = word(out, at)?;
                    put(out, at, if pid == 0 { 0 } else { pid.wrapping_add(place.pids) }.to_le_bytes());
                }
                Edit::Absolute => {
                    let stored = (u64::from(word(out, at + 4)?) << 27) + u64::from(word(out, at)? >> 5);
                    let later = stored.wrapping_add(place.cycles) & ((1 << 59) - 1);
                    put(out, at, (31 | (later as u32) << 5).to_le_bytes());
                    put(out, at + 4, ((later >> 27) as u32).to_le_bytes());
                }
                // The history would contradict itself where the same change of an offset comes twice. A discarded event
                // moves the clock on as an event does; without a delta it needs the one that means "not zero".
                Edit::Drop if place.again => {
                    let head = word(out, at)?;
                    let words = match head & 31 {
                        0 => word(out, at + 4)?,
                        words => 4 * words,
                    };
                    put(out, at, (29 | (head >> 5).max(1) << 5).to_le_bytes());
                    put(out, at + 4, words.to_le_bytes());
                }
                Edit::Drop => {}
            }
        }
        Ok(())
    }
}
