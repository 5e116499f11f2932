//! Traces with bytes missing or wrong: an error or less events, never a panic, and bounded memory.

use std::io::Write;

use super::*;
use crate::capture::Chunk;
use crate::capture::limits::Limits;
use crate::export::perfetto::wire::Out;

fn message(fill: impl FnOnce(&mut Out)) -> Vec<u8> {
    let mut out = Out::default();
    fill(&mut out);
    out.into()
}

fn packet(field: u32, content: &[u8]) -> Vec<u8> {
    message(|out| {
        let packet = out.open(1);
        out.bytes(field, content);
        out.uint(10, 1);
        out.close(packet);
    })
}

fn event(ts: u64, pid: u64, number: u32, content: &[u8]) -> Vec<u8> {
    message(|out| {
        out.uint(1, ts);
        out.uint(2, pid);
        out.bytes(number, content);
    })
}

/// Eight events of a CPU from `ts` on: two switches and a waking in columns, five messages.
fn bundle(cpu: u64, ts: u64, lost: bool) -> Vec<u8> {
    message(|out| {
        out.uint(1, cpu);
        let generic = message(|out| {
            out.bytes(1, b"kvm_write_tsc_offset");
            for (name, value) in [("vcpu_id", 1), ("previous_tsc_offset", 0), ("next_tsc_offset", u64::MAX - 5)] {
                let field = out.open(2);
                out.bytes(1, name.as_bytes());
                out.uint(5, value);
                out.close(field);
            }
        });
        for event in [
            event(ts + 1, 20, 376, b""),
            event(ts + 3, 20, 377, b""),
            event(ts + 4, 20, 327, &generic),
            event(ts + 5, 20, 65_540, b"\x08\x07\x12\x02ab"),
            // No event that is read here.
            event(ts + 6, 20, 16, b"\x08\x01"),
        ] {
            out.bytes(2, &event);
        }
        if lost {
            out.uint(3, 1);
        }
        let compact = out.open(4);
        out.bytes(5, b"qemu");
        let first = message(|out| {
            out.varint(ts);
            out.varint(9);
        });
        out.bytes(1, &first);
        for (field, column) in [(2, [1, 0]), (3, [20, 0]), (4, [120, 120]), (6, [0, 0])] {
            out.bytes(field, &column);
        }
        out.bytes(7, &message(|out| out.varint(ts + 2)));
        for (field, value) in [(8, 20), (9, 1), (10, 120), (11, 0), (12, 1)] {
            out.bytes(field, &[value]);
        }
        out.close(compact);
        let descriptor = message(|out| {
            out.bytes(1, b"kvm_fpu");
            for (name, number, kind) in [("load", 1, 13), ("text", 2, 9)] {
                let field = out.open(2);
                out.bytes(1, name.as_bytes());
                out.uint(3, number);
                out.uint(5, kind);
                out.close(field);
            }
        });
        let described = out.open(11);
        out.uint(1, 65_540);
        out.bytes(2, &descriptor);
        out.close(described);
    })
}

const BUNDLES: u64 = 40;

fn trace(packed: bool) -> Vec<u8> {
    let snapshot = |ns: u64| {
        let message = message(|out| {
            for (clock, time) in [(6, ns), (9, ns * 5 / 2)] {
                let entry = out.open(1);
                out.uint(1, clock);
                out.uint(2, time);
                out.close(entry);
            }
        });
        packet(6, &message)
    };
    let mut packets = vec![snapshot(1_000_000)];
    packets.extend((0..BUNDLES).map(|i| packet(1, &bundle(i % 3, 2_000_000 + 1_000_000 * i, i == 7))));
    packets.push(snapshot(2_000_000_000));
    if !packed {
        return packets.concat();
    }
    let pack = |group: &[Vec<u8>]| {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&group.concat()).unwrap();
        packet(50, &encoder.finish().unwrap())
    };
    packets.chunks(7).map(pack).collect::<Vec<_>>().concat()
}

/// How many events there are, all of them read, and how many losses.
fn count(bytes: Vec<u8>) -> Result<(usize, usize)> {
    let size = bytes.len();
    let capture = open(Path::new("x"), Arc::new(bytes), &Limits::default())?;
    let mut chunk = Chunk::default();
    let (mut events, mut lost) = (0, 0);
    for stream in capture.buffers.iter().flat_map(|buffer| &buffer.streams) {
        for index in 0..stream.source.chunks() {
            stream.source.read(index, &mut chunk)?;
            assert!(chunk.data.len() <= 4000 * (size + 1));
            assert!(chunk.records.is_sorted_by_key(|record| record.ts));
            events += chunk.records.iter().filter(|record| !chunk.payload(record).is_empty()).count();
            lost += chunk.lost.len();
        }
    }
    Ok((events, lost))
}

#[test]
fn what_a_trace_says() {
    for packed in [false, true] {
        assert_eq!(count(trace(packed)).unwrap(), (7 * BUNDLES as usize, 1));
        let capture = open(Path::new("x"), Arc::new(trace(packed)), &Limits::default()).unwrap();
        assert_eq!(capture.info.warnings.len(), 1, "{:?}", capture.info.warnings);
        assert!(
            capture.info.warnings[0]
                .starts_with("40 ftrace events of kinds that are not read here are not drawn: numbers 16 (40)")
        );
        assert_eq!(capture.buffers[0].clock, Clock::X86Tsc);
        assert_eq!(capture.info.stamp_cycles, 3);
        let found: Vec<_> = capture.formats.events().iter().map(|e| format!("{}:{}", e.system, e.name)).collect();
        let expected = [
            "sched:sched_switch",
            "sched:sched_waking",
            "kvm:kvm_entry",
            "kvm:kvm_exit",
            "kvm:kvm_write_tsc_offset",
            "kvm:kvm_fpu",
        ];
        assert_eq!(found, expected);
        let mut chunk = Chunk::default();
        capture.buffers[0].streams[1].source.read(0, &mut chunk).unwrap();
        let texts: Vec<String> = chunk.records[..7]
            .iter()
            .map(|record| {
                let mut text = Vec::new();
                let format = capture.formats.get(record.event).unwrap();
                format.render(chunk.payload(record), Endian::Little, &Default::default(), &mut text);
                let pid = format.pid(chunk.payload(record), Endian::Little).unwrap();
                format!("{} {pid} {}", record.ts, String::from_utf8(text).unwrap())
            })
            .collect();
        let expected = [
            "7500000 -1 prev_comm= prev_pid=-1 prev_prio=0 prev_state=1 next_comm=qemu next_pid=20 next_prio=120",
            "7500003 20 ",
            "7500005 20 comm=qemu pid=20 prio=120 target_cpu=1",
            "7500008 20 ",
            "7500010 20 vcpu_id=1 previous_tsc_offset=0 next_tsc_offset=18446744073709551610",
            "7500013 20 load=7 text=ab",
            "7500023 20 prev_comm=qemu prev_pid=20 prev_prio=120 prev_state=0 next_comm=qemu next_pid=0 next_prio=120",
        ];
        assert_eq!(texts, expected);
    }
}

#[test]
fn wrong_bytes_are_no_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for packed in [false, true] {
        let whole = trace(packed);
        let (mut refused, mut read) = (0, 0);
        for turn in 0..600 {
            let mut bytes = whole.clone();
            for _ in 0..1 + random(4) {
                let at = random(bytes.len());
                bytes[at] = if turn % 3 == 0 { 0xff } else { random(256) as u8 };
            }
            match count(bytes) {
                Ok(_) => read += 1,
                Err(_) => refused += 1,
            }
        }
        assert!(read > 300, "{refused} {read}");
    }
}

#[test]
fn every_cut_is_told() {
    for packed in [false, true] {
        let whole = trace(packed);
        let all = count(whole.clone()).unwrap().0;
        let mut ends: Vec<u64> = packets::whole(&whole, 0).map(|packet| packet.at + packet.size).collect();
        ends.insert(0, 0);
        for cut in 1..whole.len() {
            let bytes = whole[..cut].to_vec();
            let between = ends.contains(&(cut as u64));
            match open(Path::new("x"), Arc::new(bytes.clone()), &Limits::default()) {
                Err(error) => assert!(error.file().is_some(), "{error}"),
                Ok(capture) => {
                    assert_eq!(capture.info.damaged.is_empty(), between, "{cut} {:?}", capture.info.damaged);
                    let native = capture.info.perfetto.unwrap();
                    // What goes into an output ends with a whole packet.
                    assert_eq!(native.end, *ends.iter().filter(|&&end| end <= cut as u64).max().unwrap());
                    assert!(count(bytes).unwrap().0 <= all);
                }
            }
        }
    }
}

#[test]
fn a_packet_that_makes_no_sense_costs_itself() {
    let whole = trace(false);
    let third = packets::whole(&whole, 0).nth(3).map(|packet| (packet.at, packet.size)).unwrap();
    let mut bytes = whole.clone();
    // The bundle claims to be longer than its packet.
    bytes[third.0 as usize + 5] = 0x7f;
    let capture = open(Path::new("x"), Arc::new(bytes.clone()), &Limits::default()).unwrap();
    assert_eq!(capture.info.damaged, ["1 packets make no sense and are skipped"]);
    assert_eq!(count(bytes).unwrap().0, 7 * (BUNDLES as usize - 1));
}

#[test]
fn recognised_by_its_first_packets() {
    let whole = trace(false);
    assert!(is_perfetto(&whole) && is_perfetto(&whole[..50]) && is_perfetto(&trace(true)[..40]));
    assert!(is_perfetto(&packet(1, &[0; 20_000])[..8192]));
    // A configuration, as traces begin with.
    assert!(is_perfetto(&packet(33, b"\x0a\x00")));
    for other in [&b""[..], b"\n", b"\n\n\n\n", b"\n#\n# text\n", b"\n\x05hello", b"\x0a\x02\x08\x05\x0b", b"\x08\x01"]
    {
        assert!(!is_perfetto(other), "{other:?}");
    }
}
