//! The script that records inside a guest, where nothing can be installed.

use crate::error::{Error, ErrorKind, Result};
use crate::selection::EventPattern;

/// What is recorded in a guest where nothing else is asked for.
pub const DEFAULT_EVENTS: [&str; 7] = [
    "sched",
    "irq",
    "raw_syscalls",
    "timer:hrtimer_expire_entry",
    "timer:hrtimer_expire_exit",
    "workqueue:workqueue_execute_start",
    "workqueue:workqueue_execute_end",
];

/// The buffer for each CPU, in KiB, where nothing else is asked for: all of the recording has to fit.
pub const DEFAULT_BUFFER_KIB: u32 = 16_384;

/// How long it records where nothing else is asked for, in seconds.
pub const DEFAULT_SECONDS: u64 = 10;

const SCRIPT: &str = include_str!("guest.sh");

/// What the script does where its own options do not say otherwise.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Events; [`DEFAULT_EVENTS`] where it is empty.
    pub events: Vec<EventPattern>,
    /// The buffer for each CPU, in KiB.
    pub buffer_kib: Option<u32>,
    /// How long it records.
    pub seconds: Option<u64>,
}

/// The script for a POSIX shell.
///
/// # Errors
/// `Usage` where a pattern could mean something else to a shell.
pub fn script(options: &Options) -> Result<String> {
    let events: Vec<&str> = match options.events.as_slice() {
        [] => DEFAULT_EVENTS.to_vec(),
        events => events.iter().map(EventPattern::text).collect(),
    };
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:*?".contains(&b));
    if let Some(odd) = events.iter().find(|event| !plain(event)) {
        return Err(Error::new(ErrorKind::Usage, format!("event `{odd}` cannot be written into a script"))
            .hint("write SYSTEM or SYSTEM:EVENT, with * and ?"));
    }
    Ok(SCRIPT
        .replace("@EVENTS@", &events.join(" "))
        .replace("@SECONDS@", &options.seconds.unwrap_or(DEFAULT_SECONDS).to_string())
        .replace("@BUFFER@", &options.buffer_kib.unwrap_or(DEFAULT_BUFFER_KIB).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_template_is_left() {
        let text = script(&Options::default()).expect("a script");
        assert!(!text.contains('@'), "{text}");
        assert!(text.contains("events=\"sched irq "), "{text}");
    }

    #[test]
    fn events_are_no_shell() {
        let options = |event: &str| Options { events: vec![event.parse().expect("a pattern")], ..Options::default() };
        assert!(script(&options("sched:sched_*")).is_ok());
        for odd in ["$(reboot)", "a;b", "a b", "\"", "`x`"] {
            assert_eq!(script(&options(odd)).map_err(|e| e.kind()), Err(ErrorKind::Usage), "{odd}");
        }
    }
}
