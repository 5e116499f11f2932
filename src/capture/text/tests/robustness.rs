//! Any text, any chunk size.

use proptest::prelude::*;

use super::{KERNEL, all, try_open};

/// Everything that can be seen of a text.
fn seen(text: &str, chunk: u64) -> String {
    let capture = match try_open(text, chunk) {
        Ok(capture) => capture,
        Err(error) => return error.to_string(),
    };
    let formats: Vec<_> =
        capture.formats.events().iter().map(|e| format!("{}:{} {:?}", e.system, e.name, e.fields)).collect();
    let mut out = format!("{:?}\n{formats:?}\n", capture.info);
    for (index, buffer) in capture.buffers.iter().enumerate() {
        for stream in &buffer.streams {
            out.push_str(&format!("{} {} {:?}\n", buffer.name, stream.cpu, all(&capture, index, stream.cpu)));
        }
    }
    out
}

#[test]
fn chunk_borders_do_not_matter() {
    let whole = seen(KERNEL, 1 << 20);
    for chunk in [1, 2, 7, 64, 100, 137, 1000] {
        assert_eq!(seen(KERNEL, chunk), whole, "chunks of {chunk} bytes");
    }
    let without_end = KERNEL.trim_end();
    assert_eq!(seen(without_end, 50), seen(KERNEL, 1 << 20));
    assert_eq!(
        seen(&KERNEL.replace('\n', "\r\n"), 64).lines().skip(1).collect::<Vec<_>>(),
        whole.lines().skip(1).collect::<Vec<_>>()
    );
}

#[test]
fn endless_lines_and_hostile_texts_end() {
    let long = format!("            init-1       [000] .....  5: kvm_fpu: {}\n{KERNEL}", "x".repeat(100_000));
    assert!(seen(&long, 1 << 18).contains("kvm:kvm_fpu"));
    let colons = "1: ".repeat(5000);
    let keys = "a=".repeat(5000);
    let switch = "prev_comm= prev_pid= ==> next_comm= ".repeat(300);
    let text = format!("{colons}\n s-1 [000] 5: x: {keys}\n s-1 [000] 6: sched_switch: prev_comm={switch}\n");
    assert!(!seen(&text, 1 << 18).is_empty());
    // More events than there may be formats.
    let many: String = (0..10_000).map(|n| format!(" s-1 [000] {n}: e{n}: k{n}=1\n")).collect();
    assert!(try_open(&many, 1 << 18).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_is_survived(text in "\\PC{0,400}", chunk in 1_u64..300) {
        seen(&text, chunk);
    }

    #[test]
    fn damaged_texts_read_alike_in_any_chunks(at in 0..KERNEL.len(), byte in 9_u8..127, cut in 0..KERNEL.len(), chunk in 1_u64..999) {
        let mut bytes = KERNEL.as_bytes().to_vec();
        bytes[at] = byte;
        bytes.truncate(cut.max(600));
        let text = String::from_utf8(bytes).expect("ASCII");
        prop_assert_eq!(seen(&text, chunk), seen(&text, 1 << 20));
    }
}
