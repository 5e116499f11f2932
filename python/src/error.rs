//! Errors as Python sees them.

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use timeline::error::ErrorKind;

pyo3::create_exception!(
    kvm_timeline,
    Error,
    PyException,
    "What went wrong, in which file, and what to do about it.\n\nkind is io, format, unsupported, usage, evidence, limit or \
     interrupted; hint, file and offset (in bytes) are None where there is none."
);

/// The message, and the hint on a line of its own.
pub(crate) fn words(error: &timeline::error::Error) -> String {
    match error.hint_text() {
        Some(hint) => format!("{error}\nhint: {hint}"),
        None => error.to_string(),
    }
}

/// The exception for an error.
pub(crate) fn exception(py: Python<'_>, error: &timeline::error::Error) -> PyErr {
    let made = Error::new_err(words(error));
    let value = made.value(py);
    let set = value
        .setattr("kind", error.kind().name())
        .and_then(|()| value.setattr("code", error.code().name()))
        .and_then(|()| value.setattr("hint", error.hint_text()))
        .and_then(|()| value.setattr("file", error.file()))
        .and_then(|()| value.setattr("offset", error.offset()));
    set.err().unwrap_or(made)
}

/// Wrong arguments.
pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> timeline::error::Error {
    timeline::error::Error::new(ErrorKind::Usage, message).hint(hint)
}
