//! A small perf.data writer for tests: as a file, into a pipe, compressed; little or big endian.
//!
//! Samples have the fields that `perf record -a -e SYSTEM:EVENT` asks for. They stand in rounds, CPU after CPU, as perf
//! writes them.

use std::collections::{BTreeMap, BTreeSet};

/// A sample of a tracepoint.
#[derive(Clone, Debug)]
pub struct Sample {
    /// CPU.
    pub cpu: u32,
    /// Nanoseconds.
    pub time: u64,
    /// Thread.
    pub tid: i32,
    /// The tracepoint's fields, common ones first.
    pub raw: Vec<u8>,
}

/// How the file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `perf record -o FILE`.
    File,
    /// `perf record -o -`.
    Pipe,
    /// `perf record -z`.
    Zstd,
}

/// A perf.data under construction.
pub struct PerfData {
    /// Byte order.
    pub big: bool,
    /// How it is written.
    pub mode: Mode,
    /// (shift, mult, zero) of TIME_CONV.
    pub time_conv: Option<(u64, u64, u64)>,
    /// `perf record -k`.
    pub clockid: Option<i32>,
    /// What perf keeps of tracefs.
    pub tracing_data: Vec<u8>,
    /// Ids and names of tracepoints.
    pub events: Vec<(u16, String)>,
    /// (process, thread, name).
    pub comms: Vec<(i32, i32, String)>,
    /// (CPU, time, how many) events were lost.
    pub lost: Vec<(u32, u64, u64)>,
    /// In any order.
    pub samples: Vec<Sample>,
    /// Nanoseconds per round.
    pub round: u64,
}

const SAMPLE_TYPE: u64 = 0x1_0587;

impl PerfData {
    /// Nothing.
    pub fn new() -> Self {
        Self {
            big: false,
            mode: Mode::File,
            time_conv: None,
            clockid: None,
            tracing_data: Vec::new(),
            events: Vec::new(),
            comms: Vec::new(),
            lost: Vec::new(),
            samples: Vec::new(),
            round: 5_000_000,
        }
    }

    fn u16(&self, value: u16) -> [u8; 2] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn u32(&self, value: u32) -> [u8; 4] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn u64(&self, value: u64) -> [u8; 8] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn words(&self, values: &[u64]) -> Vec<u8> {
        values.iter().flat_map(|&value| self.u64(value)).collect()
    }

    fn record(&self, kind: u32, body: &[u8]) -> Vec<u8> {
        let size = u16::try_from(body.len() + 8).expect("a record of at most 64 KiB");
        [&self.u32(kind)[..], &self.u16(1), &self.u16(size), body].concat()
    }

    fn text(&self, text: &str) -> Vec<u8> {
        let size = (text.len() + 1).next_multiple_of(64);
        let mut out = self.u32(size as u32).to_vec();
        out.extend(text.bytes());
        out.resize(4 + size, 0);
        out
    }

    fn cpus(&self) -> BTreeSet<u32> {
        self.samples.iter().map(|sample| sample.cpu).collect()
    }

    fn id(event: usize, cpu: u32) -> u64 {
        1 + event as u64 * 1000 + u64::from(cpu)
    }

    fn ids(&self, event: usize) -> Vec<u64> {
        self.cpus().into_iter().map(|cpu| Self::id(event, cpu)).collect()
    }

    fn attr(&self, id: u16) -> Vec<u8> {
        let bits: &[u32] = if self.clockid.is_some() { &[0, 1, 18, 20, 25] } else { &[0, 1, 18, 20] };
        let flags = bits.iter().fold(0, |flags, bit| flags | 1_u64 << if self.big { 63 - bit } else { *bit });
        let mut attr = [&self.u32(2)[..], &self.u32(128)].concat();
        attr.extend(self.words(&[u64::from(id), 1, SAMPLE_TYPE, 4, flags]));
        attr.resize(92, 0);
        attr.extend(self.u32(self.clockid.unwrap_or(0).cast_unsigned()));
        attr.resize(128, 0);
        attr
    }

    fn sample_id(&self, tid: i32, time: u64, cpu: u32) -> Vec<u8> {
        let tid = self.u32(tid.cast_unsigned());
        [&tid[..], &tid, &self.u64(time), &self.u32(cpu), &[0; 4], &self.u64(Self::id(0, cpu))].concat()
    }

    fn sample(&self, sample: &Sample, events: &BTreeMap<u16, usize>) -> Vec<u8> {
        let head = [sample.raw[0], sample.raw[1]];
        let id = if self.big { u16::from_be_bytes(head) } else { u16::from_le_bytes(head) };
        let tid = self.u32(sample.tid.cast_unsigned());
        let mut body = self.words(&[Self::id(events[&id], sample.cpu), 0]);
        body.extend([&tid[..], &tid].concat());
        body.extend(self.u64(sample.time));
        body.extend([&self.u32(sample.cpu)[..], &[0; 4]].concat());
        body.extend(self.u64(1));
        // The kernel counts its padding.
        let size = (sample.raw.len() + 4).next_multiple_of(8) - 4;
        body.extend(self.u32(size as u32));
        let start = body.len();
        body.extend(&sample.raw);
        body.resize(start + size, 0);
        self.record(9, &body)
    }

    /// The records of one CPU in one round, joined; then the end of the round.
    fn rounds(&self) -> Vec<Vec<u8>> {
        let events: BTreeMap<u16, usize> = self.events.iter().enumerate().map(|(at, (id, _))| (*id, at)).collect();
        let mut samples: Vec<&Sample> = self.samples.iter().collect();
        samples.sort_by_key(|sample| (sample.time / self.round, sample.cpu));
        let mut lost: Vec<_> = self.lost.clone();
        let mut blocks = Vec::new();
        for round in samples.chunk_by(|a, b| a.time / self.round == b.time / self.round) {
            for buffer in round.chunk_by(|a, b| a.cpu == b.cpu) {
                let mut block = Vec::new();
                for sample in buffer {
                    lost.retain(|&(cpu, time, count)| {
                        let before = cpu == sample.cpu && time <= sample.time;
                        if before {
                            let body = [self.words(&[1, count]), self.sample_id(0, time, cpu)].concat();
                            block.extend(self.record(2, &body));
                        }
                        !before
                    });
                    block.extend(self.sample(sample, &events));
                }
                blocks.push(block);
            }
            blocks.push(self.record(68, &[]));
        }
        blocks
    }

    fn data(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some((shift, mult, zero)) = self.time_conv {
            let body = [self.words(&[shift, mult, zero, 0, u64::MAX]), vec![1, 0, 0, 0, 0, 0, 0, 0]].concat();
            out.extend(self.record(79, &body));
        }
        for (pid, tid, comm) in &self.comms {
            let mut body = [self.u32(pid.cast_unsigned()), self.u32(tid.cast_unsigned())].concat();
            body.extend(comm.bytes());
            body.resize(body.len() / 8 * 8 + 8, 0);
            body.extend(self.sample_id(*tid, 0, 0));
            out.extend(self.record(3, &body));
        }
        if self.mode != Mode::Zstd {
            out.extend(self.rounds().concat());
            return out;
        }
        // One stream, cut wherever a block of 40,000 bytes ends; the end of a round stands between.
        let mut packer = zstd::stream::raw::Encoder::new(1).expect("an encoder");
        for block in self.rounds() {
            if block.len() == 8 {
                out.extend(block);
                continue;
            }
            for piece in block.chunks(40_000) {
                let mut packed = vec![0; 60_000];
                let size = {
                    use zstd::stream::raw::{InBuffer, Operation, OutBuffer};
                    let mut output = OutBuffer::around(&mut packed[..]);
                    let mut input = InBuffer::around(piece);
                    while input.pos() < piece.len() {
                        packer.run(&mut input, &mut output).expect("packed");
                    }
                    assert_eq!(packer.flush(&mut output).expect("flushed"), 0);
                    output.pos()
                };
                out.extend(self.record(81, &packed[..size]));
            }
        }
        out
    }

    fn features(&self) -> Vec<(u32, Vec<u8>)> {
        let cpus = self.cpus().last().map_or(1, |last| last + 1);
        let mut names = [self.u32(self.events.len() as u32), self.u32(128)].concat();
        for (index, (id, name)) in self.events.iter().enumerate() {
            names.extend(self.attr(*id));
            names.extend(self.u32(self.cpus().len() as u32));
            names.extend(self.text(name));
            names.extend(self.words(&self.ids(index)));
        }
        let mut features = vec![
            (3, self.text("host")),
            (4, self.text("6.1.0")),
            (5, self.text("6.1")),
            (6, self.text("x86_64")),
            (7, [self.u32(cpus), self.u32(cpus)].concat()),
            (12, names),
        ];
        if self.mode == Mode::Zstd {
            let words = [1, 1, 1, 10, 528_384];
            features.push((27, words.iter().flat_map(|&word| self.u32(word)).collect()));
        }
        features
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let magic = if self.big { b"2ELIFREP" } else { b"PERFILE2" };
        if self.mode == Mode::Pipe {
            let mut out = [&magic[..], &self.u64(16)].concat();
            for (index, (id, _)) in self.events.iter().enumerate() {
                out.extend(self.record(64, &[self.attr(*id), self.words(&self.ids(index))].concat()));
            }
            for (feature, bytes) in self.features().into_iter().filter(|(_, bytes)| bytes.len() < 60_000) {
                out.extend(self.record(80, &[&self.u64(u64::from(feature))[..], &bytes].concat()));
            }
            let size = self.tracing_data.len().next_multiple_of(8);
            out.extend(self.record(66, &[self.u32(size as u32), [0; 4]].concat()));
            out.extend(&self.tracing_data);
            out.resize(out.len() + size - self.tracing_data.len(), 0);
            out.extend(self.data());
            return out;
        }
        let ids: Vec<Vec<u64>> = (0..self.events.len()).map(|event| self.ids(event)).collect();
        let mut out = vec![0; 104];
        let mut places = Vec::new();
        for list in &ids {
            places.push([out.len() as u64, list.len() as u64 * 8]);
            out.extend(self.words(list));
        }
        let attrs_at = out.len() as u64;
        for ((id, _), place) in self.events.iter().zip(&places) {
            out.extend(self.attr(*id));
            out.extend(self.words(place));
        }
        let data_at = out.len() as u64;
        out.extend(self.data());
        let data_len = out.len() as u64 - data_at;
        let mut features = self.features();
        features.insert(0, (1, self.tracing_data.clone()));
        let mut at = out.len() + 16 * features.len();
        for (_, bytes) in &features {
            out.extend(self.words(&[at as u64, bytes.len() as u64]));
            at += bytes.len();
        }
        let bits = features.iter().fold(0, |bits, (feature, _)| bits | 1_u64 << feature);
        features.iter().for_each(|(_, bytes)| out.extend(bytes));
        let attrs_len = 144 * self.events.len() as u64;
        let head = [104, 144, attrs_at, attrs_len, data_at, data_len, 0, 0, bits, 0, 0, 0];
        let head = [&magic[..], &self.words(&head)].concat();
        out[..104].copy_from_slice(&head);
        out
    }
}

/// What perf keeps of tracefs, from these format texts per system.
pub fn tracing_data(big: bool, systems: &[(&str, Vec<String>)]) -> Vec<u8> {
    let u32 = |value: usize| if big { (value as u32).to_be_bytes() } else { (value as u32).to_le_bytes() };
    let u64 = |value: usize| if big { (value as u64).to_be_bytes() } else { (value as u64).to_le_bytes() };
    let mut out = b"\x17\x08\x44tracing0.6\0".to_vec();
    out.extend([u8::from(big), 8]);
    out.extend(u32(4096));
    for name in ["header_page", "header_event"] {
        out.extend(name.bytes());
        out.push(0);
        out.extend(u64(0));
    }
    out.extend(u32(0));
    out.extend(u32(systems.len()));
    for (system, formats) in systems {
        out.extend(system.bytes());
        out.push(0);
        out.extend(u32(formats.len()));
        for format in formats {
            out.extend(u64(format.len()));
            out.extend(format.bytes());
        }
    }
    // kallsyms, printk formats, command lines.
    out.extend(u32(0));
    out.extend(u32(0));
    out.extend(u64(0));
    out
}

/// What perf would keep, from a trace.dat of version 7 that has the same formats.
pub fn tracing_data_of(file: &[u8]) -> Vec<u8> {
    let number = |at: usize, len: usize| file[at..at + len].iter().rev().fold(0_usize, |n, &b| n << 8 | usize::from(b));
    assert_eq!(&file[..12], b"\x17\x08\x44tracing7\0");
    let mut at = 18;
    for _ in 0..2 {
        at += file[at..].iter().position(|&b| b == 0).expect("a text") + 1;
    }
    let section = |at: usize| -> Vec<u8> {
        let size = number(at + 8, 8);
        let bytes = &file[at + 16..at + 16 + size];
        match number(at + 2, 2) & 1 {
            0 => bytes.to_vec(),
            _ => zstd::bulk::decompress(&bytes[8..], number(at + 20, 4)).expect("zstd"),
        }
    };
    let mut parts = BTreeMap::new();
    let mut next = number(at, 8);
    while next != 0 {
        let options = section(next);
        let mut rest = &options[..];
        next = loop {
            let word =
                |at: usize, len: usize| rest[at..at + len].iter().rev().fold(0_usize, |n, &b| n << 8 | usize::from(b));
            let (id, size) = (word(0, 2), word(2, 4));
            match id {
                0 => break word(6, 8),
                16..=18 => drop(parts.insert(id, section(word(6, 8)))),
                _ => {}
            }
            rest = &rest[6 + size..];
        };
    }
    let mut out = b"\x17\x08\x44tracing0.6\0\0\x08".to_vec();
    out.extend(4096_u32.to_le_bytes());
    parts.values().for_each(|part| out.extend(part));
    out.extend([0; 16]);
    out
}
