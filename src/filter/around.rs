//! Windows around the events that match a pattern, from a scan of everything.

use super::{Around, first_at};
use crate::capture::Record;
use crate::clock::rate::TscRate;
use crate::clock::scaling::HostRange;
use crate::error::{Error, ErrorKind, Result};
use crate::monitor::Monitor;
use crate::pipeline::lanes::lanes;
use crate::pipeline::{Consumer, Limits, run};
use crate::selection::{Selection, machine};
use crate::session::Session;
use crate::time::HostTsc;

/// Gathers windows as their events go by.
struct Windows {
    rate: TscRate,
    range: HostRange,
    /// Per lane and event: how far the window reaches, if it matches.
    reach: Vec<Vec<Option<u64>>>,
    /// Sorted and disjoint, as long as all windows reach equally far; otherwise joined at the end.
    found: Vec<HostRange>,
}

impl Consumer for Windows {
    type Batch = ();

    fn event(&mut self, lane: u32, ts: HostTsc, record: &Record, _payload: &[u8]) {
        let reach = self.reach.get(lane as usize).and_then(|events| events.get(usize::from(record.event)));
        let Some(reach) = reach.copied().flatten() else { return };
        let at = self.rate.ns(ts).get();
        let first = first_at(self.rate, at.saturating_sub(reach));
        // The last of the cycles that are shown at that nanosecond.
        let last = first_at(self.rate, at.saturating_add(reach).saturating_add(1)).get().saturating_sub(1);
        // A window around an event has the event in it, however coarse the clock.
        let window = HostRange { first: first.min(ts), last: HostTsc::new(last).max(ts) };
        let Some(window) = window.intersect(self.range) else { return };
        match self.found.last_mut() {
            Some(before) if window.first <= before.last && before.first <= window.first => {
                before.last = before.last.max(window.last);
            }
            _ => self.found.push(window),
        }
    }

    fn lost(&mut self, _lane: u32, _ts: HostTsc, _count: Option<u64>) {}

    fn ends(&mut self, _lane: u32, _ts: HostTsc) {}

    fn take(&mut self, _out: &mut Vec<()>) {}
}

/// The windows within `range`, sorted and disjoint.
pub(super) fn windows(
    session: &Session,
    around: &[Around],
    range: HostRange,
    monitor: &Monitor<'_>,
) -> Result<Vec<HostRange>> {
    let mut wanted = Selection::within(session, HostRange::ALL);
    wanted.events = around.iter().map(|a| a.pattern.clone()).collect();
    let lanes = lanes(session, &wanted);
    let reach = lanes.inputs.iter().map(|&index| {
        let input = &session.inputs[index];
        let machine = machine(session, input.role);
        let formats = input.capture.formats.events().iter();
        let reach = formats.map(|f| {
            let matching = around.iter().filter(|a| a.pattern.matches(machine, &f.system, &f.name));
            matching.map(|a| a.window_ns).max()
        });
        reach.collect()
    });
    let mut windows = Windows { rate: session.rate.rate, range, reach: reach.collect(), found: Vec::new() };
    run(&lanes.lanes, Limits::default(), &mut windows, &|_, (), _| {}, &mut |_| Ok(()), monitor)?;
    let found = crate::session::runs::join_spans(windows.found);
    if found.is_empty() {
        let names: Vec<&str> = around.iter().map(|a| a.pattern.text()).collect();
        return Err(Error::new(ErrorKind::Usage, format!("no recorded event matches `{}`", names.join("`, `")))
            .hint("the event is known but did not occur in the time that was asked for"));
    }
    Ok(found)
}
