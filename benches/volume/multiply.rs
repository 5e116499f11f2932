//! Many captures out of one: its recordings behind each other in time, and side by side on more CPUs.
//!
//! Stamps, and the times inside events, move with the repetition, for the host and for its guests by as many cycles: the
//! offsets between them stay what they are. So this is for captures whose guests' TSCs run as fast as the host's and
//! are not written while the guests record. A repetition on other CPUs has VMs of its own, with thread ids of its own.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use kvm_timeline::capture::event_format::FormatTable;
use kvm_timeline::monitor::Monitor;
use kvm_timeline::session::request::Request;
use kvm_timeline::session::{Role, Session};

use super::container::{Buffer, Compression, Container, Cpu, Result, Section};
use super::edits::{Chunk, Place, Rules};

/// What to make.
#[derive(Clone, Debug)]
pub struct Plan {
    /// A directory of trace.dat files of version 7.
    pub from: PathBuf,
    /// Where the new files go.
    pub to: PathBuf,
    /// Repetitions in time.
    pub times: u64,
    /// Repetitions side by side.
    pub machines: u32,
    /// Compression of the new files; `None` is that of the old.
    pub compression: Option<Compression>,
    /// The TSC rate, for captures that do not tell it.
    pub hz: Option<u64>,
}

/// What was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Events.
    pub events: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Thread ids of two repetitions side by side differ by this.
const PIDS: u32 = 100_000;
/// Pages per chunk, as trace-cmd has it.
const STEP: usize = 10;
/// Cycles between repetitions.
const GAP: u64 = 3_000_000;

/// An input, looked through.
struct Input {
    container: Container,
    name: String,
    host: bool,
    /// Per buffer, per CPU.
    chunks: Vec<Vec<Vec<Chunk>>>,
}

/// Writes the files.
pub fn multiply(plan: &Plan) -> Result<Made> {
    if plan.times == 0 || plan.machines == 0 {
        return Err("nothing is wanted".into());
    }
    let request = Request { paths: vec![plan.from.clone()], tsc_hz: plan.hz, ..Request::default() };
    let session = Session::open(&request, &Monitor::silent())?;
    let hz = session.rate.hz.ok_or("the TSC rate is unknown")?;
    let segments = session.vms.iter().flat_map(|vm| &vm.vcpus).flat_map(|vcpu| &vcpu.history.segments);
    if segments.into_iter().any(|s| !s.scaling.is_none()) {
        return Err("a guest's TSC is scaled".into());
    }
    let inputs = session
        .inputs
        .iter()
        .map(|input| {
            let path = &input.capture.path;
            let host = input.role == Role::Host;
            read(path, host, &input.capture.formats, plan)
                .map_err(|error| format!("{}: {error}", path.display()).into())
        })
        .collect::<Result<Vec<Input>>>()?;
    let length = |input: &Input| {
        let stamps = || input.chunks.iter().flatten().flatten().filter_map(|chunk| chunk.stamps);
        let (first, last) = (stamps().map(|s| s.0).min(), stamps().map(|s| s.1).max());
        first.zip(last).map_or(0, |(first, last)| last - first)
    };
    let span = inputs.iter().map(length).max().unwrap_or(0) + GAP * u64::from(plan.machines);
    let place = |time: u64, machine: u32, cpus: u32| {
        // Side by side, but not at the same cycles: a guest fits into one host only.
        let cycles = time * span + u64::from(machine) * (GAP / 2);
        let ns = (u128::from(cycles) * 1_000_000_000 / u128::from(hz)) as u64;
        Place { cycles, ns, pids: machine * PIDS, cpus: machine * cpus, again: time > 0 }
    };

    std::fs::create_dir_all(&plan.to)?;
    let mut made = Made::default();
    for input in &inputs {
        let compression = plan.compression.unwrap_or(input.container.compression);
        let cpus = cpu_count(&input.container);
        if input.host {
            let path = plan.to.join(format!("{}.dat", input.name));
            let machines: Vec<u32> = (0..plan.machines).collect();
            let places = |machine| (0..plan.times).map(|time| place(time, machine, cpus)).collect();
            Copy { input, machines, cpus, compression, places: &places, made: &mut made }.write(&path)?;
            continue;
        }
        for machine in 0..plan.machines {
            let name = if machine == 0 { input.name.clone() } else { format!("{}-{}", input.name, machine + 1) };
            let places = |_| (0..plan.times).map(|time| Place { pids: 0, ..place(time, machine, 0) }).collect();
            Copy { input, machines: vec![machine], cpus: 0, compression, places: &places, made: &mut made }
                .write(&plan.to.join(format!("{name}.dat")))?;
        }
    }
    if plan.machines > 1 {
        std::fs::write(plan.to.join("capture.toml"), manifest(&session, plan.machines))?;
    }
    Ok(made)
}

/// Which guest is which VM: repetitions side by side look alike.
fn manifest(session: &Session, machines: u32) -> String {
    let mut text = String::new();
    for machine in 0..machines {
        let name = |name: &str| if machine == 0 { name.to_owned() } else { format!("{name}-{}", machine + 1) };
        for (v, vm) in session.vms.iter().enumerate() {
            let guests = session.inputs.iter().filter(|i| i.role == Role::Guest(v));
            for stem in guests.filter_map(|i| i.capture.path.file_stem()) {
                let file = name(&stem.to_string_lossy());
                text += &format!("[[file]]\npath = \"{file}.dat\"\nrole = \"guest\"\nvm = \"{}\"\n\n", name(&vm.name));
            }
            let threads: Vec<i32> = vm.vcpus.iter().filter_map(|vcpu| vcpu.thread).collect();
            let threads: Vec<i32> = threads.into_iter().map(|thread| thread + (machine * PIDS) as i32).collect();
            text += &format!("[[vm]]\nname = \"{}\"\nthreads = {threads:?}\n\n", name(&vm.name));
        }
    }
    text
}

fn read(path: &Path, host: bool, formats: &FormatTable, plan: &Plan) -> Result<Input> {
    let container = Container::open(path)?;
    let rules = Rules::new(formats, host && plan.machines > 1);
    let mut buffers = Vec::new();
    for buffer in &container.buffers {
        let mut cpus = Vec::new();
        for &cpu in &buffer.cpus {
            let mut chunks = Vec::new();
            container.chunks(buffer, cpu, STEP, |bytes| {
                chunks.push(Chunk::new(bytes, buffer.page, &rules)?);
                Ok(())
            })?;
            cpus.push(chunks);
        }
        buffers.push(cpus);
    }
    let name = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Ok(Input { container, name, host, chunks: buffers })
}

/// One more than the highest CPU, or the CPUCOUNT option.
fn cpu_count(container: &Container) -> u32 {
    let option = container.options.iter().find(|o| o.id == 8).and_then(|o| o.payload.first_chunk());
    let highest = container.buffers.iter().flat_map(|b| &b.cpus).map(|cpu| cpu.number + 1).max();
    option.map_or(0, |&bytes| u32::from_le_bytes(bytes)).max(highest.unwrap_or(0))
}

/// One new file.
struct Copy<'a> {
    input: &'a Input,
    /// Which repetitions side by side stand in this file.
    machines: Vec<u32>,
    /// CPUs of the original.
    cpus: u32,
    compression: Compression,
    places: &'a dyn Fn(u32) -> Vec<Place>,
    made: &'a mut Made,
}

/// Counts what goes through.
struct Out {
    file: BufWriter<File>,
    at: u64,
}

impl Out {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn align(&mut self, to: usize) -> Result<()> {
        let missing = self.at.next_multiple_of(to as u64) - self.at;
        self.write(&vec![0; missing as usize])
    }

    fn header(&mut self, section: &Section, packed: bool, size: u64) -> Result<()> {
        let numbers = [section.id.to_le_bytes(), u16::from(packed).to_le_bytes()];
        self.write(&[&numbers.concat()[..], &section.label.to_le_bytes(), &size.to_le_bytes()].concat())
    }
}

impl Copy<'_> {
    fn write(&mut self, path: &Path) -> Result<()> {
        let container = &self.input.container;
        let mut out = Out { file: BufWriter::with_capacity(1 << 20, File::create(path)?), at: 0 };
        out.write(&container.start)?;
        out.write(if self.compression == Compression::None { b"none\0\0" } else { b"zstd\x001.5.4\0" })?;
        let link = out.at;
        out.write(&[0; 8])?;
        let mut moved = Vec::new();
        let mut buffers = vec![Vec::new(); container.buffers.len()];
        for section in &container.sections {
            moved.push((section.at, out.at));
            let buffer = container.buffers.iter().position(|b| b.section == section.at);
            match buffer {
                Some(index) => buffers[index] = self.data(&mut out, section, index)?,
                None if section.id == 0 => self.options(&mut out, section)?,
                None => self.metadata(&mut out, section)?,
            }
        }
        out.file.flush()?;
        // What names an offset is known only now.
        let file = out.file.get_ref();
        let new = |old: u64| moved.iter().find(|(from, _)| *from == old).map_or(0, |(_, to)| *to);
        let mut previous = link;
        for section in container.sections.iter().filter(|s| s.id == 0) {
            let at = new(section.at);
            file.write_all_at(&at.to_le_bytes(), previous)?;
            let options = self.option_bytes(section, &new, &buffers)?;
            file.write_all_at(&options, at + 16)?;
            previous = at + 16 + options.len() as u64 - 8;
        }
        self.made.bytes += out.at;
        Ok(())
    }

    /// A place for options: they are as long as they will be.
    fn options(&self, out: &mut Out, section: &Section) -> Result<()> {
        let none = vec![Vec::new(); self.input.container.buffers.len()];
        let bytes = self.option_bytes(section, &|_| 0, &none)?;
        out.header(section, false, bytes.len() as u64)?;
        out.write(&bytes)
    }

    /// The options of a section, with offsets as `new` has them; the last is a link that is not set.
    fn option_bytes(&self, section: &Section, new: &dyn Fn(u64) -> u64, buffers: &[Vec<Cpu>]) -> Result<Vec<u8>> {
        let container = &self.input.container;
        let mut bytes = Vec::new();
        for (index, option) in container.options.iter().enumerate().filter(|(_, o)| o.section == section.at) {
            let mut payload = option.payload.clone();
            match (option.id, payload.first_chunk_mut::<8>()) {
                (3 | 16..=23 | 25, Some(offset)) => *offset = new(u64::from_le_bytes(*offset)).to_le_bytes(),
                // A recording of its own.
                (11, Some(id)) => {
                    let machine = u64::from(self.machines.first().copied().unwrap_or(0));
                    *id = u64::from_le_bytes(*id).wrapping_add(machine).to_le_bytes();
                }
                _ => {}
            }
            if option.id == 8 {
                payload = (cpu_count(container) * self.machines.len() as u32).to_le_bytes().to_vec();
            }
            if option.id == 3 {
                let number = container.options[..index].iter().filter(|o| o.id == 3).count();
                self.buffer_option(&mut payload, &container.buffers[number], &buffers[number]);
            }
            bytes.extend(option.id.to_le_bytes());
            bytes.extend((payload.len() as u32).to_le_bytes());
            bytes.extend(payload);
        }
        bytes.extend([0, 0, 8, 0, 0, 0]);
        bytes.extend([0; 8]);
        Ok(bytes)
    }

    fn buffer_option(&self, payload: &mut Vec<u8>, buffer: &Buffer, cpus: &[Cpu]) {
        payload.truncate(buffer.head.len());
        let count = buffer.cpus.len() * self.machines.len();
        payload.extend((count as u32).to_le_bytes());
        let none = Cpu { number: 0, at: 0, size: 0 };
        for cpu in (0..count).map(|n| cpus.get(n).unwrap_or(&none)) {
            payload.extend(cpu.number.to_le_bytes());
            payload.extend(cpu.at.to_le_bytes());
            payload.extend(cpu.size.to_le_bytes());
        }
    }

    /// Anything but options and data.
    fn metadata(&self, out: &mut Out, section: &Section) -> Result<()> {
        let container = &self.input.container;
        let more = section.id == 21 && self.machines.len() > 1;
        if !more && (self.compression == container.compression || !section.packed) {
            out.header(section, section.packed, section.size)?;
            return out.write(&container.raw(section)?);
        }
        let mut bytes = container.contents(section)?;
        if more {
            bytes = self.command_lines(&bytes)?;
        }
        out.header(section, false, bytes.len() as u64)?;
        out.write(&bytes)
    }

    /// The names of all repetitions' threads.
    fn command_lines(&self, section: &[u8]) -> Result<Vec<u8>> {
        let text = String::from_utf8_lossy(section.get(8..).ok_or("no command lines")?).into_owned();
        let mut all = String::new();
        for machine in &self.machines {
            for (pid, comm) in text.lines().filter_map(|line| line.split_once(' ')) {
                let pid = pid.parse::<u32>()?;
                all += &format!("{} {comm}\n", if pid == 0 { 0 } else { pid + machine * PIDS });
            }
        }
        Ok([&(all.len() as u64).to_le_bytes(), all.as_bytes()].concat())
    }

    /// A buffer's section: each CPU's chunks, time after time.
    fn data(&mut self, out: &mut Out, section: &Section, index: usize) -> Result<Vec<Cpu>> {
        let buffer = &self.input.container.buffers[index];
        let packed = self.compression == Compression::Zstd;
        let start = out.at;
        out.header(section, packed, 0)?;
        let mut compressor = zstd::bulk::Compressor::new(3)?;
        compressor.include_contentsize(false)?;
        let mut cpus = Vec::new();
        let mut pages = Vec::new();
        for &machine in &self.machines {
            let places = (self.places)(machine);
            for (cpu, chunks) in buffer.cpus.iter().zip(&self.input.chunks[index]) {
                out.align(buffer.page)?;
                let at = out.at;
                let wanted = |place: &Place, chunk: &Chunk| !place.again || chunk.events > chunk.dropped;
                let count: usize = places.iter().map(|place| chunks.iter().filter(|c| wanted(place, c)).count()).sum();
                if packed {
                    out.write(&u32::try_from(count)?.to_le_bytes())?;
                }
                for place in &places {
                    for chunk in chunks.iter().filter(|chunk| wanted(place, chunk)) {
                        chunk.at(*place, &mut pages)?;
                        self.made.events += chunk.events - if place.again { chunk.dropped } else { 0 };
                        if packed {
                            let bytes = compressor.compress(&pages)?;
                            out.write(&(bytes.len() as u32).to_le_bytes())?;
                            out.write(&(chunk.len() as u32).to_le_bytes())?;
                            out.write(&bytes)?;
                        } else {
                            out.write(&pages)?;
                        }
                    }
                }
                cpus.push(Cpu { number: cpu.number + machine * self.cpus, at, size: out.at - at });
            }
        }
        out.file.flush()?;
        out.file.get_ref().write_all_at(&(out.at - start - 16).to_le_bytes(), start + 8)?;
        Ok(cpus)
    }
}
