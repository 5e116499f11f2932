//! Interrupts on their way into a guest: which exit sent each one, so that an arrow can lead to its handler.

/// The vector of Linux guests' local timer: LOCAL_TIMER_VECTOR of arch/x86/include/asm/irq_vectors.h.
pub(super) const TIMER_VECTOR: u64 = 0xec;

/// More than a vCPU has on their way; the oldest give way.
const MAX_ON_THEIR_WAY: usize = 32;

/// Interrupts that were sent to a vCPU and whose handler has not run yet.
#[derive(Default)]
pub(super) struct Causes {
    /// Vector and the flow id of the exit that sent it.
    list: Vec<(u64, u64)>,
}

impl Causes {
    /// An exit sends an interrupt.
    pub(super) fn send(&mut self, vector: u64, flow: u64) {
        if flow == 0 || self.list.contains(&(vector, flow)) {
            return;
        }
        if self.list.len() >= MAX_ON_THEIR_WAY {
            self.list.remove(0);
        }
        self.list.push((vector, flow));
    }

    /// The handler of a vector runs: what sent it, first sent first.
    pub(super) fn arrive(&mut self, vector: u64, mut sent: impl FnMut(u64)) {
        self.list.retain(|&(other, flow)| {
            if other == vector {
                sent(flow);
            }
            other != vector
        });
    }
}
