//! Real recordings with bytes missing or wrong: an error or less events, never a panic, and bounded memory.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::capture::Chunk;
use crate::capture::limits::Limits;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/perf").join(name)).unwrap()
}

/// How many events there are, all of them read.
fn count(bytes: Vec<u8>) -> Result<usize> {
    let size = bytes.len();
    let capture = open(Path::new("x"), Arc::new(bytes), &Limits::default())?;
    let mut chunk = Chunk::default();
    let mut events = 0;
    for stream in capture.buffers.iter().flat_map(|buffer| &buffer.streams) {
        for index in 0..stream.source.chunks() {
            stream.source.read(index, &mut chunk)?;
            assert!(chunk.data.len() <= 100 * size);
            assert!(chunk.records.is_sorted_by_key(|record| record.ts));
            events += chunk.records.iter().filter(|record| !chunk.payload(record).is_empty()).count();
        }
    }
    Ok(events)
}

const FILES: [&str; 4] = ["sched.data", "zstd.data", "pipe.data", "software.data"];

#[test]
fn wrong_bytes_are_no_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for name in FILES {
        let whole = fixture(name);
        let (mut refused, mut read) = (0, 0);
        for turn in 0..150 {
            let mut bytes = whole.clone();
            for _ in 0..1 + random(4) {
                // The first bytes say where all others are.
                let at = if turn % 2 == 0 { random(512) } else { random(bytes.len()) };
                bytes[at] = if turn % 3 == 0 { 0xff } else { random(256) as u8 };
            }
            match count(bytes) {
                Ok(_) => read += 1,
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 0 && read > 0, "{name}: {refused} {read}");
    }
}

#[test]
fn every_cut_is_told() {
    for name in FILES {
        let whole = fixture(name);
        let (cuts, all) = (whole.len() / 199, count(whole.clone()).unwrap());
        for cut in (0..whole.len()).step_by(cuts).chain([whole.len() - 1]) {
            let bytes = whole[..cut].to_vec();
            match open(Path::new("x"), Arc::new(bytes.clone()), &Limits::default()) {
                Err(error) => assert!(error.file().is_some(), "{error}"),
                // The last bytes of a file are padding.
                Ok(capture) if name == "software.data" || capture.info.damaged.is_empty() => {}
                Ok(_) => assert!(count(bytes).unwrap() <= all, "{name} {cut}"),
            }
        }
    }
}

#[test]
fn a_recorder_that_was_killed_is_named() {
    // Neither the size of the records nor what follows them was written.
    let mut bytes = fixture("sched.data");
    let data = u64::from_le_bytes(bytes[40..48].try_into().unwrap());
    let size = u64::from_le_bytes(bytes[48..56].try_into().unwrap());
    bytes.truncate((data + size) as usize);
    bytes[48..56].fill(0);
    bytes[72..104].fill(0);
    let error = count(bytes).unwrap_err();
    assert!(error.to_string().contains("does not describe its"), "{error}");
    assert!(error.hint_text().unwrap().contains("Ctrl-C"));
}

#[test]
fn recognised_by_its_first_bytes() {
    assert!(is_perf_data(b"PERFILE2\x68") && is_perf_data(b"2ELIFREP\0") && is_perf_data(b"PERFFILE"));
    assert!(!is_perf_data(b"PERFILE") && !is_perf_data(b"perf.data"));
}
