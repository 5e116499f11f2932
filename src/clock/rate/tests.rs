use super::*;

#[test]
fn the_kernel_log_names_the_rate() {
    let log = "[    0.000000] tsc: Fast TSC calibration failed\n[    0.000000] tsc: Detected 2596.116 MHz processor\n";
    assert_eq!(hz_from_kernel_log(log), Some(2_596_116_000));
    let refined = format!("{log}[    1.1] tsc: Refined TSC clocksource calibration: 1996.251 MHz\n");
    assert_eq!(hz_from_kernel_log(&refined), Some(1_996_251_000));
    assert_eq!(hz_from_kernel_log("tsc: Detected 3000 MHz processor"), Some(3_000_000_000));
    for bad in
        ["", "tsc: Detected  MHz", "tsc: Detected 1e9 MHz", "tsc: Detected 99999999999.1 MHz", "tsc: Detected 0.0 MHz"]
    {
        assert_eq!(hz_from_kernel_log(bad), None, "{bad}");
    }
}

#[test]
fn delays_do_not_bend_the_line() {
    // 2.5 GHz exactly; every stamp is late by 100 cycles at least, and most by much more.
    let pairs: Vec<(HostTsc, u64)> = (0..300_u64)
        .map(|i| {
            let ns = 1_000_000_000 + i * 1_000_000;
            let late = if i % 7 == 0 { 100 } else { 100 + i * 977 % 90_000 };
            (HostTsc::new(ns / 2 * 5 + late), ns)
        })
        .collect();
    assert_eq!(hz_from_pairs(&pairs), Some(2_500_000_000));
    assert_eq!(hz_from_pairs(&pairs[..1]), None);
    assert_eq!(hz_from_pairs(&[(HostTsc::new(5), 9), (HostTsc::new(6), 9)]), None);
}

#[test]
fn the_best_source_wins_and_the_others_are_compared() {
    let candidate = |source, hz| Candidate { source, rate: TscRate::from_hz(hz).unwrap() };
    let chosen = choose(&[
        candidate(RateSource::KernelLog, 2_000_200_000),
        candidate(RateSource::Given, 2_000_000_000),
        candidate(RateSource::PvClock, 1_999_998_000),
    ]);
    assert_eq!(chosen.source, RateSource::Given);
    assert_eq!(chosen.deviations, [(RateSource::KernelLog, 100), (RateSource::PvClock, -1)]);
    assert_eq!(choose(&[]).rate, TscRate::UNKNOWN);
}

#[test]
fn a_guests_rate_tells_the_hosts() {
    let half = Scaling::new(1 << 31, 32).unwrap();
    assert_eq!(host_hz(1_298_058_000, half), Some(2_596_116_000));
    assert_eq!(host_hz(2_596_116_000, Scaling::NONE), Some(2_596_116_000));
}
