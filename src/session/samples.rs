//! A few chunks of a guest's streams: enough to see whose run windows its events fit.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::capture::{Capture, Chunk, Record};
use crate::clock::place::{Placer, Placing, Track};
use crate::clock::scaling::HostRange;
use crate::clock::windows::{State, Windows};
use crate::error::Result;
use crate::monitor::Monitor;
use crate::session::runs::{Host, join_spans, windows};
use crate::session::survey::Survey;
use crate::time::{HostTsc, RawStamp};

/// Events of one guest CPU, in recording order within each piece.
#[derive(Debug, Default)]
pub(super) struct StreamSample {
    /// CPU number.
    pub(super) cpu: u32,
    /// One per chunk that was read: stamps with the flags of their records.
    pub(super) pieces: Vec<Vec<(RawStamp, u8)>>,
}

/// Reads at most `chunks` chunks of each wanted CPU's stream of the buffer that holds most events, spread over its length.
pub(super) fn sample(
    capture: &Capture,
    survey: &Survey,
    chunks: usize,
    wanted: impl Fn(u32) -> bool,
) -> Result<Vec<StreamSample>> {
    let mut chunk = Chunk::default();
    let mut samples = Vec::new();
    let busiest = (0..capture.buffers.len()).max_by_key(|&b| {
        let events: u64 = survey.streams.iter().filter(|s| s.buffer == b).map(|s| s.events).sum();
        (events, std::cmp::Reverse(b))
    });
    for found in survey.streams.iter().filter(|s| Some(s.buffer) == busiest && s.events > 0 && wanted(s.cpu)) {
        let full: Vec<usize> = (0..found.chunks.len()).filter(|&i| found.chunks[i].records > 0).collect();
        let mut sample = StreamSample { cpu: found.cpu, ..StreamSample::default() };
        for index in spread(full.len(), chunks) {
            chunk.clear();
            let source = &capture.buffers[found.buffer].streams[found.stream].source;
            source.read(full[index], &mut chunk).map_err(|e| e.in_file(&capture.path))?;
            sample.pieces.push(chunk.records.iter().map(|r| (RawStamp::new(r.ts), r.flags)).collect());
        }
        samples.push(sample);
    }
    Ok(samples)
}

/// A piece of a guest's stream as that of one vCPU thread with one clock.
pub(super) struct Tried<'a> {
    pub(super) thread: i32,
    pub(super) tracks: Vec<Track>,
    pub(super) piece: &'a [(RawStamp, u8)],
}

/// How many of the pieces' events lie inside run windows, and of how many that is known. `all` are the windows of the
/// whole recording, if somebody has read them already.
pub(super) fn inside_and_checked(
    hosts: &[Host<'_>],
    all: Option<&BTreeMap<i32, Windows>>,
    tried: &[Tried<'_>],
    monitor: &Monitor<'_>,
) -> Result<(u64, u64)> {
    let read = |spans: Vec<HostRange>| -> Result<Cow<'_, BTreeMap<i32, Windows>>> {
        Ok(match all {
            Some(all) => Cow::Borrowed(all),
            None => Cow::Owned(windows(hosts, &join_spans(spans), monitor)?),
        })
    };
    let walk = |t: &Tried<'_>| {
        let mut placer = Placer::new(t.tracks.clone());
        t.piece.iter().for_each(|(stamp, flags)| placer.push(*stamp, *flags));
        placer.finish()
    };
    let placings: Vec<Placing> = tried.iter().map(walk).collect();
    let windows = read(placings.iter().flat_map(Placing::needs).collect())?;
    let mut placed: Vec<(i32, Vec<HostRange>)> = Vec::new();
    for (t, placing) in tried.iter().zip(placings) {
        let placement = placing.resolve(windows.get(&t.thread));
        let host = |(event, (stamp, _)): (u64, &(RawStamp, u8))| {
            placement.pieces.get(placement.index_at(event)?)?.host(*stamp)
        };
        placed.push((t.thread, (0_u64..).zip(t.piece).filter_map(host).collect()));
    }
    let span = |times: &Vec<HostRange>| {
        HostRange::new(times.iter().map(|r| r.first).min()?, times.iter().map(|r| r.last).max()?)
    };
    let windows = read(placed.iter().filter_map(|(_, times)| span(times)).collect())?;
    let (mut inside, mut checked) = (0, 0);
    for (thread, times) in &placed {
        let Some(windows) = windows.get(thread) else { continue };
        let state = |ts: HostTsc| windows.state(ts);
        for range in times {
            match (state(range.first), state(range.last)) {
                (State::Inside, _) | (_, State::Inside) => {
                    inside += 1;
                    checked += 1;
                }
                (State::Unknown, _) | (_, State::Unknown) => {}
                _ => checked += 1,
            }
        }
    }
    Ok((inside, checked))
}

/// The stamps of a sample that are not stale.
pub(super) fn sound(sample: &StreamSample) -> Vec<RawStamp> {
    let mut stamps = Vec::new();
    for piece in &sample.pieces {
        let mut stale = false;
        for (stamp, flags) in piece {
            stale = (stale && flags & Record::FIRST == 0) || flags & Record::ZERO_EXTEND != 0;
            if !stale {
                stamps.push(*stamp);
            }
        }
    }
    stamps
}

/// At most `want` of `len` positions, ascending, the first and the last among them.
fn spread(len: usize, want: usize) -> Vec<usize> {
    if len <= want {
        return (0..len).collect();
    }
    (0..want).map(|i| i * (len - 1) / (want - 1).max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn positions_are_spread_over_the_whole_length() {
        assert_eq!(spread(2, 3), [0, 1]);
        assert_eq!(spread(10, 3), [0, 4, 9]);
        assert_eq!(spread(10, 1), [0]);
        assert_eq!(spread(0, 3), Vec::<usize>::new());
    }
}
