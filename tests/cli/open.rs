//! `open`: one file, one reader, this machine alone.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use crate::run::{Scratch, fixture, kvm_timeline};

pub(crate) struct Serving {
    pub(crate) child: Child,
    pub(crate) link: String,
    pub(crate) port: u16,
    /// The one path.
    pub(crate) path: String,
}

pub(crate) fn serve(args: &[&str]) -> Serving {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kvm-timeline"))
        .args(args)
        .args(["--no-browser", "--port", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let mut link = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut link).expect("a link");
    let port = link.split("127.0.0.1%3A").nth(1).expect("an address").split("%2F").next().expect("a port");
    let port = port.parse().expect("a number");
    let path = link.split_once(&format!("127.0.0.1%3A{port}")).expect("an address").1;
    let path = path.split('&').next().expect("a path").replace("%2F", "/").replace("%25", "%");
    Serving { child, link: link.trim().to_owned(), port, path }
}

impl Serving {
    pub(crate) fn ask(&self, request: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        (String::from_utf8_lossy(&answer[..end]).into_owned(), answer[end + 4..].to_vec())
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> (String, Vec<u8>) {
        self.ask(&format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", self.port))
    }

    pub(crate) fn code(mut self) -> Option<i32> {
        self.child.wait().expect("it ends").code()
    }
}

pub(crate) fn trace(scratch: &Scratch) -> (String, Vec<u8>) {
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(scratch.path("a b.pftrace"), &bytes).expect("written");
    (scratch.text("a b.pftrace"), bytes)
}

#[test]
fn the_file_is_fetched_once_and_the_server_is_gone() {
    let scratch = Scratch::new();
    let (file, bytes) = trace(&scratch);
    let serving = serve(&["open", &file]);
    assert!(serving.link.starts_with("https://ui.perfetto.dev/#!/?url=http%3A%2F%2F127.0.0.1%3A"), "{}", serving.link);
    assert!(serving.link.contains("%2Fa%2520b.pftrace&startupCommands=%5B%7B"), "{}", serving.link);
    let path = serving.path.as_str();
    assert!(path.ends_with("/a%20b.pftrace"), "{path}");
    // A connection that says nothing keeps nobody waiting.
    let idle = TcpStream::connect(("127.0.0.1", serving.port)).expect("it listens");
    let (head, body) = serving.request("OPTIONS", path);
    assert!(head.starts_with("HTTP/1.1 204 ") && body.is_empty(), "{head}");
    let (head, body) = serving.request("HEAD", path);
    assert!(head.contains("Content-Length: 1200000") && body.is_empty(), "{head}");
    for other in ["/", "/a%20b.pftrace", "/../a%20b.pftrace", &format!("{path}?x"), "/etc/passwd"] {
        let (head, body) = serving.request("GET", other);
        assert!(head.starts_with("HTTP/1.1 404 ") && body.is_empty(), "{other}: {head}");
    }
    let (head, _) = serving.request("POST", path);
    assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
    let (head, _) = serving.ask(&format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n"));
    assert!(head.starts_with("HTTP/1.1 404 "), "a name that was made to point here: {head}");
    let (head, body) = serving.request("GET", path);
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert!(head.contains("Access-Control-Allow-Origin: https://ui.perfetto.dev\r\n"), "{head}");
    assert!(head.contains("Cache-Control: no-cache"), "{head}");
    assert!(body == bytes);
    let port = serving.port;
    assert_eq!(serving.code(), Some(0));
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    drop(idle);
}

#[test]
fn another_ui_is_another_origin() {
    let scratch = Scratch::new();
    let (file, _) = trace(&scratch);
    let serving = serve(&["open", &file, "--ui", "http://localhost:10000/"]);
    assert!(serving.link.starts_with("http://localhost:10000/#!/?url="), "{}", serving.link);
    let (head, _) = serving.request("GET", &serving.path);
    assert!(head.contains("Access-Control-Allow-Origin: http://localhost:10000\r\n"), "{head}");
    assert_eq!(serving.code(), Some(0));
}

#[test]
fn nobody_comes() {
    let scratch = Scratch::new();
    let (file, _) = trace(&scratch);
    let done = kvm_timeline(["open", &file, "--no-browser", "--port", "0", "--wait", "100ms"]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("nobody fetched the trace within 100ms"), "{}", done.stderr);
}

#[test]
fn a_port_that_is_taken() {
    let scratch = Scratch::new();
    let (file, _) = trace(&scratch);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let done = kvm_timeline(["open", &file, "--no-browser", "--port", &port]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains(&format!("127.0.0.1:{port}: cannot listen")), "{}", done.stderr);
    assert!(done.stderr.contains("hint: another program has this port"), "{}", done.stderr);
}

#[test]
fn a_capture_is_not_a_trace() {
    let done = kvm_timeline(["open", &fixture("two-vm/host.dat"), "--no-browser", "--port", "0"]);
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("hint: kvm-timeline convert --open"), "{}", done.stderr);
}

#[test]
fn convert_opens_what_it_wrote() {
    let scratch = Scratch::new();
    let out = scratch.text("o.pftrace.gz");
    let serving = serve(&["convert", &fixture("agent"), "-o", &out, "--open"]);
    let (_, body) = serving.request("GET", &serving.path);
    assert_eq!(serving.code(), Some(0));
    let file = std::fs::read(out).expect("an output");
    assert!(body == file && file.starts_with(&[0x1f, 0x8b]));
    let done = kvm_timeline(["convert", &fixture("agent"), "-o", "-", "--format", "json", "--open"]);
    assert_eq!(done.code, 2);
}

#[test]
fn the_rows_are_in_the_page() {
    let scratch = Scratch::new();
    let out = scratch.text("timeline.pftrace");
    crate::run::succeeds(["convert", &fixture("agent"), "-o", &out]);
    // A UI that is served here, fetching from the one port that Perfetto's UI may.
    let ui = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let mut child = Command::new(env!("CARGO_BIN_EXE_kvm-timeline"))
        .args(["open", &out, "--no-browser", "--ui", &format!("http://127.0.0.1:{ui}")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut link = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut link).expect("a link");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/ui_rows.mjs");
    let page = Command::new("node")
        .args([script, &ui.to_string(), link.trim()])
        .args(["VM a vCPU 0", "VM a vCPU 1", "Host CPU 1"])
        .output();
    let words = match &page {
        Ok(output) if output.status.success() => {
            // Whoever has fetched the trace needs no server any more.
            assert_eq!(child.wait().expect("it ends").code(), Some(0));
            return;
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => format!("node cannot be started: {error}"),
    };
    let _ = child.kill();
    let _ = child.wait();
    let missing = page.map_or(true, |output| output.status.code() == Some(77));
    assert!(missing && std::env::var_os("CI").is_none(), "{link}{words}");
    let _ = writeln!(std::io::stderr(), "SKIPPED the rows in Perfetto's UI: {}", words.trim());
}
