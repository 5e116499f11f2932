//! kvm-timeline for Python: captures, their clocks, their audit, traces to look at, and events as Arrow record batches.
//!
//! What is documented for users is in `kvm_timeline.pyi`.

mod capture;
mod choices;
mod columns;
mod error;
mod events;
mod work;

#[pyo3::pymodule]
mod kvm_timeline {
    #[pymodule_export]
    use crate::capture::{Capture, check, convert, events, offsets};
    #[pymodule_export]
    use crate::error::Error;
    #[pymodule_export]
    use crate::events::Events;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
