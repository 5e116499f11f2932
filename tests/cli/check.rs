//! `check`: right captures are believed, planted faults are caught.

use serde_json::Value;

use crate::run::{fixture, json, kvm_timeline};

fn vcpus(report: &Value) -> Vec<Value> {
    let vms = report["vms"].as_array().expect("vms");
    vms.iter().flat_map(|vm| vm["vcpus"].as_array().expect("vcpus").clone()).collect()
}

/// (inside, checked) over all vCPUs.
fn sums(report: &Value) -> (u64, u64) {
    let sum = |key: &str| vcpus(report).iter().map(|v| v[key].as_u64().expect("a count")).sum();
    (sum("inside"), sum("checked"))
}

fn proved(capture: &str, events: u64) {
    let report = json(["check", "--json", "--require", "proved", &fixture(capture)]);
    assert_eq!(report["verdict"], "proved", "{report:#}");
    assert_eq!(sums(&report), (events, events));
}

#[test]
fn recorded_offsets_are_proved() {
    proved("two-vm", 37_468 + 44_397);
}

#[test]
fn two_boots_are_proved() {
    proved("reboot", 56_866);
}

#[test]
fn thousands_of_offset_changes_are_proved() {
    proved("unstable", 24_647);
}

#[test]
fn a_session_with_time_shift_is_proved() {
    proved("agent", 39_079);
}

#[test]
fn stale_stamps_behind_a_backward_jump_are_repaired() {
    let report = json(["check", "--json", &fixture("tsc-write")]);
    assert_eq!(sums(&report), (185_146, 185_146));
    // 22 stale events on CPU 0, 24 on CPU 1: see the capture's README.
    let repaired: Vec<u64> = vcpus(&report).iter().map(|v| v["repaired"].as_u64().expect("a count")).collect();
    assert_eq!(repaired, [22, 24]);
}

#[test]
fn guests_on_kvm_clock_are_placed_and_said_to_be_inferred() {
    let report = json(["check", "--json", &fixture("kvmclock")]);
    assert_eq!(report["verdict"], "consistent");
    let (inside, checked) = sums(&report);
    assert_eq!(checked, 65_818 + 61_537);
    assert!(inside * 1000 >= checked * 999, "{inside} of {checked}");
}

#[test]
fn guests_on_kvm_clock_are_placed_by_their_rate_alone() {
    // Nothing that was recorded about the clocks is used but the TSC rate.
    let report = json(["check", "--json", "--infer", "--tsc-hz", "2596116000", &fixture("kvmclock")]);
    assert_eq!(report["verdict"], "consistent", "{report:#}");
    let (inside, checked) = sums(&report);
    assert_eq!(checked, 65_818 + 61_537);
    assert!(inside * 1000 >= checked * 999, "{inside} of {checked}");
}

#[test]
fn withheld_offsets_are_inferred_around_the_truth() {
    let report = json(["check", "--json", "--infer", &fixture("two-vm")]);
    assert_eq!(report["verdict"], "consistent", "{report:#}");
    // The truth, from debugfs, beside the capture.
    for (vcpu, truth) in
        vcpus(&report).iter().zip([-33_610_754_878_i64, -33_610_754_878, -39_157_969_642, -39_157_969_642])
    {
        let offset = vcpu["segments"][0]["offset"].as_i64().expect("an offset");
        let uncertainty = vcpu["uncertainty"].as_u64().expect("cycles");
        assert!(offset.abs_diff(truth) <= uncertainty, "{offset} is more than {uncertainty} from {truth}");
        assert!(uncertainty <= 57_500, "{uncertainty} cycles are more than 22 us at 2596.116 MHz");
        // The host's readings for timers that were due are late by the way to their stamp alone.
        assert!(offset.abs_diff(truth) <= 5_192, "{offset} is more than 2 us off");
    }
}

#[test]
fn what_was_inferred_can_be_given_back() {
    let report = json(["check", "--json", "--infer", &fixture("two-vm")]);
    let options = report["feedback"].as_array().expect("options");
    let options = options.iter().flat_map(|option| option.as_str().expect("text").split(' '));
    let capture = fixture("two-vm");
    let by_options: Vec<&str> = ["check", "--json", capture.as_str()].into_iter().chain(options).collect();
    // Beside the captures, as it was printed.
    let dir = tempfile::tempdir().expect("a directory");
    for file in ["host.dat", "guest-a.dat", "guest-b.dat"] {
        std::os::unix::fs::symlink(fixture(&format!("two-vm/{file}")), dir.path().join(file)).expect("a link");
    }
    let lines = report["manifest"].as_str().expect("lines");
    std::fs::write(dir.path().join("capture.toml"), lines).expect("written");
    let by_manifest = vec!["check", "--json", dir.path().to_str().expect("text")];
    for again in [by_options, by_manifest] {
        let again = json(again);
        assert_eq!(again["verdict"], "consistent", "{again:#}");
        for (then, now) in vcpus(&report).iter().zip(vcpus(&again)) {
            assert_eq!(then["segments"][0]["offset"], now["segments"][0]["offset"]);
            assert_eq!(now["segments"][0]["source"], "given by the user");
        }
    }
}

#[test]
fn a_guest_given_to_the_wrong_vm_is_wrong() {
    let a = format!("a,pid=210={}", fixture("two-vm/guest-a.dat"));
    let b = format!("b,pid=197={}", fixture("two-vm/guest-b.dat"));
    let done = kvm_timeline(["check", "--host", &fixture("two-vm/host.dat"), "--guest", &a, "--guest", &b]);
    assert_eq!(done.code, 1);
    assert!(done.stdout.ends_with("verdict: wrong\n"), "{}", done.stdout);
}

#[test]
fn an_offset_that_is_50_us_off_is_caught() {
    // 50 us are 129,806 cycles.
    for offset in [-33_610_754_878_i64 + 129_806, -33_610_754_878 - 129_806] {
        let done = kvm_timeline(["check", &fixture("two-vm"), "--offset", &format!("a={offset}")]);
        assert_eq!(done.code, 1, "{}", done.stdout);
        assert!(done.stdout.contains("doubtful") || done.stdout.contains("wrong"), "{}", done.stdout);
    }
}

#[test]
fn the_right_offset_by_hand_is_consistent() {
    for offset in ["a=-33610754878", "a=18446744040098796738", "a/0=0xfffffff82ca494c2"] {
        let done = kvm_timeline(["check", &fixture("two-vm"), "--offset", offset]);
        assert_eq!(done.code, 0, "{offset}: {}{}", done.stdout, done.stderr);
    }
}

#[test]
fn the_difference_to_time_shift_is_said() {
    let capture = fixture("agent");
    let report = json(["check", "--json", &capture]);
    assert!(vcpus(&report).iter().all(|v| v["time_shift_apart_ns"].is_null()), "TIME_SHIFT is all there is");
    // The offset that TIME_SHIFT has, plus 2596 cycles: at 2596 MHz events lie a microsecond earlier than it says.
    for (offset, apart) in
        [(-16_868_608_747_i64, 0), (-16_868_608_747 + 2596, 1000), (-16_868_608_747 - 25_960, -10_000)]
    {
        let offset = format!("a={offset}");
        let mut args = vec!["check", "--json", capture.as_str(), "--offset", offset.as_str()];
        args.extend(["--tsc-hz", "2596000000"]);
        let done = kvm_timeline(args);
        let report: serde_json::Value = serde_json::from_str(&done.stdout).expect("JSON");
        assert!(vcpus(&report).iter().all(|v| v["time_shift_apart_ns"] == apart), "{report:#}");
    }
}
