//! printf, C expressions and the kernel's helpers.

use super::{Record, format_with, show};
use crate::capture::event_format::PrintContext;
use crate::capture::kallsyms::Kallsyms;

#[test]
fn numbers_as_the_kernel_prints_them() {
    let cases = [
        (
            "\"%d|%5d|%-5d|%05d|%+d|% d\", REC->i, REC->i, REC->i, REC->i, REC->i, REC->i",
            "42|   42|42   |00042|+42| 42",
        ),
        (
            "\"%x %X %#x %#010x %08lx %o %#o\", 0xab, 0xab, 0xab, 0xab, 0xabUL, 8, 8",
            "ab AB 0xab 0x000000ab 000000ab 10 010",
        ),
        ("\"%#x %.4x %8.3d|\", 0, 0x1f, REC->i", "0x0 001f      042|"),
        (
            "\"%llu %lld %hhd %hd %hu\", REC->x, REC->x, 0x1ff, 0x18000, 0x18000",
            "18446744073709551615 -1 -1 -32768 32768",
        ),
        ("\"100%% %c%c %s\", 'o', 0x6b, \"text\"", "100% ok text"),
        (
            "\"[%5s][%-5s][%.2s][%*s][%.*s]\", \"abc\", \"abc\", \"abc\", 4, \"abc\", 1, \"abc\"",
            "[  abc][abc  ][ab][ abc][a]",
        ),
        ("\"%Lu %zu %ju\", REC->x, REC->x, REC->x", "18446744073709551615 18446744073709551615 18446744073709551615"),
        ("\"a\" \"b\\t\\\"%d\\\"\\x41\\101\\n\", 1", "ab\t\"1\"AA"),
        ("\"%p %px\", (void *)0xabcUL, REC->x", "0000000000000abc ffffffffffffffff"),
    ];
    for (print, expected) in cases {
        assert_eq!(show(print, u64::MAX, 42), expected, "{print}");
    }
    assert_eq!(show("\"%d %5d %05d %u\", REC->i, REC->i, REC->i, REC->i", 0, -7), "-7    -7 -0007 4294967289");
    assert_eq!(show("\"%llx\", REC->x", 0x0123_4567_89ab_cdef, 0), "123456789abcdef");
    assert_eq!(show("\"%lld\", REC->x", i64::MIN as u64, 0), "-9223372036854775808");
}

#[test]
fn expressions_follow_c() {
    let cases: &[(&str, u64)] = &[
        ("1 + 2 * 3 - 4 / 2", 5),
        ("(1 + 2) * 3 % 5", 4),
        ("1 << 3 | 1 << 1 & 3 ^ 1", 11),
        ("((((0x00 | 0x01 | 0x02) + 1) << 1) - 1)", 7),
        ("~0xffff & 0xffffffff", 0xffff_0000),
        ("-1", u64::MAX),
        ("-1U", 0xffff_ffff),
        ("(u8)0x1ff", 0xff),
        ("(s8)0xff", u64::MAX),
        ("(unsigned long)-1", u64::MAX),
        ("-1 < 1U", 0),
        ("-1L < 1U", 1),
        ("-1 < 1", 1),
        ("-7 / 2", (-3_i64) as u64),
        ("-7 % 3", (-1_i64) as u64),
        ("-8 >> 1", (-4_i64) as u64),
        ("0x80000000 >> 31", 1),
        ("1 ? 2 : 3", 2),
        ("0 ? 2 : 0 ? 3 : 4", 4),
        ("0 ?: 9", 9),
        ("!5 + !0", 1),
        ("1 && 0 || 1", 1),
        ("1 && 2", 1),
        ("1 == 1 != 0", 1),
        ("sizeof(u32) + sizeof(unsigned long) + sizeof(void *)", 20),
        ("__builtin_expect(!!(5), 1)", 1),
        ("__builtin_constant_p(x + (y))", 0),
        ("__builtin_choose_expr(1, 5, 6)", 5),
        ("htons(0x1234)", 0x3412),
        ("ntohl(0x12345678)", 0x7856_3412),
        ("010 + 0b11", 11),
        ("(REC)->x", 0x1_0000_0002),
        ("REC->x >> 32", 1),
        ("(u32)REC->x", 2),
        ("(unsigned long long)REC->i", u64::MAX - 1),
        ("(unsigned)REC->i", 0xffff_fffe),
        ("REC->i & 0xff", 0xfe),
        ("REC->x > 5 ? REC->x - 1 : 0", 0x1_0000_0001),
        ("REC->common_pid", 0),
        ("1U << 31 << 1", 0),
        ("18446744073709551615ULL", u64::MAX),
        ("0xffffffffffffffff", u64::MAX),
    ];
    for (expression, expected) in cases {
        let shown = show(&format!("\"%llx\", {expression}"), 0x1_0000_0002, -2);
        assert_eq!(shown, format!("{expected:x}"), "{expression}");
    }
    assert_eq!(show("\"%d %d\", 5 / (REC->i - REC->i), REC->i << 40", 0, 1), "? ?", "no value in C, none here");
}

#[test]
fn symbolic_names_and_flags() {
    let symbolic = "\"%s\", __print_symbolic(REC->x, { 1, \"one\" }, { 0x1 + 1, \"two\" }, {ENUM, \"lost\"}, \
                    { 1, \"again\" }, { 0x8000fffd, \"a, b} \\\"c\\\"\" }, { 300, (\"far\") })";
    for (x, expected) in
        [(1, "one"), (2, "two"), (3, "0x3"), (0x8000_fffd, "a, b} \"c\""), (300, "far"), (301, "0x12d")]
    {
        assert_eq!(show(symbolic, x, 0), expected);
    }
    let minus = "\"%s\", __print_symbolic((u32)REC->x, { -1, \"invalid\" })";
    assert_eq!(show(minus, 0xffff_ffff, 0), "invalid");
    let flags =
        "\"%s\", __print_flags(REC->x, \"|\", { 0x1, \"A\" }, { 0x6, \"BC\" }, { 0x4, \"C\" }, { (1 << 4), \"E\" })";
    let cases = [(0, ""), (1, "A"), (7, "A|BC"), (5, "A|C"), (2, "0x2"), (0x13, "A|E|0x2"), (0x100, "0x100")];
    for (x, expected) in cases {
        assert_eq!(show(flags, x, 0), expected, "{x:#x}");
    }
    let none = "\"%s\", __print_flags_u64(REC->x, \"\", { 0, \"none\" }, { 1, \"A\" }, { 2, \"B\" })";
    for (x, expected) in [(0, "none"), (1, "A"), (3, "AB")] {
        assert_eq!(show(none, x, 0), expected);
    }
}

#[test]
fn text_and_arrays_of_the_record() {
    let format = format_with(
        "char comm[8]@8:8; u8 mac[6]@16:6; __data_loc u32[] list@24:4; unsigned long args[2]@32:16; \
         __rel_loc char[] rel@48:4; __be32 addr@52:4",
        "\"%s %.3s %pM %s %s %d %lx %s %s %pI4 %*ph %s %u\", REC->comm, REC->comm, REC->mac, \
         __print_array(__get_dynamic_array(list), __get_dynamic_array_len(list) / 4, 4), \
         __print_dynamic_array(list, 4), __get_dynamic_array_len(list), REC->args[1], __get_rel_str(rel), \
         __print_hex(REC->mac, 3), &REC->addr, 2, REC->mac, __print_hex_str(REC->mac, 99), \
         ((u32 *)__get_dynamic_array(list))[1]",
    );
    let record = Record::new(80)
        .bytes(8, b"swapper\0")
        .bytes(16, &[0, 0x1b, 0xff, 1, 2, 3])
        .u32(24, 8 << 16 | 64)
        .u64(40, 0xbeef)
        .u32(48, 3 << 16 | 4)
        .bytes(56, b"up\0")
        .bytes(52, &[10, 0, 2, 15])
        .u32(64, 7)
        .u32(68, 0x10);
    assert_eq!(
        record.render(&format),
        "swapper swa 00:1b:ff:01:02:03 {0x7,0x10} {0x7,0x10} 8 beef up 00 1b ff 10.0.2.15 00 1b 001bff010203 16"
    );
}

#[test]
fn masks_of_cpus() {
    let format = format_with(
        "__data_loc cpumask_t cpus@8:4",
        "\"%s %s %*pbl\", __get_cpumask(cpus), __get_bitmask(cpus), 70, __get_dynamic_array(cpus)",
    );
    for record in [Record::new(32), Record::big(32)] {
        let record = record.u32(8, 16 << 16 | 16).u64(16, 0x1_0000_010f).u64(24, 0xe0);
        let mask = "00000000,000000e0,00000001,0000010f";
        assert_eq!(record.render(&format), format!("{mask} {mask} 0-3,8,32,69"));
    }
}

#[test]
fn socket_addresses() {
    let format = format_with("__data_loc __u8[] a@8:4", "\"%s\", __get_sockaddr(a)");
    let v4 = Record::new(28).u32(8, 16 << 16 | 12).int(12, 2, 2).bytes(14, &[0x1f, 0x90, 127, 0, 0, 1]);
    assert_eq!(v4.render(&format), "127.0.0.1:8080");
    let mut v6 = Record::new(40).u32(8, 28 << 16 | 12).int(12, 2, 10).bytes(14, &[0, 53]);
    v6.bytes[35] = 1;
    assert_eq!(v6.render(&format), "[::1]:53");
    let other = Record::new(16).u32(8, 4 << 16 | 12).bytes(12, &[1, 0, 0xab, 0xcd]);
    assert_eq!(other.render(&format), "0100abcd");
}

#[test]
fn addresses_get_their_names() {
    let symbols = Kallsyms::from_text("1000 T first\n2000 T second\n");
    let printk = [(0x500, "CPU_ON".into())];
    let context = PrintContext { printk: &printk, symbols: Some(&symbols) };
    let format = format_with("unsigned long ip@8:8", "\"%ps %pS %s\", (void *)REC->ip, (void *)REC->ip, REC->ip");
    let show = |ip| Record::new(16).u64(8, ip).render_with(&format, &context);
    assert_eq!(show(0x1000), "first first+0x0 0x1000");
    assert_eq!(show(0x2034), "second second+0x34 0x2034");
    assert_eq!(show(0x500), "0x500 0x500 CPU_ON");
}

#[test]
fn one_unknown_argument_costs_only_itself() {
    let print = "\"page=%p x=%llu i=%d\", ((struct page *)vmemmap_base) + (REC->x), REC->x, REC->i";
    assert_eq!(show(print, 5, 6), "page=? x=5 i=6");
    let print = "\"%s x=%llu i=%d\", ({ int a[] = { 1, 2 }; a; }), REC->x, REC->i";
    assert_eq!(show(print, 5, 6), "? x=5 i=6");
}

#[test]
fn without_a_usable_print_format_the_fields_are_listed() {
    let fields = "u64 x@8:8; int i@16:4s; void * p@24:8; bool b@32:1; char c[4]@36:4; u16 l[2]@40:4; u32 gone@60:4";
    let record = Record::new(48).u64(8, 5).u32(16, -6_i32 as u32).u64(24, 0xff).bytes(32, &[1]).bytes(36, b"abc\0");
    let record = record.int(40, 2, 1).int(42, 2, 0x20);
    for print in [
        "",
        "REC->x",
        "\"%d\"",
        "\"%s\", mystery(REC->x)",
        "\"unterminated",
        "\"%d\", REC->nothing",
        "\"%d %d\", REC->x",
        "\"%d\", @",
    ] {
        let format = format_with(fields, print);
        assert!(!format.has_print_format(), "{print}");
        assert_eq!(record.render(&format), "x=5 i=-6 p=0xff b=1 c=abc l={0x1,0x20}", "{print}");
    }
}
