//! Captures behind HTTP, and files by URL. Stores like S3 have tests of their own, in `tests/object_store`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::tree;
use crate::run::{Done, Scratch, kvm_timeline};

/// What is wrong with a web server.
#[derive(Clone, Copy, Debug, Default)]
struct Habits {
    /// It sends all of a file, whatever is asked for.
    whole: bool,
    /// It cuts every n-th answer in the midst.
    cut_every: u64,
    /// It answers every n-th request 503.
    refuse_every: u64,
}

/// A plain web server: GET and HEAD of files, with ranges, and no lists.
struct Web {
    address: SocketAddr,
    sent: Arc<AtomicU64>,
}

impl Web {
    /// Serves for as long as the test runs.
    fn start(root: &Path, habits: Habits) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let (sent, requests) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (root, counts) = (root.to_owned(), Arc::clone(&sent));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (root, sent, requests) = (root.clone(), Arc::clone(&counts), Arc::clone(&requests));
                // Whoever is there no more is not waited for.
                stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
                thread::spawn(move || while serve(&stream, &root, habits, &sent, &requests).is_some() {});
            }
        });
        Self { address, sent }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }
}

/// One request; `None` where the connection is at its end.
fn serve(stream: &TcpStream, root: &Path, habits: Habits, sent: &AtomicU64, requests: &AtomicU64) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let headers: Vec<String> = lines.map_while(|line| line.ok().filter(|line| !line.is_empty())).collect();
    let header = |name: &str| {
        let of = |line: &String| line.to_ascii_lowercase().strip_prefix(name).map(|rest| rest.trim().to_owned());
        headers.iter().find_map(of)
    };
    let (method, path) = first.split_once(' ')?;
    let path = path.split(' ').next()?.trim_start_matches('/').replace("%20", " ");
    let mut stream = stream;
    let number = requests.fetch_add(1, Ordering::Relaxed) + 1;
    let mut say = |status: &str, more: &str, length: u64, body: &[u8]| -> Option<()> {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{more}\r\n");
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).ok()
    };
    if habits.refuse_every > 0 && number.is_multiple_of(habits.refuse_every) {
        return say("503 Service Unavailable", "", 0, b"");
    }
    let bytes = match (method, fs::read(root.join(&path))) {
        ("GET" | "HEAD", Ok(bytes)) => bytes,
        ("GET" | "HEAD", Err(_)) => return say("404 Not Found", "", 0, b""),
        _ => return say("501 Not Implemented", "", 0, b""),
    };
    if method == "HEAD" {
        return say("200 OK", "", bytes.len() as u64, b"");
    }
    let range = header("range:").filter(|_| !habits.whole);
    let range = range.and_then(|range| {
        let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((start.parse::<usize>().ok()?, end.parse::<usize>().ok()?.min(bytes.len().checked_sub(1)?)))
    });
    let (status, more, part) = match range {
        Some((start, _)) if start >= bytes.len() => return say("416 Range Not Satisfiable", "", 0, b""),
        Some((start, end)) => {
            let more = format!("Content-Range: bytes {start}-{end}/{}\r\n", bytes.len());
            ("206 Partial Content", more, &bytes[start..=end])
        }
        None => ("200 OK", String::new(), &bytes[..]),
    };
    let cut = habits.cut_every > 0 && number.is_multiple_of(habits.cut_every);
    let now = if cut { &part[..part.len() / 2] } else { part };
    sent.fetch_add(now.len() as u64, Ordering::Relaxed);
    say(status, &more, part.len() as u64, now)?;
    (!cut).then_some(())
}

/// An archive `capture.tar` of a small capture, and what becomes of it.
fn archive(scratch: &Scratch) -> (PathBuf, Vec<u8>) {
    let (capture, root) = (scratch.path("capture"), scratch.path("web"));
    tree::record(&capture, 3);
    fs::create_dir_all(root.join("a b")).expect("made");
    let mut tar = tar::Builder::new(fs::File::create(root.join("a b/capture.tar")).expect("created"));
    for (name, bytes) in tree::files(&capture) {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &*bytes).expect("appended");
    }
    tar.finish().expect("finished");
    let to = scratch.text("capture.pftrace");
    assert_eq!(kvm_timeline(["convert", "-o", &to, &capture.display().to_string()]).code, 0);
    (root, fs::read(to).expect("an output"))
}

fn batch(source: &str, scratch: &Scratch) -> Done {
    let _ = fs::remove_dir_all(scratch.path("out"));
    kvm_timeline(["batch", source, "--out", &scratch.text("out")])
}

#[test]
fn archives_on_web_servers_good_and_bad_are_converted() {
    let scratch = Scratch::new();
    let (root, expected) = archive(&scratch);
    let size = fs::metadata(root.join("a b/capture.tar")).expect("there").len();
    let habits = [
        Habits::default(),
        Habits { whole: true, ..Habits::default() },
        Habits { cut_every: 3, ..Habits::default() },
        Habits { refuse_every: 3, ..Habits::default() },
    ];
    for habits in habits {
        let web = Web::start(&root, habits);
        let done = batch(&web.url("a%20b/capture.tar"), &scratch);
        assert_eq!(done.code, 0, "{habits:?}: {}", done.stderr);
        let outputs = tree::outputs(&scratch.path("out"));
        assert_eq!(outputs.len(), 1, "{outputs:?}");
        let (name, bytes) = outputs.first_key_value().expect("one");
        assert_eq!(name, "capture.pftrace");
        assert!(*bytes == expected, "{habits:?}");
        assert!(web.sent.load(Ordering::Relaxed) >= size);
    }
}

#[test]
fn what_is_wrong_with_a_url_is_said() {
    let scratch = Scratch::new();
    let (root, _) = archive(&scratch);
    let web = Web::start(&root, Habits::default());
    let fails = |source: &str, code: i32, words: &str| {
        let done = batch(source, &scratch);
        assert_eq!(done.code, code, "{}", done.stderr);
        assert!(done.stderr.contains(words), "no `{words}` in: {}", done.stderr);
    };
    fails(&web.url("none.tar"), 2, "does not exist");
    fails(&web.url("capture.tar?token=1"), 1, "has a query");
    fails("ftp://127.0.0.1/x", 1, "unknown scheme `ftp`");
    fails("s3:///x", 2, "names no bucket");
    let capture = scratch.text("capture");
    let done = kvm_timeline(["batch", &capture, "--out", &web.url("out")]);
    assert!(done.code != 0 && done.stderr.contains("over HTTP captures are only read"), "{}", done.stderr);
}

#[test]
fn file_urls_are_paths() {
    let scratch = Scratch::new();
    let (_, expected) = archive(&scratch);
    let url = |name: &str| format!("file://{}", scratch.text(name));
    let done = kvm_timeline(["batch", &url("web/a%20b"), "--out", &url("out")]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(tree::outputs(&scratch.path("out"))["capture.pftrace"] == expected);
}
