//! What a server or the network said, in few words.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use object_store::Error as Refusal;
use object_store::client::HttpError;

use crate::error::{Error, ErrorKind};

/// As much as is shown of what a server writes.
const MAX_WORDS: usize = 200;

/// What was tried.
#[derive(Clone, Copy, Debug)]
pub(super) enum Doing {
    Open,
    Look,
    List,
    Read,
    Create,
    Write,
    Remove,
}

impl Doing {
    fn words(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Look => "look at",
            Self::List => "list",
            Self::Read => "read",
            Self::Create => "create",
            Self::Write => "write",
            Self::Remove => "remove",
        }
    }
}

/// A request that failed.
pub(super) fn error(shown: PathBuf, doing: Doing, refusal: &Refusal, scheme: &str) -> Error {
    let error = Error::io(shown, doing.words(), io::Error::new(kind(refusal), words(refusal)));
    match hint(refusal, scheme) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Settings with which nothing can be asked.
pub(super) fn setting(authority: &str, scheme: &str, refusal: &Refusal) -> Error {
    let message = format!("the place `{authority}` cannot be reached: {}", chain(refusal));
    let error = Error::new(ErrorKind::Usage, message);
    match scheme {
        "az" | "azure" | "abfs" | "abfss" => error.hint("set AZURE_STORAGE_ACCOUNT_NAME and a key or token for it"),
        "gs" => error.hint("check GOOGLE_APPLICATION_CREDENTIALS"),
        _ => error.hint("check the variables AWS_… of the environment"),
    }
}

/// How `object_store` begins to tell of a request, of which only the words are public.
const REQUEST: &str = "Error performing ";
/// What is before an HTTP status in them.
const STATUS: &str = " - Server returned non-2xx status code: ";
/// What is before the number of times that it was sent again.
const RETRIES: &str = ", after ";

/// The HTTP status, where one was sent.
pub(super) fn status(refusal: &Refusal) -> Option<u16> {
    let request = request(refusal)?;
    let (_, status) = request.split_once(STATUS)?;
    status.get(..3)?.parse().ok()
}

/// What kind of failure it is for those who know system calls.
pub(super) fn kind(refusal: &Refusal) -> io::ErrorKind {
    match refusal {
        Refusal::NotFound { .. } => io::ErrorKind::NotFound,
        Refusal::PermissionDenied { .. } | Refusal::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    }
}

/// Whether an answer began and did not end.
pub(super) fn was_cut_off(refusal: &Refusal) -> bool {
    request(refusal).is_none() && sources(refusal).any(|error| error.is::<HttpError>())
}

/// In one line: the status and what the server wrote, or what the network did.
pub(super) fn words(refusal: &Refusal) -> String {
    if matches!(refusal, Refusal::Precondition { .. }) {
        return "it was changed while it was read".to_owned();
    }
    let Some(request) = request(refusal) else { return chain(refusal) };
    let retries = request.split_once(RETRIES).and_then(|(_, rest)| rest.split(' ').next()?.parse::<u32>().ok());
    let tries = retries.map_or(String::new(), |retries| format!(" (tried {} times)", retries.saturating_add(1)));
    let what = match (request.split_once(STATUS), sources(refusal).last()) {
        (Some((_, answer)), _) => {
            let (status, body) = answer.split_once(": ").unwrap_or((answer, ""));
            format!("the server answered {}{}", short(status), said(body))
        }
        // The last of the errors tells what happened; those before it only where.
        (None, Some(last)) if sources(refusal).any(|error| error.is::<HttpError>()) => {
            format!("the request failed: {}", short(&last.to_string()))
        }
        _ => short(request.split_once(" - ").map_or(request.as_str(), |(_, words)| words)),
    };
    what + &tries
}

fn hint(refusal: &Refusal, scheme: &str) -> Option<&'static str> {
    let text = chain(refusal);
    Some(match (status(refusal), scheme) {
        (Some(401 | 403), "s3" | "s3a") => {
            "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; AWS_SKIP_SIGNATURE=true asks as nobody"
        }
        (Some(401 | 403), "gs") => "check GOOGLE_APPLICATION_CREDENTIALS",
        (Some(401 | 403), "http" | "https") => return None,
        (Some(401 | 403), _) => "check AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        (Some(301 | 307 | 400), "s3" | "s3a") => "check AWS_REGION",
        (Some(500..=599), _) => "try again later; batch --retry N does",
        (None, "s3" | "s3a") if text.contains("URL scheme is not allowed") => {
            "set AWS_ALLOW_HTTP=true to go without TLS"
        }
        (None, "s3" | "s3a") if text.contains("169.254.169.254") => {
            "no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        }
        (None, "s3" | "s3a") if request(refusal).is_some() => "check the network, and AWS_ENDPOINT_URL if it is set",
        _ => return None,
    })
}

/// The errors behind one.
fn sources(refusal: &Refusal) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let mut next = refusal.source();
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// What is told of the request that failed, if it was one.
fn request(refusal: &Refusal) -> Option<String> {
    sources(refusal).map(ToString::to_string).find(|words| words.starts_with(REQUEST))
}

/// An error with those behind it that say more.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    short(&text)
}

/// What a server writes: of XML, the code and the message.
fn said(body: &str) -> String {
    let element = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0)
    };
    let text = match (element("Code"), element("Message")) {
        (Some(code), Some(message)) if !message.is_empty() => format!("{code}: {message}"),
        (Some(code), _) => code.to_owned(),
        // A page for people.
        _ if body.trim_start().starts_with('<') => String::new(),
        _ => body.to_owned(),
    };
    let text = short(&text);
    if text.is_empty() { text } else { format!(": {text}") }
}

fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MAX_WORDS {
        return line;
    }
    line.chars().take(MAX_WORDS).chain(['…']).collect()
}
