//! What a file says before and behind its records: the events that were recorded, the machine, where the formats are.
//! A file written to a pipe says the same in records.

use rustc_hash::FxHashMap;

use super::attr::{Attr, MIN_SIZE};
use super::records::{PerfRecord, kind};
use crate::capture::Endian;
use crate::capture::bytes::Cursor;
use crate::capture::limits::{Limit, Limits};
use crate::capture::source::{ReadAt, Reader};
use crate::capture::trace_dat::notes::Notes;
use crate::error::{Error, ErrorKind, Result};

/// Numbers of feature sections (`enum` in perf's header.h).
mod feature {
    pub(super) const TRACING_DATA: u32 = 1;
    pub(super) const HOSTNAME: u32 = 3;
    pub(super) const OSRELEASE: u32 = 4;
    pub(super) const VERSION: u32 = 5;
    pub(super) const ARCH: u32 = 6;
    pub(super) const NRCPUS: u32 = 7;
    pub(super) const EVENT_DESC: u32 = 12;
    pub(super) const DIR_FORMAT: u32 = 24;
    pub(super) const CLOCK_DATA: u32 = 29;
}

/// Where something stands: offset and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: u64,
    pub(super) len: u64,
}

impl Place {
    pub(super) fn end(self) -> u64 {
        self.at.saturating_add(self.len)
    }
}

/// What a file says of itself.
pub(super) struct Header {
    pub(super) endian: Endian,
    /// Written to a pipe: everything is in records.
    pub(super) pipe: bool,
    /// The records.
    pub(super) data: Place,
    /// The description of tracepoints.
    pub(super) tracing_data: Option<Place>,
    pub(super) attrs: Vec<Attr>,
    /// The index of the attributes of each id.
    pub(super) ids: FxHashMap<u64, u32>,
    /// How many ids were read: the same ones may be named again and again.
    ids_read: u64,
    pub(super) limits: Limits,
    pub(super) hostname: Option<String>,
    pub(super) release: Option<String>,
    pub(super) arch: Option<String>,
    /// Version of perf.
    pub(super) version: Option<String>,
    pub(super) cpus: u32,
    /// Wall-clock time minus the clock of the stamps.
    pub(super) date_ns: Option<u64>,
}

/// The first eight bytes, in the byte order of the machine that recorded.
pub(super) const MAGIC: &[u8] = b"PERFILE2";
/// The same of a big-endian machine.
pub(super) const MAGIC_BIG: &[u8] = b"2ELIFREP";
/// The first version of the format, which perf wrote until 2009.
pub(super) const MAGIC_OLD: &[u8] = b"PERFFILE";

impl Header {
    /// Reads what stands before and behind the records.
    pub(super) fn read(source: &dyn ReadAt, limits: &Limits, notes: &mut Notes) -> Result<Self> {
        let mut reader = Reader::new(source, 0, u64::MAX, Endian::Little);
        let magic = reader.take(8, 8, "the mark of a perf.data file")?;
        let endian = match &*magic {
            MAGIC => Endian::Little,
            MAGIC_BIG => Endian::Big,
            MAGIC_OLD => {
                let message = "is a perf.data file of the format's first version, which perf wrote until 2009";
                return Err(Error::new(ErrorKind::Unsupported, message).hint("record again with a newer perf"));
            }
            other => {
                let found = other.escape_ascii();
                return Err(Error::format(format!("expected the mark \"PERFILE2\", found \"{found}\"")).at(0));
            }
        };
        reader.set_endian(endian);
        let at = reader.position();
        let size = reader.u64("the size of the file header")?;
        let mut header = Self {
            endian,
            pipe: size == 16,
            data: Place { at: 16, len: source.len().saturating_sub(16) },
            tracing_data: None,
            attrs: Vec::new(),
            ids: FxHashMap::default(),
            ids_read: 0,
            limits: *limits,
            hostname: None,
            release: None,
            arch: None,
            version: None,
            cpus: 0,
            date_ns: None,
        };
        match size {
            16 => Ok(header),
            104 => {
                header.file(&mut reader, source, notes)?;
                Ok(header)
            }
            other => Err(Error::format(format!("a file header of {other} bytes, expected 104, or 16 of a pipe"))
                .at(at)
                .hint("this is no perf.data file, or its first bytes are damaged: record or copy it again")),
        }
    }

    fn file(&mut self, reader: &mut Reader<'_>, source: &dyn ReadAt, notes: &mut Notes) -> Result<()> {
        let at = reader.position();
        let attr_size = reader.u64("the size of an event's attributes")?;
        if attr_size < u64::from(MIN_SIZE) + 16 || attr_size > 4096 {
            let message = format!("attributes of {attr_size} bytes per event, expected 80 to 4096");
            return Err(Error::format(message).at(at).hint("the first bytes are damaged: record or copy it again"));
        }
        let mut place = |what: &str| -> Result<Place> { Ok(Place { at: reader.u64(what)?, len: reader.u64(what)? }) };
        let attrs = place("the place of the events' attributes")?;
        self.data = place("the place of the records")?;
        place("the place of the event types")?;
        let mut features = Vec::new();
        for word in 0..4 {
            let bits = reader.u64("the list of features")?;
            features.extend((0..64).filter(|bit| bits >> bit & 1 != 0).map(|bit| word * 64 + bit));
        }
        self.read_attrs(source, attrs, attr_size)?;
        // A recorder that was killed wrote neither the size of the records nor what follows them.
        if self.data.len == 0 && source.len() > self.data.at {
            self.data.len = source.len() - self.data.at;
            notes.damaged("perf was stopped before it completed the file");
            return Ok(());
        }
        if self.data.end() > source.len() {
            let (end, missing) = (self.data.end(), self.data.end() - source.len());
            notes
                .damaged(format!("the file is cut off: its records end at byte {end:#x}, {missing} bytes are missing"));
            return Ok(());
        }
        self.read_features(source, &features, notes)
    }

    fn read_attrs(&mut self, source: &dyn ReadAt, place: Place, attr_size: u64) -> Result<()> {
        let count = place.len / attr_size;
        self.limits.check(Limit::Ids, count, "events").map_err(|error| error.at(place.at))?;
        let mut reader = Reader::new(source, place.at, place.end(), self.endian);
        for index in 0..u32::try_from(count).unwrap_or(u32::MAX) {
            let at = reader.position();
            let bytes = reader.take(attr_size, 4096, "an event's attributes")?;
            let (attr, ids) = bytes.split_at_checked(attr_size as usize - 16).unwrap_or((&bytes, &[]));
            self.attrs.push(Attr::parse(&mut Cursor::new(attr, at, self.endian), self.endian)?);
            let mut ids = Cursor::new(ids, at + attr_size - 16, self.endian);
            let ids =
                Place { at: ids.u64("the place of an event's ids")?, len: ids.u64("the place of an event's ids")? };
            let mut list = Reader::new(source, ids.at, ids.end(), self.endian);
            for _ in 0..ids.len / 8 {
                let id = list.u64("an event's ids")?;
                self.id(id, index)?;
            }
        }
        Ok(())
    }

    fn id(&mut self, id: u64, index: u32) -> Result<()> {
        self.ids_read += 1;
        self.limits.check(Limit::Ids, self.ids_read, "ids of events")?;
        self.ids.insert(id, index);
        Ok(())
    }

    fn read_features(&mut self, source: &dyn ReadAt, features: &[u32], notes: &mut Notes) -> Result<()> {
        let mut table = Reader::new(source, self.data.end(), u64::MAX, self.endian);
        for &feature in features {
            let place = match (table.u64("the places of features"), table.u64("the places of features")) {
                (Ok(at), Ok(len)) => Place { at, len },
                (Err(error), _) | (_, Err(error)) if error.kind() == ErrorKind::Io => return Err(error),
                (Err(error), _) | (_, Err(error)) => {
                    notes.damaged(format!("what stands behind the records is cut off: {error}"));
                    return Ok(());
                }
            };
            if feature == feature::TRACING_DATA {
                self.tracing_data = Some(place);
                continue;
            }
            if !KNOWN.contains(&feature) {
                continue;
            }
            let mut reader = Reader::new(source, place.at, place.end(), self.endian);
            let read = reader.take_limited(place.len, &self.limits, Limit::Section, "a feature");
            match read.and_then(|bytes| self.feature(feature, &bytes, place.at)) {
                Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::Unsupported) => return Err(error),
                Err(error) => notes.damaged(format!("feature {feature} cannot be read: {error}")),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Reads the section of a feature.
    fn feature(&mut self, feature: u32, bytes: &[u8], at: u64) -> Result<()> {
        let mut cursor = Cursor::new(bytes, at, self.endian);
        match feature {
            feature::HOSTNAME => self.hostname = string(&mut cursor)?,
            feature::OSRELEASE => self.release = string(&mut cursor)?,
            feature::VERSION => self.version = string(&mut cursor)?,
            feature::ARCH => self.arch = string(&mut cursor)?,
            feature::NRCPUS => self.cpus = cursor.u32("the number of CPUs")?,
            feature::EVENT_DESC => self.event_names(&mut cursor)?,
            feature::CLOCK_DATA => {
                cursor.take(8, "the clock's data")?;
                let (wall, clock) = (cursor.u64("the clock's data")?, cursor.u64("the clock's data")?);
                self.date_ns = wall.checked_sub(clock);
            }
            feature::DIR_FORMAT => {
                let message = "is one part of a recording in several files (perf record --threads)";
                let hint = "record without --threads";
                return Err(Error::new(ErrorKind::Unsupported, message).hint(hint));
            }
            _ => {}
        }
        Ok(())
    }

    /// EVENT_DESC: the attributes once more, with names.
    fn event_names(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        let count = cursor.u32("the number of events")?;
        let size = cursor.u32("the size of an event's attributes")?;
        for index in 0..count as usize {
            cursor.take(size as usize, "an event's attributes")?;
            let ids = cursor.u32("the number of an event's ids")? as usize;
            let name = string(cursor)?;
            cursor.take(ids.saturating_mul(8), "an event's ids")?;
            if let Some(attr) = self.attrs.get_mut(index) {
                attr.name = name;
            }
        }
        Ok(())
    }

    /// Reads a record that stands for a part of the header.
    pub(super) fn record(&mut self, record: &PerfRecord<'_>, notes: &mut Notes) -> Result<()> {
        let mut cursor = Cursor::new(record.body, record.at + 8, self.endian);
        match record.kind {
            kind::HEADER_ATTR => {
                self.limits.check(Limit::Ids, self.attrs.len() as u64 + 1, "events").map_err(|e| e.at(record.at))?;
                self.attrs.push(Attr::parse(&mut cursor, self.endian)?);
                let index = self.attrs.len() as u32 - 1;
                while let Ok(id) = cursor.u64("an event's ids") {
                    self.id(id, index)?;
                }
            }
            kind::HEADER_TRACING_DATA => {
                let len = u64::from(cursor.u32("the size of the formats")?);
                self.tracing_data = Some(Place { at: record.at + record.size(), len });
            }
            kind::HEADER_FEATURE => {
                let feature = cursor.u64("the number of a feature")?;
                let feature = u32::try_from(feature).unwrap_or(u32::MAX);
                match self.feature(feature, cursor.rest(), cursor.offset()) {
                    Err(error) if error.kind() == ErrorKind::Unsupported => return Err(error),
                    Err(error) => notes.damaged(format!("feature {feature} cannot be read: {error}")),
                    Ok(()) => {}
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Features that are read.
const KNOWN: [u32; 8] = [
    feature::HOSTNAME,
    feature::OSRELEASE,
    feature::VERSION,
    feature::ARCH,
    feature::NRCPUS,
    feature::EVENT_DESC,
    feature::DIR_FORMAT,
    feature::CLOCK_DATA,
];

/// `u32 size`, then a text that is padded with NULs; `None` for an empty one.
fn string(cursor: &mut Cursor<'_>) -> Result<Option<String>> {
    let size = cursor.u32("the size of a text")?;
    let bytes = cursor.take(size as usize, "a text")?;
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or(&[]);
    Ok((!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned()))
}
