//! `offsets`: the history as data.

use serde_json::Value;

use crate::run::{Scratch, fixture, json, kvm_timeline, succeeds};

#[test]
fn a_table_of_signed_and_unsigned_offsets() {
    let rows = json(["offsets", "--json", &fixture("two-vm")]);
    let rows: Vec<(String, u64, i64, u64)> = rows["offsets"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|r| {
            let vm = r["vm"].as_str().expect("a name").to_owned();
            let number = |key: &str| r[key].as_u64().expect("a number");
            (vm, number("vcpu"), r["offset"].as_i64().expect("an offset"), number("offset_unsigned"))
        })
        .collect();
    // As debugfs showed them: offsets-debugfs.txt beside the capture.
    assert_eq!(
        rows,
        [
            ("a".to_owned(), 0, -33_610_754_878, 18_446_744_040_098_796_738),
            ("a".to_owned(), 1, -33_610_754_878, 18_446_744_040_098_796_738),
            ("b".to_owned(), 0, -39_157_969_642, 18_446_744_034_551_581_974),
            ("b".to_owned(), 1, -39_157_969_642, 18_446_744_034_551_581_974),
        ]
    );
}

#[test]
fn writes_by_the_guest_are_segments() {
    let rows = json(["offsets", "--json", &fixture("tsc-write")]);
    let of = |vcpu: u64| -> Vec<i64> {
        let rows = rows["offsets"].as_array().expect("rows").iter().filter(|r| r["vcpu"] == vcpu);
        rows.map(|r| r["offset"].as_i64().expect("an offset")).collect()
    };
    // msr.log: CPU 0 wrote its TSC forward, after which it read 8264923568 in IA32_TSC_ADJUST, and then took 2^32 off
    // that: both to the cycle. CPU 1 wrote a TSC 3e9 before one that it had read a while ago.
    let [first, forward, back] = of(0).try_into().expect("three segments");
    assert_eq!(forward - first, 8_264_923_568);
    assert_eq!(forward - back, 1 << 32);
    let [first, back] = of(1).try_into().expect("two segments");
    assert!((3_000_000_000..3_600_000_000).contains(&(first - back)), "{first} {back}");
}

#[test]
fn csv_has_one_line_per_segment() {
    let csv = succeeds(["offsets", "--csv", &fixture("reboot")]).stdout;
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "vm,vcpu,from,to,offset,offset_unsigned,ratio,frac_bits,source,uncertainty");
    assert_eq!(lines.len(), 5, "{csv}");
    assert!(lines[1..].iter().all(|l| l.starts_with("a,") && l.split(',').count() == 10), "{csv}");
}

#[test]
fn metadata_of_a_trace_lists_the_first_hundred() {
    let scratch = Scratch::new();
    let out = scratch.path("unstable.json");
    succeeds(["convert", &fixture("unstable"), "--span", "all", "-o", &out.display().to_string()]);
    let trace: Value = serde_json::from_slice(&std::fs::read(out).expect("an output")).expect("JSON");
    let rows = json(["offsets", "--json", &fixture("unstable")]);
    let rows = rows["offsets"].as_array().expect("rows");
    for vcpu in trace["metadata"]["vms"][0]["vcpus"].as_array().expect("vCPUs") {
        let all: Vec<&Value> = rows.iter().filter(|row| row["vcpu"] == vcpu["id"]).collect();
        assert!(all.len() > 1000 && vcpu["segment_count"] == all.len(), "{} {}", all.len(), vcpu["segment_count"]);
        let offsets = |rows: &[&Value]| rows.iter().map(|row| row["offset"].clone()).collect::<Vec<_>>();
        let listed: Vec<&Value> = vcpu["segments"].as_array().expect("segments").iter().collect();
        assert_eq!(offsets(&listed), offsets(&all[..100]));
    }
}

#[test]
fn what_is_said_of_nothing_is_refused() {
    let capture = fixture("agent");
    let done = kvm_timeline(["offsets", &capture, "--offset", "web=5"]);
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(done.stderr.contains("VM \"web\", which is not in the capture") && done.stderr.contains("the VMs: a"));
    let done = kvm_timeline(["offsets", &capture, "--offset", "a=5", "--cntvoff", "a=-5"]);
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(done.stderr.contains("both --offset and --cntvoff"), "{}", done.stderr);
    // A guest's file has no offset writes.
    let done = kvm_timeline(["offsets", &capture, "--offsets", &fixture("two-vm/guest-a.dat")]);
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains("guest-a.dat: holds no kvm_write_tsc_offset event"), "{}", done.stderr);
}
