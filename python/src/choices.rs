//! Keyword arguments as the library takes them.

use std::path::PathBuf;
use std::str::FromStr;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use timeline::error::{Error, Result};
use timeline::export::Format;
use timeline::filter::Filter;
use timeline::selection::Span;
use timeline::session::request::{GuestSpec, OffsetSpec, Request};
use timeline::timeline::setup::{Flows, Layers, NativeEvents};

use crate::error::{exception, usage};

/// One path or several.
#[derive(FromPyObject)]
pub(crate) enum Paths {
    One(PathBuf),
    Many(Vec<PathBuf>),
}

impl From<Paths> for Vec<PathBuf> {
    fn from(paths: Paths) -> Self {
        match paths {
            Paths::One(path) => vec![path],
            Paths::Many(paths) => paths,
        }
    }
}

fn list(paths: Option<Paths>) -> Vec<PathBuf> {
    paths.map(Vec::from).unwrap_or_default()
}

/// `guests={"web": path, "db,pid=1234": [path, path]}`, `offsets={"web": cycles, "db/1": cycles}`.
pub(crate) fn request(
    paths: Option<Paths>,
    host: Option<Paths>,
    guests: Option<&Bound<'_, PyDict>>,
    offsets: Option<&Bound<'_, PyDict>>,
) -> PyResult<Request> {
    let mut request = Request { paths: list(paths), hosts: list(host), ..Request::default() };
    for (name, files) in guests.into_iter().flatten() {
        let name: String = name.extract()?;
        // The part before the path is read as on the command line; a path need not be text.
        let spec = GuestSpec::from_str(&format!("{name}=-")).map_err(|e| exception(files.py(), &e))?;
        for path in Vec::from(files.extract::<Paths>()?) {
            request.guests.push(GuestSpec { path, ..spec.clone() });
        }
    }
    for (whom, cycles) in offsets.into_iter().flatten() {
        let text = format!("{}={}", whom.extract::<String>()?, cycles.str()?);
        request.offsets.push(OffsetSpec::from_str(&text).map_err(|e| exception(whom.py(), &e))?);
    }
    Ok(request)
}

/// What is wanted, as on the command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) filter: Filter,
    pub(crate) span: Option<Span>,
}

/// The keyword arguments that all of `convert`, `events` and `stats` take.
#[derive(Default)]
pub(crate) struct WantedArgs {
    pub(crate) events: Option<Vec<String>>,
    pub(crate) exclude: Option<Vec<String>>,
    pub(crate) vms: Option<Vec<String>>,
    pub(crate) vcpus: Option<Vec<String>>,
    pub(crate) start: Option<String>,
    pub(crate) end: Option<String>,
    pub(crate) around: Option<Vec<String>>,
    pub(crate) span: Option<String>,
}

fn parsed<T: FromStr<Err = Error>>(texts: Option<Vec<String>>) -> Result<Vec<T>> {
    texts.unwrap_or_default().iter().map(|text| text.parse()).collect()
}

impl WantedArgs {
    pub(crate) fn wanted(self) -> Result<Wanted> {
        let filter = Filter {
            events: parsed(self.events)?,
            exclude: parsed(self.exclude)?,
            vms: self.vms.unwrap_or_default(),
            vcpus: parsed(self.vcpus)?,
            from: self.start.map(|text| text.parse()).transpose()?,
            to: self.end.map(|text| text.parse()).transpose()?,
            around: parsed(self.around)?,
        };
        let span = match self.span.as_deref() {
            None => None,
            Some("guests") => Some(Span::Guests),
            Some("all") => Some(Span::All),
            Some(other) => return Err(unknown("span", other, "guests or all")),
        };
        Ok(Wanted { filter, span })
    }
}

fn unknown(what: &str, given: &str, known: &str) -> Error {
    usage(format!("unknown {what} `{given}`"), format!("write {known}"))
}

/// `pftrace` or `json`.
pub(crate) fn format(text: &str) -> Result<Format> {
    match text {
        "pftrace" => Ok(Format::Perfetto),
        "json" => Ok(Format::ChromeJson),
        other => Err(unknown("format", other, "pftrace or json")),
    }
}

/// `stalls`, `all` or `none`.
pub(crate) fn flows(text: &str) -> Result<Flows> {
    match text {
        "stalls" => Ok(Flows::Stalls),
        "all" => Ok(Flows::All),
        "none" => Ok(Flows::None),
        other => Err(unknown("flows", other, "stalls, all or none")),
    }
}

/// Any of `overlay`, `native`, `native-all`.
pub(crate) fn layers(texts: &[String]) -> Result<Layers> {
    let mut layers = Layers { overlay: false, native: NativeEvents::None };
    for text in texts {
        match text.as_str() {
            "overlay" => layers.overlay = true,
            "native" if layers.native == NativeEvents::None => layers.native = NativeEvents::Sched,
            "native" => {}
            "native-all" => layers.native = NativeEvents::All,
            other => return Err(unknown("layer", other, "overlay, native or native-all")),
        }
    }
    Ok(layers)
}
