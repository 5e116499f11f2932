#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kvm_timeline_fuzz::manifest::run(data));
