//! Who runs on a CPU: columns of switches do not say who leaves.

/// The thread that runs on a CPU.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Running {
    /// `None` as long as nothing says it.
    pub(super) pid: Option<i32>,
    pub(super) prio: i32,
    comm: [u8; 16],
    len: u8,
}

impl Running {
    /// After a switch.
    pub(super) fn after(pid: i32, prio: i32, name: &[u8]) -> Self {
        // Names of kernels are at most 15 bytes.
        let name = name.get(..15).unwrap_or(name);
        let mut comm = [0; 16];
        if let Some(place) = comm.get_mut(..name.len()) {
            place.copy_from_slice(name);
        }
        Self { pid: Some(pid), prio, comm, len: name.len() as u8 }
    }

    /// Its name, empty where it is not known.
    pub(super) fn comm(&self) -> &[u8] {
        self.comm.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// Notes that a thread recorded an event.
    pub(super) fn recorded(&mut self, pid: i32) {
        if self.pid != Some(pid) {
            *self = Self { pid: Some(pid), ..Self::default() };
        }
    }
}

/// Who a full `sched_switch` leaves running.
pub(super) fn next_of(message: &[u8]) -> Running {
    let (mut pid, mut prio, mut comm) = (0, 0, &[][..]);
    for (number, value) in super::wire::Fields::new(message) {
        match number {
            5 => comm = value.bytes().unwrap_or(&[]),
            6 => pid = value.number().unwrap_or(0) as i32,
            7 => prio = value.number().unwrap_or(0) as i32,
            _ => {}
        }
    }
    Running::after(pid, prio, comm)
}
