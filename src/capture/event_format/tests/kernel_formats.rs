//! Formats as real kernels wrote them. Expected texts of the kvm, sched and syscall events are lines of a kernel's own
//! `trace` file.

use super::Record;
use crate::capture::Endian;
use crate::capture::event_format::EventFormat;

macro_rules! kernel_format {
    ($system:literal, $name:literal) => {
        EventFormat::parse(
            $system,
            include_str!(concat!("../../../../tests/data/formats/", $system, ".", $name, ".txt")),
        )
        .expect("a kernel's format")
    };
}

fn exit(reason: u32, isa: u32) -> Record {
    Record::new(60).u32(8, reason).u64(16, 0xfff0).u32(24, isa).u64(32, 0x1_0000_0014).u64(40, 0xffff_fff0)
}

#[test]
fn kvm_exit_as_the_kernel_prints_it() {
    let format = kernel_format!("kvm", "kvm_exit");
    assert_eq!(
        exit(0x400, 2).render(&format),
        "vcpu 0 reason npf rip 0xfff0 info1 0x0000000100000014 info2 0x00000000fffffff0 intr_info 0x00000000 \
         error_code 0x00000000"
    );
    assert_eq!(
        exit(0x8000_0021, 1).u32(56, 3).u32(48, 0x8000_00ef).render(&format),
        "vcpu 3 reason INVALID_STATE FAILED_VMENTRY rip 0xfff0 info1 0x0000000100000014 info2 0x00000000fffffff0 \
         intr_info 0x800000ef error_code 0x00000000"
    );
}

#[test]
fn exit_reasons_by_instruction_set() {
    let format = kernel_format!("kvm", "kvm_exit");
    let cases = [
        (12, 1, Some("HLT")),
        (48, 1, Some("EPT_VIOLATION")),
        (0x8000_0021, 1, Some("INVALID_STATE")),
        (11, 1, None),
        (0x078, 2, Some("hlt")),
        (0x400, 2, Some("npf")),
        (0x040 + 14, 2, Some("PF excp")),
        (0x8000_fffd, 2, Some("vmgexit_hypervisor_feature")),
        (0xffff_ffff, 2, Some("invalid_guest_state")),
        (0x08c, 2, None),
        (0x404, 2, None),
    ];
    for (reason, isa, expected) in cases {
        let record = exit(reason, isa);
        assert_eq!(format.symbol("exit_reason", &record.bytes, Endian::Little), expected, "{reason:#x} {isa}");
    }
    let record = exit(12, 1);
    assert_eq!(format.symbol("isa", &record.bytes, Endian::Little), None);
    assert_eq!(format.symbol("exit_reason", &record.bytes[..11], Endian::Little), None);
    let names: Vec<_> = format.symbols("exit_reason").collect();
    assert!(
        names.contains(&(12, "HLT"))
            && names.contains(&(0x78, "hlt"))
            && names.contains(&(0xffff_ffff, "invalid_guest_state"))
    );
    assert_eq!(format.symbols("guest_rip").count(), 0);
}

#[test]
fn other_kvm_events() {
    let format = kernel_format!("kvm", "kvm_entry");
    let record = Record::new(28).u64(16, 0xfff0);
    assert_eq!(record.render(&format), "vcpu 0, rip 0xfff0");
    assert_eq!(record.bytes(24, &[1]).render(&format), "vcpu 0, rip 0xfff0[immediate exit]");

    let format = kernel_format!("kvm", "kvm_inj_virq");
    assert_eq!(Record::new(16).u32(8, 0xec).render(&format), "IRQ 0xec");
    assert_eq!(Record::new(16).u32(8, 0x80).bytes(12, &[1, 1]).render(&format), "Soft/INTn 0x80 [reinjected]");

    let format = kernel_format!("kvm", "kvm_msi_set_irq");
    let record = Record::new(24).u64(8, 0xfee0_1000).u64(16, 0x4024);
    assert_eq!(record.render(&format), "dst 1 vec 36 (Fixed|physical|edge)");
    assert_eq!(format.symbol("data", &record.bytes, Endian::Little), Some("Fixed"));
    let record = Record::new(24).u64(8, 0x300_fee0_200c).u64(16, 0x8000 | 0x531);
    assert_eq!(record.render(&format), "dst 302 vec 49 (INIT|logical|level|rh)");

    let format = kernel_format!("kvm", "kvm_apic");
    assert_eq!(Record::new(24).u32(8, 1).u32(12, 0x380).u64(16, 0x2a).render(&format), "apic_write APIC_TMICT = 0x2a");

    let format = kernel_format!("kvm", "kvm_write_tsc_offset");
    let record = Record::new(32).u32(8, 1).u64(16, 0).u64(24, 18_446_744_032_850_265_776);
    assert_eq!(record.render(&format), "vcpu=1 prev=0 next=18446744032850265776");
}

fn switch(state: u64) -> String {
    let record = Record::new(64)
        .bytes(8, b"CPU 0/KVM")
        .u32(24, 203)
        .u32(28, 120)
        .u64(32, state)
        .bytes(40, b"swapper/1")
        .u32(60, 120);
    record.render(&kernel_format!("sched", "sched_switch"))
}

#[test]
fn scheduler_events() {
    for (state, shown) in [(0, "R"), (1, "S"), (2, "D"), (0x100, "R+"), (0x41, "S|P"), (0x80, "I"), (0x104, "T+")] {
        assert_eq!(
            switch(state),
            format!(
                "prev_comm=CPU 0/KVM prev_pid=203 prev_prio=120 prev_state={shown} ==> next_comm=swapper/1 next_pid=0 \
                 next_prio=120"
            )
        );
    }
    let record = Record::new(36).bytes(8, b"rcu_preempt").u32(24, 15).u32(28, 120).u32(32, 1);
    let format = kernel_format!("sched", "sched_waking");
    assert_eq!(record.render(&format), "comm=rcu_preempt pid=15 prio=120 target_cpu=001");
}

#[test]
fn interrupts_and_system_calls() {
    let format = kernel_format!("irq", "softirq_entry");
    let record = Record::new(12).u32(8, 7);
    assert_eq!(record.render(&format), "vec=7 [action=SCHED]");
    assert_eq!(format.symbol("vec", &record.bytes, Endian::Little), Some("SCHED"));
    let format = kernel_format!("irq", "irq_handler_entry");
    assert_eq!(
        Record::new(24).u32(8, 4).u32(12, 6 << 16 | 16).bytes(16, b"ttyS0\0").render(&format),
        "irq=4 name=ttyS0"
    );
    let format = kernel_format!("irq", "irq_handler_exit");
    assert_eq!(Record::new(16).u32(8, 4).u32(12, 1).render(&format), "irq=4 ret=handled");

    let format = kernel_format!("raw_syscalls", "sys_enter");
    let args = [0xb, 1, 0x189d_36f0, 0x5cee_200f_a105_9dcd, 7, 0x189d_9c20];
    let record = (0..).zip(args).fold(Record::new(64).u64(8, 33), |r, (i, arg)| r.u64(16 + 8 * i, arg));
    assert_eq!(record.render(&format), "NR 33 (b, 1, 189d36f0, 5cee200fa1059dcd, 7, 189d9c20)");
    let format = kernel_format!("raw_syscalls", "sys_exit");
    assert_eq!(Record::new(24).u64(8, 61).u64(16, -10_i64 as u64).render(&format), "NR 61 = -10");
    let format = kernel_format!("syscalls", "sys_enter_openat");
    let record = Record::new(48).u64(16, 0xffff_ff9c).u64(24, 0x7ffc_0000).u64(32, 0x8000);
    assert_eq!(record.render(&format), "dfd: 0xffffff9c, filename: 0x7ffc0000, flags: 0x00008000, mode: 0x00000000");
}

#[test]
fn block_network_memory_and_errors() {
    let format = kernel_format!("block", "block_rq_issue");
    let record = Record::new(64).u32(8, 254 << 20 | 3).u64(16, 2048).u32(24, 8).u32(28, 4096);
    let record = record.bytes(32, b"WS").bytes(40, b"dd").u32(56, 1 << 16 | 60);
    assert_eq!(record.render(&format), "254,3 WS 4096 () 2048 + 8 [dd]");

    let format = kernel_format!("fib", "fib_table_lookup");
    let record = Record::new(76).u32(8, 254).bytes(28, &[10, 0, 2, 15]).bytes(32, &[1, 1, 1, 1]).bytes(60, b"eth0");
    let record = record.int(58, 2, 53).bytes(40, &[0xfe, 0x80]).bytes(55, &[1]);
    assert_eq!(
        record.render(&format),
        "table 254 oif 0 iif 0 proto 0 10.0.2.15/0 -> 1.1.1.1/53 tos 0 scope 0 flags 0 ==> dev eth0 gw \
         0.0.0.0/fe80::1 err 0"
    );

    // The page's address needs a variable of the kernel: it alone is unknown.
    let format = kernel_format!("kmem", "mm_page_alloc");
    let record = Record::new(36).u64(8, 0x1234).u64(24, 0x0c40 | 0x80);
    let shown = record.render(&format);
    assert!(shown.starts_with("page=? pfn=0x1234 order=0 migratetype=0 gfp_flags=GFP_"), "{shown}");

    let format = kernel_format!("ras", "aer_event");
    let names: Vec<_> = format.fields.iter().map(|field| &*field.name).collect();
    assert_eq!(names, ["dev_name", "status", "severity", "tlp_header_valid", "tlp_header"]);
}

#[test]
fn a_32_bit_kernel() {
    let text = include_str!("../../../../tests/data/formats/sched.sched_switch.txt")
        .replace("prev_state;\toffset:32;\tsize:8", "prev_state;\toffset:32;\tsize:4")
        .replace("next_comm[16];\toffset:40", "next_comm[16];\toffset:36")
        .replace("next_pid;\toffset:56", "next_pid;\toffset:52")
        .replace("next_prio;\toffset:60", "next_prio;\toffset:56")
        .replace("print fmt: \"", "print fmt: \"%lx ")
        .replace("\", REC->prev_comm,", "\", (long)REC->prev_state | ~0UL, REC->prev_comm,");
    let format = EventFormat::parse("sched", &text).expect("a format of a 32-bit kernel");
    for record in [Record::new(60), Record::big(60)] {
        let record = record.bytes(8, b"a").u32(24, 1).u32(32, 1).bytes(36, b"b").u32(52, 2).u32(56, 100);
        assert_eq!(
            record.render(&format),
            "ffffffff prev_comm=a prev_pid=1 prev_prio=0 prev_state=S ==> next_comm=b next_pid=2 next_prio=100",
            "a long is 32 bits there"
        );
    }
}
