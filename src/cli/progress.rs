//! A progress line on a terminal, silence in a pipe.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::monitor::Monitor;

/// Shows how many events have gone by, and hears of Ctrl-C.
pub(super) struct Progress {
    bar: ProgressBar,
    tick: Box<dyn Fn(u64) + Sync>,
    stop: Arc<AtomicBool>,
}

impl Progress {
    /// At most one per run: it sets the handler of Ctrl-C and SIGTERM.
    pub(super) fn new(quiet: bool) -> Self {
        let shown = !quiet && std::io::stderr().is_terminal();
        let bar = if shown { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if shown {
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}: {human_pos} events, {per_sec}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        let counted = bar.clone();
        Self { bar, tick: Box::new(move |events| counted.inc(events)), stop: stop_flag() }
    }

    /// What the work reports to.
    pub(super) fn monitor(&self) -> Monitor<'_> {
        Monitor { tick: &self.tick, stop: &self.stop }
    }

    /// Raised by Ctrl-C and SIGTERM.
    pub(super) fn stop(&self) -> &AtomicBool {
        &self.stop
    }

    /// The same, to be kept.
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Names what is being done and starts counting again.
    pub(super) fn stage(&self, name: &'static str) {
        self.bar.reset();
        self.bar.set_message(name);
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
