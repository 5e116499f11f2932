#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kvm_timeline_fuzz::print_format::run(data));
