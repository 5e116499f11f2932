//! Field lines, and values read from records.

use super::{Record, format_with, text_with};
use crate::capture::Endian;
use crate::capture::event_format::{EventFormat, FieldKind, FormatTable, Value};
use crate::error::ErrorKind;

#[test]
fn common_fields_end_at_the_first_empty_line() {
    let format = format_with("int a@8:4s", "\"%d\", REC->a");
    let names = |fields: &[super::super::Field]| fields.iter().map(|f| f.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&format.common), ["common_type", "common_flags", "common_preempt_count", "common_pid"]);
    assert_eq!(names(&format.fields), ["a"]);
    assert_eq!((format.id, &*format.system, &*format.name), (77, "test", "event"));
}

#[test]
fn kinds_follow_the_declaration() {
    let cases = [
        ("unsigned int n@8:4", FieldKind::Number, "unsigned int"),
        ("union kvm_mmu_page_role n@8:4", FieldKind::Number, "union kvm_mmu_page_role"),
        ("bool n@8:1", FieldKind::Bool, "bool"),
        ("const char * n@8:8", FieldKind::Pointer, "const char *"),
        ("struct task_struct *n@8:8", FieldKind::Pointer, "struct task_struct *"),
        ("char n[16]@8:16s", FieldKind::Text, "char[16]"),
        ("char n[TASK_COMM_LEN]@8:16s", FieldKind::Text, "char[TASK_COMM_LEN]"),
        ("char n[]@8:0s", FieldKind::Text, "char[]"),
        ("char n@8:1s", FieldKind::Number, "char"),
        ("unsigned char n[6]@8:6", FieldKind::Array { element: 1 }, "unsigned char[6]"),
        ("u8 n[32]@8:32", FieldKind::Array { element: 1 }, "u8[32]"),
        ("unsigned long n[6]@8:48", FieldKind::Array { element: 8 }, "unsigned long[6]"),
        ("unsigned int n[MAX]@8:40", FieldKind::Array { element: 4 }, "unsigned int[MAX]"),
        ("strange_t n[5]@8:10", FieldKind::Array { element: 2 }, "strange_t[5]"),
        ("unsigned long n[]@8:0", FieldKind::Array { element: 8 }, "unsigned long[]"),
        ("struct in6_addr n@8:16", FieldKind::Array { element: 1 }, "struct in6_addr"),
        ("__data_loc char[] n@8:4s", FieldKind::DynamicText, "__data_loc char[]"),
        ("__data_loc u32[] n@8:4", FieldKind::DynamicArray { element: 4 }, "__data_loc u32[]"),
        ("__data_loc cpumask_t n@8:4", FieldKind::DynamicArray { element: 8 }, "__data_loc cpumask_t"),
        ("__rel_loc char[] n@8:4s", FieldKind::RelativeText, "__rel_loc char[]"),
        ("__rel_loc u16[] n@8:4", FieldKind::RelativeArray { element: 2 }, "__rel_loc u16[]"),
    ];
    for (decl, kind, type_name) in cases {
        let format = format_with(decl, "\"\"");
        let field = format.field("n").expect(decl);
        assert_eq!((field.kind, &*field.type_name), (kind, type_name), "{decl}");
    }
}

#[test]
fn old_field_lines_are_read_too() {
    let text = "name: old\nID: 3\nformat:\n\tfield:unsigned char common_type;\toffset:0;\tsize:1;\n\n\
                \tfield special:char comm[TASK_COMM_LEN];\toffset:4;\tsize:16;\n\tfield:int n;\toffset:20;\tsize:4;\n\n\
                print fmt: \"%s %d\", REC->comm, REC->n\n";
    let format = EventFormat::parse("sched", text).expect("an old format");
    assert_eq!(format.fields[0].kind, FieldKind::Text);
    assert!(format.fields[1].signed, "a missing sign is that of the type");
    assert_eq!(Record::new(24).bytes(4, b"init").u32(20, -5_i32 as u32).render(&format), "init -5");
}

#[test]
fn only_signed_decides_the_extension() {
    let format = format_with("u8 a@8:1s; int b@8:1; s16 c@8:2; u16 d@8:2s; u64 e@8:8; long f@8:8s", "\"\"");
    let record = Record::new(16).u64(8, 0xfedc_ba98_7654_80ff);
    let number = |name: &str| format.field(name).and_then(|f| f.number(&record.bytes, Endian::Little));
    assert_eq!(number("a"), Some(u64::MAX));
    assert_eq!(number("b"), Some(0xff));
    assert_eq!(number("c"), Some(0x80ff));
    assert_eq!(number("d"), Some(0xffff_ffff_ffff_80ff));
    assert_eq!(number("e"), Some(0xfedc_ba98_7654_80ff));
    let value = |name: &str| format.field(name).and_then(|f| f.value(&record.bytes, Endian::Little));
    assert_eq!(value("e"), Some(Value::Uint(0xfedc_ba98_7654_80ff)));
    assert_eq!(value("f"), Some(Value::Int(0xfedc_ba98_7654_80ff_u64 as i64)));
}

#[test]
fn what_does_not_fit_has_no_value() {
    let format = format_with("u64 a@8:8; char t[8]@16:8; __data_loc char[] d@24:4", "\"a=%llu\", REC->a");
    let whole = Record::new(28).u32(24, 4 << 16 | 24);
    for name in ["a", "t", "d"] {
        let field = format.field(name).expect(name);
        assert!(field.value(&whole.bytes, Endian::Little).is_some(), "{name}");
        let end = usize::from(field.offset) + usize::from(field.size) - 1;
        assert_eq!(field.value(&whole.bytes[..end], Endian::Little), None, "{name}");
    }
    let short = Record::new(12);
    assert_eq!(short.render(&format), "a=?", "a missing number must not read as 0");
}

#[test]
fn dynamic_fields_are_located_and_checked() {
    let format = format_with("__data_loc char[] d@8:4; __rel_loc char[] r@12:4; __data_loc u16[] n@16:4", "\"\"");
    let record = Record::new(40)
        .u32(8, 6 << 16 | 20)
        .bytes(20, b"hello\0")
        .u32(12, 4 << 16 | 10) // 10 bytes behind offset 16
        .bytes(26, b"rel\0")
        .u32(16, 4 << 16 | 30)
        .bytes(30, &[1, 0, 2, 0]);
    let value = |name: &str, bytes: &'static [u8]| {
        assert!(bytes.is_empty());
        format.field(name).and_then(|f| f.value(&record.bytes, Endian::Little))
    };
    assert_eq!(value("d", b""), Some(Value::Text(b"hello")));
    assert_eq!(value("r", b""), Some(Value::Text(b"rel")));
    assert_eq!(value("n", b""), Some(Value::Array { bytes: &[1, 0, 2, 0], element: 2, signed: false }));
    for bad in [0xffff_ffff_u32, 21 << 16 | 20, 1 << 16 | 40] {
        let record = record.clone().u32(8, bad);
        assert_eq!(format.fields[0].value(&record.bytes, Endian::Little), None, "{bad:#x}");
    }
}

#[test]
fn both_byte_orders() {
    let format = format_with(
        "u16 a@8:2; u32 b@12:4; long c@16:8s; __data_loc char[] d@24:4",
        "\"%u %x %ld %s\", \
        REC->a, REC->b, REC->c, __get_str(d)",
    );
    for record in [Record::new(34), Record::big(34)] {
        let record = record
            .int(8, 2, 0x1234)
            .u32(12, 0xdead_beef)
            .u64(16, (-2_i64) as u64)
            .u32(24, 6 << 16 | 28)
            .bytes(28, b"order\0");
        assert_eq!(record.render(&format), "4660 deadbeef -2 order");
    }
}

#[test]
fn pid_is_the_common_pid() {
    let format = format_with("int pid@8:4s", "\"\"");
    let record = Record::new(12).u32(4, 203).u32(8, 9);
    assert_eq!(format.pid(&record.bytes, Endian::Little), Some(203));
    assert_eq!(format.pid(&record.bytes[..7], Endian::Little), None);
}

#[test]
fn a_bad_file_is_an_error_with_its_place() {
    let good = text_with("int a@8:4s", "\"%d\", REC->a");
    let cases = [
        (good.replace("ID: 77", "ID: 70000"), "no number below 65536"),
        (good.replace("ID: 77\n", ""), "no \"ID:\" line"),
        (good.replace("name: event", "nom: event"), "\"name:\" line"),
        (good.replace("offset:8", "offset:x"), "field line"),
        (good.replace("size:4;\tsigned:1;\n\nprint", "size:99999;\tsigned:1;\n\nprint"), "field line"),
        (String::new(), "\"name:\" line"),
    ];
    for (text, expected) in cases {
        let error = EventFormat::parse("test", &text).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.offset().is_some() && error.hint_text().is_some(), "{error}");
    }
    let huge = format!("{good}{}", " ".repeat(1 << 20));
    assert_eq!(EventFormat::parse("test", &huge).expect_err("too large").kind(), ErrorKind::Limit);
}

#[test]
fn the_first_of_two_formats_with_one_id_wins() {
    let mut table = FormatTable::new();
    assert_eq!(table.add(format_with("", "\"first\"")).ok(), Some(0));
    assert!(table.add(format_with("", "\"second\"")).is_err());
    assert_eq!((table.index_of_id(77), table.index_of_id(78)), (Some(0), None));
    assert_eq!((table.find("test", "event"), table.find("other", "event")), (Some(0), None));
}
