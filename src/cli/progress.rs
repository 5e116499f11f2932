//! A progress line on a terminal, silence in a pipe.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Shows how many events have gone by.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn new(quiet: bool) -> Self {
        if quiet || !std::io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden() };
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}: {human_pos} events, {per_sec}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar }
    }

    /// Names what is being done and starts counting again.
    pub(super) fn stage(&self, name: &'static str) {
        self.bar.reset();
        self.bar.set_message(name);
    }

    /// Counts events.
    pub(super) fn tick(&self, events: u64) {
        self.bar.inc(events);
    }

    /// Removes the line.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// A flag that Ctrl-C and SIGTERM raise.
pub(super) fn stop_flag() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let raise = Arc::clone(&flag);
    // Without a handler the default action still ends the program; only the unfinished temporary file would stay.
    let _ = ctrlc::set_handler(move || raise.store(true, Ordering::Relaxed));
    flag
}
