#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kvm_timeline_fuzz::perfetto::run(data));
