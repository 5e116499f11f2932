//! A small trace.dat writer for tests: versions 6 and 7, any byte order, compression, instances, options.
//!
//! ```ignore
//! let layout = Layout::X86_64;
//! let format = format_text("ping", 100, &[Field::u32("n")]);
//! let mut pages = PageBuilder::new(layout);
//! pages.event(1_000, &Payload::new(layout, 100, 42).u32(7).bytes());
//! let bytes = TraceDat::new(7, layout)
//!     .compression(Compression::Zstd)
//!     .format("test", &format)
//!     .trace_id(0x1234)
//!     .buffer("", "x86-tsc", vec![(0, pages.finish())])
//!     .to_bytes();
//! ```
//!
//! Whatever an option's setter cannot express goes through [`TraceDat::option`] as bytes.

use std::io::Write as _;

use kvm_timeline::capture::{Endian, TimeShift};

use super::ring_pages::{Layout, Page};

/// How a version 7 file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// One zstd frame per block.
    Zstd,
    /// One zlib stream per block.
    Zlib,
}

/// Layouts of the TIME_SHIFT option over the years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShiftLayout {
    /// trace-cmd 2.9: one list for all CPUs, neither scaling nor fractions.
    Single,
    /// Per vCPU, without fraction bits.
    Scaling,
    /// Per vCPU, fraction bits behind all vCPUs.
    Fractions,
}

struct BufferData {
    name: String,
    clock: String,
    cpus: Vec<(u32, Vec<Page>)>,
    sub_buffer: usize,
}

/// A trace.dat file under construction.
pub struct TraceDat {
    version: u8,
    layout: Layout,
    recorder_long: u8,
    header_page_size: u32,
    compression: Compression,
    compress_metadata: bool,
    chunk_pages: usize,
    old_chunk_sizes: bool,
    cpu_count: Option<u32>,
    options: Vec<(u16, Vec<u8>)>,
    ftrace_formats: Vec<String>,
    systems: Vec<(String, Vec<String>)>,
    kallsyms: String,
    printk: String,
    cmdlines: String,
    buffers: Vec<BufferData>,
}

impl TraceDat {
    /// An empty file of version 6 or 7. The sub-buffer size of `layout` also stands in the file header.
    pub fn new(version: u8, layout: Layout) -> Self {
        assert!(version == 6 || version == 7);
        Self {
            version,
            layout,
            recorder_long: layout.long_size as u8,
            header_page_size: layout.sub_buffer as u32,
            compression: Compression::None,
            compress_metadata: true,
            chunk_pages: 10,
            old_chunk_sizes: false,
            cpu_count: None,
            options: Vec::new(),
            ftrace_formats: Vec::new(),
            systems: Vec::new(),
            kallsyms: String::new(),
            printk: String::new(),
            cmdlines: String::new(),
            buffers: Vec::new(),
        }
    }

    /// Size of `long` in the recorder's user space, where it differs from the kernel's.
    pub fn recorder_long(mut self, size: u8) -> Self {
        self.recorder_long = size;
        self
    }

    /// The page size in the file header (and, for version 7, in BUFFER options), where the recorder got it wrong.
    pub fn stated_page_size(mut self, size: u32) -> Self {
        self.header_page_size = size;
        self
    }

    /// Compresses sections and CPU data (version 7 only).
    pub fn compression(mut self, compression: Compression) -> Self {
        assert!(self.version == 7 || compression == Compression::None);
        self.compression = compression;
        self
    }

    /// Whether metadata sections are compressed too (default: yes).
    pub fn compress_metadata(mut self, yes: bool) -> Self {
        self.compress_metadata = yes;
        self
    }

    /// Sub-buffers per compressed chunk (default 10, as trace-cmd).
    pub fn chunk_pages(mut self, pages: usize) -> Self {
        self.chunk_pages = pages.max(1);
        self
    }

    /// States compressed sizes 4 too small, as trace-cmd 3.0 and 3.1 do.
    pub fn old_chunk_sizes(mut self) -> Self {
        self.old_chunk_sizes = true;
        self
    }

    /// Number of CPUs of the machine; default: highest CPU with data, plus one.
    pub fn cpu_count(mut self, count: u32) -> Self {
        self.cpu_count = Some(count);
        self
    }

    /// Appends an option as it is.
    pub fn option(mut self, id: u16, payload: impl Into<Vec<u8>>) -> Self {
        self.options.push((id, payload.into()));
        self
    }

    /// DATE: added to all stamps, in microseconds.
    pub fn date(self, microseconds: u64) -> Self {
        self.option(1, format!("{microseconds:#x}\0"))
    }

    /// TRACECLOCK: the text of the trace_clock file.
    pub fn trace_clock(self, text: &str) -> Self {
        self.option(4, format!("{text}\0"))
    }

    /// UNAME.
    pub fn uname(self, text: &str) -> Self {
        self.option(5, format!("{text}\0"))
    }

    /// VERSION: of the recorder.
    pub fn recorder(self, text: &str) -> Self {
        self.option(9, format!("{text}\0"))
    }

    /// TRACEID.
    pub fn trace_id(self, id: u64) -> Self {
        let payload = self.layout.u64(id);
        self.option(11, payload)
    }

    /// CPUSTAT: the text of `per_cpu/cpuN/stats`.
    pub fn cpu_stat(self, text: &str) -> Self {
        self.option(2, format!("{text}\0"))
    }

    /// GUEST: a VM's name, the TRACEID of its file, and (vCPU, thread) pairs.
    pub fn guest(self, name: &str, trace_id: u64, vcpus: &[(u32, i32)]) -> Self {
        let layout = self.layout;
        let mut payload = name.as_bytes().to_vec();
        payload.push(0);
        payload.extend(layout.u64(trace_id));
        payload.extend(layout.u32(vcpus.len() as u32));
        for &(vcpu, tid) in vcpus {
            payload.extend(layout.u32(vcpu));
            payload.extend(layout.u32(tid as u32));
        }
        self.option(13, payload)
    }

    /// TSC2NSEC.
    pub fn tsc2nsec(self, mult: u32, shift: u32, offset: u64) -> Self {
        let layout = self.layout;
        self.option(14, [&layout.u32(mult)[..], &layout.u32(shift), &layout.u64(offset)].concat())
    }

    /// TIME_SHIFT in the file's byte order; [`time_shift_payload`] makes others.
    pub fn time_shift(self, shift: &TimeShift, layout: ShiftLayout) -> Self {
        let payload = time_shift_payload(self.layout.endian, shift, layout);
        self.option(12, payload)
    }

    /// Adds an event's format text to `system`; `ftrace` stands apart in the file, as in real ones.
    pub fn format(mut self, system: &str, text: &str) -> Self {
        if system == "ftrace" {
            self.ftrace_formats.push(text.to_owned());
        } else if let Some((_, events)) = self.systems.iter_mut().find(|(name, _)| name == system) {
            events.push(text.to_owned());
        } else {
            self.systems.push((system.to_owned(), vec![text.to_owned()]));
        }
        self
    }

    /// The text of /proc/kallsyms.
    pub fn kallsyms(mut self, text: &str) -> Self {
        text.clone_into(&mut self.kallsyms);
        self
    }

    /// The text of `printk_formats`.
    pub fn printk(mut self, text: &str) -> Self {
        text.clone_into(&mut self.printk);
        self
    }

    /// The text of `saved_cmdlines`.
    pub fn cmdlines(mut self, text: &str) -> Self {
        text.clone_into(&mut self.cmdlines);
        self
    }

    /// Adds a buffer: the top one (empty name) or an instance, with its clock's name and the sub-buffers of each CPU.
    /// Version 6 has one clock text per file and the same number of CPUs in every buffer.
    pub fn buffer(mut self, name: &str, clock: &str, cpus: Vec<(u32, Vec<Page>)>) -> Self {
        let sub_buffer = cpus.iter().flat_map(|(_, pages)| pages).map(Vec::len).next();
        self.buffers.push(BufferData {
            name: name.to_owned(),
            clock: clock.to_owned(),
            cpus,
            sub_buffer: sub_buffer.unwrap_or(self.layout.sub_buffer),
        });
        self
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = b"\x17\x08\x44tracing".to_vec();
        out.extend(format!("{}\0", self.version).bytes());
        out.push(u8::from(self.layout.endian == Endian::Big));
        out.push(self.recorder_long);
        out.extend(self.layout.u32(self.header_page_size));
        if self.version == 6 { self.version6(out) } else { self.version7(out) }
    }

    fn cpus(&self) -> u32 {
        let highest = self.buffers.iter().flat_map(|b| &b.cpus).map(|(cpu, _)| cpu + 1).max();
        self.cpu_count.unwrap_or(highest.unwrap_or(1))
    }

    fn align(&self) -> usize {
        self.layout.sub_buffer.max(self.header_page_size as usize)
    }

    fn header_info(&self) -> Vec<u8> {
        let mut out = b"header_page\0".to_vec();
        let page = self.layout.header_page();
        out.extend(self.layout.u64(page.len() as u64));
        out.extend(page.bytes());
        out.extend(b"header_event\0");
        let event = "# compressed entry header\n\ttype_len    :    5 bits\n\ttime_delta  :   27 bits\n";
        out.extend(self.layout.u64(event.len() as u64));
        out.extend(event.bytes());
        out
    }

    fn text64(&self, text: &str) -> Vec<u8> {
        [&self.layout.u64(text.len() as u64)[..], text.as_bytes()].concat()
    }

    fn text32(&self, text: &str) -> Vec<u8> {
        [&self.layout.u32(text.len() as u32)[..], text.as_bytes()].concat()
    }

    fn ftrace_events(&self) -> Vec<u8> {
        let mut out = self.layout.u32(self.ftrace_formats.len() as u32).to_vec();
        self.ftrace_formats.iter().for_each(|text| out.extend(self.text64(text)));
        out
    }

    fn event_formats(&self) -> Vec<u8> {
        let mut out = self.layout.u32(self.systems.len() as u32).to_vec();
        for (system, events) in &self.systems {
            out.extend(system.bytes());
            out.push(0);
            out.extend(self.layout.u32(events.len() as u32));
            events.iter().for_each(|text| out.extend(self.text64(text)));
        }
        out
    }

    fn push_option(&self, out: &mut Vec<u8>, id: u16, payload: &[u8]) {
        out.extend(self.layout.u16(id));
        out.extend(self.layout.u32(payload.len() as u32));
        out.extend(payload);
    }

    fn version6(&self, mut out: Vec<u8>) -> Vec<u8> {
        out.extend(self.header_info());
        out.extend(self.ftrace_events());
        out.extend(self.event_formats());
        out.extend(self.text32(&self.kallsyms));
        out.extend(self.text32(&self.printk));
        out.extend(self.text64(&self.cmdlines));
        out.extend(self.layout.u32(self.cpus()));
        out.extend(b"options  \0");
        for (id, payload) in &self.options {
            self.push_option(&mut out, *id, payload);
        }
        let mut patches = Vec::new();
        for buffer in self.buffers.iter().filter(|b| !b.name.is_empty()) {
            patches.push(out.len() + 6);
            let payload = [&[0; 8], buffer.name.as_bytes(), &[0]].concat();
            self.push_option(&mut out, 3, &payload);
        }
        out.extend(self.layout.u16(0));
        let top = self.buffers.iter().find(|b| b.name.is_empty());
        let nothing = BufferData {
            name: String::new(),
            clock: "local".into(),
            cpus: Vec::new(),
            sub_buffer: self.layout.sub_buffer,
        };
        self.version6_data(&mut out, top.unwrap_or(&nothing));
        let instances = self.buffers.iter().filter(|b| !b.name.is_empty());
        for (buffer, patch) in instances.zip(patches) {
            let here = self.layout.u64(out.len() as u64);
            out[patch..patch + 8].copy_from_slice(&here);
            self.version6_data(&mut out, buffer);
        }
        out
    }

    fn version6_data(&self, out: &mut Vec<u8>, buffer: &BufferData) {
        out.extend(b"flyrecord\0");
        let table = out.len();
        out.resize(table + 16 * self.cpus() as usize, 0);
        if self.options.iter().any(|(id, _)| *id == 4) {
            out.extend(self.text64(&format!("[{}]", buffer.clock)));
        }
        out.resize(out.len().next_multiple_of(self.align()), 0);
        for cpu in 0..self.cpus() {
            let pages = buffer.cpus.iter().find(|(c, _)| *c == cpu).map_or(&[][..], |(_, pages)| pages);
            let at = table + 16 * cpu as usize;
            let entry = [out.len() as u64, pages.iter().map(|p| p.len() as u64).sum()].map(|n| self.layout.u64(n));
            out[at..at + 16].copy_from_slice(&entry.concat());
            pages.iter().for_each(|page| out.extend(page));
            out.resize(out.len().next_multiple_of(self.align()), 0);
        }
    }

    fn compress(&self, data: &[u8]) -> Vec<u8> {
        match self.compression {
            Compression::None => data.to_vec(),
            Compression::Zstd => {
                // Streamed, so that the frame does not state its content size: trace-cmd's do not.
                let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zlib => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    fn block(&self, data: &[u8]) -> Vec<u8> {
        let packed = self.compress(data);
        let sizes = [packed.len() as u32, data.len() as u32].map(|n| self.layout.u32(n));
        [&sizes.concat()[..], &packed].concat()
    }

    /// Appends a section, returns where its header stands.
    fn section(&self, out: &mut Vec<u8>, id: u16, payload: &[u8]) -> u64 {
        let at = out.len() as u64;
        let packed = id != 0 && self.compress_metadata && self.compression != Compression::None;
        let body = if packed { self.block(payload) } else { payload.to_vec() };
        self.section_header(out, id, packed, body.len() as u64);
        out.extend(body);
        at
    }

    fn section_header(&self, out: &mut Vec<u8>, id: u16, packed: bool, size: u64) {
        out.extend(self.layout.u16(id));
        out.extend(self.layout.u16(u16::from(packed)));
        out.extend(self.layout.u32(u32::MAX));
        out.extend(self.layout.u64(size));
    }

    fn version7(&self, mut out: Vec<u8>) -> Vec<u8> {
        out.extend(match self.compression {
            Compression::None => &b"none\0\0"[..],
            Compression::Zstd => b"zstd\x001.5.4\0",
            Compression::Zlib => b"zlib\x001.2.13\0",
        });
        let mut link = out.len();
        out.extend([0; 8]);
        let sections = [
            (16, self.header_info()),
            (17, self.ftrace_events()),
            (18, self.event_formats()),
            (19, self.text32(&self.kallsyms)),
            (20, self.text32(&self.printk)),
            (21, self.text64(&self.cmdlines)),
        ];
        let mut options = Vec::new();
        for (id, payload) in sections {
            let at = self.section(&mut out, id, &payload);
            self.push_option(&mut options, id, &self.layout.u64(at));
        }
        let count = self.layout.u32(self.cpus());
        self.push_option(&mut options, 8, &count);
        for (id, payload) in &self.options {
            self.push_option(&mut options, *id, payload);
        }
        link = self.options_section(&mut out, options, link);
        for buffer in &self.buffers {
            let option = self.version7_data(&mut out, buffer);
            let mut options = Vec::new();
            self.push_option(&mut options, 3, &option);
            link = self.options_section(&mut out, options, link);
        }
        out
    }

    /// Appends an options section, stores its offset at `link`, returns where the next link stands.
    fn options_section(&self, out: &mut Vec<u8>, mut options: Vec<u8>, link: usize) -> usize {
        self.push_option(&mut options, 0, &[0; 8]);
        let at = self.section(out, 0, &options);
        out[link..link + 8].copy_from_slice(&self.layout.u64(at));
        out.len() - 8
    }

    /// Appends a buffer's data section, returns its BUFFER option.
    fn version7_data(&self, out: &mut Vec<u8>, buffer: &BufferData) -> Vec<u8> {
        let section = out.len();
        let packed = self.compression != Compression::None;
        self.section_header(out, 3, packed, 0);
        let mut option = self.layout.u64(section as u64).to_vec();
        option.extend(buffer.name.bytes().chain([0]).chain(buffer.clock.bytes()).chain([0]));
        let stated = if self.header_page_size as usize == self.layout.sub_buffer {
            buffer.sub_buffer as u32
        } else {
            self.header_page_size
        };
        option.extend(self.layout.u32(stated));
        option.extend(self.layout.u32(buffer.cpus.len() as u32));
        for (cpu, pages) in &buffer.cpus {
            out.resize(out.len().next_multiple_of(self.align()), 0);
            let start = out.len();
            if packed {
                let chunks: Vec<_> = pages.chunks(self.chunk_pages).collect();
                out.extend(self.layout.u32(chunks.len() as u32));
                chunks.iter().for_each(|pages| out.extend(self.block(&pages.concat())));
            } else {
                pages.iter().for_each(|page| out.extend(page));
            }
            let size = out.len() - start - if packed && self.old_chunk_sizes { 4 } else { 0 };
            option.extend(self.layout.u32(*cpu));
            option.extend(self.layout.u64(start as u64));
            option.extend(self.layout.u64(size as u64));
        }
        let size = self.layout.u64((out.len() - section - 16) as u64);
        out[section + 8..section + 16].copy_from_slice(&size);
        option
    }
}

/// The payload of a TIME_SHIFT option.
pub fn time_shift_payload(endian: Endian, shift: &TimeShift, kind: ShiftLayout) -> Vec<u8> {
    let order = Layout { endian, ..Layout::X86_64 };
    let mut out = order.u64(shift.peer_trace_id).to_vec();
    out.extend(order.u32(u32::from(shift.interpolate)));
    if kind != ShiftLayout::Single {
        out.extend(order.u32(shift.vcpus.len() as u32));
    }
    for samples in &shift.vcpus {
        out.extend(order.u32(samples.len() as u32));
        samples.iter().for_each(|s| out.extend(order.u64(s.time)));
        samples.iter().for_each(|s| out.extend(order.u64(s.offset as u64)));
        if kind != ShiftLayout::Single {
            samples.iter().for_each(|s| out.extend(order.u64(s.scaling)));
        }
    }
    if kind == ShiftLayout::Fractions {
        for sample in shift.vcpus.iter().flatten() {
            out.extend(order.u64(u64::from(sample.fraction_bits.unwrap_or(0))));
        }
    }
    out
}

/// A field of a [`format_text`].
#[derive(Clone, Debug)]
pub struct Field {
    /// The C declaration: `unsigned int vcpu_id`, `char comm[16]`.
    pub declaration: String,
    /// Bytes.
    pub size: usize,
    /// Alignment in bytes.
    pub align: usize,
    /// Sign extension.
    pub signed: bool,
}

impl Field {
    /// An `unsigned int`.
    pub fn u32(name: &str) -> Self {
        Self { declaration: format!("unsigned int {name}"), size: 4, align: 4, signed: false }
    }

    /// An `int`.
    pub fn i32(name: &str) -> Self {
        Self { declaration: format!("int {name}"), size: 4, align: 4, signed: true }
    }

    /// A `u64`.
    pub fn u64(name: &str) -> Self {
        Self { declaration: format!("u64 {name}"), size: 8, align: 8, signed: false }
    }

    /// A `char name[size]`.
    pub fn text(name: &str, size: usize) -> Self {
        Self { declaration: format!("char {name}[{size}]"), size, align: 1, signed: false }
    }
}

/// The text of an event's `format` file with the usual common fields and an empty print format.
pub fn format_text(name: &str, id: u16, fields: &[Field]) -> String {
    format_text_with(name, id, fields, "\"\"")
}

/// [`format_text`] with a print format: what stands behind `print fmt: `.
pub fn format_text_with(name: &str, id: u16, fields: &[Field], print: &str) -> String {
    let mut text = format!(
        "name: {name}\nID: {id}\nformat:\n\
         \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
         \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
         \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
         \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n"
    );
    let mut at = 8usize;
    for Field { declaration, size, align, signed } in fields {
        at = at.next_multiple_of(*align);
        text += &format!("\tfield:{declaration};\toffset:{at};\tsize:{size};\tsigned:{};\n", u8::from(*signed));
        at += size;
    }
    text + &format!("\nprint fmt: {print}\n")
}

/// A record's payload: common fields, then what is appended, aligned as C would.
pub struct Payload {
    layout: Layout,
    bytes: Vec<u8>,
}

impl Payload {
    /// The common fields of [`format_text`].
    pub fn new(layout: Layout, id: u16, pid: i32) -> Self {
        let bytes = [&layout.u16(id)[..], &[0, 0], &layout.u32(pid as u32)].concat();
        Self { layout, bytes }
    }

    /// Four bytes.
    pub fn u32(mut self, value: u32) -> Self {
        self.align(4);
        self.bytes.extend(self.layout.u32(value));
        self
    }

    /// Four bytes, signed.
    pub fn i32(self, value: i32) -> Self {
        self.u32(value as u32)
    }

    /// Eight bytes.
    pub fn u64(mut self, value: u64) -> Self {
        self.align(8);
        self.bytes.extend(self.layout.u64(value));
        self
    }

    /// A `char [size]`: cut and filled up with zeros.
    pub fn text(mut self, value: &str, size: usize) -> Self {
        let end = self.bytes.len() + size;
        self.bytes.extend(value.bytes().take(size));
        self.bytes.resize(end, 0);
        self
    }

    /// Bytes as they are.
    pub fn raw(mut self, value: &[u8]) -> Self {
        self.bytes.extend(value);
        self
    }

    /// The payload.
    pub fn bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn align(&mut self, to: usize) {
        let end = self.bytes.len().next_multiple_of(to);
        self.bytes.resize(end, 0);
    }
}
