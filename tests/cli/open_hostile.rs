//! `open` and a client that means it harm: every page in the browser and every program on the machine may connect.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::open::{Serving, serve, trace};
use crate::run::Scratch;

/// Connects; nothing in a test waits longer than this.
fn connect(serving: &Serving) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", serving.port)).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time");
    stream.set_write_timeout(Some(Duration::from_secs(20))).expect("a time");
    stream
}

/// All that comes back, until the other side closes.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset, "the server lets a client wait"),
    }
    answer
}

fn ask(serving: &Serving, request: &[u8]) -> String {
    let mut stream = connect(serving);
    // The server may have heard enough before the end.
    let _ = stream.write_all(request);
    let _ = stream.shutdown(Shutdown::Write);
    let answer = String::from_utf8_lossy(&rest(&mut stream)).into_owned();
    assert!(!answer.contains("\0\0"), "part of the file");
    answer
}

fn get(serving: &Serving, more: &str) -> String {
    format!("GET {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{more}\r\n", serving.path, serving.port)
}

/// In the end the right one gets the file, to the byte, and the server is gone.
fn still_serves(serving: Serving, bytes: &[u8]) {
    let (head, body) = serving.request("GET", &serving.path);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(body == bytes);
    assert_eq!(serving.code(), Some(0));
}

#[test]
fn it_listens_on_loopback_alone() {
    let scratch = Scratch::new();
    let (file, _) = trace(&scratch);
    let mut serving = serve(&["open", &file, "--wait", "20s"]);
    // The kernel's own lists: the address in hexadecimal, 0A is "listening".
    let port = format!(":{:04X}", serving.port);
    let listening = |list: &str| -> Vec<String> {
        let text = std::fs::read_to_string(list).unwrap_or_default();
        let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let rows = text.lines().map(fields).filter(|f| f.get(3).is_some_and(|state| state == "0A"));
        rows.map(|f| f[1].clone()).filter(|address| address.ends_with(&port)).collect()
    };
    assert_eq!(listening("/proc/net/tcp"), [format!("0100007F{port}")]);
    assert_eq!(listening("/proc/net/tcp6"), [] as [String; 0]);
    serving.child.kill().expect("killed");
    serving.child.wait().expect("it ends");
}

#[test]
fn the_path_cannot_be_guessed() {
    let scratch = Scratch::new();
    let (file, bytes) = trace(&scratch);
    let (one, other) = (serve(&["open", &file]), serve(&["open", &file]));
    let token = |serving: &Serving| serving.path.split('/').nth(1).expect("a folder").to_owned();
    let (a, b) = (token(&one), token(&other));
    assert!(a != b && a.len() == 32 && a.bytes().all(|c| c.is_ascii_hexdigit()), "{a} {b}");
    for path in [
        "/".to_owned(),
        "*".to_owned(),
        format!("/{a}"),
        format!("/{a}/"),
        format!("/{b}/a%20b.pftrace"),
        format!("/{}/a%20b.pftrace", a.to_ascii_uppercase() + "0"),
        format!("//{a}/a%20b.pftrace"),
        format!("/./{a}/a%20b.pftrace"),
        format!("/{a}/../{a}/a%20b.pftrace"),
        format!("/{a}/%2e%2e/a%20b.pftrace"),
        format!("/{a}/..%2fa%20b.pftrace"),
        format!("/{a}/a%20b.pftrace/"),
        format!("/{a}/a%20b.pftrace%00"),
        format!("/{a}/a%20b.pftrace#x"),
        format!("/{a}/a%20b.pftrace;x"),
        format!("/{a}/a%20b%2epftrace"),
        format!("\\{a}\\a%20b.pftrace"),
        "/../../../../etc/passwd".to_owned(),
        "/%2e%2e/%2e%2e/etc/passwd".to_owned(),
        "/proc/self/environ".to_owned(),
        format!("http://127.0.0.1:{}{}", one.port, one.path),
        "http://evil.example/".to_owned(),
    ] {
        let (head, body) = one.request("GET", &path);
        assert!(head.starts_with("HTTP/1.1 404 ") && body.is_empty(), "{path}: {head}");
        assert!(!head.contains("Access-Control"), "{head}");
    }
    still_serves(one, &bytes);
    still_serves(other, &bytes);
}

#[test]
fn only_three_methods_and_one_origin() {
    let scratch = Scratch::new();
    let (file, bytes) = trace(&scratch);
    let serving = serve(&["open", &file]);
    let path = serving.path.clone();
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "get", "PRI", "DEBUG", "GETGET"] {
        let (head, body) = serving.request(method, &path);
        assert!(head.starts_with("HTTP/1.1 405 ") && body.is_empty(), "{method}: {head}");
        assert!(head.contains("\r\nAllow: GET, HEAD, OPTIONS\r\n"), "{head}");
    }
    for origin in [
        "https://evil.example",
        "null",
        "*",
        "",
        "http://ui.perfetto.dev",
        "https://ui.perfetto.dev:443",
        "https://ui.perfetto.dev.evil.example",
        "https://UI.perfetto.dev",
        "https://evil.example, https://ui.perfetto.dev",
    ] {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let request = get(&serving, &format!("Origin: {origin}\r\n")).replacen("GET", method, 1);
            let answer = ask(&serving, request.as_bytes());
            assert!(answer.starts_with("HTTP/1.1 403 "), "{method} {origin}: {answer}");
            assert!(!answer.contains("Access-Control") && answer.ends_with("\r\n\r\n"), "{answer}");
        }
    }
    // What the UI's page asks before it asks.
    let before = "Origin: https://ui.perfetto.dev\r\nAccess-Control-Request-Method: GET\r\n\
                  Access-Control-Request-Private-Network: true\r\n";
    let answer = ask(&serving, get(&serving, before).replacen("GET", "OPTIONS", 1).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    assert!(answer.contains("\r\nAccess-Control-Allow-Origin: https://ui.perfetto.dev\r\n"), "{answer}");
    assert!(answer.contains("\r\nAccess-Control-Allow-Private-Network: true\r\n"), "{answer}");
    // A name that was made to point here, in every dress.
    for host in ["evil.example", "", "127.0.0.1", "0.0.0.0:PORT", "127.0.0.1:PORT.evil.example", "[::1]:PORT"] {
        let host = host.replace("PORT", &serving.port.to_string());
        let answer = ask(&serving, format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 404 "), "{host}: {answer}");
    }
    still_serves(serving, &bytes);
}

#[test]
fn garbage_is_refused() {
    let scratch = Scratch::new();
    let (file, bytes) = trace(&scratch);
    let serving = serve(&["open", &file]);
    let (path, port) = (serving.path.clone(), serving.port);
    let refused = |request: Vec<u8>| {
        let answer = ask(&serving, &request);
        let shown = String::from_utf8_lossy(&request[..request.len().min(200)]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.1 431 "), "{shown:?}: {answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{shown:?}: {answer}");
    };
    refused(b"\r\n\r\n".to_vec());
    refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec());
    refused(b"\0\0\0\0\r\n\r\n".to_vec());
    refused(format!("GET {path}\r\n\r\n").into_bytes());
    refused(format!("GET {path} HTTP/1.1\r\n\r\n").into_bytes());
    refused(format!("GET {path} HTTP/9.9\r\nHost: 127.0.0.1:{port}\r\n\r\n").into_bytes());
    refused(format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{path}").into_bytes());
    refused(get(&serving, "Transfer-Encoding: chunked\r\n").into_bytes());
    refused(get(&serving, "Content-Length: 18446744073709551616\r\n").into_bytes());
    refused(get(&serving, "Content-Length: -1\r\n").into_bytes());
    refused(get(&serving, &format!("Host: 127.0.0.1:{port}\r\n")).into_bytes());
    refused(get(&serving, "X: a\r\n folded\r\n").into_bytes());
    refused([get(&serving, "X: ").trim_end().as_bytes(), b"\xff\xfe\r\n\r\n"].concat());
    // Heads without an end: one long line, many lines, a long path.
    refused(get(&serving, &format!("X: {}\r\n", "a".repeat(1 << 20))).into_bytes());
    refused(get(&serving, &"X: a\r\n".repeat(100_000)).into_bytes());
    refused(format!("GET /{} HTTP/1.1\r\n", "a".repeat(5 << 20)).into_bytes());
    refused(vec![b'a'; 3 << 20]);
    // Silence, and half a request.
    for half in ["", "G", "GET / HTTP/1.1\r\nHost: x\r\n", "\r\n"] {
        assert_eq!(ask(&serving, half.as_bytes()), "", "{half:?}");
    }
    still_serves(serving, &bytes);
}

#[test]
fn what_is_sent_behind_the_request_changes_nothing() {
    let scratch = Scratch::new();
    let (file, bytes) = trace(&scratch);
    let serving = serve(&["open", &file]);
    // Two at once, the second wrong: one answer.
    let pipelined = format!("{}{}", get(&serving, "").replacen("GET", "HEAD", 1), "\0garbage\r\n\r\n".repeat(1000));
    let answer = ask(&serving, pipelined.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
    // Ranges are not known: the file comes once and whole, however many are asked for.
    let ranges = format!("Range: bytes={}0-\r\nIf-Range: x\r\nExpect: 100-continue\r\n", "0-,".repeat(3000));
    let mut stream = connect(&serving);
    stream.write_all((get(&serving, &ranges) + &"GET / HTTP/1.1\r\n".repeat(500)).as_bytes()).expect("sent");
    let answer = rest(&mut stream);
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!(answer[end..] == bytes);
    assert_eq!(serving.code(), Some(0));
}

#[test]
fn slow_clients_keep_nobody_out() {
    let scratch = Scratch::new();
    let (file, bytes) = trace(&scratch);
    let serving = serve(&["open", &file]);
    // A byte now and then, of a head that never ends.
    let mut slow = connect(&serving);
    let start = Instant::now();
    let begun = get(&serving, "X: ");
    slow.write_all(begun.trim_end().as_bytes()).expect("sent");
    let slow = std::thread::spawn(move || {
        while start.elapsed() < Duration::from_secs(30) && slow.write_all(b"a").is_ok() {
            std::thread::sleep(Duration::from_millis(200));
        }
        start.elapsed()
    });
    // More of them than there are places, all at once.
    let idle: Vec<TcpStream> = (0..200).map(|_| connect(&serving)).collect();
    let (head, _) = serving.request("HEAD", &serving.path);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(slow.join().expect("a time") < Duration::from_secs(20));
    still_serves(serving, &bytes);
    drop(idle);
}

#[test]
fn a_client_that_says_nothing_does_not_keep_it_alive() {
    let scratch = Scratch::new();
    let (file, _) = trace(&scratch);
    let mut serving = serve(&["open", &file, "--wait", "1s"]);
    let start = Instant::now();
    let port = serving.port;
    // As long as the server lives, somebody is connected and in the middle of a head.
    let client = std::thread::spawn(move || {
        while let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\n");
            std::thread::sleep(Duration::from_millis(50));
            if start.elapsed() > Duration::from_secs(20) {
                break;
            }
        }
    });
    let code = serving.child.wait().expect("it ends").code();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(code, Some(1));
    client.join().expect("ended");
}

#[test]
fn a_reader_that_goes_away_is_no_reader() {
    let scratch = Scratch::new();
    let (file, mut bytes) = trace(&scratch);
    // More than the sockets' buffers take.
    bytes.resize(24 << 20, 7);
    std::fs::write(&file, &bytes).expect("written");
    let serving = serve(&["open", &file]);
    for _ in 0..3 {
        let mut stream = connect(&serving);
        stream.write_all(get(&serving, "").as_bytes()).expect("sent");
        let mut first = [0; 4096];
        stream.read_exact(&mut first).expect("the beginning");
        drop(stream);
    }
    // One that closed its side still reads.
    let mut stream = connect(&serving);
    stream.write_all(get(&serving, "").as_bytes()).expect("sent");
    stream.shutdown(Shutdown::Write).expect("closed");
    let answer = rest(&mut stream);
    assert!(answer.ends_with(&bytes[bytes.len() - 1000..]) && answer.len() > bytes.len());
    assert_eq!(serving.code(), Some(0));
}

#[test]
fn an_interrupt_ends_a_stalled_transfer() {
    let scratch = Scratch::new();
    let file = scratch.path("big.pftrace");
    std::fs::File::create(&file).and_then(|file| file.set_len(64 << 20)).expect("written");
    let mut serving = serve(&["open", &file.display().to_string()]);
    let mut stream = connect(&serving);
    stream.write_all(get(&serving, "").as_bytes()).expect("sent");
    let mut first = [0; 64];
    stream.read_exact(&mut first).expect("the beginning");
    std::thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    let pid = serving.child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
    assert_eq!(serving.child.wait().expect("it ends").code(), Some(130));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
