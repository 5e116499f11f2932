//! A capture, and the functions that open one for a single question.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use serde::Serialize;
use timeline::View;
use timeline::capture::limits::Limit;
use timeline::convert::ConvertOptions;
use timeline::error::Result;
use timeline::pipeline::Limits;
use timeline::timeline::setup::DrawOptions;

use crate::choices::{self, Paths, Wanted, WantedArgs};
use crate::columns::Spec;
use crate::error::exception;
use crate::events::Events;
use crate::work::{Writer, work};

/// A host and its guests on one timeline, ready to be asked.
#[pyclass(frozen, module = "kvm_timeline")]
pub(crate) struct Capture {
    inner: Arc<timeline::Capture>,
    stop: Arc<AtomicBool>,
}

/// Plain data as Python has it: dicts, lists, text, numbers.
fn plain<'py>(py: Python<'py>, value: &impl Serialize) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_string(value).map_err(|e| pyo3::exceptions::PyRuntimeError::new_err(e.to_string()))?;
    py.import("json")?.call_method1("loads", (PyString::new(py, &text),))
}

fn view<'a>(capture: &'a timeline::Capture, wanted: &Wanted) -> View<'a> {
    let view = capture.view().filter(wanted.filter.clone());
    match wanted.span {
        Some(span) => view.span(span),
        None => view,
    }
}

fn raise<T>(py: Python<'_>, result: Result<T>) -> PyResult<T> {
    result.map_err(|error| exception(py, &error))
}

#[pymethods]
impl Capture {
    #[new]
    #[pyo3(signature = (paths=None, *, host=None, guests=None, offsets=None, tsc_hz=None, infer=false, max_unpacked=None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        paths: Option<Paths>,
        host: Option<Paths>,
        guests: Option<&Bound<'_, PyDict>>,
        offsets: Option<&Bound<'_, PyDict>>,
        tsc_hz: Option<u64>,
        infer: bool,
        max_unpacked: Option<u64>,
    ) -> PyResult<Self> {
        let mut request = choices::request(paths, host, guests, offsets)?;
        request.tsc_hz = tsc_hz;
        request.ignore_recorded_offsets = infer;
        if let Some(most) = max_unpacked {
            request.limits.set(Limit::Unpacked, most.max(1));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let builder = timeline::Capture::builder().request(request).stop_flag(Arc::clone(&stop));
        let inner = work(py, &stop, || builder.open())?;
        Ok(Self { inner: Arc::new(inner), stop })
    }

    fn check<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &work(py, &self.stop, || self.inner.check())?)
    }

    fn offsets<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.inner.offsets())
    }

    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.inner.warnings()
    }

    #[getter]
    fn damaged(&self) -> Vec<String> {
        self.inner.damaged()
    }

    #[pyo3(signature = (*, events=None, exclude=None, vms=None, vcpus=None, start=None, end=None, around=None, span=None))]
    #[allow(clippy::too_many_arguments)]
    fn stats<'py>(
        &self,
        py: Python<'py>,
        events: Option<Vec<String>>,
        exclude: Option<Vec<String>>,
        vms: Option<Vec<String>>,
        vcpus: Option<Vec<String>>,
        start: Option<String>,
        end: Option<String>,
        around: Option<Vec<String>>,
        span: Option<String>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let args = WantedArgs { events, exclude, vms, vcpus, start, end, around, span };
        let wanted = raise(py, args.wanted())?;
        plain(py, &work(py, &self.stop, || view(&self.inner, &wanted).stats())?)
    }

    #[pyo3(signature = (
        output, *, format=None, compress=false, flows=None, layers=None, stall_ns=None, max_memory=None,
        events=None, exclude=None, vms=None, vcpus=None, start=None, end=None, around=None, span=None,
    ))]
    #[allow(clippy::too_many_arguments)]
    fn convert<'py>(
        &self,
        py: Python<'py>,
        output: &Bound<'py, PyAny>,
        format: Option<&str>,
        compress: bool,
        flows: Option<&str>,
        layers: Option<Vec<String>>,
        stall_ns: Option<u64>,
        max_memory: Option<u64>,
        events: Option<Vec<String>>,
        exclude: Option<Vec<String>>,
        vms: Option<Vec<String>>,
        vcpus: Option<Vec<String>>,
        start: Option<String>,
        end: Option<String>,
        around: Option<Vec<String>>,
        span: Option<String>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let args = WantedArgs { events, exclude, vms, vcpus, start, end, around, span };
        let wanted = raise(py, args.wanted())?;
        let format = raise(py, format.map(choices::format).transpose())?;
        let mut draw = DrawOptions::default();
        if let Some(flows) = flows {
            draw.flows = raise(py, choices::flows(flows))?;
        }
        if let Some(layers) = layers {
            draw.layers = raise(py, choices::layers(&layers))?;
        }
        if let Some(ns) = stall_ns {
            draw.stall_ns = ns;
        }
        let limits = max_memory.map_or_else(Limits::default, Limits::of_process);
        let options = ConvertOptions { compress, draw, limits, ..ConvertOptions::default() };
        let mut view = view(&self.inner, &wanted).options(options);
        if let Some(format) = format {
            view = view.format(format);
        }
        let report = if output.hasattr("write")? {
            let writer = Writer(output.clone().unbind());
            work(py, &self.stop, || view.convert(writer))?
        } else {
            let path: PathBuf = output.extract()?;
            work(py, &self.stop, || view.convert_file(path))?
        };
        plain(py, &report)
    }

    #[pyo3(signature = (
        *, fields=None, text=false, batch_size=65536,
        events=None, exclude=None, vms=None, vcpus=None, start=None, end=None, around=None, span=None,
    ))]
    #[allow(clippy::too_many_arguments)]
    fn events(
        &self,
        py: Python<'_>,
        fields: Option<Vec<String>>,
        text: bool,
        batch_size: usize,
        events: Option<Vec<String>>,
        exclude: Option<Vec<String>>,
        vms: Option<Vec<String>>,
        vcpus: Option<Vec<String>>,
        start: Option<String>,
        end: Option<String>,
        around: Option<Vec<String>>,
        span: Option<String>,
    ) -> PyResult<Events> {
        let args = WantedArgs { events, exclude, vms, vcpus, start, end, around, span };
        let wanted = raise(py, args.wanted())?;
        // What the filter names must exist: said here, not when the first batch is asked for.
        work(py, &self.stop, || view(&self.inner, &wanted).events().map(|_| ()))?;
        let spec = raise(py, Spec::new(&self.inner, &wanted, fields.as_deref(), text, batch_size))?;
        Ok(Events::new(Arc::clone(&self.inner), wanted, Arc::new(spec)))
    }

    fn __repr__(&self) -> String {
        let vms: Vec<&str> = self.inner.session().vms.iter().map(|vm| vm.name.as_str()).collect();
        format!("<kvm_timeline.Capture of {} files, VMs: {}>", self.inner.session().inputs.len(), vms.join(", "))
    }
}

/// A capture as it is, or opened.
fn opened<'py>(capture: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if capture.is_instance_of::<Capture>() {
        return Ok(capture.clone());
    }
    capture.py().get_type::<Capture>().call1((capture,))
}

#[pyfunction]
pub(crate) fn check<'py>(capture: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    opened(capture)?.call_method0("check")
}

#[pyfunction]
pub(crate) fn offsets<'py>(capture: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    opened(capture)?.call_method0("offsets")
}

#[pyfunction]
#[pyo3(signature = (capture, output, **options))]
pub(crate) fn convert<'py>(
    capture: &Bound<'py, PyAny>,
    output: &Bound<'py, PyAny>,
    options: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    opened(capture)?.call_method("convert", (output,), options)
}

#[pyfunction]
#[pyo3(signature = (capture, **options))]
pub(crate) fn events<'py>(
    capture: &Bound<'py, PyAny>,
    options: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    opened(capture)?.call_method("events", (), options)
}
