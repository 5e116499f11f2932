//! The events that have a message of their own in Perfetto's format, and the kernel's names for what is in them.

use std::sync::LazyLock;

use super::layout::Kind;

/// One event a line: its field in `FtraceEvent`, system, name, and the message's fields 1, 2, … (`-` where there is none)
/// with how they are kept: `d` and `u` in 32 bits, `D` and `U` in 64, `t` text, `A` the arguments of a system call.
///
/// The numbers are those of Perfetto's ftrace_event.proto. The messages of kvm are made for arm64: where x86 has an event
/// of the same name, its own fields are missing.
#[rustfmt::skip]
const EVENTS: &[&str] = &[
    "3 ftrace print ip:U buf:t",
    "4 sched sched_switch prev_comm:t prev_pid:d prev_prio:d prev_state:D next_comm:t next_pid:d next_prio:d",
    "11 power cpu_frequency state:u cpu_id:u",
    "13 power cpu_idle state:u cpu_id:u",
    "17 sched sched_wakeup comm:t pid:d prio:d success:d target_cpu:d",
    "18 sched sched_blocked_reason pid:d caller:U io_wait:u",
    "20 sched sched_waking comm:t pid:d prio:d success:d target_cpu:d",
    "21 ipi ipi_entry reason:t",
    "22 ipi ipi_exit reason:t",
    "23 ipi ipi_raise target_cpus:u reason:t",
    "24 irq softirq_entry vec:u",
    "25 irq softirq_exit vec:u",
    "26 irq softirq_raise vec:u",
    "36 irq irq_handler_entry irq:d name:t handler:u",
    "37 irq irq_handler_exit irq:d ret:d",
    "45 block block_rq_issue dev:U sector:U nr_sector:u bytes:u rwbs:t comm:t cmd:t",
    "56 workqueue workqueue_activate_work work:U function:U",
    "57 workqueue workqueue_execute_end work:U function:U",
    "58 workqueue workqueue_execute_start work:U function:U",
    "59 workqueue workqueue_queue_work work:U function:U - req_cpu:d cpu:d workqueue:t",
    "113 power suspend_resume action:t val:d start:u",
    "114 sched sched_wakeup_new comm:t pid:d prio:d success:d target_cpu:d",
    "125 block block_rq_complete dev:U sector:U nr_sector:u errors:d rwbs:t cmd:t error:d",
    "126 block block_rq_insert dev:U sector:U nr_sector:u bytes:u rwbs:t comm:t cmd:t",
    "235 task task_newtask pid:d comm:t clone_flags:U oom_score_adj:d",
    "236 task task_rename pid:d oldcomm:t newcomm:t oom_score_adj:d",
    "237 sched sched_process_exec filename:t pid:d old_pid:d",
    "238 sched sched_process_exit comm:t pid:d tgid:d prio:d",
    "239 sched sched_process_fork parent_comm:t parent_pid:d child_comm:t child_pid:d",
    "240 sched sched_process_free comm:t pid:d prio:d",
    "242 sched sched_process_wait comm:t pid:d prio:d",
    "324 signal signal_deliver code:d sa_flags:U sig:d",
    "325 signal signal_generate code:d comm:t group:d pid:d result:d sig:d",
    "329 raw_syscalls sys_enter id:D args:A",
    "330 raw_syscalls sys_exit id:D ret:D",
    "353 sched sched_pi_setprio comm:t newprio:d oldprio:d pid:d",
    "368 kvm kvm_access_fault ipa:U",
    "369 kvm kvm_ack_irq irqchip:u pin:u",
    "370 kvm kvm_age_hva end:U start:U",
    "371 kvm kvm_age_page gfn:U hva:U level:u referenced:u",
    "372 kvm kvm_arm_clear_debug guest_debug:u",
    "373 kvm kvm_arm_set_dreg32 name:t value:u",
    "374 kvm kvm_arm_set_regset len:d name:t",
    "375 kvm kvm_arm_setup_debug guest_debug:u vcpu:U",
    "376 kvm kvm_entry vcpu_pc:U",
    "377 kvm kvm_exit esr_ec:u ret:d vcpu_pc:U",
    "378 kvm kvm_fpu load:u",
    "379 kvm kvm_get_timer_map direct_ptimer:d direct_vtimer:d emul_ptimer:d vcpu_id:U",
    "380 kvm kvm_guest_fault hsr:U hxfar:U ipa:U vcpu_pc:U",
    "381 kvm kvm_handle_sys_reg hsr:U",
    "382 kvm kvm_hvc_arm64 imm:U r0:U vcpu_pc:U",
    "383 kvm kvm_irq_line irq_num:d level:d type:u vcpu_idx:d",
    "384 kvm kvm_mmio gpa:U len:u type:u val:U",
    "385 kvm kvm_mmio_emulate cpsr:U instr:U vcpu_pc:U",
    "386 kvm kvm_set_guest_debug guest_debug:u vcpu:U",
    "387 kvm kvm_set_irq gsi:u irq_source_id:d level:d",
    "388 kvm kvm_set_spte_hva hva:U",
    "389 kvm kvm_set_way_flush cache:u vcpu_pc:U",
    "390 kvm kvm_sys_access CRm:u CRn:u Op0:u Op1:u Op2:u is_write:u name:t vcpu_pc:U",
    "391 kvm kvm_test_age_hva hva:U",
    "392 kvm kvm_timer_emulate should_fire:u timer_idx:d",
    "393 kvm kvm_timer_hrtimer_expire timer_idx:d",
    "394 kvm kvm_timer_restore_state ctl:U cval:U timer_idx:d",
    "395 kvm kvm_timer_save_state ctl:U cval:U timer_idx:d",
    "396 kvm kvm_timer_update_irq irq:u level:d vcpu_id:U",
    "397 kvm kvm_toggle_cache now:u vcpu_pc:U was:u",
    "398 kvm kvm_unmap_hva_range end:U start:U",
    "399 kvm kvm_userspace_exit reason:u",
    "400 kvm kvm_vcpu_wakeup ns:U valid:u waited:u",
    "401 kvm kvm_wfx_arm64 is_wfe:u vcpu_pc:U",
    "437 ftrace funcgraph_entry depth:d func:U",
    "438 ftrace funcgraph_exit calltime:U depth:d func:U overrun:U rettime:U",
    "491 sched sched_migrate_task comm:t pid:d prio:d orig_cpu:d dest_cpu:d running:d load:u",
    "540 sched sched_wakeup_task_attr pid:d cpu_affinity:U task_util:U uclamp_min:U vruntime:U",
    "551 timer hrtimer_start hrtimer:U function:U expires:D softexpires:D mode:u",
    "552 timer hrtimer_cancel hrtimer:U",
    "553 timer hrtimer_expire_entry hrtimer:U now:D function:U",
    "554 timer hrtimer_expire_exit hrtimer:U",
    "555 timer timer_start timer:U function:U expires:U now:U deferrable:u flags:u bucket_expiry:U",
    "556 timer timer_cancel timer:U",
    "557 timer timer_expire_entry timer:U now:U function:U baseclk:U",
    "558 timer timer_expire_exit timer:U",
    "559 irq_vectors local_timer_entry vector:d",
    "560 irq_vectors local_timer_exit vector:d",
];

/// Numbers of events that are written in columns too.
pub(super) const SWITCH: u32 = 4;
pub(super) const WAKING: u32 = 20;
/// The event that names itself and its fields.
pub(super) const GENERIC: u32 = 327;
/// Events from here on are described in the file.
pub(super) const FIRST_DESCRIBED: u32 = 65_536;
/// The last of them.
pub(super) const LAST_DESCRIBED: u32 = 131_072;

/// An event with a message of its own.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) number: u32,
    pub(super) system: &'static str,
    pub(super) name: &'static str,
    /// The message's fields 1, 2, ….
    pub(super) fields: Vec<Option<(&'static str, Kind)>>,
}

/// All events, by ascending number.
static KNOWN: LazyLock<Vec<Known>> = LazyLock::new(|| EVENTS.iter().filter_map(|line| parse(line)).collect());

fn parse(line: &'static str) -> Option<Known> {
    let mut words = line.split(' ');
    let (number, system, name) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
    let field = |word: &'static str| {
        let (name, kind) = word.split_once(':')?;
        let kind = match kind {
            "d" => Kind::S32,
            "u" => Kind::U32,
            "D" => Kind::S64,
            "U" => Kind::U64,
            "t" => Kind::Text,
            _ => Kind::Arguments,
        };
        Some((name, kind))
    };
    Some(Known { number, system, name, fields: words.map(field).collect() })
}

/// Index of the event with this number, for [`known`].
pub(super) fn find(number: u32) -> Option<usize> {
    KNOWN.binary_search_by_key(&number, |known| known.number).ok()
}

/// All events.
pub(super) fn known() -> &'static [Known] {
    &KNOWN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lines_are_understood() {
        assert_eq!(known().len(), EVENTS.len());
        assert!(known().is_sorted_by_key(|known| known.number));
        let switch = &known()[find(SWITCH).unwrap()];
        assert_eq!((switch.system, switch.name), ("sched", "sched_switch"));
        assert_eq!(switch.fields[3], Some(("prev_state", Kind::S64)));
        assert_eq!(known()[find(59).unwrap()].fields[2], None);
        assert_eq!(find(5), None);
    }
}
