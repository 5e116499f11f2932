//! A few chunks of a guest's streams: enough to see whose run windows its events fit.

use crate::capture::{Capture, Chunk};
use crate::error::Result;
use crate::session::survey::Survey;
use crate::time::RawStamp;

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
