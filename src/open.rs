//! A web server for one file and one reader: how a trace on this machine gets into the Perfetto UI without an upload.
//!
//! It listens on the loopback interface alone, knows one path, lets only the UI's origin read the answer, and ends once
//! the file was fetched.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};

/// The public UI.
pub const PERFETTO_UI: &str = "https://ui.perfetto.dev";
/// The only port on this machine from which the public UI may fetch: its content security policy says so.
pub const PORT: u16 = 9001;

/// A request's head may not be longer.
const MAX_HEAD: usize = 16 << 10;
/// Connections at one time; a browser opens a few ahead of need.
const MAX_CONNECTIONS: usize = 16;
/// A connection that says nothing for so long is closed.
const PATIENCE: Duration = Duration::from_secs(3);
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
    /// What a request must name.
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
        let target = format!("/{}", percent(name.to_string_lossy().as_bytes()));
        let ui = ui.trim_end_matches('/').to_owned();
        Ok(Self { listener, address, path: path.to_owned(), target, ui, origin })
    }

    /// The link that opens the file in the UI.
    pub fn link(&self) -> String {
        let url = format!("http://{}{}", self.address, self.target);
        format!("{}/#!/?url={}&startupCommands={}", self.ui, percent(url.as_bytes()), percent(STARTUP.as_bytes()))
    }

    /// Serves until the file was fetched once, `timeout` has passed, or `stop` is raised.
    ///
    /// # Errors
    ///
    /// If no connection can be accepted any more, or with [`ErrorKind::Interrupted`].
    pub fn serve(&self, timeout: Duration, stop: &AtomicBool) -> Result<Served> {
        let end = Instant::now() + timeout;
        let fetched = AtomicBool::new(false);
        let sending = AtomicUsize::new(0);
        let connections = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            loop {
                if fetched.load(Ordering::Acquire) {
                    return Ok(Served::Fetched);
                }
                if stop.load(Ordering::Relaxed) {
                    return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
                }
                // Whoever is fetching already may finish.
                if Instant::now() >= end && sending.load(Ordering::Acquire) == 0 {
                    return Ok(Served::TimedOut);
                }
                match self.listener.accept() {
                    Ok((stream, _)) if connections.load(Ordering::Acquire) < MAX_CONNECTIONS => {
                        connections.fetch_add(1, Ordering::AcqRel);
                        let (fetched, sending, connections) = (&fetched, &sending, &connections);
                        scope.spawn(move || {
                            sending.fetch_add(1, Ordering::AcqRel);
                            if self.answer(stream, stop).unwrap_or(false) {
                                fetched.store(true, Ordering::Release);
                            }
                            sending.fetch_sub(1, Ordering::AcqRel);
                            connections.fetch_sub(1, Ordering::AcqRel);
                        });
                    }
                    Ok(_) => {}
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(POLL),
                    Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {}
                    Err(e) => return Err(Error::io(self.address.to_string(), "accept a connection", e)),
                }
            }
        })
    }

    /// Answers one request. Whether the whole file went out.
    fn answer(&self, mut stream: TcpStream, stop: &AtomicBool) -> io::Result<bool> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        let Some(head) = head(&mut stream)? else { return Ok(false) };
        let request = Request::parse(&head);
        // A page elsewhere whose name was made to point here asks with that name.
        let named_rightly = request.host.is_none_or(|host| {
            let port = self.address.port();
            host == format!("127.0.0.1:{port}") || host == format!("localhost:{port}")
        });
        if request.path != self.target || !named_rightly {
            self.head(&mut stream, "404 Not Found", 0)?;
            return Ok(false);
        }
        match request.method {
            "OPTIONS" => self.head(&mut stream, "204 No Content", 0)?,
            "HEAD" => {
                let length = std::fs::metadata(&self.path)?.len();
                self.head(&mut stream, "200 OK", length)?;
            }
            "GET" => {
                let mut file = File::open(&self.path)?;
                let length = file.metadata()?.len();
                self.head(&mut stream, "200 OK", length)?;
                let mut left = length;
                let mut buffer = vec![0; 1 << 16];
                while left > 0 && !stop.load(Ordering::Relaxed) {
                    let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let got = file.read(&mut buffer[..most])?;
                    if got == 0 {
                        break;
                    }
                    stream.write_all(&buffer[..got])?;
                    left -= got as u64;
                }
                stream.flush()?;
                let _ = stream.shutdown(std::net::Shutdown::Write);
                return Ok(left == 0);
            }
            _ => self.head(&mut stream, "405 Method Not Allowed", 0)?,
        }
        Ok(false)
    }

    fn head(&self, stream: &mut TcpStream, status: &str, length: u64) -> io::Result<()> {
        let origin = &self.origin;
        let head = format!(
            "HTTP/1.1 {status}\r\n\
             Content-Type: application/octet-stream\r\n\
             Content-Length: {length}\r\n\
             Cache-Control: no-cache\r\n\
             Access-Control-Allow-Origin: {origin}\r\n\
             Access-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n\
             Access-Control-Allow-Headers: *\r\n\
             Access-Control-Allow-Private-Network: true\r\n\
             Vary: Origin\r\n\
             Connection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes())
    }
}

/// What of a request matters.
struct Request<'a> {
    method: &'a str,
    path: &'a str,
    host: Option<&'a str>,
}

impl<'a> Request<'a> {
    fn parse(head: &'a str) -> Self {
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or("").split(' ');
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let host = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("host").then(|| value.trim())
        });
        Self { method, path, host }
    }
}

/// Reads up to the empty line; `None` if the other side has nothing to say.
fn head(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let got = stream.read(&mut buffer)?;
        if got == 0 || head.len() + got > MAX_HEAD {
            return Ok(None);
        }
        head.extend_from_slice(&buffer[..got]);
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            head.truncate(end);
            return Ok(String::from_utf8(head).ok());
        }
    }
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
