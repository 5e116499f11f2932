//! A Perfetto trace of the host goes into a Perfetto output as it is, and what is drawn stands beside it.

use std::sync::Arc;

use super::ConvertOptions;
use crate::capture::Clock;
use crate::capture::perfetto::Native;
use crate::export::Format;
use crate::export::perfetto::{Beside, PerfettoBeside};
use crate::session::{Input, Role, Session};
use crate::timeline::setup::NativeEvents;

/// Perfetto's number for BOOTTIME, the one clock that machines are taken to share.
const BOOTTIME: u32 = 6;

/// What passes.
pub(super) struct Passing {
    /// Index of the input.
    pub(super) input: usize,
    pub(super) native: Arc<Native>,
    pub(super) exporter: PerfettoBeside,
}

/// The trace that passes, if there is one, and why others do not.
pub(super) fn passing(session: &Session, options: &ConvertOptions) -> (Option<Passing>, Vec<String>) {
    let (mut passing, mut warnings) = (None, Vec::new());
    if options.format != Format::Perfetto {
        return (None, warnings);
    }
    for (index, input) in session.inputs.iter().enumerate() {
        let Some(native) = &input.capture.info.perfetto else { continue };
        match obstacle(session, input, native, options) {
            None if passing.is_none() => passing = Some((index, Arc::clone(native))),
            obstacle => {
                let why = obstacle.unwrap_or("another trace of the host has its place");
                let path = input.capture.path.display();
                warnings.push(format!("{path}: its packets are not in the output as they are: {why}"));
            }
        }
    }
    let vms = u32::try_from(session.vms.len()).unwrap_or(0).max(1);
    let passing = passing.and_then(|(input, native)| {
        let beside = Beside {
            sequence: native.sequences.free(1),
            largest_track: native.largest_track(),
            machine: native.machines.free(vms),
            clock: native.clock?,
            has_snapshot: native.has_snapshot(),
        };
        Some(Passing { input, native, exporter: PerfettoBeside(beside) })
    });
    (passing, warnings)
}

/// Why a trace cannot pass.
fn obstacle(session: &Session, input: &Input, native: &Native, options: &ConvertOptions) -> Option<&'static str> {
    match input.role {
        Role::Host => {}
        Role::Guest(_) if options.draw.layers.native == NativeEvents::None => {
            return Some(
                "their times are the guest's own; --layers overlay,native writes its events in the host's time",
            );
        }
        Role::Guest(_) => {
            return Some("their times are the guest's own; the native layer has its events in the host's");
        }
        Role::Offsets | Role::Nobody => return Some("nothing of it is drawn"),
    }
    let on_axis = match &session.clock {
        Clock::X86Tsc => native.line.is_some() && session.rate.rate.line() == native.line.as_ref(),
        clock => input.capture.buffers.iter().any(|buffer| buffer.clock == *clock),
    };
    match native.clock {
        _ if !on_axis => Some("their clock is not that of the output"),
        None => Some("their clock has no number in Perfetto's format"),
        Some(clock) if clock != BOOTTIME && options.draw.layers.native != NativeEvents::None => {
            Some("machines of the native layer share BOOTTIME alone; without --layers native they are")
        }
        Some(_) => None,
    }
}
