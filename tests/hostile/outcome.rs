//! What may become of damaged captures.

use std::fs;
use std::path::Path;

use kvm_timeline::convert::{ConvertOptions, convert};
use kvm_timeline::error::{Code, Error, ErrorKind};
use kvm_timeline::export::Format;
use kvm_timeline::monitor::Monitor;
use kvm_timeline::pipeline::Limits;
use kvm_timeline::report::Report;
use kvm_timeline::selection::{Selection, Span};
use kvm_timeline::session::Session;
use kvm_timeline::session::request::Request;
use kvm_timeline::timeline::setup::DrawOptions;

use crate::exercise::pipeline::packets;

/// What became of it.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A timeline.
    Timeline(Box<Report>),
    /// An error.
    Refused(#[expect(dead_code, reason = "for a failed test's message")] Error),
}

/// Converts a directory in both formats, and checks what always holds.
pub(crate) fn outcome(directory: &Path) -> Outcome {
    let monitor = Monitor::silent();
    let request = Request { paths: vec![directory.to_path_buf()], ..Request::default() };
    let session = match Session::open(&request, &monitor) {
        Ok(session) => session,
        Err(error) => return Outcome::Refused(checked(error)),
    };
    let selection = Selection::all(&session, Span::All);
    let mut reports = [Format::Perfetto, Format::ChromeJson].map(|format| {
        let options =
            ConvertOptions { format, compress: false, draw: DrawOptions::default(), limits: Limits::default() };
        let mut out = Vec::new();
        let mut write = |bytes: &[u8]| {
            out.extend_from_slice(bytes);
            Ok(())
        };
        let report = convert(&session, &selection, &options, &mut write, &monitor);
        match format {
            Format::Perfetto => packets(&out),
            Format::ChromeJson => drop(serde_json::from_slice::<serde_json::Value>(&out).expect("valid JSON")),
        }
        report.expect("what was opened is converted")
    });
    for report in &reports {
        assert!(report.balances(), "{:?}", report.events);
        for damage in &report.damaged {
            located(damage, directory);
        }
    }
    Outcome::Timeline(Box::new(std::mem::take(&mut reports[0])))
}

/// Damage names the file, and in it a place.
fn located(damage: &str, directory: &Path) {
    let rest = damage.strip_prefix(&*directory.display().to_string());
    let place = rest.and_then(|rest| rest.split_once([':', ' ']));
    let (file, what) = place.unwrap_or_else(|| panic!("names no file: {damage}"));
    assert!(file.ends_with(".dat"), "{damage}");
    let places = [
        "at byte 0x",
        "CPU ",
        "the top buffer",
        "instance ",
        "option",
        "section",
        "recorder",
        "more of this kind",
        "is left out",
    ];
    assert!(places.iter().any(|place| what.contains(place)), "names no place: {damage}");
}

/// An error has a code, a file, and where it is about bytes, an offset.
fn checked(error: Error) -> Error {
    assert!(!error.code().name().is_empty(), "{error}");
    if matches!(error.kind(), ErrorKind::Format | ErrorKind::Limit) {
        assert!(error.file().is_some(), "names no file: {error}");
        // Of a whole file there is no offset to name.
        let whole = matches!(error.code(), Code::EmptyFile | Code::NotACapture | Code::NoCapture);
        assert!(whole || error.offset().is_some(), "names no offset: {error}");
    }
    assert!(
        matches!(error.kind(), ErrorKind::Format | ErrorKind::Limit | ErrorKind::Unsupported | ErrorKind::Evidence),
        "{error}"
    );
    error
}

/// Writes a host's and a guest's file into a new directory.
pub(crate) fn directory(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, bytes) in files {
        fs::write(directory.path().join(name), bytes).expect("written");
    }
    directory
}
