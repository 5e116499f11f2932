//! Compares our rendering of raw tracefs pages with the kernel's own text of the same recording.
//!
//! `cargo run --example format_oracle -- DIR`: DIR holds `trace.txt`, `per_cpu/cpuN/trace_pipe_raw`, `events/`,
//! `printk_formats`, as copied from tracefs. Prints how many events agree, and examples of those that do not.
#![allow(clippy::print_stdout)]

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::Path;

use kvm_timeline::capture::Endian;
use kvm_timeline::capture::event_format::{EventFormat, FormatTable, PrintContext};

fn main() {
    let dir = std::env::args().nth(1).expect("a directory");
    let dir = Path::new(&dir);
    let mut table = FormatTable::new();
    for system in fs::read_dir(dir.join("events")).expect("events").flatten().filter(|e| e.path().is_dir()) {
        for event in fs::read_dir(system.path()).expect("events").flatten() {
            let text = fs::read_to_string(event.path().join("format")).expect("format");
            let format = EventFormat::parse(&system.file_name().to_string_lossy(), &text).expect("format");
            let _ = table.add(format);
        }
    }
    let mut printk: Vec<(u64, Box<str>)> = fs::read_to_string(dir.join("printk_formats"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| {
            let (address, text) = line.split_once(" : ")?;
            Some((u64::from_str_radix(address.trim_start_matches("0x"), 16).ok()?, text.trim_matches('"').into()))
        })
        .collect();
    printk.sort();
    let context = PrintContext { printk: &printk, symbols: None };
    let page = fs::read_to_string(dir.join("events/header_page")).expect("header_page");
    let capacity = page.split("data;").nth(1).and_then(|t| t.split("size:").nth(1)).and_then(|t| t.split(';').next());
    let page = 16 + capacity.and_then(|t| t.trim().parse::<usize>().ok()).expect("page size");
    let mut cpus: Vec<VecDeque<(u64, String)>> = Vec::new();
    for cpu in 0.. {
        let Ok(bytes) = fs::read(dir.join(format!("per_cpu/cpu{cpu}/trace_pipe_raw"))) else { break };
        cpus.push(bytes.chunks(page).flat_map(|page| walk(page, &table, &context)).collect());
    }
    let (mut same, mut different) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, (u64, String)>::new());
    for line in fs::read_to_string(dir.join("trace.txt")).expect("trace.txt").lines() {
        let Some((cpu, rest)) = line.split_once(" [").and_then(|(_, rest)| rest.split_once("] ")) else { continue };
        let mut words = rest.splitn(2, ": ");
        let stamp: u64 =
            words.next().and_then(|w| w.split_whitespace().last()).and_then(|w| w.parse().ok()).unwrap_or(0);
        let text = words.next().unwrap_or_default();
        let name = text.split(':').next().unwrap_or_default().to_string();
        let ours = cpu.parse::<usize>().ok().and_then(|cpu| cpus.get_mut(cpu)).and_then(VecDeque::pop_front);
        if ours.as_ref().is_some_and(|(at, ours)| *at == stamp && ours == text) {
            *same.entry(name).or_default() += 1;
        } else {
            let entry = different.entry(name).or_insert_with(|| (0, format!("kernel {stamp} {text}\n  ours {ours:?}")));
            entry.0 += 1;
        }
    }
    println!("same: {} {same:?}", same.values().sum::<u64>());
    println!("different: {}", different.values().map(|d| d.0).sum::<u64>());
    for (name, (count, example)) in different {
        println!("{name}: {count}\n{example}");
    }
}

fn walk(page: &[u8], table: &FormatTable, context: &PrintContext<'_>) -> Vec<(u64, String)> {
    let word = |at: usize| page.get(at..at + 4).map_or(0, |b| u32::from_le_bytes(b.try_into().expect("4 bytes")));
    let mut ts = u64::from(word(0)) | u64::from(word(4)) << 32;
    let end = 16 + (word(8) & 0xf_ffff) as usize;
    let mut list = Vec::new();
    let mut at = 16;
    while at < end {
        let head = word(at);
        let (kind, delta) = (head & 31, u64::from(head >> 5));
        let (start, size, next) = match kind {
            0 => (at + 8, word(at + 4) as usize - 4, at + 4 + (word(at + 4) as usize).next_multiple_of(4)),
            29 => {
                if delta == 0 {
                    break;
                }
                at += 4 + word(at + 4) as usize;
                continue;
            }
            30 => {
                ts += (u64::from(word(at + 4)) << 27) + delta;
                at += 8;
                continue;
            }
            31 => {
                ts = (u64::from(word(at + 4)) << 27) + delta;
                at += 8;
                continue;
            }
            n => (at + 4, 4 * n as usize, at + 4 + 4 * n as usize),
        };
        ts += delta;
        let payload = page.get(start..start + size).expect("payload");
        let id = u16::from_le_bytes([payload[0], payload[1]]);
        let format = table.index_of_id(id).and_then(|index| table.get(index)).expect("known event");
        let mut out = format!("{}: ", format.name).into_bytes();
        format.render(payload, Endian::Little, context, &mut out);
        list.push((ts, String::from_utf8_lossy(&out).into_owned()));
        at = next;
    }
    list
}
