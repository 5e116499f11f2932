//! The few event fields that deciding who is who needs, looked up once per capture.

use crate::capture::Endian;
use crate::capture::event_format::{Field, FormatTable};
use crate::session::survey::PvclockWrite;

/// Indexes of the events that pass 1 looks into.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// kvm:kvm_entry.
    pub(super) entry: Option<u16>,
    /// kvm:kvm_exit.
    pub(super) exit: Option<u16>,
    /// kvm:kvm_write_tsc_offset.
    pub(super) write_offset: Option<u16>,
    /// kvm:kvm_pvclock_update.
    pub(super) pvclock: Option<u16>,
    /// sched:sched_process_fork.
    pub(super) fork: Option<u16>,
    interest: Vec<bool>,
}

impl Events {
    /// Looks the events up.
    pub(super) fn new(formats: &FormatTable) -> Self {
        let mut events = Self {
            entry: formats.find("kvm", "kvm_entry"),
            exit: formats.find("kvm", "kvm_exit"),
            write_offset: formats.find("kvm", "kvm_write_tsc_offset"),
            pvclock: formats.find("kvm", "kvm_pvclock_update"),
            fork: formats.find("sched", "sched_process_fork"),
            interest: vec![false; formats.events().len()],
        };
        let timer = formats.find("timer", "hrtimer_expire_entry");
        for index in [events.entry, events.exit, events.write_offset, events.pvclock, events.fork, timer] {
            if let Some(slot) = index.and_then(|i| events.interest.get_mut(usize::from(i))) {
                *slot = true;
            }
        }
        events
    }

    /// How many formats there are.
    pub(super) fn count(&self) -> usize {
        self.interest.len()
    }

    /// Whether pass 1 reads fields of this event.
    #[inline]
    pub(super) fn is_of_interest(&self, event: u16) -> bool {
        self.interest.get(usize::from(event)).copied().unwrap_or(false)
    }
}

/// Field accessors.
#[derive(Debug, Default)]
pub(super) struct KvmFields {
    pid: Option<Field>,
    /// `vcpu_id` of kvm_entry (not on arm64).
    pub(super) entry_vcpu: Option<Field>,
    /// `vcpu_id` of kvm_exit (since Linux 5.10).
    pub(super) exit_vcpu: Option<Field>,
    write: Option<[Field; 3]>,
    pvclock: Option<[Field; 5]>,
    fork: Option<[Field; 2]>,
    now: Option<(u16, Field)>,
}

fn fields<const N: usize>(formats: &FormatTable, system: &str, event: &str, names: [&str; N]) -> Option<[Field; N]> {
    let format = formats.get(formats.find(system, event)?)?;
    let found: Vec<Field> = names.iter().map_while(|name| format.field(name).cloned()).collect();
    found.try_into().ok()
}

impl KvmFields {
    /// Looks the fields up.
    pub(super) fn new(formats: &FormatTable) -> Self {
        let one = |event, name| fields(formats, "kvm", event, [name]).map(|[field]| field);
        let timer = formats.find("timer", "hrtimer_expire_entry");
        Self {
            pid: formats.events().first().and_then(|e| e.field("common_pid")).cloned(),
            entry_vcpu: one("kvm_entry", "vcpu_id"),
            exit_vcpu: one("kvm_exit", "vcpu_id"),
            write: fields(
                formats,
                "kvm",
                "kvm_write_tsc_offset",
                ["vcpu_id", "previous_tsc_offset", "next_tsc_offset"],
            ),
            pvclock: fields(
                formats,
                "kvm",
                "kvm_pvclock_update",
                ["vcpu_id", "tsc_timestamp", "system_time", "tsc_to_system_mul", "tsc_shift"],
            ),
            fork: fields(formats, "sched", "sched_process_fork", ["parent_pid", "child_pid"]),
            now: timer.zip(fields(formats, "timer", "hrtimer_expire_entry", ["now"]).map(|[now]| now)),
        }
    }

    /// (thread, vcpu_id, prev, next) of an offset write.
    pub(super) fn write(&self, payload: &[u8], endian: Endian) -> Option<(i32, u32, u64, u64)> {
        let [vcpu, prev, next] = self.write.as_ref()?;
        let tid = pid_of(self, payload, endian)?;
        let number = |field: &Field| field.number(payload, endian);
        Some((tid, number(vcpu)? as u32, number(prev)?, number(next)?))
    }

    /// A pvclock update.
    pub(super) fn pvclock(&self, payload: &[u8], endian: Endian, ts: u64) -> Option<PvclockWrite> {
        let [vcpu, tsc_timestamp, system_time, mul, shift] = self.pvclock.as_ref()?;
        let number = |field: &Field| field.number(payload, endian);
        Some(PvclockWrite {
            ts,
            tid: pid_of(self, payload, endian)?,
            vcpu: number(vcpu)? as u32,
            tsc_timestamp: number(tsc_timestamp)?,
            system_time: number(system_time)?,
            mul: number(mul)? as u32,
            shift: number(shift)? as u8 as i8,
        })
    }

    /// (child, parent) of a fork.
    pub(super) fn fork(&self, payload: &[u8], endian: Endian) -> Option<(i32, i32)> {
        let [parent, child] = self.fork.as_ref()?;
        Some((child.number(payload, endian)? as i32, parent.number(payload, endian)? as i32))
    }

    /// The nanosecond clock that the event carries.
    pub(super) fn now(&self, event: u16, payload: &[u8], endian: Endian) -> Option<u64> {
        let (timer, now) = self.now.as_ref()?;
        (*timer == event).then(|| now.number(payload, endian)).flatten()
    }
}

/// `common_pid`: the thread that was running when the event was recorded.
#[inline]
pub(super) fn pid_of(fields: &KvmFields, payload: &[u8], endian: Endian) -> Option<i32> {
    fields.pid.as_ref()?.number(payload, endian).map(|pid| pid as i32)
}
