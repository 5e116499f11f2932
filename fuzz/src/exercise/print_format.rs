//! Print formats: the first piece is what stands behind `print fmt: ` of an event with fields of every kind, the others
//! are payloads.

use kvm_timeline::capture::event_format::EventFormat;

use super::event_format::exercise;
use super::pieces;

/// Fields of every kind the kernel has.
pub const FIELDS: &str = "name: fuzz\nID: 77\nformat:\n\
    \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
    \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
    \tfield:u64 a;\toffset:8;\tsize:8;\tsigned:0;\n\
    \tfield:int b;\toffset:16;\tsize:4;\tsigned:1;\n\
    \tfield:u8 c;\toffset:20;\tsize:1;\tsigned:0;\n\
    \tfield:char comm[16];\toffset:24;\tsize:16;\tsigned:0;\n\
    \tfield:__data_loc char[] s;\toffset:40;\tsize:4;\tsigned:0;\n\
    \tfield:__rel_loc u8[] r;\toffset:44;\tsize:4;\tsigned:0;\n\
    \tfield:u32 x[4];\toffset:48;\tsize:16;\tsigned:0;\n\
    \tfield:void * p;\toffset:64;\tsize:8;\tsigned:0;\n\
    \tfield:__data_loc cpumask_t m;\toffset:72;\tsize:4;\tsigned:0;\n\n\
    print fmt: ";

pub fn run(data: &[u8]) {
    let pieces = pieces(data);
    let Some((print, payloads)) = pieces.split_first() else { return };
    let text = format!("{FIELDS}{}\n", String::from_utf8_lossy(print));
    // Lines of the text may look like fields.
    let Ok(format) = EventFormat::parse("fuzz", &text) else { return };
    exercise(&format, &[0x77; 96]);
    for payload in payloads.iter().take(8) {
        exercise(&format, payload);
    }
}
