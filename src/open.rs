//! A web server for one file and one reader: how a trace on this machine gets into the Perfetto UI without an upload.
//!
//! It listens on the loopback interface alone, knows one path that nobody can guess, lets only the UI's origin read the
//! answer, and ends once the file was fetched. Whoever else connects is held to a size and a time.

mod guests;
mod request;

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use self::guests::Guests;
use self::request::{Head, Request};
use crate::error::{Error, ErrorKind, Result};

/// The public UI.
pub const PERFETTO_UI: &str = "https://ui.perfetto.dev";
/// The only port on this machine from which the public UI may fetch: its content security policy says so.
pub const PORT: u16 = 9001;

/// In this time a request's head has to be there, and the answer to a small one has to be taken.
const PATIENCE: Duration = Duration::from_secs(5);
/// The file is sent in pieces of this size,
const PIECE: usize = 1 << 20;
/// each of which has to be taken in this time.
const PIECE_TIME: Duration = Duration::from_secs(30);
/// How long, and how much, the other side may talk on after its answer.
const LINGER: Duration = Duration::from_millis(300);
const LINGER_BYTES: usize = 1 << 16;
/// Threads at one time: those of [`guests::MAX`] connections, and of some that were just sent away.
const MAX_THREADS: usize = 4 * guests::MAX;
/// How often it is looked whether somebody connects.
const POLL: Duration = Duration::from_millis(20);

/// What the UI does once the trace is loaded: pin every vCPU's row, unfold the host, fold the list of all machines' CPUs
/// that comes with the native layer.
const STARTUP: &str = r#"[{"id":"dev.perfetto.PinTracksByRegex","args":["^VM .* vCPU \\d+$"]},{"id":"dev.perfetto.ExpandTracksByRegex","args":["^Host$"]},{"id":"dev.perfetto.CollapseTracksByRegex","args":["^CPU Scheduling$"]}]"#;

/// A server that has not begun to serve.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    path: PathBuf,
    /// What a request must name: a random folder, and the file's name, by which the UI calls it.
    target: String,
    ui: String,
    origin: String,
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// The file was fetched, whole.
    Fetched,
    /// Nobody came in time.
    TimedOut,
}

impl Server {
    /// Listens on 127.0.0.1 (`port` 0: any free port) for a UI at `ui`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, if `ui` is no http address, or if the port is taken.
    pub fn bind(path: &Path, ui: &str, port: u16) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, "open", e))?;
        let regular = file.metadata().map_err(|e| Error::io(path, "read", e))?.is_file();
        let name = path.file_name().filter(|_| regular).ok_or_else(|| {
            Error::new(ErrorKind::Usage, "not a regular file").in_file(path).hint("name the trace that convert wrote")
        })?;
        let origin = origin(ui)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(address).map_err(|e| {
            let taken = e.kind() == io::ErrorKind::AddrInUse;
            let error = Error::io(address.to_string(), "listen", e);
            if taken {
                error.hint(
                    "another program has this port, perhaps trace_processor or another `open`; end it, or drop the \
                     file into the UI by hand",
                )
            } else {
                error
            }
        })?;
        let fail = |e| Error::io(address.to_string(), "listen", e);
        listener.set_nonblocking(true).map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let target = format!("/{}/{}", token()?, percent(name.to_string_lossy().as_bytes()));
        let ui = ui.trim_end_matches('/').to_owned();
        Ok(Self { listener, address, path: path.to_owned(), target, ui, origin })
    }

    /// The link that opens the file in the UI.
    pub fn link(&self) -> String {
        let url = format!("http://{}{}", self.address, self.target);
        format!("{}/#!/?url={}&startupCommands={}", self.ui, percent(url.as_bytes()), percent(STARTUP.as_bytes()))
    }

    /// Serves until the file was fetched once, `timeout` has passed, or `stop` is raised. Whoever is being sent the file
    /// when the time is over may finish, if the pieces keep going.
    ///
    /// # Errors
    ///
    /// If no connection could be accepted any more, or with [`ErrorKind::Interrupted`].
    pub fn serve(&self, timeout: Duration, stop: &AtomicBool) -> Result<Served> {
        let end = Instant::now() + timeout;
        let fetched = AtomicBool::new(false);
        let threads = AtomicUsize::new(0);
        let guests = Guests::default();
        std::thread::scope(|scope| {
            let mut refused = None;
            loop {
                if stop.load(Ordering::Relaxed) {
                    guests.dismiss(true);
                    return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
                }
                let done = fetched.load(Ordering::Acquire);
                if done || Instant::now() >= end {
                    // Nobody is let in any more, and whoever has not asked yet comes too late.
                    guests.dismiss(false);
                    if guests.any_served() {
                        std::thread::sleep(POLL);
                        continue;
                    }
                    return match refused {
                        // The last to be served may have finished just now.
                        _ if done || fetched.load(Ordering::Acquire) => Ok(Served::Fetched),
                        Some(e) => Err(Error::io(self.address.to_string(), "accept a connection", e)),
                        None => Ok(Served::TimedOut),
                    };
                }
                if threads.load(Ordering::Acquire) >= MAX_THREADS {
                    std::thread::sleep(POLL);
                    continue;
                }
                match self.listener.accept() {
                    Ok((stream, _)) => {
                        refused = None;
                        let Some(number) = guests.admit(&stream) else { continue };
                        threads.fetch_add(1, Ordering::AcqRel);
                        let (fetched, threads, guests) = (&fetched, &threads, &guests);
                        let work = move || {
                            if self.answer(stream, number, guests, stop).unwrap_or(false) {
                                fetched.store(true, Ordering::Release);
                            }
                            guests.leave(number);
                            threads.fetch_sub(1, Ordering::AcqRel);
                        };
                        if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                            guests.leave(number);
                            threads.fetch_sub(1, Ordering::AcqRel);
                        }
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(POLL),
                    Err(e) => {
                        // One connection failed, or there is no descriptor just now: the next may be better.
                        refused = Some(e);
                        std::thread::sleep(POLL);
                    }
                }
            }
        })
    }

    /// Answers one request. Whether the whole file went out.
    fn answer(&self, mut stream: TcpStream, number: u64, guests: &Guests, stop: &AtomicBool) -> io::Result<bool> {
        stream.set_nonblocking(false)?;
        let head = match request::read(&mut stream, Instant::now() + PATIENCE)? {
            Head::Whole(head) => head,
            Head::TooLong => return self.small(&mut stream, "431 Request Header Fields Too Large", 0),
            Head::Silent => return Ok(false),
        };
        let Some(request) = Request::parse(&head) else { return self.small(&mut stream, "400 Bad Request", 0) };
        // A page elsewhere whose name was made to point here asks with that name.
        let port = self.address.port();
        let named_rightly = request.host == format!("127.0.0.1:{port}") || request.host == format!("localhost:{port}");
        if request.target != self.target || !named_rightly {
            return self.small(&mut stream, "404 Not Found", 0);
        }
        if request.origin.is_some_and(|origin| origin != self.origin) {
            return self.small(&mut stream, "403 Forbidden", 0);
        }
        match request.method {
            "OPTIONS" => self.small(&mut stream, "204 No Content", 0),
            "HEAD" => self.small(&mut stream, "200 OK", std::fs::metadata(&self.path)?.len()),
            "GET" if guests.serve(number) => {
                let whole = self.file(&mut stream, stop)?;
                linger(&mut stream);
                Ok(whole)
            }
            "GET" => Ok(false),
            _ => self.small(&mut stream, "405 Method Not Allowed", 0),
        }
    }

    /// Sends the file. Whether all of it went out.
    fn file(&self, stream: &mut TcpStream, stop: &AtomicBool) -> io::Result<bool> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        send(stream, self.head("200 OK", length).as_bytes(), PATIENCE)?;
        let mut left = length;
        let mut buffer = vec![0; PIECE];
        while left > 0 && !stop.load(Ordering::Relaxed) {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let piece = buffer.get_mut(..most).unwrap_or_default();
            let got = file.read(piece)?;
            if got == 0 {
                break;
            }
            send(stream, piece.get(..got).unwrap_or_default(), PIECE_TIME)?;
            left -= got as u64;
        }
        Ok(left == 0)
    }

    /// An answer that is a head alone. Never the whole file.
    fn small(&self, stream: &mut TcpStream, status: &str, length: u64) -> io::Result<bool> {
        send(stream, self.head(status, length).as_bytes(), PATIENCE)?;
        linger(stream);
        Ok(false)
    }

    fn head(&self, status: &str, length: u64) -> String {
        // What is not the file is nobody's to read.
        let cors = if status.starts_with('2') {
            format!(
                "Access-Control-Allow-Origin: {}\r\n\
                 Access-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n\
                 Access-Control-Allow-Headers: *\r\n\
                 Access-Control-Allow-Private-Network: true\r\n",
                self.origin
            )
        } else {
            String::new()
        };
        format!(
            "HTTP/1.1 {status}\r\n\
             Content-Type: application/octet-stream\r\n\
             Content-Length: {length}\r\n\
             Cache-Control: no-cache\r\n\
             X-Content-Type-Options: nosniff\r\n\
             Cross-Origin-Resource-Policy: same-origin\r\n\
             Allow: GET, HEAD, OPTIONS\r\n\
             {cors}\
             Vary: Origin\r\n\
             Connection: close\r\n\r\n"
        )
    }
}

/// Sends bytes; all of them have to be taken in this time.
fn send(stream: &mut TcpStream, mut bytes: &[u8], time: Duration) -> io::Result<()> {
    let deadline = Instant::now() + time;
    while !bytes.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_write_timeout(Some(left))?;
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Says that this was all, and hears the other side out: closing on bytes that nobody read would take the answer back.
/// What fails here fails nobody: the other side may be gone, with all that it wanted.
fn linger(stream: &mut TcpStream) {
    let deadline = Instant::now() + LINGER;
    let mut buffer = [0; 4096];
    let mut heard = 0;
    let _ = stream.shutdown(std::net::Shutdown::Write);
    while heard < LINGER_BYTES {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            break;
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(got) => heard += got,
        }
    }
}

/// 128 random bits, written as text.
fn token() -> Result<String> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    File::open(source).and_then(|mut file| file.read_exact(&mut bytes)).map_err(|e| Error::io(source, "read", e))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Scheme, host and port of an address.
fn origin(ui: &str) -> Result<String> {
    let wrong = || {
        Error::new(ErrorKind::Usage, format!("`{ui}` is no address of a web page"))
            .hint("write it as in the browser, such as http://localhost:10000")
    };
    let (scheme, rest) = ui.split_once("://").ok_or_else(wrong)?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or("");
    let plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic());
    if !matches!(scheme, "http" | "https") || !plain {
        return Err(wrong());
    }
    Ok(format!("{scheme}://{host}"))
}

/// Percent-encodes everything but unreserved characters (RFC 3986).
fn percent(text: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for &byte in text {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        assert_eq!(origin("https://ui.perfetto.dev").unwrap(), "https://ui.perfetto.dev");
        assert_eq!(origin("http://localhost:10000/v52/index.html").unwrap(), "http://localhost:10000");
        for wrong in ["ui.perfetto.dev", "file:///x", "http://", "http://a b", "http://a\r\nx: y"] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_encoded() {
        assert_eq!(percent("a b/ü.pftrace".as_bytes()), "a%20b%2F%C3%BC.pftrace");
    }
}
