//! The events that shape the picture, by the texts that kernels and `trace-cmd report` write for them. Their fields
//! have the names of the kernel's own fields, so that nothing downstream knows text from binary.

use std::sync::LazyLock;

use rustc_hash::FxHashMap;

use super::pattern::{Captures, Pattern};

/// System, event, pattern. Of several patterns of an event the first that fits is taken.
const PATTERNS: &[(&str, &str, &str)] = &[
    (
        "sched",
        "sched_switch",
        "prev_comm={prev_comm:t} prev_pid={prev_pid:d} prev_prio={prev_prio:d} prev_state={prev_state:w} ==> \
         next_comm={next_comm:t} next_pid={next_pid:d} next_prio={next_prio:d}",
    ),
    // trace-cmd report, which has its own words for it.
    (
        "sched",
        "sched_switch",
        "{prev_comm:t}:{prev_pid:d} [{prev_prio:d}] {prev_state:w} ==> {next_comm:t}:{next_pid:d} [{next_prio:d}]",
    ),
    // trace-cmd report -R.
    (
        "sched",
        "sched_switch",
        "prev_comm={prev_comm:t} prev_pid={prev_pid:d} prev_prio={prev_prio:d} prev_state={prev_state:q} \
         next_comm={next_comm:t} next_pid={next_pid:d} next_prio={next_prio:d}",
    ),
    ("sched", "sched_waking", WAKEUP),
    ("sched", "sched_waking", WAKEUP_OLD),
    ("sched", "sched_waking", WAKEUP_REPORT),
    ("sched", "sched_wakeup", WAKEUP),
    ("sched", "sched_wakeup", WAKEUP_OLD),
    ("sched", "sched_wakeup", WAKEUP_REPORT),
    ("sched", "sched_wakeup_new", WAKEUP),
    ("sched", "sched_wakeup_new", WAKEUP_OLD),
    ("sched", "sched_wakeup_new", WAKEUP_REPORT),
    (
        "sched",
        "sched_migrate_task",
        "comm={comm:t} pid={pid:d} prio={prio:d} orig_cpu={orig_cpu:d} dest_cpu={dest_cpu:d}",
    ),
    (
        "sched",
        "sched_process_fork",
        "comm={parent_comm:t} pid={parent_pid:d} child_comm={child_comm:t} child_pid={child_pid:d}",
    ),
    ("sched", "sched_process_exit", "comm={comm:t} pid={pid:d} prio={prio:d}"),
    ("sched", "sched_process_free", "comm={comm:t} pid={pid:d} prio={prio:d}"),
    ("sched", "sched_process_wait", "comm={comm:t} pid={pid:d} prio={prio:d}"),
    ("sched", "sched_process_exec", "filename={filename:t} pid={pid:d} old_pid={old_pid:d}"),
    ("irq", "irq_handler_entry", "irq={irq:d} name={name:t}"),
    ("irq", "irq_handler_exit", "irq={irq:d} ret={ret:t}"),
    ("irq", "softirq_entry", "vec={vec:u} [action={action:t}]"),
    ("irq", "softirq_exit", "vec={vec:u} [action={action:t}]"),
    ("irq", "softirq_raise", "vec={vec:u} [action={action:t}]"),
    ("timer", "hrtimer_expire_entry", "hrtimer={hrtimer:x} function={function:t} now={now:q}"),
    ("timer", "hrtimer_expire_entry", "hrtimer={hrtimer:x} now={now:q} function={function:t}"),
    ("timer", "hrtimer_expire_exit", "hrtimer={hrtimer:x}"),
    ("timer", "hrtimer_cancel", "hrtimer={hrtimer:x}"),
    ("raw_syscalls", "sys_enter", "NR {id:q} ({args:a})"),
    ("raw_syscalls", "sys_exit", "NR {id:q} = {ret:q}"),
    ("kvm", "kvm_entry", "vcpu {vcpu_id:u}, rip {rip:x}{more:m}"),
    ("kvm", "kvm_entry", "vcpu {vcpu_id:u} rip {rip:x}{more:m}"),
    ("kvm", "kvm_entry", "vcpu {vcpu_id:u}"),
    (
        "kvm",
        "kvm_exit",
        "vcpu {vcpu_id:u} reason {exit_reason:t} rip {guest_rip:x} info1 {info1:x} info2 {info2:x} intr_info \
         {intr_info:X} error_code {error_code:X}{more:m}",
    ),
    ("kvm", "kvm_exit", "vcpu {vcpu_id:u} reason {exit_reason:t} rip {guest_rip:x} info {info1:x} {info2:x}{more:m}"),
    ("kvm", "kvm_exit", "reason {exit_reason:t} rip {guest_rip:x} info {info1:x} {info2:x}{more:m}"),
    ("kvm", "kvm_exit", "{exit_reason:t}: HSR_EC: {hsr_ec:t}, PC: {vcpu_pc:x}"),
    ("kvm", "kvm_write_tsc_offset", "vcpu={vcpu_id:u} prev={previous_tsc_offset:U} next={next_tsc_offset:U}"),
    (
        "kvm",
        "kvm_pvclock_update",
        "vcpu_id {vcpu_id:u}, pvclock { version {version:u}, tsc_timestamp {tsc_timestamp:x}, system_time \
         {system_time:x}, tsc_to_system_mul {tsc_to_system_mul:X}, tsc_shift {tsc_shift:d}, flags {flags:X} }",
    ),
    ("kvm", "kvm_inj_virq", "{source:w} {vector:X}{more:m}"),
    ("kvm", "kvm_msi_set_irq", "dst {dst:x} vec {vec:u} ({delivery:t})"),
    ("kvm", "kvm_apic_accept_irq", "apicid {apicid:X} vec {vec:u} ({delivery:t})"),
    ("kvm", "kvm_eoi", "apicid {apicid:X} vector {vector:d}"),
    ("kvm", "kvm_page_fault", "vcpu {vcpu_id:u} rip {guest_rip:x} address {fault_address:x} error_code {error_code:x}"),
    ("kvm", "kvm_userspace_exit", "reason {name:w} ({reason:u})"),
    ("kvm", "kvm_halt_poll_ns", "vcpu {vcpu_id:u}: halt_poll_ns {new:u} ({change:w} {old:u})"),
    ("workqueue", "workqueue_execute_start", "work struct {work:x}: function {function:t}"),
    ("workqueue", "workqueue_execute_end", "work struct {work:x}: function {function:t}"),
    ("workqueue", "workqueue_execute_end", "work struct {work:x}"),
    ("block", "block_rq_issue", BLOCK),
    ("block", "block_rq_insert", BLOCK),
    ("block", "block_rq_complete", "{major:u},{minor:u} {rwbs:w} ({cmd:t}) {sector:U} + {nr_sector:u} {more:m}"),
    ("ftrace", "function", "{function:w} <-{parent:t}"),
    ("ftrace", "print", "{buf:m}"),
];

const WAKEUP: &str = "comm={comm:t} pid={pid:d} prio={prio:d} target_cpu={target_cpu:d}";
const WAKEUP_OLD: &str = "comm={comm:t} pid={pid:d} prio={prio:d} success={success:d} target_cpu={target_cpu:d}";
const WAKEUP_REPORT: &str = "{comm:t}:{pid:d} [{prio:d}] CPU:{target_cpu:d}";
const BLOCK: &str = "{major:u},{minor:u} {rwbs:w} {bytes:u} ({cmd:t}) {sector:U} + {nr_sector:u} {more:m}";

/// The softirqs, so that their names can be asked for by number (include/linux/interrupt.h).
const SOFTIRQ: &str = "\"vec=%u [action=%s]\", REC->vec, __print_symbolic(REC->vec, { 0, \"HI\" }, { 1, \"TIMER\" }, \
    { 2, \"NET_TX\" }, { 3, \"NET_RX\" }, { 4, \"BLOCK\" }, { 5, \"IRQ_POLL\" }, { 6, \"TASKLET\" }, \
    { 7, \"SCHED\" }, { 8, \"HRTIMER\" }, { 9, \"RCU\" })";

/// All patterns and where those of an event are.
pub(super) struct Builtin {
    patterns: Vec<Pattern>,
    by_event: FxHashMap<&'static [u8], Vec<u16>>,
}

static BUILTIN: LazyLock<Builtin> = LazyLock::new(|| {
    let mut builtin = Builtin { patterns: Vec::new(), by_event: FxHashMap::default() };
    for ((system, event, text), index) in PATTERNS.iter().zip(0..) {
        let mut pattern = Pattern::new(system, text);
        pattern.print = event.starts_with("softirq_").then_some(SOFTIRQ);
        builtin.by_event.entry(event.as_bytes()).or_default().push(index);
        builtin.patterns.push(pattern);
    }
    builtin
});

impl Builtin {
    /// The one table.
    pub(super) fn get() -> &'static Self {
        &BUILTIN
    }

    /// The pattern at `index`.
    pub(super) fn pattern(&self, index: u16) -> Option<&Pattern> {
        self.patterns.get(usize::from(index))
    }

    /// The first pattern of the event that fits its text.
    pub(super) fn find(&self, event: &[u8], text: &[u8]) -> Option<(u16, Captures)> {
        let candidates = self.by_event.get(event)?;
        candidates.iter().find_map(|&index| Some((index, self.pattern(index)?.find(text)?)))
    }
}
