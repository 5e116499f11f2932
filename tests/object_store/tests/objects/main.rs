//! `batch` from an object store to an object store, on good servers and bad ones.

#[path = "../../../support/recording.rs"]
#[allow(dead_code, unreachable_pub)]
mod recording;
#[path = "../../../support/ring_pages.rs"]
#[allow(dead_code, unreachable_pub)]
mod ring_pages;
mod run;
#[path = "../../../support/trace_dat_writer.rs"]
#[allow(dead_code, unreachable_pub)]
mod trace_dat_writer;
#[path = "../../../cli/batch/tree.rs"]
#[allow(dead_code)]
mod tree;
#[path = "../../../support/world.rs"]
#[allow(dead_code)]
mod world;

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use object_store_tests::{Counts, Faults};
use run::Place;

/// What a run did with each capture, by the log's records.
fn statuses(place: &Place, log: usize) -> BTreeMap<String, String> {
    let logs = place.path("results/out/.kvm-timeline/log");
    let mut names: Vec<_> = fs::read_dir(logs).expect("logs").map(|e| e.expect("an entry").path()).collect();
    names.sort();
    let lines = tree::files(&names[log]).into_values();
    let records = lines.map(|line| serde_json::from_slice::<serde_json::Value>(&line).expect("JSON"));
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    records.filter(|r| r["record"] == "capture").map(|r| (text(&r["output"]), text(&r["status"]))).collect()
}

/// `n` small captures in the bucket, and what becomes of them on the local file system.
fn some(n: u64) -> (Place, BTreeMap<String, Vec<u8>>) {
    let place = Place::new();
    for seed in 0..n {
        tree::record(&place.path(&format!("captures/fleet/c{seed}")), seed);
    }
    let done = place.run(&["batch", &place.text("captures/fleet"), "--out", &place.text("local")]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let expected = tree::outputs(&place.path("local"));
    assert_eq!(expected.len(), n as usize);
    (place, expected)
}

const FROM_STORE_TO_STORE: [&str; 4] = ["batch", "s3://captures/fleet", "--out", "s3://results/out"];

#[test]
fn a_fleet_in_a_store_gives_the_bytes_of_one_in_a_directory() {
    let place = Place::new();
    tree::fleet(&place.path("captures/fleet"));
    let local = place.run(&["batch", &place.text("captures/fleet"), "--out", &place.text("local"), "--stats"]);
    assert_eq!(local.code, 3, "{}", local.stderr);
    let expected = tree::outputs(&place.path("local"));
    let mut args = FROM_STORE_TO_STORE.to_vec();
    args.push("--stats");
    let done = place.run(&args);
    assert_eq!(done.code, 3, "{}", done.stderr);
    let outputs = tree::outputs(&place.path("results/out"));
    assert_eq!(outputs.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, bytes) in &expected {
        assert!(outputs[name] == *bytes, "{name}");
    }
    assert!(outputs.contains_key("stats.parquet"));
    let failed = statuses(&place, 0).into_values().filter(|status| status == "failed").count();
    assert_eq!(failed, tree::FAILED.len());
    // Again: the store's tags say that nothing has changed, and little is read.
    let before = (Counts::of(&place.server.counts.sent), Counts::of(&place.server.counts.gets));
    let done = place.run(&args);
    assert_eq!(done.code, 3, "{}", done.stderr);
    let skipped = statuses(&place, 1).into_values().filter(|status| status == "skipped").count();
    assert_eq!(skipped, 45 - tree::FAILED.len());
    let again = Counts::of(&place.server.counts.sent) - before.0;
    println!("first run: {} bytes in {} requests; second: {again}", before.0, before.1);
    assert!(tree::outputs(&place.path("results/out")) == outputs);
    let done = place.run(&["batch", "--summary", "s3://results/out"]);
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(
        done.stdout.contains("45 captures: 42 converted, 0 finished before, 3 failed, 2 damaged"),
        "{}",
        done.stdout
    );
    // From a list, a pattern, and a directory to a store.
    fs::write(place.path("list"), "s3://captures/fleet/rack1/host1\ns3://captures/fleet/archives/a3.tar.zst\n")
        .expect("written");
    let done = place.run(&["batch", &place.text("list"), "--out", &place.text("listed")]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let listed = tree::outputs(&place.path("listed"));
    assert!(listed["fleet/rack1/host1.pftrace"] == expected["rack1/host1.pftrace"]);
    assert!(listed["fleet/archives/a3.pftrace"] == expected["archives/a3.pftrace"]);
    let done = place.run(&["batch", "s3://captures/fleet/rack*/host2", "--out", "s3://results/globbed"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let globbed = tree::outputs(&place.path("results/globbed"));
    assert_eq!(globbed.len(), 4);
    assert!(globbed["rack3/host2.pftrace"] == expected["rack3/host2.pftrace"]);
}

#[test]
fn only_what_is_needed_is_fetched() {
    let place = Place::new();
    place.large();
    let bytes: u64 = tree::files(&place.path("captures/fleet")).values().map(|bytes| bytes.len() as u64).sum();
    let done = place.run(&["batch", "s3://captures/fleet", "--out", "s3://results/out", "--dry-run"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let counts = &place.server.counts;
    let (looked, requests) = (Counts::of(&counts.sent), Counts::of(&counts.requests));
    println!("captures: {bytes} bytes; --dry-run fetched {looked} in {requests} requests");
    assert!(looked < bytes / 4, "{looked} of {bytes}");
    let done = place.run(&["batch", &place.text("captures/fleet"), "--out", &place.text("local")]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let done = place.run(&["batch", "s3://captures/fleet", "--out", "s3://results/out"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let (all, asked) = (Counts::of(&counts.sent) - looked, Counts::of(&counts.requests) - requests);
    println!("a conversion fetched {all} in {asked} requests");
    // Each byte is read by two passes and the check; those that are still there are not fetched again.
    assert!(all < 3 * bytes, "{all} of {bytes}");
    assert!(tree::outputs(&place.path("results/out")) == tree::outputs(&place.path("local")));
    // Again: the tags are enough.
    let before = Counts::of(&counts.sent);
    assert_eq!(place.run(&["batch", "s3://captures/fleet", "--out", "s3://results/out"]).code, 0);
    let again = Counts::of(&counts.sent) - before;
    println!("a second run fetched {again}");
    assert!(again < bytes / 4, "{again} of {bytes}");
}

#[test]
fn bad_servers_give_the_same() {
    let (place, expected) = some(6);
    let bad = [
        Faults { refuse_every: 5, ..Faults::default() },
        Faults { cut_every: 3, ..Faults::default() },
        Faults { lose_every: 4, ..Faults::default() },
        Faults { delay: Duration::from_millis(25), ..Faults::default() },
        Faults { refuse_every: 7, cut_every: 5, lose_every: 6, delay: Duration::from_millis(2) },
    ];
    for faults in bad {
        let before = Counts::of(&place.server.counts.spoilt);
        place.server.set(faults);
        let begun = Instant::now();
        let done = place.run(&FROM_STORE_TO_STORE);
        place.server.set(Faults::default());
        let spoilt = Counts::of(&place.server.counts.spoilt) - before;
        println!("{faults:?}: {spoilt} answers spoilt, {:.1} s", begun.elapsed().as_secs_f64());
        assert_eq!(done.code, 0, "{faults:?}: {}", done.stderr);
        assert!(spoilt > 3 || faults.delay > Duration::ZERO, "{spoilt}");
        assert!(tree::outputs(&place.path("results/out")) == expected, "{faults:?}");
        assert_eq!(tree::kept(&place.path("results/out"), "claims"), [""; 0], "{faults:?}");
        assert_eq!(tree::kept(&place.path("results/out"), "unfinished"), [""; 0], "{faults:?}");
        fs::remove_dir_all(place.path("results/out")).expect("removed");
    }
}

#[test]
fn a_killed_worker_leaves_no_half_object() {
    let (place, expected) = some(8);
    place.server.set(Faults { delay: Duration::from_millis(10), ..Faults::default() });
    let mut worker = place.start(&FROM_STORE_TO_STORE);
    let until = Instant::now() + Duration::from_secs(60);
    while tree::outputs(&place.path("results/out")).len() < 2 && Instant::now() < until {
        thread::sleep(Duration::from_millis(5));
    }
    worker.kill().expect("killed");
    worker.wait().expect("ended");
    let seen = tree::outputs(&place.path("results/out"));
    assert!(seen.len() >= 2 && seen.len() < expected.len(), "{} outputs", seen.len());
    for (name, bytes) in seen {
        assert!(expected[&name] == bytes, "{name} is not whole");
    }
    place.server.set(Faults::default());
    assert_eq!(place.run(&FROM_STORE_TO_STORE).code, 0);
    assert!(tree::outputs(&place.path("results/out")) == expected);
    assert_eq!(tree::kept(&place.path("results/out"), "claims"), [""; 0]);
}

#[test]
fn large_outputs_go_in_parts_and_are_seen_when_they_are_whole() {
    let place = Place::new();
    place.large();
    let args = |to: &str| {
        let mut args =
            ["batch", "s3://captures/fleet/two-vm", "--format", "json", "--span", "all"].map(str::to_owned).to_vec();
        args.extend(["--out".to_owned(), to.to_owned()]);
        args
    };
    let local = place.run(&args(&place.text("local")));
    assert_eq!(local.code, 0, "{}", local.stderr);
    let [(name, expected)] = &*tree::outputs(&place.path("local")).into_iter().collect::<Vec<_>>() else {
        panic!("one")
    };
    assert!(expected.len() > 20 << 20, "{} bytes", expected.len());
    let counts = &place.server.counts;
    let parts = || Counts::of(&counts.parts);
    let seen = || place.path("results/out").join(name).exists();
    let aborted = Counts::of(&counts.aborted);
    // Killed in the midst, by SIGTERM, which cleans up, and by SIGKILL, which does not.
    for kill in ["TERM", "KILL"] {
        let before = parts();
        place.server.set(Faults { delay: Duration::from_millis(40), ..Faults::default() });
        let mut worker = place.start(&args("s3://results/out"));
        let until = Instant::now() + Duration::from_secs(60);
        while parts() == before && Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
        run::signal(&worker, kill);
        let code = worker.wait().expect("ended").code();
        place.server.set(Faults::default());
        assert!(!seen(), "{kill}");
        let notes = tree::kept(&place.path("results/out"), "unfinished").len();
        match kill {
            "TERM" => assert_eq!((code, notes, Counts::of(&counts.aborted)), (Some(130), 0, aborted + 1)),
            _ => assert_eq!((code, notes), (None, 1)),
        }
    }
    // The next run gives up what is left, and does it.
    let done = place.run(&args("s3://results/out"));
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(tree::outputs(&place.path("results/out"))[name] == *expected);
    assert_eq!(tree::kept(&place.path("results/out"), "unfinished"), [""; 0]);
    assert_eq!(Counts::of(&counts.aborted), aborted + 2);
    // An answer to the last request that is lost.
    fs::remove_dir_all(place.path("results/out")).expect("removed");
    place.server.set(Faults { refuse_every: 6, cut_every: 4, lose_every: 3, ..Faults::default() });
    let done = place.run(&args("s3://results/out"));
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(tree::outputs(&place.path("results/out"))[name] == *expected);
}

#[test]
fn workers_share_a_bucket() {
    let (place, expected) = some(8);
    place.server.set(Faults { delay: Duration::from_millis(3), ..Faults::default() });
    let workers: Vec<_> = (0..3).map(|_| place.start(&FROM_STORE_TO_STORE)).collect();
    for mut worker in workers {
        assert_eq!(worker.wait().expect("ended").code(), Some(0));
    }
    assert!(tree::outputs(&place.path("results/out")) == expected);
    let logs: Vec<_> = (0..3).map(|n| statuses(&place, n)).collect();
    for name in expected.keys() {
        let done = logs.iter().filter(|log| log[name] == "done").count();
        assert_eq!(done, 1, "{name}");
    }
    assert_eq!(tree::kept(&place.path("results/out"), "claims"), [""; 0]);
}

#[test]
fn what_cannot_be_reached_is_said() {
    let (mut place, _) = some(1);
    let fails = |place: &Place, args: &[&str], words: &[&str]| {
        let begun = Instant::now();
        let done = place.run(args);
        assert!(matches!(done.code, 1 | 2), "{}: {}", done.code, done.stderr);
        for word in words {
            assert!(done.stderr.contains(word), "no `{word}` in: {}", done.stderr);
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    };
    let out = place.text("x");
    fails(&place, &["batch", "s3://captures/none", "--out", &out], &["s3://captures/none", "does not exist"]);
    fails(&place, &["batch", "s3://nothing/here", "--out", &out], &["s3://nothing/here", "404", "NoSuchBucket"]);
    // A server that answers nothing else.
    place.server.set(Faults { refuse_every: 1, ..Faults::default() });
    let words = ["s3://captures/fleet", "503", "tried 10 times", "try again later"];
    fails(&place, &FROM_STORE_TO_STORE, &words);
    place.server.set(Faults::default());
    place.set("AWS_SECRET_ACCESS_KEY", "wrong");
    fails(&place, &FROM_STORE_TO_STORE, &["s3://captures/fleet", "403", "check AWS_ACCESS_KEY_ID"]);
    place.set("AWS_ENDPOINT_URL", "http://127.0.0.1:9");
    fails(&place, &FROM_STORE_TO_STORE, &["s3://captures/fleet", "refused", "AWS_ENDPOINT_URL"]);
    place.set("AWS_ALLOW_HTTP", "false");
    fails(&place, &FROM_STORE_TO_STORE, &["s3://captures/fleet", "AWS_ALLOW_HTTP"]);
}

#[test]
fn keys_may_be_in_the_file_of_aws_tools() {
    let (mut place, expected) = some(1);
    let keys = format!(
        "[work]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        object_store_tests::ACCESS_KEY,
        object_store_tests::SECRET_KEY
    );
    fs::write(place.path("credentials"), keys).expect("written");
    place.unset("AWS_ACCESS_KEY_ID");
    place.unset("AWS_SECRET_ACCESS_KEY");
    place.set("AWS_SHARED_CREDENTIALS_FILE", &place.text("credentials"));
    place.set("AWS_PROFILE", "work");
    assert_eq!(place.run(&FROM_STORE_TO_STORE).code, 0);
    assert!(tree::outputs(&place.path("results/out")) == expected);
}
