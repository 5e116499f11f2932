//! Names of slices that the record's content decides, remembered so that most events only look them up.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::drawing::FieldSource;
use super::names::{NameId, Names};
use super::pairs::Label;
use super::syscalls::Syscalls;
use crate::capture::kallsyms::Kallsyms;

/// Remembered names of one capture.
pub(super) struct Labels {
    syscalls: Syscalls,
    symbols: Option<Arc<Kallsyms>>,
    irqs: FxHashMap<u64, NameId>,
    softirqs: FxHashMap<u64, NameId>,
    functions: FxHashMap<(NameId, u64), NameId>,
    texts: FxHashMap<(NameId, [u8; 16]), NameId>,
}

/// Names of softirqs where the print format does not tell: include/linux/interrupt.h.
const SOFTIRQS: [&str; 10] =
    ["HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU"];
/// More different numbers than a kernel has; damaged records must not fill the memory.
const MAX_REMEMBERED: usize = 1 << 16;
const IRQ: &[u8] = b"irq ";

impl Labels {
    pub(super) fn new(source: &FieldSource, uname: Option<&str>, names: &mut Names) -> Self {
        Self {
            syscalls: Syscalls::new(source, uname, names),
            symbols: source.symbols.clone(),
            irqs: FxHashMap::default(),
            softirqs: FxHashMap::default(),
            functions: FxHashMap::default(),
            texts: FxHashMap::default(),
        }
    }

    /// The name of a syscall.
    #[inline]
    pub(super) fn syscall(&self, id: u64, names: &mut Names) -> NameId {
        self.syscalls.name(id, names)
    }

    /// The name of a slice that this record begins.
    #[inline]
    pub(super) fn name(
        &mut self,
        label: Label,
        source: &FieldSource,
        event: u16,
        payload: &[u8],
        names: &mut Names,
    ) -> NameId {
        match label {
            Label::Fixed(name) => name,
            Label::Irq { irq, name } => self.irq(irq.get(payload).unwrap_or(0), name.get(payload), names),
            Label::Softirq { vec } => {
                let vec = vec.get(payload).unwrap_or(0);
                match self.softirqs.get(&vec) {
                    Some(&name) => name,
                    None => self.new_softirq(vec, source, event, payload, names),
                }
            }
            Label::Function { prefix, function } => self.function(prefix, function.get(payload).unwrap_or(0), names),
            Label::Text { prefix, text } => {
                let text = super::names::comm(text.get(payload));
                match self.texts.get(&(prefix, text)) {
                    Some(&name) => name,
                    None => self.new_text(prefix, text, names),
                }
            }
        }
    }

    /// A prefix and the function that this address is in.
    #[inline]
    pub(super) fn function(&mut self, prefix: NameId, address: u64, names: &mut Names) -> NameId {
        match self.functions.get(&(prefix, address)) {
            Some(&name) => name,
            None => self.new_function(prefix, address, names),
        }
    }

    fn new_text(&mut self, prefix: NameId, text: [u8; 16], names: &mut Names) -> NameId {
        let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
        let whole = [names.text(prefix), &text[..end]].concat();
        let id = names.intern_some(&whole).unwrap_or(prefix);
        remember(&mut self.texts, (prefix, text), id);
        id
    }

    /// Several handlers may share an irq: the remembered name is that of the last one.
    fn irq(&mut self, irq: u64, name: &[u8], names: &mut Names) -> NameId {
        if let Some(&known) = self.irqs.get(&irq)
            && names.text(known).get(IRQ.len()..) == Some(name)
        {
            return known;
        }
        let id = names.intern(&[IRQ, name].concat());
        remember(&mut self.irqs, irq, id);
        id
    }

    fn new_softirq(&mut self, vec: u64, source: &FieldSource, event: u16, payload: &[u8], names: &mut Names) -> NameId {
        let format = source.formats.get(event);
        let symbol = format.and_then(|format| format.symbol("vec", payload, source.endian));
        let known = symbol.or_else(|| SOFTIRQS.get(usize::try_from(vec).ok()?).copied());
        let text = known.map_or_else(|| format!("softirq {vec}"), |name| format!("softirq {name}"));
        let id = names.intern(text.as_bytes());
        remember(&mut self.softirqs, vec, id);
        id
    }

    fn new_function(&mut self, prefix: NameId, address: u64, names: &mut Names) -> NameId {
        let mut text = names.text(prefix).to_vec();
        let id = match self.symbols.as_ref().and_then(|symbols| symbols.find(address)) {
            Some((_, function)) => {
                text.extend_from_slice(function.as_bytes());
                names.intern(&text)
            }
            None => {
                text.extend_from_slice(format!("{address:#x}").as_bytes());
                names.intern_some(&text).unwrap_or(NameId::A_FUNCTION)
            }
        };
        remember(&mut self.functions, (prefix, address), id);
        id
    }
}

fn remember<K: std::hash::Hash + Eq>(map: &mut FxHashMap<K, NameId>, key: K, name: NameId) {
    if map.len() < MAX_REMEMBERED {
        map.insert(key, name);
    }
}
