//! Functions, markers, counters and requests of one machine, read back by Perfetto's trace processor and from Chrome
//! JSON. What is expected was read off `trace-cmd report -t` and `-R` of the same files; one cycle is one nanosecond here.

use crate::run::{Scratch, fixture, succeeds};
use crate::trace_processor::{COMPLAINTS, Rows, queries};

/// Functions, and how many funcgraph_entry events each has.
const FUNCTIONS: [(&str, u64); 24] = [
    ("blk_mq_attempt_bio_merge", 40),
    ("blk_mq_complete_request", 40),
    ("blk_mq_complete_request_remote", 40),
    ("blk_mq_end_request", 40),
    ("blk_mq_flush_plug_list", 40),
    ("blk_mq_flush_plug_list.part.0", 40),
    ("blk_mq_free_request", 40),
    ("blk_mq_get_tag", 40),
    ("blk_mq_put_tag", 40),
    ("blk_mq_queue_tag_busy_iter", 1),
    ("blk_mq_rq_ctx_init.isra.0", 40),
    ("blk_mq_sched_bio_merge", 40),
    ("blk_mq_start_request", 40),
    ("blk_mq_start_stopped_hw_queues", 39),
    ("blk_mq_submit_bio", 40),
    ("blk_mq_timeout_work", 1),
    ("ksys_read", 18529),
    ("submit_bio", 40),
    ("vfs_fstatat", 33),
    ("vfs_getattr_nosec", 33),
    ("vfs_open", 91),
    ("vfs_read", 18529),
    ("vfs_readlink", 1),
    ("vfs_statx", 33),
];
/// Not above, as markers are written with it and divide it.
const VFS_WRITE: u64 = 99;

/// Begin and end of "request 1" to "request 9".
const REQUESTS: [(u64, u64); 9] = [
    (29_879_942_727, 30_205_062_665),
    (30_243_668_479, 30_644_707_937),
    (30_679_889_863, 31_028_556_583),
    (31_066_532_027, 31_507_443_615),
    (31_547_627_785, 32_006_198_013),
    (32_052_640_955, 32_428_021_871),
    (32_463_311_358, 32_841_826_131),
    (32_881_713_669, 33_318_208_531),
    (33_358_819_075, 33_759_719_172),
];

/// When "requests" became 1, 2, … 9.
const COUNTED: [u64; 9] = [
    30_204_218_211,
    30_642_926_937,
    31_027_006_671,
    31_506_757_579,
    32_005_393_495,
    32_427_378_865,
    32_841_386_471,
    33_317_487_265,
    33_757_927_512,
];

const CONTINUED: &str = "EXISTS (SELECT 1 FROM args a WHERE a.arg_set_id = s.arg_set_id AND a.key = 'debug.continued')";

/// Converts and asks; `None` without a trace processor.
fn ask(file: &str, sql: &[&str]) -> Option<Vec<Rows>> {
    let scratch = Scratch::new();
    let out = scratch.path("o.pftrace");
    succeeds(["convert", &fixture(file), "-o", &out.display().to_string()]);
    let mut sql = sql.to_vec();
    sql.push(COMPLAINTS);
    let mut answers = queries(&out, &sql)?;
    assert_eq!(answers.pop(), Some(Vec::new()), "complaints");
    Some(answers)
}

fn texts<const N: usize>(rows: impl IntoIterator<Item = [String; N]>) -> Rows {
    rows.into_iter().map(Vec::from).collect()
}

#[test]
fn every_event_is_accounted_for() {
    let scratch = Scratch::new();
    let done = succeeds(["convert", &fixture("markers/host.dat"), "-o", &scratch.text("o.pftrace")]);
    let said = "120839 events read: 120839 written, 0 filtered, 0 not placed";
    assert!(done.stderr.contains(said), "{}", done.stderr);
}

#[test]
fn functions_are_slices_as_long_as_their_kernel_says() {
    let functions = "s.name IN (SELECT name FROM slice WHERE name GLOB 'vfs_*' OR name GLOB 'blk_mq_*' OR name IN \
                     ('ksys_read', 'submit_bio'))";
    let counts =
        format!("SELECT s.name, count() FROM slice s WHERE {functions} AND NOT {CONTINUED} GROUP BY 1 ORDER BY 1");
    // rettime - calltime, in the slice's last piece.
    let measured = "SELECT s.name, sum(a.int_value), count() FROM slice s JOIN args a USING (arg_set_id) \
                    WHERE a.key = 'debug.function_ns' AND s.name IN ('ksys_read', 'vfs_open', 'vfs_read') GROUP BY 1 ORDER BY 1";
    let first = "SELECT s.ts, s.dur, p.name, t.name FROM slice s JOIN slice p ON p.id = s.parent_id \
                 JOIN track t ON t.id = s.track_id WHERE s.name = 'vfs_open' ORDER BY s.ts LIMIT 1";
    let nested = "SELECT s.name, p.name, q.name, r.name, count() FROM slice s JOIN slice p ON p.id = s.parent_id \
                  JOIN slice q ON q.id = p.parent_id JOIN slice r ON r.id = q.parent_id \
                  WHERE s.name = 'vfs_getattr_nosec' GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC";
    let interrupts = "SELECT p.name, count() FROM slice s JOIN slice p ON p.id = s.parent_id \
                      WHERE s.name = 'blk_mq_complete_request' GROUP BY 1 ORDER BY 1";
    let sql = [&counts, measured, first, nested, interrupts];
    let Some(answers) = ask("markers/host.dat", &sql) else { return };
    let [counts, measured, first, nested, interrupts] = answers.try_into().expect("five answers");
    let mut expected: Vec<(&str, u64)> = FUNCTIONS.to_vec();
    expected.push(("vfs_write", VFS_WRITE));
    assert_eq!(counts, texts(expected.iter().map(|(name, count)| [(*name).to_owned(), count.to_string()])));
    let sums = [("ksys_read", 269_678_620, 18_528), ("vfs_open", 4_042_577, 91), ("vfs_read", 196_413_079, 18_528)];
    let sums = sums.map(|(name, sum, count): (&str, u64, u64)| [name.to_owned(), sum.to_string(), count.to_string()]);
    assert_eq!(measured, texts(sums));
    // Entry at 29835228863, exit at 29835639377, inside execve (59) which began before.
    let open = ["29835228863", "410514", "execve", "Host CPU 0"].map(str::to_owned);
    assert_eq!(first, texts([open]));
    let stat = ["vfs_getattr_nosec", "vfs_statx", "vfs_fstatat", "newfstatat", "33"].map(str::to_owned);
    assert_eq!(nested, texts([stat]));
    let disks = [["irq virtio0-req.0", "4"], ["irq virtio0-req.1", "36"]];
    assert_eq!(interrupts, texts(disks.map(|row| row.map(str::to_owned))));
}

#[test]
fn markers_are_slices_of_their_task_and_counters_are_counters() {
    // A slice may be in pieces, one for each time that its task ran.
    let slices = "SELECT s.name, min(s.ts), max(s.ts + s.dur), count(DISTINCT s.track_id), \
                  sum(p.name != 'sh [199]') FROM slice s JOIN slice p ON p.id = s.parent_id \
                  WHERE s.name GLOB 'request ?' GROUP BY 1 ORDER BY 1";
    let first = format!("SELECT count() FROM slice s WHERE s.name GLOB 'request *' AND NOT {CONTINUED}");
    let last = "SELECT count() FROM slice s JOIN args a USING (arg_set_id) \
                WHERE s.name = 'request 10' AND a.key = 'debug.truncated'";
    let counter = "SELECT c.ts, CAST(c.value AS INT), t.name, p.name FROM counter c JOIN track t ON t.id = c.track_id \
                   JOIN track p ON p.id = t.parent_id ORDER BY c.ts";
    let note = "SELECT s.ts, s.dur, s.name, t.name FROM slice s JOIN track t ON t.id = s.track_id \
                WHERE s.name GLOB 'plain*'";
    // The write that marks "request 1", from sys_enter to sys_exit, is divided at the mark.
    let write =
        "SELECT sum(s.dur), count() FROM slice s WHERE s.name = 'write' AND s.ts BETWEEN 29879811375 AND 29880265361";
    let Some(answers) = ask("markers/host.dat", &[slices, &first, last, counter, note, write]) else { return };
    let [slices, first, last, counter, note, write] = answers.try_into().expect("six answers");
    let expected = REQUESTS.iter().enumerate().map(|(index, (begin, end))| {
        // Task 199 moves inside the last one.
        let cpus = if index == 8 { "2" } else { "1" };
        [format!("request {}", index + 1), begin.to_string(), end.to_string(), cpus.to_owned(), "0".to_owned()]
    });
    assert_eq!(slices, texts(expected));
    assert_eq!(first, texts([["10".to_owned()]]));
    assert_eq!(last, texts([["1".to_owned()]]));
    let expected = COUNTED.iter().zip(1..);
    let expected = expected.map(|(ts, value)| [ts.to_string(), value.to_string(), "requests".into(), "Host".into()]);
    assert_eq!(counter, texts(expected));
    assert_eq!(note, texts([["32006887533", "0", "plain note 5", "Events, CPU 0"].map(str::to_owned)]));
    assert_eq!(write, texts([[(29_880_270_457_u64 - 29_879_811_375).to_string(), "2".to_owned()]]));
}

#[test]
fn requests_are_slices_on_their_own_rows() {
    let requests = "SELECT count(), min(s.ts), min(t.name), max(t.name), min(s.name), min(p.name) FROM slice s \
                    JOIN track t ON t.id = s.track_id JOIN track p ON p.id = t.parent_id WHERE t.name GLOB 'block requests*'";
    let first = "SELECT s.dur FROM slice s WHERE s.name = 'block RA' ORDER BY s.ts LIMIT 2";
    let Some(answers) = ask("markers/host.dat", &[requests, first]) else { return };
    let row = "block requests, host";
    assert_eq!(answers[0], texts([["40", "29892372690", row, row, "block RA", "Host"].map(str::to_owned)]));
    let lengths = [29_894_694_204 - 29_892_372_690_u64, 29_899_572_428 - 29_898_627_380];
    assert_eq!(answers[1], texts(lengths.map(|length| [length.to_string()])));
}

#[test]
fn calls_of_the_function_tracer_nest_in_their_callers() {
    let calls = "SELECT s.name, p.name, count() FROM slice s LEFT JOIN slice p ON p.id = s.parent_id \
                 WHERE s.name GLOB 'vfs_[gs]*' GROUP BY 1, 2 ORDER BY 1";
    let all = "SELECT count() FROM slice WHERE name GLOB 'vfs_*'";
    let caller = "SELECT DISTINCT a.display_value FROM slice s JOIN args a USING (arg_set_id) \
                  WHERE s.name = 'vfs_open' AND a.key = 'debug.parent'";
    // The first vfs_fstatat is known to be active until it calls, through vfs_statx, vfs_getattr_nosec.
    let length = "SELECT ts, dur FROM slice WHERE name IN ('vfs_fstatat', 'vfs_statx') ORDER BY ts LIMIT 2";
    let Some(answers) = ask("markers/function.dat", &[calls, all, caller, length]) else { return };
    let [calls, all, caller, length] = answers.try_into().expect("four answers");
    let nested = [["vfs_getattr_nosec", "vfs_statx", "44"], ["vfs_statx", "vfs_fstatat", "44"]];
    assert_eq!(calls, texts(nested.map(|row| row.map(str::to_owned))));
    assert_eq!(all, texts([["144".to_owned()]]));
    assert_eq!(caller, texts([["path_openat".to_owned()]]));
    let end = 77_503_589_955_u64;
    let begins = [77_503_509_433, 77_503_534_575];
    assert_eq!(length, texts(begins.map(|begin| [begin.to_string(), (end - begin).to_string()])));
}

#[test]
fn chrome_json_has_them_too() {
    let scratch = Scratch::new();
    let out = scratch.path("o.json");
    succeeds(["convert", &fixture("markers/host.dat"), "-o", &out.display().to_string()]);
    let trace: serde_json::Value = serde_json::from_slice(&std::fs::read(out).expect("a file")).expect("JSON");
    let start: u64 = trace["metadata"]["start_ns"].as_u64().expect("a start");
    let events = trace["traceEvents"].as_array().expect("events");
    let ns = |event: &serde_json::Value| start + (event["ts"].as_f64().expect("a time") * 1e3).round() as u64;
    let counted: Vec<_> = (events.iter().filter(|event| event["ph"] == "C"))
        .map(|event| {
            assert_eq!((&event["name"], &event["id"]), (&"requests".into(), &"199".into()));
            (ns(event), event["args"]["value"].as_u64().expect("a value"))
        })
        .collect();
    assert_eq!(counted, COUNTED.into_iter().zip(1..).collect::<Vec<_>>());
    let count = |phase: &str, name: &str| {
        let is = |event: &&serde_json::Value| {
            event["ph"] == phase && event["name"] == name && event["args"]["continued"].is_null()
        };
        events.iter().filter(is).count()
    };
    assert_eq!(count("B", "vfs_read"), 18_529);
    assert_eq!(count("B", "request 3"), 1);
    assert_eq!(count("B", "block RA"), 40);
    assert_eq!(count("i", "plain note 5"), 1);
    // Every row that has events has a name, once.
    let rows = |phase_is: fn(&str) -> bool| {
        let of = events.iter().filter(|event| phase_is(event["ph"].as_str().expect("a phase")));
        of.map(|event| event["tid"].as_u64().expect("a row")).collect::<std::collections::BTreeSet<u64>>()
    };
    let named: Vec<u64> = (events.iter().filter(|event| event["name"] == "thread_name"))
        .map(|event| event["tid"].as_u64().expect("a row"))
        .collect();
    let unique: std::collections::BTreeSet<u64> = named.iter().copied().collect();
    assert_eq!(named.len(), unique.len());
    assert!(rows(|phase| "BEi".contains(phase)).is_subset(&unique));
}
