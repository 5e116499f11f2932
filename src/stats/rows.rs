//! Statistics as one long table, for spreadsheets and notebooks: one row per quantity.

use std::fmt::Write as _;

use super::{Stats, Waits};
use crate::printable::line;

/// One quantity. `kind` is `state`, `exit`, `ran_instead` or `wakeup` of a vCPU, or, without a vCPU, `task_running`,
/// `task_guest`, `task_exit`, `task_stolen` or `task_wakeup` of a VM. What a kind does not have is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The VM.
    pub vm: String,
    /// The vCPU's number in the names of its rows.
    pub vcpu: Option<u32>,
    /// What is counted.
    pub kind: &'static str,
    /// The state, the exit reason, the task.
    pub name: String,
    /// How often.
    pub count: Option<u64>,
    /// In all, in nanoseconds.
    pub total_ns: Option<u64>,
    /// The mean, rounded down.
    pub mean_ns: Option<u64>,
    /// The median.
    pub p50_ns: Option<u64>,
    /// 99 of 100 are no longer.
    pub p99_ns: Option<u64>,
    /// The longest.
    pub max_ns: Option<u64>,
}

/// The columns after `vm`, `vcpu`, `kind` and `name`.
pub(super) const NUMBERS: [&str; 6] = ["count", "total_ns", "mean_ns", "p50_ns", "p99_ns", "max_ns"];

impl Row {
    fn total(vm: &str, vcpu: Option<u32>, kind: &'static str, name: &str, total_ns: u64) -> Self {
        Self { vm: vm.into(), vcpu, kind, name: name.into(), total_ns: Some(total_ns), ..Self::default() }
    }

    fn waits(vm: &str, vcpu: Option<u32>, kind: &'static str, waits: &Waits) -> Self {
        let Waits { count, total_ns, mean_ns, p50_ns, p99_ns, max_ns } = waits.clone();
        Self::total(vm, vcpu, kind, "", total_ns).spread(count, mean_ns, p50_ns, p99_ns, max_ns)
    }

    fn spread(self, count: u64, mean: u64, p50: u64, p99: u64, max: u64) -> Self {
        let [count, mean_ns, p50_ns, p99_ns, max_ns] = [count, mean, p50, p99, max].map(Some);
        Self { count, mean_ns, p50_ns, p99_ns, max_ns, ..self }
    }

    pub(super) fn numbers(&self) -> [Option<u64>; NUMBERS.len()] {
        [self.count, self.total_ns, self.mean_ns, self.p50_ns, self.p99_ns, self.max_ns]
    }
}

/// All quantities, by VM and vCPU.
pub fn rows(stats: &Stats) -> Vec<Row> {
    let mut rows = Vec::new();
    for vm in &stats.vms {
        let name = vm.name.as_str();
        for v in &vm.vcpus {
            let id = Some(v.id);
            let states = [
                ("guest", v.guest_ns),
                ("exit", v.exit_ns),
                ("preempted", v.preempted_ns),
                ("waiting", v.waiting_ns),
                ("halted", v.halted_ns),
                ("blocked", v.blocked_ns),
            ];
            rows.extend(states.map(|(state, ns)| Row::total(name, id, "state", state, ns)));
            rows.extend(v.exits.iter().map(|e| {
                let row = Row::total(name, id, "exit", &e.reason, e.total_ns);
                row.spread(e.count, e.mean_ns, e.p50_ns, e.p99_ns, e.max_ns)
            }));
            rows.extend(
                v.ran_instead
                    .iter()
                    .map(|r| Row { count: Some(r.count), ..Row::total(name, id, "ran_instead", &r.task, r.total_ns) }),
            );
            rows.push(Row::waits(name, id, "wakeup", &v.wakeups));
        }
        for t in &vm.tasks {
            let kinds = [
                ("task_running", t.running_ns),
                ("task_guest", t.guest_ns),
                ("task_exit", t.exit_ns),
                ("task_stolen", t.stolen_ns),
            ];
            rows.extend(kinds.map(|(kind, ns)| Row::total(name, None, kind, &t.task, ns)));
        }
        rows.push(Row::waits(name, None, "task_wakeup", &vm.task_wakeups));
    }
    rows
}

/// The table as CSV, with a heading; what a row does not have is empty.
pub fn csv(stats: &Stats) -> String {
    let mut text = format!("vm,vcpu,kind,name,{}\n", NUMBERS.join(","));
    for row in rows(stats) {
        let _ = write!(text, "{},", quoted(&row.vm));
        let _ = row.vcpu.map_or(Ok(()), |vcpu| write!(text, "{vcpu}"));
        let _ = write!(text, ",{},{}", row.kind, quoted(&row.name));
        for number in row.numbers() {
            text.push(',');
            let _ = number.map_or(Ok(()), |n| write!(text, "{n}"));
        }
        text.push('\n');
    }
    text
}

/// A CSV field, quoted where it must be. What a terminal would obey is escaped.
pub fn quoted(field: &str) -> String {
    let field = &line(field);
    match field.contains(['"', ',']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.clone(),
    }
}
