#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kvm_timeline_fuzz::trace_dat::run(data));
