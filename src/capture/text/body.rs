//! What stands behind the stamp of an event line: which event, and its text.

/// Event and text of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Body<'a> {
    /// Where the line names it (`kvm:kvm_exit:`); else empty.
    pub(super) system: &'a [u8],
    /// Before and behind: `sys_enter_` and `openat` for a system call that the kernel writes as `sys_openat(…)`.
    pub(super) prefix: &'static str,
    pub(super) event: &'a [u8],
    pub(super) text: &'a [u8],
}

impl<'a> Body<'a> {
    fn new(event: &'a [u8], text: &'a [u8]) -> Self {
        Self { system: &[], prefix: "", event, text: text.trim_ascii() }
    }

    /// Takes a body apart. Every body is something: one without a name is a `line` of text.
    pub(super) fn parse(body: &'a [u8]) -> Self {
        let end = body.iter().position(|&byte| matches!(byte, b' ' | b'\t' | b'(')).unwrap_or(body.len());
        let (word, rest) = body.split_at_checked(end).unwrap_or((body, &[]));
        if let Some(name) = word.strip_suffix(b":").filter(|name| !name.is_empty()) {
            return Self::named(name, rest);
        }
        if let Some(call) = word.strip_prefix(b"sys_").filter(|call| is_name(call)) {
            if let Some(inner) = rest.strip_prefix(b"(") {
                let text = inner.trim_ascii_end().strip_suffix(b")").unwrap_or(inner);
                return Self { prefix: "sys_enter_", ..Self::new(call, text) };
            }
            if let Some(value) = rest.strip_prefix(b" -> ") {
                return Self { prefix: "sys_exit_", ..Self::new(call, value) };
            }
        }
        if body == b"<stack trace>" || body == b"<user stack trace>" {
            return Self::new(if body.starts_with(b"<u") { b"user_stack" } else { b"kernel_stack" }, &[]);
        }
        if rest.starts_with(b" <-") {
            return Self::new(b"function", body);
        }
        Self::new(b"line", body)
    }

    fn named(name: &'a [u8], text: &'a [u8]) -> Self {
        // The place where trace_marker writes stand in the kernel, or its address.
        if name == b"tracing_mark_write" || name.starts_with(b"0x") {
            return Self::new(b"print", text);
        }
        if name == b"print" {
            // trace-cmd report keeps the place.
            let text = text.trim_ascii_start();
            let inner = text.strip_prefix(b"tracing_mark_write:").unwrap_or(text);
            return Self::new(b"print", inner);
        }
        match name.iter().position(|&byte| matches!(byte, b':' | b'/')) {
            Some(at) => {
                let (system, event) = name.split_at_checked(at).unwrap_or((&[], name));
                Self { system, ..Self::new(event.get(1..).unwrap_or(&[]), text) }
            }
            None => Self::new(name, text),
        }
    }
}

fn is_name(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| byte == b'_' || byte.is_ascii_alphanumeric())
}

/// The system to which an event of this name belongs: text does not say. What is not known is `text`.
pub(in crate::capture) fn system_of(event: &str) -> &'static str {
    const NAMES: &[(&str, &[&str])] = &[
        (
            "ftrace",
            &[
                "function",
                "funcgraph_entry",
                "funcgraph_exit",
                "print",
                "bprint",
                "bputs",
                "kernel_stack",
                "user_stack",
                "raw_data",
                "branch",
                "hwlat",
                "osnoise",
                "timerlat",
                "func_repeats",
            ],
        ),
        ("raw_syscalls", &["sys_enter", "sys_exit"]),
        ("kvm", &["vcpu_match_mmio"]),
        ("kvmmmu", &["mark_mmio_spte", "handle_mmio_page_fault", "fast_page_fault", "check_mmio_spte"]),
        ("exceptions", &["page_fault_user", "page_fault_kernel"]),
        ("task", &["task_newtask", "task_rename"]),
        ("kmem", &["kmalloc", "kfree", "kmalloc_node", "rss_stat"]),
        ("timer", &["tick_stop"]),
        ("msr", &["read_msr", "write_msr", "rdpmc"]),
        ("tlb", &["tlb_flush"]),
        ("nmi", &["nmi_handler"]),
        ("net", &["net_dev_queue", "net_dev_xmit", "net_dev_start_xmit", "net_dev_xmit_timeout"]),
        ("power", &["suspend_resume", "wakeup_source_activate", "wakeup_source_deactivate"]),
    ];
    const VECTORS: &[&str] = &[
        "local_timer",
        "spurious_apic",
        "error_apic",
        "x86_platform_ipi",
        "irq_work",
        "reschedule",
        "call_function",
        "call_function_single",
        "threshold_apic",
        "deferred_error_apic",
        "thermal_apic",
    ];
    const PREFIXES: &[(&str, &str)] = &[
        ("sys_enter_", "syscalls"),
        ("sys_exit_", "syscalls"),
        ("sched_", "sched"),
        ("kvm_mmu_", "kvmmmu"),
        ("kvm_tdp_mmu_", "kvmmmu"),
        ("kvm_", "kvm"),
        ("irq_handler_", "irq"),
        ("softirq_", "irq"),
        ("tasklet_", "irq"),
        ("hrtimer_", "timer"),
        ("timer_", "timer"),
        ("itimer_", "timer"),
        ("workqueue_", "workqueue"),
        ("block_", "block"),
        ("vector_", "irq_vectors"),
        ("ipi_", "ipi"),
        ("mm_page_", "kmem"),
        ("kmem_cache_", "kmem"),
        ("cpu_", "power"),
        ("signal_", "signal"),
        ("rcu_", "rcu"),
        ("netif_", "net"),
        ("napi_", "napi"),
        ("writeback_", "writeback"),
        ("ext4_", "ext4"),
        ("jbd2_", "jbd2"),
        ("x86_fpu_", "x86_fpu"),
        ("xen_", "xen"),
        ("scsi_", "scsi"),
        ("nvme_", "nvme"),
        ("tcp_", "tcp"),
        ("udp_", "udp"),
        ("cgroup_", "cgroup"),
        ("io_uring_", "io_uring"),
        ("dma_fence_", "dma_fence"),
        ("mmap_lock_", "mmap_lock"),
        ("vmscan_", "vmscan"),
        ("mm_vmscan_", "vmscan"),
        ("mm_compaction_", "compaction"),
        ("mm_filemap_", "filemap"),
    ];
    if let Some((system, _)) = NAMES.iter().find(|(_, names)| names.contains(&event)) {
        return system;
    }
    let vector = event.strip_suffix("_entry").or_else(|| event.strip_suffix("_exit"));
    if vector.is_some_and(|vector| VECTORS.contains(&vector)) {
        return "irq_vectors";
    }
    PREFIXES.iter().find(|(prefix, _)| event.starts_with(prefix)).map_or("text", |(_, system)| system)
}
