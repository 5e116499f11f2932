//! Long work: without the GIL, and Ctrl-C is heard.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use timeline::error::Result;

use crate::error::exception;

/// How often Python is asked for signals.
const PATIENCE: Duration = Duration::from_millis(50);

/// Does work on another thread. A signal whose handler raises ends it through `stop`.
pub(crate) fn work<T: Send>(py: Python<'_>, stop: &AtomicBool, job: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    stop.store(false, Ordering::Relaxed);
    std::thread::scope(|scope| {
        let (done, mut result) = sync_channel(1);
        scope.spawn(move || {
            // There is always somebody who receives.
            let _ = done.send(job());
        });
        let mut raised = None;
        loop {
            let (answer, back) = py.detach(move || (result.recv_timeout(PATIENCE), result));
            result = back;
            match answer {
                Ok(answer) => {
                    return match raised {
                        Some(raised) => Err(raised),
                        None => answer.map_err(|error| exception(py, &error)),
                    };
                }
                Err(RecvTimeoutError::Disconnected) => return Err(PyRuntimeError::new_err("the work panicked")),
                Err(RecvTimeoutError::Timeout) => {
                    if raised.is_none() {
                        raised = py.check_signals().err();
                    }
                    if raised.is_some() {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
    })
}

/// A Python object with `write`.
pub(crate) struct Writer(pub(crate) Py<PyAny>);

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Python::attach(|py| {
            let written = self.0.bind(py).call_method1("write", (PyBytes::new(py, bytes),))?;
            // A raw file may take less; other objects may say nothing.
            let count = if written.is_none() { bytes.len() } else { written.extract().unwrap_or(bytes.len()) };
            Ok(count.min(bytes.len()))
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
