//! The TIME_SHIFT option: samples of a guest's clock against the host's.

use crate::capture::bytes::Cursor;
use crate::capture::{Endian, ShiftSample, TimeShift};
use crate::error::{Error, Result};

/// Reads a TIME_SHIFT option in any of its three layouts. The host writes it, in its own byte order: where the file's
/// order makes no sense of the sizes, the other one is tried. Gives the order that fits, too.
pub(super) fn parse(payload: &[u8], offset: u64, endian: Endian) -> Result<(TimeShift, Endian)> {
    let swapped = if endian == Endian::Little { Endian::Big } else { Endian::Little };
    for order in [endian, swapped] {
        for layout in [per_vcpu, single] {
            if let Some(shift) = layout(Cursor::new(payload, offset, order)) {
                return Ok((shift, order));
            }
        }
    }
    let message = format!("TIME_SHIFT of {} bytes fits no known layout", payload.len());
    Err(Error::format(message).at(offset))
}

fn numbers(cursor: &mut Cursor<'_>, count: usize) -> Option<Vec<u64>> {
    // `left` bounds the count before anything is reserved for it.
    if count > cursor.left() / 8 {
        return None;
    }
    (0..count).map(|_| cursor.u64("a sample").ok()).collect()
}

fn head(cursor: &mut Cursor<'_>) -> Option<(u64, bool, usize)> {
    let peer = cursor.u64("the peer's TRACEID").ok()?;
    let flags = cursor.u32("protocol flags").ok()?;
    Some((peer, flags & 1 != 0, cursor.u32("a count").ok()? as usize))
}

/// trace-cmd 3.0 and newer: per vCPU a count, times, offsets, scalings; then, if bytes are left, all fraction bits.
fn per_vcpu(mut cursor: Cursor<'_>) -> Option<TimeShift> {
    let (peer_trace_id, interpolate, count) = head(&mut cursor)?;
    let mut vcpus: Vec<Vec<ShiftSample>> = Vec::new();
    for _ in 0..count {
        let samples = cursor.u32("the number of samples").ok()? as usize;
        let times = numbers(&mut cursor, samples)?;
        let offsets = numbers(&mut cursor, samples)?;
        let scalings = numbers(&mut cursor, samples)?;
        let samples = times.into_iter().zip(offsets).zip(scalings);
        let sample = |((time, offset), scaling): ((u64, u64), u64)| ShiftSample {
            time,
            offset: offset.cast_signed(),
            scaling,
            fraction_bits: Some(0),
        };
        vcpus.push(samples.map(sample).collect());
    }
    let first = vcpus.first().map_or(0, Vec::len);
    let even = vcpus.iter().all(|samples| samples.len() == first);
    let total: usize = vcpus.iter().map(Vec::len).sum();
    if cursor.left() == 0 {
        // Written before there were fractions.
    } else if even {
        let fractions = numbers(&mut cursor, total)?;
        for (sample, fraction) in vcpus.iter_mut().flatten().zip(fractions) {
            sample.fraction_bits = u8::try_from(fraction).ok().filter(|&bits| bits <= 63);
        }
    } else {
        // trace-cmd writes every vCPU's fractions with the count of the last one: where counts differ, the block is
        // out of step and only "no scaling" can be told.
        cursor.take(cursor.left() & !7, "fraction bits").ok()?;
        for sample in vcpus.iter_mut().flatten() {
            sample.fraction_bits = (sample.scaling == 1).then_some(0);
        }
    }
    let fits = cursor.left() == 0;
    fits.then_some(TimeShift { peer_trace_id, interpolate, vcpus, all_cpus: false })
}

/// trace-cmd 2.9: one list for all CPUs, without scaling.
fn single(mut cursor: Cursor<'_>) -> Option<TimeShift> {
    let (peer_trace_id, interpolate, count) = head(&mut cursor)?;
    let (times, offsets) = (numbers(&mut cursor, count)?, numbers(&mut cursor, count)?);
    let sample = |(time, offset): (u64, u64)| ShiftSample {
        time,
        offset: offset.cast_signed(),
        scaling: 1,
        fraction_bits: Some(0),
    };
    let samples = times.into_iter().zip(offsets).map(sample).collect();
    let fits = cursor.left() == 0;
    fits.then_some(TimeShift { peer_trace_id, interpolate, vcpus: vec![samples], all_cpus: true })
}
