//! Connections: one per bucket or web server, whoever asks for it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::multipart::MultipartStore;
use object_store::path::Path as Key;
use object_store::{BackoffConfig, ClientConfigKey, Extensions, ListResult, ObjectStore, RetryConfig};
use tokio::runtime::{Builder, Handle};

use super::cache::Cache;
use super::{credentials, fault};
use crate::error::{Error, ErrorKind, Result};

/// How long one request may take, answer and all, unless the environment says otherwise (`AWS_TIMEOUT`, …).
const TIMEOUT: &str = "120 seconds";
/// How long it may take to be connected.
const CONNECT_TIMEOUT: &str = "10 seconds";
/// Blocks of all objects of a bucket that are kept for the next reader.
const CACHE: usize = 32 << 20;

/// How often a web server is asked for a list.
const WEB_TRIES: u32 = 4;

/// How often, and for how long, a request is sent again that failed for the server's or the network's sake.
fn retry() -> RetryConfig {
    let init_backoff = Duration::from_millis(100);
    let backoff = BackoffConfig { init_backoff, max_backoff: Duration::from_secs(5), base: 2.0 };
    RetryConfig { backoff, max_retries: 9, retry_timeout: Duration::from_secs(60) }
}

/// A bucket, a container, or a web server.
pub(super) struct Bucket {
    name: String,
    store: Arc<dyn ObjectStore>,
    /// `None` where nothing can be written.
    multipart: Option<Arc<dyn MultipartStore>>,
    /// Of a web server: what does not try again by itself. Most have no lists, and say so as if they were broken.
    once: Option<Arc<dyn ObjectStore>>,
    pub(super) cache: Cache,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Bucket {
    pub(super) fn new<S: ObjectStore + MultipartStore>(name: &str, store: Arc<S>) -> Self {
        let multipart = Some(Arc::clone(&store) as Arc<dyn MultipartStore>);
        Self { name: name.to_owned(), store, multipart, once: None, cache: Cache::new(CACHE) }
    }

    /// Its URL.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn scheme(&self) -> &str {
        self.name.split("://").next().unwrap_or_default()
    }

    pub(super) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    pub(super) fn multipart(&self) -> Option<&Arc<dyn MultipartStore>> {
        self.multipart.as_ref()
    }

    /// What stands below a prefix, not deeper than one step.
    pub(super) async fn list(&self, prefix: Option<&Key>) -> object_store::Result<ListResult> {
        let Some(once) = &self.once else { return self.store.list_with_delimiter(prefix).await };
        let mut tries = 0;
        loop {
            tries += 1;
            match once.list_with_delimiter(prefix).await {
                // Most web servers have no lists.
                Err(error) if matches!(fault::status(&error), Some(400..=499 | 501)) => {
                    let (objects, common_prefixes) = (Vec::new(), Vec::new());
                    return Ok(ListResult { common_prefixes, objects, extensions: Extensions::default() });
                }
                Err(_) if tries < WEB_TRIES => tokio::time::sleep(Duration::from_millis(100 << tries)).await,
                found => return found,
            }
        }
    }

    /// Whether it is a web server, which is only read.
    pub(super) fn is_web(&self) -> bool {
        self.multipart.is_none()
    }
}

/// A URL's scheme with its host or bucket, and what is behind.
pub(super) fn split(url: &str) -> Result<(&str, &str)> {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    let (authority, path) = url.split_at(end);
    if authority.len() == start {
        return Err(Error::new(ErrorKind::Usage, format!("the URL `{url}` names no bucket or host"))
            .hint("expected something like s3://bucket/prefix"));
    }
    Ok((authority, path))
}

/// The connection to a bucket; an old one where there is one.
pub(super) fn open(authority: &str) -> Result<Arc<Bucket>> {
    // A list names many objects in one bucket.
    static OPEN: Mutex<BTreeMap<String, Weak<Bucket>>> = Mutex::new(BTreeMap::new());
    let mut all = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(bucket) = all.get(authority).and_then(Weak::upgrade) {
        return Ok(bucket);
    }
    let bucket = Arc::new(connect(authority)?);
    all.insert(authority.to_owned(), Arc::downgrade(&bucket));
    Ok(bucket)
}

fn connect(authority: &str) -> Result<Bucket> {
    // Of the two ways in which rustls can compute; another part of the program may have chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let scheme = authority.split("://").next().unwrap_or_default();
    let wrong = |error: object_store::Error| fault::setting(authority, scheme, &error);
    let is_set = |name: &str| std::env::var_os(name).is_some();
    match scheme {
        "s3" | "s3a" => {
            let mut builder = AmazonS3Builder::from_env().with_url(authority).with_retry(retry());
            for (key, value) in credentials::from_files(&|name| std::env::var(name).ok())? {
                builder = builder.with_config(key, value);
            }
            for (name, key, value) in timeouts("AWS") {
                if !is_set(&name) {
                    builder = builder.with_config(AmazonS3ConfigKey::Client(key), value);
                }
            }
            Ok(Bucket::new(authority, Arc::new(builder.build().map_err(wrong)?)))
        }
        "gs" => {
            let mut builder = GoogleCloudStorageBuilder::from_env().with_url(authority).with_retry(retry());
            for (name, key, value) in timeouts("GOOGLE") {
                if !is_set(&name) {
                    builder = builder.with_config(GoogleConfigKey::Client(key), value);
                }
            }
            Ok(Bucket::new(authority, Arc::new(builder.build().map_err(wrong)?)))
        }
        "az" | "azure" | "abfs" | "abfss" => {
            let mut builder = MicrosoftAzureBuilder::from_env().with_url(authority).with_retry(retry());
            for (name, key, value) in timeouts("AZURE") {
                if !is_set(&name) {
                    builder = builder.with_config(AzureConfigKey::Client(key), value);
                }
            }
            Ok(Bucket::new(authority, Arc::new(builder.build().map_err(wrong)?)))
        }
        "http" | "https" => {
            // The scheme says whether to go without TLS.
            let mut builder = HttpBuilder::new().with_url(authority).with_config(ClientConfigKey::AllowHttp, "true");
            for (_, key, value) in timeouts("HTTP") {
                builder = builder.with_config(key, value);
            }
            let never = RetryConfig { max_retries: 0, ..retry() };
            let once: Arc<dyn ObjectStore> = Arc::new(builder.clone().with_retry(never).build().map_err(wrong)?);
            let store: Arc<dyn ObjectStore> = Arc::new(builder.with_retry(retry()).build().map_err(wrong)?);
            let name = authority.to_owned();
            Ok(Bucket { name, store, multipart: None, once: Some(once), cache: Cache::new(CACHE) })
        }
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            format!("the place `{authority}` cannot be reached: unknown scheme `{scheme}`"),
        )
        .hint("known are s3, gs, az, http, https and file; or name a directory")),
    }
}

/// Bounds, with the names by which the environment may set others.
fn timeouts(prefix: &str) -> [(String, ClientConfigKey, &'static str); 2] {
    [
        (format!("{prefix}_TIMEOUT"), ClientConfigKey::Timeout, TIMEOUT),
        (format!("{prefix}_CONNECT_TIMEOUT"), ClientConfigKey::ConnectTimeout, CONNECT_TIMEOUT),
    ]
}

/// Waits for a request.
///
/// # Errors
/// `Io` where no thread could be had for the runtime.
pub(super) fn wait<T>(request: impl Future<Output = T>) -> Result<T> {
    Ok(runtime()?.block_on(request))
}

/// The runtime that all connections share, driven by one thread: it moves bytes, and computes nothing but TLS.
pub(super) fn runtime() -> Result<&'static Handle> {
    static RUNTIME: LazyLock<std::io::Result<Handle>> = LazyLock::new(|| {
        let runtime = Builder::new_current_thread().max_blocking_threads(4).enable_all().build()?;
        let handle = runtime.handle().clone();
        let drive = move || runtime.block_on(std::future::pending::<()>());
        std::thread::Builder::new().name("objects".to_owned()).spawn(drive)?;
        Ok(handle)
    });
    RUNTIME.as_ref().map_err(|error| {
        let message = format!("cannot start the thread for connections to object stores: {error}");
        Error::new(ErrorKind::Io, message).hint("check how many threads the process may have (ulimit -u)")
    })
}
