//! Statistics for people and for spreadsheets.

use std::fmt::Write as _;

use super::{Stats, VcpuStats};

/// Tables for a terminal.
pub fn text(stats: &Stats) -> String {
    let mut text = String::new();
    let width = stats.vms.iter().map(|vm| vm.name.chars().count()).max().unwrap_or(2).max(2);
    let _ = writeln!(
        text,
        "{:<width$}  vCPU     span ms    guest     exit  preempt  waiting   halted  blocked   exits",
        "VM"
    );
    for vm in &stats.vms {
        for v in &vm.vcpus {
            let part = |ns: u64| percent(ns, v.span_ns);
            let _ = writeln!(
                text,
                "{:<width$}  {:>4}  {:>10}  {:>7}  {:>7}  {:>7}  {:>7}  {:>7}  {:>7}  {:>6}",
                vm.name,
                v.id,
                ms(v.span_ns),
                part(v.guest_ns),
                part(v.exit_ns),
                part(v.preempted_ns),
                part(v.waiting_ns),
                part(v.halted_ns),
                part(v.blocked_ns),
                v.exits.iter().map(|e| e.count).sum::<u64>(),
            );
        }
    }
    for vm in &stats.vms {
        for v in &vm.vcpus {
            exits(&mut text, &vm.name, v);
        }
    }
    if !stats.longest_stalls.is_empty() {
        let _ = writeln!(text, "\nlongest stalls");
        for s in &stats.longest_stalls {
            let _ = writeln!(
                text,
                "  {:>10} ms  VM {} vCPU {} at {} ms: {}",
                ms(s.duration_ns),
                s.vm,
                s.vcpu,
                ms(s.start_ns),
                s.name
            );
        }
    }
    text
}

fn exits(text: &mut String, vm: &str, v: &VcpuStats) {
    if v.exits.is_empty() {
        return;
    }
    let width = v.exits.iter().map(|e| e.reason.chars().count()).max().unwrap_or(6).max(6);
    let _ = writeln!(
        text,
        "\nVM {vm} vCPU {}: exits\n  {:<width$}    count    total ms     mean us      p50 us      p99 us      max us",
        v.id, "reason"
    );
    for e in &v.exits {
        let _ = writeln!(
            text,
            "  {:<width$}  {:>7}  {:>10}  {:>10}  {:>10}  {:>10}  {:>10}",
            e.reason,
            e.count,
            ms(e.total_ns),
            us(e.mean_ns),
            us(e.p50_ns),
            us(e.p99_ns),
            us(e.max_ns)
        );
    }
}

fn ms(ns: u64) -> String {
    format!("{}.{:03}", ns / 1_000_000, ns / 1000 % 1000)
}

fn us(ns: u64) -> String {
    format!("{}.{:03}", ns / 1000, ns % 1000)
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let tenths = (u128::from(part) * 1000 + u128::from(whole) / 2) / u128::from(whole);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// One line per vCPU and quantity: `vm,vcpu,kind,name,count,total_ns,mean_ns,p50_ns,p99_ns,max_ns`. `kind` is `state`
/// or `exit`; states have a total alone.
pub fn csv(stats: &Stats) -> String {
    let mut text = "vm,vcpu,kind,name,count,total_ns,mean_ns,p50_ns,p99_ns,max_ns\n".to_owned();
    for vm in &stats.vms {
        let name = quoted(&vm.name);
        for v in &vm.vcpus {
            let states = [
                ("guest", v.guest_ns),
                ("exit", v.exit_ns),
                ("preempted", v.preempted_ns),
                ("waiting", v.waiting_ns),
                ("halted", v.halted_ns),
                ("blocked", v.blocked_ns),
            ];
            for (state, ns) in states {
                let _ = writeln!(text, "{name},{},state,{state},,{ns},,,,", v.id);
            }
            for e in &v.exits {
                let _ = writeln!(
                    text,
                    "{name},{},exit,{},{},{},{},{},{},{}",
                    v.id,
                    quoted(&e.reason),
                    e.count,
                    e.total_ns,
                    e.mean_ns,
                    e.p50_ns,
                    e.p99_ns,
                    e.max_ns
                );
            }
        }
    }
    text
}

/// A CSV field, quoted where it must be.
pub fn quoted(field: &str) -> String {
    match field.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}
