//! Interrupts on their way into a guest: what sent each one, so that arrows can lead to its handler.
//!
//! A vCPU has a list of what was sent to it. KVM says three things of an interrupt: it is accepted by the vCPU's APIC
//! (`kvm_apic_accept_irq`, from whatever thread raises it), it is injected at an entry (`kvm_inj_virq`; not where the
//! processor posts interrupts by itself), and the guest acknowledges it (`kvm_eoi`), which Linux does right before the
//! handler's first event; where that leaves the guest, the event is in the next run window. A handler is linked to what was sent
//! under these rules, which refuse more than they guess:
//!
//! - The vector is the same, and it was sent to this vCPU.
//! - What was accepted counts once it is injected: an interrupt that arrives while the handler of the last one is about
//!   to begin has a handler of its own. Where no injection is ever seen, accepting is enough.
//! - The handler begins within [`MAX_WINDOWS`] run windows after the injection. An injection that was not delivered
//!   (the processor left the guest first) is made again, and then the last one counts.
//! - Once the guest has acknowledged the vector, the handler begins in the next run window or was not recorded; and
//!   before the vector is injected again.
//!
//! Guests that did not record `irq_vectors` show fewer vectors. There, and only in the run window that follows the
//! injection, or the acknowledgement: the timer's vector is handled by the first hrtimer function, and a device's vector by the first
//! `irq_handler_entry` if no other device's vector is on its way. Device interrupts have no event by vector at all.

/// The vector of Linux guests' local timer: LOCAL_TIMER_VECTOR of arch/x86/include/asm/irq_vectors.h.
const TIMER_VECTOR: u64 = 0xec;

/// Vectors of devices: FIRST_EXTERNAL_VECTOR up to the first of the system's own, in the same file.
const DEVICE_VECTORS: std::ops::Range<u64> = 0x20..TIMER_VECTOR;

/// More than a vCPU has on their way; the oldest give way.
const MAX_ON_THEIR_WAY: usize = 32;

/// A handler may begin this many run windows after its injection: entering it may leave the guest again before it gets
/// to its first event, for a page of its stack or interrupts of the host.
const MAX_WINDOWS: u8 = 8;

/// So many handlers without an injection show that the processor posts interrupts.
const PATIENCE: u8 = 8;

/// Interrupts that were sent to a vCPU and whose handler has not run yet.
#[derive(Default)]
pub(super) struct Causes {
    list: Vec<Sent>,
    /// More than 0: interrupts need an injection.
    injects: u8,
    /// The guest has recorded a handler by vector.
    sees_vectors: bool,
}

#[derive(Clone, Copy)]
struct Sent {
    vector: u64,
    /// The flow id of its arrow.
    flow: u64,
    by: Sender,
    /// It has been injected.
    injected: bool,
    /// The guest has acknowledged it.
    acknowledged: bool,
    /// Run windows that have ended since it was injected; until then, since it was accepted.
    windows: u8,
}

/// Who sent an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// The vCPU itself, in the exit with this number.
    Itself(u64),
    /// Another vCPU, in the exit with this number.
    Other(u64),
    /// Something else in the host.
    Host,
}

impl Causes {
    /// Whether an arrow from `by` for this vector is still to be drawn: one exit sends a vector once, however often it
    /// tries. An injection takes the place of what the vCPU accepted, or was given in vain, in its earlier exits.
    pub(super) fn wants(&mut self, vector: u64, by: Sender, injected: bool) -> bool {
        if injected {
            self.injects = PATIENCE;
            let again = |sent: &Sent| sent.acknowledged || matches!(sent.by, Sender::Itself(_)) && sent.by != by;
            self.list.retain(|sent| sent.vector != vector || !again(sent));
            for sent in self.list.iter_mut().filter(|sent| sent.vector == vector && !sent.injected) {
                (sent.injected, sent.windows) = (true, 0);
            }
        }
        by == Sender::Host || !self.list.iter().any(|sent| (sent.vector, sent.by) == (vector, by))
    }

    /// An interrupt is sent; its arrow has this flow id.
    pub(super) fn send(&mut self, vector: u64, flow: u64, by: Sender, injected: bool) {
        if flow == 0 {
            return;
        }
        if self.list.len() >= MAX_ON_THEIR_WAY {
            self.list.remove(0);
        }
        self.list.push(Sent { vector, flow, by, injected, acknowledged: false, windows: 0 });
    }

    /// The vCPU leaves guest mode.
    pub(super) fn window_ends(&mut self) {
        let posted = self.injects == 0;
        self.list.retain_mut(|sent| {
            sent.windows = sent.windows.saturating_add(1);
            sent.windows < MAX_WINDOWS || !(sent.injected || posted)
        });
    }

    /// The guest acknowledges this vector; it is `inside` the run window if KVM only notices at its end.
    pub(super) fn acknowledge(&mut self, vector: u64, inside: bool) {
        let posted = self.injects == 0;
        for sent in self.list.iter_mut().filter(|sent| sent.vector == vector && (sent.injected || posted)) {
            // Until the end of the next run window.
            (sent.acknowledged, sent.windows) = (true, MAX_WINDOWS - 1 - u8::from(inside));
        }
    }

    /// Nothing is known of what comes to the vCPU.
    pub(super) fn forget(&mut self) {
        self.list.clear();
    }

    /// The handler of a vector begins: links what sent it.
    pub(super) fn arrive(&mut self, vector: u64, link: impl FnMut(u64)) {
        self.sees_vectors = true;
        if !self.list.iter().any(|sent| sent.injected && sent.vector == vector) {
            self.injects = self.injects.saturating_sub(1);
        }
        self.link(MAX_WINDOWS, |sent| sent.vector == vector, link);
    }

    /// A timer's function runs.
    pub(super) fn timer_runs(&mut self, link: impl FnMut(u64)) {
        if !self.sees_vectors {
            self.link(1, |sent| sent.vector == TIMER_VECTOR, link);
        }
    }

    /// The handler of a device's interrupt begins.
    pub(super) fn device_runs(&mut self, link: impl FnMut(u64)) {
        let coming = |sent: &&Sent| DEVICE_VECTORS.contains(&sent.vector) && (sent.injected || self.injects == 0);
        let mut vectors = self.list.iter().filter(coming).map(|sent| sent.vector);
        let Some(vector) = vectors.next() else { return };
        if vectors.all(|other| other == vector) {
            self.link(1, |sent| sent.vector == vector, link);
        }
    }

    fn link(&mut self, windows: u8, is: impl Fn(&Sent) -> bool, mut link: impl FnMut(u64)) {
        let posted = self.injects == 0;
        self.list.retain(|sent| {
            if !is(sent) || !(sent.injected || posted) {
                return true;
            }
            if sent.windows < windows || sent.acknowledged {
                link(sent.flow);
            }
            false
        });
    }
}
