//! An S3 server on loopback that can be made as bad as servers and networks are.
//!
//! The server is `s3s-fs`; what is here counts what it is asked, and spoils some of its answers.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;
use tokio::runtime::Builder;

/// The keys that the server knows.
pub const ACCESS_KEY: &str = "AKIDTEST";
/// The secret behind [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "test/secret+key";

/// What is wrong with the server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Every n-th request is answered 503, and not carried out.
    pub refuse_every: u64,
    /// Of every n-th answer with more than a kilobyte, half is sent before the connection is cut.
    pub cut_every: u64,
    /// Every n-th request that changes something is carried out, and the connection cut instead of an answer.
    pub lose_every: u64,
    /// Before each answer.
    pub delay: Duration,
}

/// What the server was asked.
#[derive(Debug, Default)]
pub struct Counts {
    /// All requests.
    pub requests: AtomicU64,
    /// Bytes of objects that were sent.
    pub sent: AtomicU64,
    /// Requests for objects or parts of them.
    pub gets: AtomicU64,
    /// Parts of objects that were received.
    pub parts: AtomicU64,
    /// Uploads in parts that were given up.
    pub aborted: AtomicU64,
    /// Answers that were spoilt.
    pub spoilt: AtomicU64,
    answers: AtomicU64,
    changes: AtomicU64,
}

impl Counts {
    /// Of one of them.
    pub fn of(count: &AtomicU64) -> u64 {
        count.load(Ordering::Relaxed)
    }
}

/// A server that stops when it is dropped.
pub struct Server {
    /// Where it is.
    pub address: SocketAddr,
    /// What it was asked.
    pub counts: Arc<Counts>,
    /// What is wrong with it from now on.
    pub faults: Arc<Mutex<Faults>>,
    _stop: tokio::sync::oneshot::Sender<()>,
}

type Body = BoxBody<Bytes, io::Error>;

impl Server {
    /// Serves the directories in `root` as buckets.
    pub fn start(root: &Path) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let counts = Arc::new(Counts::default());
        let faults = Arc::new(Mutex::new(Faults::default()));
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).expect("a directory"));
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a port");
        let address = listener.local_addr().expect("an address");
        // The server looks whether an object is there and then writes it; one after the other, that is atomic.
        let creating = Arc::new(tokio::sync::Mutex::new(()));
        let (told, bad) = (Arc::clone(&counts), Arc::clone(&faults));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serve = async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (service, counts, faults, creating) =
                    (service.clone(), Arc::clone(&told), Arc::clone(&bad), Arc::clone(&creating));
                let answer = service_fn(move |request| {
                    let faults = *faults.lock().expect("no panic");
                    answer(service.clone(), request, faults, Arc::clone(&counts), Arc::clone(&creating))
                });
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), answer));
            }
        };
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, counts, faults, _stop: stop }
    }

    /// Makes it bad, or good again.
    pub fn set(&self, faults: Faults) {
        *self.faults.lock().expect("no panic") = faults;
    }

    /// The variables of the environment by which it is found.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
        ]
    }
}

fn nth(count: &AtomicU64, every: u64) -> bool {
    let number = count.fetch_add(1, Ordering::Relaxed) + 1;
    every > 0 && number.is_multiple_of(every)
}

async fn answer(
    service: S3Service,
    request: Request<Incoming>,
    faults: Faults,
    counts: Arc<Counts>,
    creating: Arc<tokio::sync::Mutex<()>>,
) -> Result<Response<Body>, io::Error> {
    tokio::time::sleep(faults.delay).await;
    let query = request.uri().query().unwrap_or_default().to_owned();
    let method = request.method().clone();
    let of_object = !query.contains("list-type");
    let changes = !matches!(method, Method::GET | Method::HEAD);
    if nth(&counts.requests, faults.refuse_every) {
        counts.spoilt.fetch_add(1, Ordering::Relaxed);
        // What was sent is read, so that the connection can go on.
        let _ = request.into_body().collect().await;
        let words = "<Error><Code>SlowDown</Code><Message>not now</Message></Error>";
        let body = Full::new(Bytes::from_static(words.as_bytes())).map_err(never).boxed();
        return Ok(Response::builder().status(StatusCode::SERVICE_UNAVAILABLE).body(body).expect("a response"));
    }
    if method == Method::PUT && query.contains("partNumber") {
        counts.parts.fetch_add(1, Ordering::Relaxed);
    }
    if method == Method::DELETE && query.contains("uploadId") {
        counts.aborted.fetch_add(1, Ordering::Relaxed);
    }
    let turn = if request.headers().contains_key("if-none-match") { Some(creating.lock().await) } else { None };
    let answered = Service::call(&service, request).await.map_err(|error| io::Error::other(format!("{error:?}")))?;
    drop(turn);
    let (head, body) = answered.into_parts();
    let bytes = body.collect().await.map_err(|error| io::Error::other(error.to_string()))?.to_bytes();
    if changes && head.status.is_success() && nth(&counts.changes, faults.lose_every) {
        counts.spoilt.fetch_add(1, Ordering::Relaxed);
        return Err(io::Error::other("cut"));
    }
    if method == Method::GET && of_object && head.status.is_success() {
        counts.gets.fetch_add(1, Ordering::Relaxed);
        counts.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
    if method == Method::GET && bytes.len() > 1024 && nth(&counts.answers, faults.cut_every) {
        counts.spoilt.fetch_add(1, Ordering::Relaxed);
        let frames = [Ok(Frame::data(bytes.slice(..bytes.len() / 2))), Err(io::Error::other("cut"))];
        return Ok(Response::from_parts(head, StreamBody::new(stream::iter(frames)).boxed()));
    }
    Ok(Response::from_parts(head, Full::new(bytes).map_err(never).boxed()))
}

fn never(error: Infallible) -> io::Error {
    match error {}
}
