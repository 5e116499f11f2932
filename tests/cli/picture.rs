//! The picture, judged by Perfetto's trace processor: exact slices read by hand from `trace-cmd report`, rows, arrows.

use crate::run::{Scratch, fixture, succeeds};
use crate::trace_processor::{COMPLAINTS, queries};

/// Host TSC to nanoseconds at the 2596.116 MHz of the capture's kernel log.
fn ns(tsc: u64) -> u64 {
    u64::try_from(u128::from(tsc) * 1_000_000_000 / 2_596_116_000).expect("fits")
}

/// VM a's offset, from debugfs: host = guest + 33610754878.
fn host_of_a(guest: u64) -> u64 {
    ns(guest + 33_610_754_878)
}

const SLICES: &str = "SELECT t.name, s.name, s.ts, s.ts + s.dur FROM slice s JOIN track t ON s.track_id = t.id \
                      WHERE s.ts BETWEEN ";

/// Slices by hand: (row, name, begin, end).
fn by_hand() -> Vec<(&'static str, &'static str, u64, u64)> {
    vec![
        // host.dat, CPU 0: 128622570309 sched_switch CPU 0/KVM:205 [120] R ==> CPU 1/KVM:206
        //                  128653936865 sched_switch CPU 1/KVM:206 [120] R ==> CPU 0/KVM:205
        ("VM a vCPU 0", "preempted by a vCPU 1", ns(128_622_570_309), ns(128_653_936_865)),
        ("Host state, a vCPU 0", "preempted", ns(128_622_570_309), ns(128_653_936_865)),
        ("Host CPU 0", "a vCPU 1", ns(128_622_570_309), ns(128_653_936_865)),
        // guest-a.dat, CPU 1: dd-690 88757805592 sys_enter NR 257, 88758332170 sys_exit NR 257 = 3
        ("VM a vCPU 1", "openat", host_of_a(88_757_805_592), host_of_a(88_758_332_170)),
        // guest-a.dat, CPU 0: 89332599632 hrtimer_expire_entry … function=tick_sched_timer, 89332872554 …_exit
        ("VM a vCPU 0", "hrtimer tick_sched_timer", host_of_a(89_332_599_632), host_of_a(89_332_872_554)),
        // guest-a.dat, CPU 0: softirq_entry and _exit, vec=1 [action=TIMER], then vec=9 [action=RCU]
        ("VM a vCPU 0", "softirq TIMER", host_of_a(89_333_289_698), host_of_a(89_333_592_676)),
        ("VM a vCPU 0", "softirq RCU", host_of_a(89_333_596_576), host_of_a(89_333_646_288)),
    ]
}

#[test]
fn slices_are_where_trace_cmd_has_their_events() {
    let scratch = Scratch::new();
    let out = scratch.path("o.pftrace");
    succeeds(["convert", &fixture("two-vm"), "-o", &out.display().to_string()]);
    let hand = by_hand();
    let around: Vec<String> =
        hand.iter().map(|(_, _, begin, _)| format!("{SLICES}{} AND {}", begin - 1, begin + 1)).collect();
    let mut sql: Vec<&str> = vec![COMPLAINTS, OUTSIDE, ROWS, FLOWS, OPEN];
    sql.extend(around.iter().map(String::as_str));
    let Some(answers) = queries(&out, &sql) else { return };
    let [complaints, outside, rows, flows, open, slices @ ..] = answers.as_slice() else {
        panic!("answers are missing")
    };
    assert!(complaints.is_empty(), "{complaints:?}");
    // Every guest event that shows as an instant lies within a "guest" slice of its vCPU's Host state row.
    assert_eq!(*outside, [["0"]]);
    let rows: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(rows, ["Host CPU 0", "Host CPU 1", "VM a vCPU 0", "VM a vCPU 1", "VM b vCPU 0", "VM b vCPU 1"]);
    // The mark's arrow comes from the slice of the vCPU that ran instead.
    let arrow = [ns(128_622_570_309).to_string(), "Host CPU 0".to_owned(), "a vCPU 1".to_owned()];
    assert!(flows.iter().any(|flow| flow[..] == arrow), "{} flows", flows.len());
    assert!(open.is_empty(), "slices without an end: {open:?}");
    for ((row, name, begin, end), found) in hand.iter().zip(slices) {
        // A nanosecond is 2.6 cycles; the multiplier that stands for the rate is rounded down.
        let near = |text: &str, want: u64| text.parse::<u64>().expect("a number").abs_diff(want) <= 1;
        let is = |s: &&Vec<String>| s[0] == *row && s[1] == *name && near(&s[2], *begin) && near(&s[3], *end);
        assert_eq!(found.iter().filter(is).count(), 1, "{row} {name} {begin}..{end}: {found:?}");
    }
}

const OUTSIDE: &str = "
    WITH instant AS (
        SELECT s.ts, replace(t.name, 'Events, ', '') AS vcpu FROM slice s JOIN track t ON s.track_id = t.id
        WHERE t.name LIKE 'Events, %'),
    state AS (
        SELECT s.ts, s.ts + s.dur AS ts_end, s.name, replace(t.name, 'Host state, ', '') AS vcpu
        FROM slice s JOIN track t ON s.track_id = t.id WHERE t.name LIKE 'Host state, %' AND s.depth = 0)
    SELECT count(*) FROM instant i WHERE NOT EXISTS (
        SELECT 1 FROM state w WHERE w.name = 'guest' AND w.vcpu = i.vcpu AND i.ts BETWEEN w.ts AND w.ts_end)";

const ROWS: &str = "
    SELECT DISTINCT t.name FROM slice s JOIN track t ON s.track_id = t.id
    WHERE t.name LIKE 'VM %' OR t.name LIKE 'Host CPU %' ORDER BY 1";

const FLOWS: &str = "
    SELECT i.ts, t.name, o.name FROM flow f JOIN slice o ON f.slice_out = o.id JOIN slice i ON f.slice_in = i.id
    JOIN track t ON o.track_id = t.id WHERE i.name LIKE 'preempted by %'";

const OPEN: &str = "SELECT name FROM slice WHERE dur < 0";

#[test]
fn chrome_json_has_the_same_slices() {
    let scratch = Scratch::new();
    let (pftrace, json) = (scratch.path("o.pftrace"), scratch.path("o.json"));
    succeeds(["convert", &fixture("unstable"), "-o", &pftrace.display().to_string()]);
    succeeds(["convert", &fixture("unstable"), "-o", &json.display().to_string()]);
    // Chrome JSON counts from the start of the drawing and has no rows for offsets.
    let sums = "SELECT name, count(*), sum(dur), sum(depth) FROM slice WHERE name NOT LIKE 'offset %' \
                GROUP BY name ORDER BY name";
    let (Some(a), Some(b)) = (queries(&pftrace, &[COMPLAINTS, sums]), queries(&json, &[COMPLAINTS, sums])) else {
        return;
    };
    assert!(a[0].is_empty() && b[0].is_empty(), "{:?} {:?}", a[0], b[0]);
    assert!(a[1].len() > 50);
    assert_eq!(a[1], b[1]);
}

/// From the exit that injected a vector to the guest's handler, as three reports of `trace-cmd report` tell it. The
/// capture does not tell its TSC's rate, so a cycle is shown as a nanosecond.
#[test]
fn an_interrupt_leads_from_its_injection_to_its_handler() {
    // host.dat, CPU 1/KVM:203: 50981155996 kvm_exit EXIT_VINTR, 50981212272 kvm_inj_virq IRQ 0xfd, 50981257450 kvm_entry
    let injected = ["50981155996", "50981257450", "vintr", "Host state, a vCPU 1"];
    // guest-a.dat, CPU 1: 28068346625 reschedule_entry vector=253, 28068361766 reschedule_exit; the offset of debugfs
    let guest = |tsc: u64| (tsc + 22_913_027_813).to_string();
    let handler = [guest(28_068_346_625), guest(28_068_361_766), "irq reschedule".into(), "VM a vCPU 1".into()];
    let scratch = Scratch::new();
    let out = scratch.path("o.pftrace");
    succeeds(["convert", &fixture("arrows"), "--flows", "all", "-o", &out.display().to_string()]);
    let sql = "SELECT o.ts, o.ts + o.dur, o.name, ot.name, i.ts, i.ts + i.dur, i.name, it.name FROM flow f \
               JOIN slice o ON f.slice_out = o.id JOIN slice i ON f.slice_in = i.id \
               JOIN track ot ON o.track_id = ot.id JOIN track it ON i.track_id = it.id \
               WHERE i.name LIKE 'irq %' AND it.name = 'VM a vCPU 1' AND o.name = 'vintr'";
    let Some(answers) = queries(&out, &[sql]) else { return };
    let found: Vec<&Vec<String>> = answers[0].iter().filter(|row| row[..4] == injected).collect();
    let [only] = found.as_slice() else { panic!("{} arrows from this exit: {found:?}", found.len()) };
    assert_eq!(only[4..], handler);
}
