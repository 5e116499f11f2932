//! Events as a stream of Arrow record batches.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::ffi::FFI_ArrowSchema;
use arrow_schema::{ArrowError, SchemaRef};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use timeline::error::Result;

use crate::choices::Wanted;
use crate::columns::{Rows, Spec};
use crate::error::words;

/// Placed events, for whatever takes an Arrow C stream. Each time it is asked for a stream it reads anew.
#[pyclass(frozen, module = "kvm_timeline")]
pub(crate) struct Events {
    source: Source,
}

#[derive(Clone)]
struct Source {
    capture: Arc<timeline::Capture>,
    wanted: Wanted,
    spec: Arc<Spec>,
}

impl Events {
    pub(crate) fn new(capture: Arc<timeline::Capture>, wanted: Wanted, spec: Arc<Spec>) -> Self {
        Self { source: Source { capture, wanted, spec } }
    }
}

#[pymethods]
impl Events {
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // The protocol allows to ignore it where the data cannot be cast.
        let _ = requested_schema;
        let reader = Reader { source: self.source.clone(), running: None, over: false };
        PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(reader)), c"arrow_array_stream")
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let schema = FFI_ArrowSchema::try_from(&*self.source.spec.schema)
            .map_err(|error| pyo3::exceptions::PyRuntimeError::new_err(error.to_string()))?;
        PyCapsule::new_with_value(py, schema, c"arrow_schema")
    }

    #[getter]
    fn columns(&self) -> Vec<String> {
        self.source.spec.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    fn __repr__(&self) -> String {
        format!("<kvm_timeline.Events with columns {}>", self.columns().join(", "))
    }
}

/// Batches come from a thread that is one batch ahead; it ends with the reader. It never needs the GIL.
struct Reader {
    source: Source,
    running: Option<Running>,
    over: bool,
}

struct Running {
    /// Dropped first, so that the thread sees that nobody wants more.
    batches: Option<Receiver<Result<RecordBatch, ArrowError>>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.batches.take();
        if let Some(thread) = self.thread.take() {
            // A panic was already seen as the end of the batches.
            let _ = thread.join();
        }
    }
}

impl Source {
    fn start(self) -> std::io::Result<Running> {
        let (send, batches) = sync_channel(1);
        let thread = std::thread::Builder::new().name("kvm-timeline events".to_owned()).spawn(move || {
            let mut wanted = true;
            let done = self.run(&mut |batch| {
                wanted = send.send(Ok(batch)).is_ok();
                wanted
            });
            if let (Err(error), true) = (done, wanted) {
                let _ = send.send(Err(error));
            }
        })?;
        Ok(Running { batches: Some(batches), thread: Some(thread) })
    }

    /// Makes batches for as long as `take` wants more.
    fn run(&self, take: &mut dyn FnMut(RecordBatch) -> bool) -> Result<(), ArrowError> {
        let outside = |error: timeline::error::Error| ArrowError::ExternalError(words(&error).into());
        let mut view = self.capture.view().filter(self.wanted.filter.clone());
        if let Some(span) = self.wanted.span {
            view = view.span(span);
        }
        let mut rows = Rows::new(&self.spec);
        for event in view.events().map_err(outside)? {
            rows.push(&event.map_err(outside)?);
            if rows.is_full() && !take(rows.finish()?) {
                return Ok(());
            }
        }
        if !rows.is_empty() {
            take(rows.finish()?);
        }
        Ok(())
    }
}

impl Iterator for Reader {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let running = match &self.running {
            Some(running) => running,
            None => match self.source.clone().start() {
                Ok(running) => self.running.insert(running),
                Err(error) => {
                    self.over = true;
                    return Some(Err(ArrowError::IoError("cannot start a thread".to_owned(), error)));
                }
            },
        };
        let next = running.batches.as_ref().and_then(|batches| batches.recv().ok());
        if !matches!(next, Some(Ok(_))) {
            self.over = true;
            let panicked = self.running.take().and_then(|mut running| running.thread.take()?.join().err());
            if panicked.is_some() {
                return Some(Err(ArrowError::ComputeError("reading events panicked".to_owned())));
            }
        }
        next
    }
}

impl RecordBatchReader for Reader {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.source.spec.schema)
    }
}
