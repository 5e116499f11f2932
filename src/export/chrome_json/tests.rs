use proptest::prelude::*;

use super::json;

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn microseconds_have_three_decimals() {
    let text = |ns| written(|out| json::microseconds(out, ns));
    assert_eq!(text(0), "0.000");
    assert_eq!(text(7), "0.007");
    assert_eq!(text(1_050), "1.050");
    assert_eq!(text(123_456_789), "123456.789");
    assert_eq!(text(i128::from(u64::MAX)), "18446744073709551.615");
    assert_eq!(text(-1), "-0.001");
    assert_eq!(text(-i128::from(u64::MAX)), "-18446744073709551.615");
}

#[test]
fn numbers_beyond_a_double_are_text() {
    assert_eq!(written(|out| json::unsigned(out, 1 << 53)), "9007199254740992");
    assert_eq!(written(|out| json::unsigned(out, (1 << 53) + 1)), "\"9007199254740993\"");
    assert_eq!(written(|out| json::unsigned(out, 1 << 63)), "\"0x8000000000000000\"");
    assert_eq!(written(|out| json::signed(out, -(1 << 53))), "-9007199254740992");
    assert_eq!(written(|out| json::signed(out, i64::MIN)), "\"-9223372036854775808\"");
}

proptest! {
    #[test]
    fn any_text_parses_back(text in proptest::collection::vec(any::<u8>(), 0..80), plain in ".{0,40}") {
        for text in [text.as_slice(), plain.as_bytes()] {
            let json = written(|out| json::string(out, text));
            let parsed: String = serde_json::from_str(&json).expect("JSON");
            prop_assert_eq!(parsed, String::from_utf8_lossy(text));
            prop_assert!(json.bytes().all(|byte| byte >= 0x20 && byte != 0x7f));
        }
    }
}
