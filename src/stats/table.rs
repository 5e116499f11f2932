//! Statistics for people.

use std::fmt::Write as _;

use super::{Stats, TaskStats, VcpuStats, VmStats, Waits};
use crate::printable::tidy;

/// Tables for a terminal.
pub fn text(stats: &Stats) -> String {
    let stats = &tidied(stats);
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
            ran_instead(&mut text, &vm.name, v);
        }
        tasks(&mut text, vm);
    }
    wakeups(&mut text, stats);
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
            let _ = writeln!(text, "{:16}{}", "", s.cause);
        }
    }
    text
}

/// Names come from captures: each stays in its line.
fn tidied(stats: &Stats) -> Stats {
    let mut stats = stats.clone();
    for vm in &mut stats.vms {
        tidy(&mut vm.name);
        vm.tasks.iter_mut().for_each(|task| tidy(&mut task.task));
        for v in &mut vm.vcpus {
            v.exits.iter_mut().for_each(|exit| tidy(&mut exit.reason));
            v.ran_instead.iter_mut().for_each(|other| tidy(&mut other.task));
        }
    }
    for stall in &mut stats.longest_stalls {
        [&mut stall.vm, &mut stall.name, &mut stall.cause].into_iter().for_each(tidy);
    }
    stats
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

/// Rows of a table that is for reading: the full lists are in the JSON.
const TOP: usize = 12;

fn ran_instead(text: &mut String, vm: &str, v: &VcpuStats) {
    let idle = [("(CPU idle)", v.instead_idle_ns), ("(not known)", v.instead_unknown_ns)];
    if v.ran_instead.is_empty() && idle.iter().all(|(_, ns)| *ns == 0) {
        return;
    }
    let shown = &v.ran_instead[..v.ran_instead.len().min(TOP)];
    let width = shown.iter().map(|r| r.task.chars().count()).max().unwrap_or(0).max(12);
    let _ = writeln!(
        text,
        "\nVM {vm} vCPU {}: who ran while it wanted to\n  {:<width$}   stalls    total ms",
        v.id, "task"
    );
    for r in shown {
        let _ = writeln!(text, "  {:<width$}  {:>7}  {:>10}", r.task, r.count, ms(r.total_ns));
    }
    let rest = &v.ran_instead[shown.len()..];
    if !rest.is_empty() {
        let (count, total) = rest.iter().fold((0, 0), |(c, t), r| (c + r.count, t + r.total_ns));
        let _ = writeln!(text, "  {:<width$}  {count:>7}  {:>10}", format!("{} others", rest.len()), ms(total));
    }
    for (name, ns) in idle.iter().filter(|(_, ns)| *ns > 0) {
        let _ = writeln!(text, "  {name:<width$}  {:>7}  {:>10}", "", ms(*ns));
    }
}

fn tasks(text: &mut String, vm: &VmStats) {
    if vm.tasks.is_empty() {
        return;
    }
    let shown = &vm.tasks[..vm.tasks.len().min(TOP)];
    let width = shown.iter().map(|t| t.task.chars().count()).max().unwrap_or(0).max(12);
    let _ = writeln!(
        text,
        "\nVM {}: what its tasks believe they ran, and what they got\n  {:<width$}  running ms    guest ms     exit ms   stolen ms   stolen",
        vm.name, "task"
    );
    let mut row = |name: &str, t: &TaskStats| {
        let (running, guest, exit) = (ms(t.running_ns), ms(t.guest_ns), ms(t.exit_ns));
        let (stolen, part) = (ms(t.stolen_ns), percent(t.stolen_ns, t.running_ns));
        let _ = writeln!(text, "  {name:<width$}  {running:>10}  {guest:>10}  {exit:>10}  {stolen:>10}  {part:>7}");
    };
    shown.iter().for_each(|t| row(&t.task, t));
    let rest = &vm.tasks[shown.len()..];
    if !rest.is_empty() {
        let mut sum = TaskStats::default();
        for t in rest {
            sum.running_ns += t.running_ns;
            sum.guest_ns += t.guest_ns;
            sum.exit_ns += t.exit_ns;
            sum.stolen_ns += t.stolen_ns;
        }
        row(&format!("{} others", rest.len()), &sum);
    }
}

fn wakeups(text: &mut String, stats: &Stats) {
    let mut rows: Vec<(String, &Waits)> = Vec::new();
    for vm in &stats.vms {
        rows.extend(vm.vcpus.iter().map(|v| (format!("VM {} vCPU {}, its thread", vm.name, v.id), &v.wakeups)));
        rows.push((format!("VM {}, guest tasks", vm.name), &vm.task_wakeups));
    }
    rows.retain(|(_, waits)| waits.count > 0);
    if rows.is_empty() {
        return;
    }
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let _ = writeln!(
        text,
        "\n{:<width$}    count     mean us      p50 us      p99 us      max us",
        "from woken to running"
    );
    for (name, w) in rows {
        let _ = writeln!(
            text,
            "{name:<width$}  {:>7}  {:>10}  {:>10}  {:>10}  {:>10}",
            w.count,
            us(w.mean_ns),
            us(w.p50_ns),
            us(w.p99_ns),
            us(w.max_ns)
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
