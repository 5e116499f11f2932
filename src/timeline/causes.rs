//! Interrupts on their way into a guest: which exit sent each one, so that an arrow can lead to its handler.

/// The vector of Linux guests' local timer: LOCAL_TIMER_VECTOR of arch/x86/include/asm/irq_vectors.h.
const TIMER_VECTOR: u64 = 0xec;

/// More than a vCPU has on their way; the oldest give way.
const MAX_ON_THEIR_WAY: usize = 32;

/// Interrupts that were sent to a vCPU and whose handler has not run yet.
#[derive(Default)]
pub(super) struct Causes {
    list: Vec<Sent>,
}

struct Sent {
    vector: u64,
    /// The flow id of the exit that sent it.
    flow: u64,
    /// The vCPU has run since, and left guest mode again.
    ran: bool,
}

impl Causes {
    /// An exit sends an interrupt.
    pub(super) fn send(&mut self, vector: u64, flow: u64) {
        if flow == 0 || self.list.iter().any(|sent| (sent.vector, sent.flow) == (vector, flow)) {
            return;
        }
        if self.list.len() >= MAX_ON_THEIR_WAY {
            self.list.remove(0);
        }
        self.list.push(Sent { vector, flow, ran: false });
    }

    /// The vCPU leaves guest mode.
    pub(super) fn window_ends(&mut self) {
        for sent in &mut self.list {
            sent.ran = true;
        }
    }

    /// The handler of a vector runs: what sent it, first sent first.
    pub(super) fn arrive(&mut self, vector: u64, mut link: impl FnMut(u64)) {
        self.list.retain(|sent| {
            if sent.vector == vector {
                link(sent.flow);
            }
            sent.vector != vector
        });
    }

    /// A timer's function runs, which is the handler of the timer vector only in the run window after it was sent.
    pub(super) fn timer_runs(&mut self, mut link: impl FnMut(u64)) {
        self.list.retain(|sent| {
            if sent.vector == TIMER_VECTOR && !sent.ran {
                link(sent.flow);
            }
            sent.vector != TIMER_VECTOR
        });
    }
}
