//! VM exit reasons, by the kernel's own names.

use rustc_hash::FxHashMap;

use super::drawing::FieldSource;
use super::names::{NameId, Names};
use super::plan::{Exit, Reason};

/// Index of a reason that occurred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReasonId(u16);

impl ReasonId {
    /// The `kvm_exit` is missing.
    pub(super) const UNRECORDED: Self = Self(0);

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

struct Known {
    name: NameId,
    halt: bool,
    interrupt: bool,
    misconfig: bool,
}

/// All reasons that occurred so far.
pub(super) struct Reasons {
    list: Vec<Known>,
    by_number: FxHashMap<(u16, u64, u64), ReasonId>,
    by_name: FxHashMap<NameId, ReasonId>,
}

/// More than any processor has: further ones of a damaged file are drawn as "not recorded".
const MAX_REASONS: usize = 4096;

impl Reasons {
    pub(super) fn new() -> Self {
        Self {
            list: vec![Known { name: NameId::UNRECORDED_EXIT, halt: false, interrupt: false, misconfig: false }],
            by_number: FxHashMap::default(),
            by_name: FxHashMap::default(),
        }
    }

    /// The reason of a `kvm_exit` record.
    #[inline]
    pub(super) fn of(
        &mut self,
        exit: &Exit,
        from: (u16, &FieldSource),
        event: u16,
        payload: &[u8],
        names: &mut Names,
    ) -> ReasonId {
        match exit.reason {
            Reason::Number(num, field) => {
                let Some(number) = num.get(payload) else { return ReasonId::UNRECORDED };
                let isa = exit.isa.and_then(|isa| isa.get(payload)).unwrap_or(0);
                match self.by_number.get(&(from.0, number, isa)) {
                    Some(&known) => known,
                    None => self.new_number((number, isa), field, from, event, payload, names),
                }
            }
            Reason::Trap { ret, class } => {
                let (Some(ret), Some(class)) = (ret.get(payload), class.get(payload)) else {
                    return ReasonId::UNRECORDED;
                };
                match self.by_number.get(&(from.0, ret, class)) {
                    Some(&known) => known,
                    None => {
                        let symbol = from.1.formats.get(event).and_then(|f| f.symbol("ret", payload, from.1.endian));
                        let field = if symbol == Some("TRAP") { "esr_ec" } else { "ret" };
                        self.new_number((ret, class), field, from, event, payload, names)
                    }
                }
            }
            Reason::Name(text) => self.named(text.get(payload), names),
            Reason::Unrecorded => self.add(NOT_SAID, true, names),
        }
    }

    fn new_number(
        &mut self,
        (number, isa): (u64, u64),
        field: &str,
        (index, source): (u16, &FieldSource),
        event: u16,
        payload: &[u8],
        names: &mut Names,
    ) -> ReasonId {
        let symbol = source.formats.get(event).and_then(|format| format.symbol(field, payload, source.endian));
        let id = match symbol.filter(|symbol| !symbol.is_empty()) {
            Some(symbol) => self.named(symbol.as_bytes(), names),
            None => self.add(format!("exit {number:#x}").as_bytes(), HALTS.contains(&(isa, number)), names),
        };
        if self.by_number.len() < MAX_REASONS {
            self.by_number.insert((index, number, isa), id);
        }
        id
    }

    fn named(&mut self, text: &[u8], names: &mut Names) -> ReasonId {
        self.add(text, is_halt(text), names)
    }

    fn add(&mut self, text: &[u8], halt: bool, names: &mut Names) -> ReasonId {
        let name = names.intern(text);
        if let Some(&id) = self.by_name.get(&name) {
            return id;
        }
        if self.list.len() >= MAX_REASONS {
            return ReasonId::UNRECORDED;
        }
        let id = ReasonId(self.list.len() as u16);
        let is = |names: &[&str]| names.iter().any(|name| text.eq_ignore_ascii_case(name.as_bytes()));
        let interrupt = is(INTERRUPTS);
        self.list.push(Known { name, halt, interrupt, misconfig: is(&["EPT_MISCONFIG"]) });
        self.by_name.insert(name, id);
        id
    }

    pub(super) fn name(&self, id: ReasonId) -> NameId {
        self.name_at(id.index())
    }

    pub(super) fn name_at(&self, index: usize) -> NameId {
        self.list.get(index).map_or(NameId::UNRECORDED_EXIT, |known| known.name)
    }

    /// Whether the host has an interrupt to take.
    pub(super) fn interrupts(&self, id: ReasonId) -> bool {
        self.list.get(id.index()).is_some_and(|known| known.interrupt)
    }

    /// Whether the guest accessed a device's memory: `kvm_fast_mmio` is recorded only after what it sets off.
    pub(super) fn misconfig(&self, id: ReasonId) -> bool {
        self.list.get(id.index()).is_some_and(|known| known.misconfig)
    }

    /// Whether the guest itself asked to sleep.
    pub(super) fn halts(&self, id: ReasonId) -> bool {
        self.list.get(id.index()).is_some_and(|known| known.halt)
    }
}

/// The exits of a recording whose events never say why. A thread that sleeps in one is taken to be halted, as nearly all
/// are, and not to be stalled.
const NOT_SAID: &[u8] = b"reason not recorded";

/// Exits because the host has an interrupt to take: of VMX, SVM and arm64.
const INTERRUPTS: &[&str] = &["EXTERNAL_INTERRUPT", "interrupt", "nmi", "IRQ"];

/// HLT and MWAIT where a record gives no name, by `isa` of kvm_exit (1 VMX, 2 SVM) and number.
const HALTS: [(u64, u64); 4] = [(1, 12), (1, 36), (2, 0x78), (2, 0x8b)];

/// HLT and MWAIT of VMX, `hlt`, `mwait` and `vmgexit_ap_hlt_loop` of SVM, WFI and WFE of arm64.
fn is_halt(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    let has = |part: &[u8]| name.windows(part.len()).any(|window| window == part);
    has(b"hlt") || (has(b"mwait") && !has(b"umwait")) || has(b"wfx") || has(b"wfi")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halts_of_all_processors_are_known() {
        for name in ["HLT", "EXIT_HLT", "hlt", "MWAIT_INSTRUCTION", "mwait", "vmgexit_ap_hlt_loop", "WFx"] {
            assert!(is_halt(name.as_bytes()), "{name}");
        }
        for name in ["UMWAIT", "EXTERNAL_INTERRUPT", "npf", "PAUSE_INSTRUCTION", "io", ""] {
            assert!(!is_halt(name.as_bytes()), "{name}");
        }
    }
}
