//! Texts of known events, and `key=value` texts.

use crate::capture::text::builtin::Builtin;
use crate::capture::text::keys::{self, Seen, Type};
use crate::capture::text::pattern::Pattern;

/// The fields that the built-in pattern finds, as `name=text`.
fn found(event: &str, text: &str) -> Option<Vec<String>> {
    let (index, captures) = Builtin::get().find(event.as_bytes(), text.as_bytes())?;
    let pattern = Builtin::get().pattern(index)?;
    let part = |(from, to): &(u32, u32)| &text[*from as usize..*to as usize];
    Some(pattern.fields.iter().zip(&captures).map(|((name, _), place)| format!("{name}={}", part(place))).collect())
}

#[test]
fn switches_in_three_notations() {
    let kernel = "prev_comm=a b prev_pid=7 prev_prio=-1 prev_state=R+ ==> next_comm=x ==> y next_pid=0 next_prio=120";
    let expected = [
        "prev_comm=a b",
        "prev_pid=7",
        "prev_prio=-1",
        "prev_state=R+",
        "next_comm=x ==> y",
        "next_pid=0",
        "next_prio=120",
    ];
    assert_eq!(found("sched_switch", kernel).expect("kernel"), expected);
    let report = "kworker/0:2:51 [120] S ==> a b:204 [98]";
    let expected = [
        "prev_comm=kworker/0:2",
        "prev_pid=51",
        "prev_prio=120",
        "prev_state=S",
        "next_comm=a b",
        "next_pid=204",
        "next_prio=98",
    ];
    assert_eq!(found("sched_switch", report).expect("report"), expected);
    let raw = "prev_comm=trace-cmd prev_pid=194 prev_prio=120 prev_state=1 next_comm=sh next_pid=199 next_prio=120";
    assert_eq!(found("sched_switch", raw).expect("raw")[3], "prev_state=1");
    assert_eq!(found("sched_switch", "something else"), None);
}

#[test]
fn exits_in_all_notations() {
    let texts = [
        ("vcpu 0 reason npf rip 0xfff0 info1 0x1 info2 0x2 intr_info 0x80000003 error_code 0x4", "exit_reason=npf"),
        (
            "vcpu 1 reason EPT_VIOLATION FAILED_VMENTRY rip 0xfff0 info1 0x1 info2 0x2 intr_info 0x0 error_code 0x0 requests 0x2",
            "exit_reason=EPT_VIOLATION FAILED_VMENTRY",
        ),
        ("vcpu 3 reason EXIT_MSR rip 0xffffffff81 info 1 0", "exit_reason=EXIT_MSR"),
        ("reason EXIT_IOIO rip 0xeaba3 info 4020010 eaba4", "exit_reason=EXIT_IOIO"),
        ("TRAP: HSR_EC: 0x0001 (WFx), PC: 0xffff800010", "exit_reason=TRAP"),
    ];
    for (text, reason) in texts {
        let found = found("kvm_exit", text).expect(text);
        assert!(found.contains(&reason.to_string()), "{found:?}");
    }
}

#[test]
fn numbers_must_fit() {
    let pattern = Pattern::new("x", "a={a:d} b={b:u} c={c:x} d={d:X} e={e:q} f={f:U}");
    let fits = |text: &str| pattern.find(text.as_bytes()).is_some();
    assert!(fits(
        "a=-2147483648 b=4294967295 c=0xffffffffffffffff d=ffffffff e=-9223372036854775808 f=18446744073709551615"
    ));
    for bad in [
        "a=2147483648 b=0 c=0 d=0 e=0 f=0",
        "a=0 b=-1 c=0 d=0 e=0 f=0",
        "a=0 b=4294967296 c=0 d=0 e=0 f=0",
        "a=0 b=0 c=0x10000000000000000 d=0 e=0 f=0",
        "a=0 b=0 c=0 d=100000000 e=0 f=0",
        "a=0 b=0 c=0 d=0 e=0 f=-1",
        "a=0 b=0 c=0 d=0 e=0 f=18446744073709551616",
        "a= b=0 c=0 d=0 e=0 f=0",
        "a=0 b=0 c=0 d=0 e=0 f=0 more",
    ] {
        assert!(!fits(bad), "{bad}");
    }
}

fn split(text: &str) -> Option<Vec<String>> {
    let mut list = Vec::new();
    let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    keys::split(text.as_bytes(), &mut list)
        .then(|| list.iter().map(|pair| format!("{}|{}", show(pair.key), show(pair.value))).collect())
}

#[test]
fn keys_and_values() {
    let cases: &[(&str, &[&str])] = &[
        ("a=1 b=two c=0x3", &["a|1", "b|two", "c|0x3"]),
        ("comm=CPU 0/KVM pid=204 runtime=34 [ns]", &["comm|CPU 0/KVM", "pid|204", "runtime|34 [ns]"]),
        ("a=1, b=2", &["a|1", "b|2"]),
        ("work struct=0000 function=f", &["work struct|0000", "function|f"]),
        ("a=x == y b=1", &["a|x == y", "b|1"]),
        ("a= b=", &["a|", "b|"]),
        ("dfd: 0xffffff9c, filename: 0x7ffc, mode: 0", &["dfd|0xffffff9c", "filename|0x7ffc", "mode|0"]),
    ];
    for (text, expected) in cases {
        assert_eq!(split(text).as_deref().unwrap_or_default(), *expected, "{text}");
    }
    for text in ["load", "", "NR 1 = 33", "vcpu_id 0 hv_timer 0", "==", "one two three four=5", "(x) a=5"] {
        assert_eq!(split(text), None, "{text}");
    }
}

#[test]
fn a_keys_type_holds_all_its_values() {
    let of = |values: &[&str]| {
        values.iter().map(|value| Seen::of(value.as_bytes())).fold(Seen::default(), Seen::join).result()
    };
    assert_eq!(of(&["1", "002", "5 [ns]"]), Type::Unsigned);
    assert_eq!(of(&["1", "-2"]), Type::Signed);
    assert_eq!(of(&["0", "0x5"]), Type::Hex);
    assert_eq!(of(&["ffff888012345678", "0000000012345678"]), Type::Hex);
    assert_eq!(of(&["18446744073709551615", "0"]), Type::Unsigned);
    assert_eq!(of(&["18446744073709551615", "-1"]), Type::Text);
    assert_eq!(of(&["1", "one"]), Type::Text);
    assert_eq!(of(&[""]), Type::Text);
}
