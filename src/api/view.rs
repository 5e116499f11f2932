//! A part of a capture, and what can be made of it.

use std::io;
use std::path::Path;

use super::{Capture, Events};
use crate::convert::{ConvertOptions, convert};
use crate::error::{Error, Result};
use crate::export::Format;
use crate::filter::Filter;
use crate::output::{Output, keep_inputs};
use crate::report::{EventReport, Report};
use crate::selection::{Selection, Span};
use crate::stats::Stats;

/// Which part of a [`Capture`] is wanted, and how it is written.
///
/// ```
/// use kvm_timeline::Capture;
/// use kvm_timeline::filter::Filter;
///
/// let capture = Capture::open("fixtures/two-vm")?;
/// let filter = Filter { events: vec!["sched:sched_process_exec".parse()?], ..Filter::default() };
/// assert!(capture.view().filter(filter).events()?.count() > 0);
/// # Ok::<(), kvm_timeline::error::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct View<'a> {
    capture: &'a Capture,
    filter: Filter,
    span: Option<Span>,
    format: Option<Format>,
    options: ConvertOptions,
}

impl<'a> View<'a> {
    pub(super) fn new(capture: &'a Capture) -> Self {
        Self { capture, filter: Filter::default(), span: None, format: None, options: ConvertOptions::default() }
    }

    /// Only these events, vCPUs and times.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// How much of the host's trace. Without it a conversion has the part around the guests' recordings, and everything
    /// else has all of it.
    pub fn span(mut self, span: Span) -> Self {
        self.span = Some(span);
        self
    }

    /// The format of a conversion, whatever the options or a file's name say.
    pub fn format(mut self, format: Format) -> Self {
        self.format = Some(format);
        self
    }

    /// What a conversion writes; its memory limit holds for [`View::events`] too.
    pub fn options(mut self, options: ConvertOptions) -> Self {
        self.options = options;
        self
    }

    fn selection(&self, span: Span) -> Result<Selection> {
        self.filter.select(&self.capture.session, self.span.unwrap_or(span), &self.capture.monitor())
    }

    /// Writes the trace. A writer that buffers is not needed: pieces are large. They come in order, from any thread.
    ///
    /// # Errors
    ///
    /// If the filter names what there is not, if the options do not fit together, if an input can no longer be read, if
    /// `writer` fails, or if the work was interrupted.
    pub fn convert(&self, mut writer: impl io::Write + Send) -> Result<Report> {
        let mut write = |bytes: &[u8]| writer.write_all(bytes).map_err(|e| Error::io("the output", "write", e));
        let options = ConvertOptions { format: self.format.unwrap_or(self.options.format), ..self.options.clone() };
        options.check()?;
        let selection = self.selection(Span::Guests)?;
        let report = convert(&self.capture.session, &selection, &options, &mut write, &self.capture.monitor())?;
        writer.flush().map_err(|e| Error::io("the output", "write", e))?;
        Ok(report)
    }

    /// Writes the trace to a file, which appears whole or not at all. Its name says the format unless
    /// [`View::format`] does, and `.gz` at its end compresses it, whatever the options say.
    ///
    /// # Errors
    ///
    /// As [`View::convert`]; and if the name does not say the format, or is that of an input.
    pub fn convert_file(&self, path: impl AsRef<Path>) -> Result<Report> {
        let path = path.as_ref();
        let (format, gzip) = match self.format {
            Some(format) => (format, Format::of_name(path).1),
            None => Format::named(path)?,
        };
        let options = ConvertOptions { format, compress: gzip || self.options.compress, ..self.options.clone() };
        options.check()?;
        let selection = self.selection(Span::Guests)?;
        keep_inputs(&self.capture.session, path)?;
        let mut output = Output::create_file(path)?;
        let write = &mut |bytes: &[u8]| output.write(bytes);
        let report = convert(&self.capture.session, &selection, &options, write, &self.capture.monitor())?;
        output.finish()?;
        Ok(report)
    }

    /// The events, in host-time order.
    ///
    /// # Errors
    ///
    /// If the filter names what there is not, if an input can no longer be read, or if the work was interrupted.
    pub fn events(&self) -> Result<Events<'a>> {
        Ok(Events::new(self.capture, &self.selection(Span::All)?, self.options.limits))
    }

    /// Where each vCPU's time went.
    ///
    /// # Errors
    ///
    /// As [`View::events`].
    pub fn stats(&self) -> Result<Stats> {
        crate::stats::stats(&self.capture.session, &self.selection(Span::All)?, &self.capture.monitor())
    }

    /// Writes the events as text, one line each.
    ///
    /// # Errors
    ///
    /// As [`View::events`], and if `writer` fails.
    pub fn print(&self, mut writer: impl io::Write + Send) -> Result<EventReport> {
        let mut write = |bytes: &[u8]| writer.write_all(bytes).map_err(|e| Error::io("the output", "write", e));
        let selection = self.selection(Span::All)?;
        let report = crate::print::print(&self.capture.session, &selection, &mut write, &self.capture.monitor())?;
        writer.flush().map_err(|e| Error::io("the output", "write", e))?;
        Ok(report)
    }
}
