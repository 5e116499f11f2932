//! Patterns for events: `SYSTEM:EVENT`, with `*` for any text and `?` for any character.

use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// `[MACHINE/]SYSTEM:EVENT`. Without the colon it is the name of either; `MACHINE` is `host` or a VM's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPattern {
    text: Box<str>,
    machine: Option<Box<str>>,
    name: Box<str>,
}

impl EventPattern {
    /// Whether events of this name match, recorded on this machine.
    pub fn matches(&self, machine: &str, system: &str, event: &str) -> bool {
        if self.machine.as_ref().is_some_and(|pattern| !glob(pattern, machine)) {
            return false;
        }
        match self.name.split_once(':') {
            Some((pattern, rest)) => glob(pattern, system) && glob(rest, event),
            None => glob(&self.name, event) || glob(&self.name, system),
        }
    }

    /// As the user wrote it.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl FromStr for EventPattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (machine, name) = match text.rsplit_once('/') {
            Some((machine, name)) => (Some(machine), name),
            None => (None, text),
        };
        if name.is_empty() || machine.is_some_and(str::is_empty) {
            return Err(Error::new(ErrorKind::Usage, format!("event pattern `{text}`: a part of it is empty"))
                .hint("write SYSTEM:EVENT such as kvm:* or sched:sched_switch, or VM/SYSTEM:EVENT"));
        }
        Ok(Self { text: text.into(), machine: machine.map(Into::into), name: name.into() })
    }
}

/// Whether the whole of `text` matches.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on after a star took one byte more.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t + 1));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((star, from)) => {
                    (p, t) = (star, from);
                    retry = Some((star, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text) in
            [("*", ""), ("*", "abc"), ("a*c", "abbc"), ("a?c", "abc"), ("*b*", "abc"), ("abc", "abc")]
        {
            assert!(glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("", "a"), ("a", ""), ("a?c", "ac"), ("a*c", "abcd"), ("*b", "abc"), ("?", "")] {
            assert!(!glob(pattern, text), "{pattern} {text}");
        }
        // Many stars must not take for ever.
        assert!(!glob(&"*a".repeat(30), &"a".repeat(29)));
    }

    #[test]
    fn events_by_system_name_and_machine() {
        let matches = |pattern: &str, machine: &str, system: &str, event: &str| {
            pattern.parse::<EventPattern>().unwrap().matches(machine, system, event)
        };
        assert!(matches("sched:sched_*", "host", "sched", "sched_switch"));
        assert!(matches("sched", "host", "sched", "sched_switch"));
        assert!(matches("kvm_exit", "host", "kvm", "kvm_exit"));
        assert!(!matches("kvm:*", "host", "kvmmmu", "kvm_mmu_get_page"));
        assert!(matches("host/sched:*", "host", "sched", "sched_switch"));
        assert!(!matches("host/sched:*", "web", "sched", "sched_switch"));
        assert!(matches("l1/l2/sched:*", "l1/l2", "sched", "sched_switch"));
        assert!("".parse::<EventPattern>().is_err() && "/x".parse::<EventPattern>().is_err());
    }
}
