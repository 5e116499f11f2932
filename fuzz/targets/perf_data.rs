#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kvm_timeline_fuzz::perf_data::run(data));
