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
    /// kvm:kvm_msr.
    pub(super) msr: Option<u16>,
    /// kvm:kvm_wait_lapic_expire.
    pub(super) timer_due: Option<u16>,
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
            msr: formats.find("kvm", "kvm_msr"),
            timer_due: formats.find("kvm", "kvm_wait_lapic_expire"),
            interest: vec![false; formats.events().len()],
        };
        let timer = formats.find("timer", "hrtimer_expire_entry");
        let Self { entry, exit, write_offset, pvclock, fork, msr, timer_due, .. } = events;
        for index in [entry, exit, write_offset, pvclock, fork, msr, timer_due, timer] {
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
    msr: Option<[Field; 3]>,
    timer_delta: Option<Field>,
}

/// IA32_TSC_DEADLINE: the guest TSC at which the vCPU's timer is to expire.
const TSC_DEADLINE: u64 = 0x6e0;

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
            msr: fields(formats, "kvm", "kvm_msr", ["write", "ecx", "data"]),
            timer_delta: one("kvm_wait_lapic_expire", "delta"),
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

    /// (thread, guest TSC) of a guest's write to its deadline timer; 0 disarms it.
    pub(super) fn deadline(&self, payload: &[u8], endian: Endian) -> Option<(i32, u64)> {
        let [write, ecx, data] = self.msr.as_ref()?;
        let number = |field: &Field| field.number(payload, endian);
        let is_deadline = number(write)? != 0 && number(ecx)? == TSC_DEADLINE;
        is_deadline.then(|| Some((pid_of(self, payload, endian)?, number(data)?))).flatten()
    }

    /// (thread, guest TSC less deadline) as the host read it when a timer was due.
    pub(super) fn timer_due(&self, payload: &[u8], endian: Endian) -> Option<(i32, u64)> {
        Some((pid_of(self, payload, endian)?, self.timer_delta.as_ref()?.number(payload, endian)?))
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
