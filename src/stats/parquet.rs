//! The same rows as Parquet, of as many captures as there are: never more than one row group is held.

use std::io;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type, TypePtr};

use super::Stats;
use super::rows::{NUMBERS, Row, rows};
use crate::error::{Error, ErrorKind, Result};

/// Rows of a group: a few MB.
const GROUP: usize = 16_384;

/// A Parquet file under construction: the columns of [`super::csv`] behind `capture`. Empty fields are null.
pub struct Parquet<W: io::Write + Send> {
    file: SerializedFileWriter<W>,
    group: Vec<(Arc<str>, Row)>,
}

impl<W: io::Write + Send> Parquet<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// `Io` where it cannot be written.
    pub fn new(to: W) -> Result<Self> {
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let begin = || SerializedFileWriter::new(to, Arc::new(schema()?), Arc::new(properties));
        Ok(Self { file: begin().map_err(failed)?, group: Vec::new() })
    }

    /// Adds the rows of a capture.
    ///
    /// # Errors
    /// `Io` where they cannot be written.
    pub fn add(&mut self, capture: &str, stats: &Stats) -> Result<()> {
        let capture: Arc<str> = capture.into();
        for row in rows(stats) {
            self.group.push((Arc::clone(&capture), row));
            if self.group.len() >= GROUP {
                self.write_group().map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// `Io` where it cannot be written.
    pub fn finish(mut self) -> Result<W> {
        if !self.group.is_empty() {
            self.write_group().map_err(failed)?;
        }
        self.file.into_inner().map_err(failed)
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let table = std::mem::take(&mut self.group);
        let mut group = self.file.next_row_group()?;
        let texts = |of: for<'a> fn(&'a str, &'a Row) -> &'a str| -> Vec<Option<ByteArray>> {
            table.iter().map(|(capture, row)| Some(ByteArray::from(of(capture, row).as_bytes().to_vec()))).collect()
        };
        fill::<ByteArrayType, _>(&mut group, texts(|capture, _| capture))?;
        fill::<ByteArrayType, _>(&mut group, texts(|_, row| &row.vm))?;
        fill::<Int64Type, _>(&mut group, table.iter().map(|(_, row)| row.vcpu.map(i64::from)).collect())?;
        fill::<ByteArrayType, _>(&mut group, texts(|_, row| row.kind))?;
        fill::<ByteArrayType, _>(&mut group, texts(|_, row| &row.name))?;
        for n in 0..NUMBERS.len() {
            let numbers =
                table.iter().map(|(_, row)| row.numbers()[n].map(|value| i64::try_from(value).unwrap_or(i64::MAX)));
            fill::<Int64Type, _>(&mut group, numbers.collect())?;
        }
        group.close()?;
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn failed(error: ParquetError) -> Error {
    Error::new(ErrorKind::Io, format!("cannot write the Parquet table: {error}"))
}

fn schema() -> Result<Type, ParquetError> {
    let text = |name| column(name, Physical::BYTE_ARRAY, Repetition::REQUIRED);
    let number = |name| column(name, Physical::INT64, Repetition::OPTIONAL);
    let mut columns = vec![text("capture")?, text("vm")?, number("vcpu")?, text("kind")?, text("name")?];
    for name in NUMBERS {
        columns.push(number(name)?);
    }
    Type::group_type_builder("stats").with_fields(columns).build()
}

fn column(name: &str, physical: Physical, repetition: Repetition) -> Result<TypePtr, ParquetError> {
    let logical = (physical == Physical::BYTE_ARRAY).then_some(LogicalType::String);
    let column = Type::primitive_type_builder(name, physical).with_repetition(repetition).with_logical_type(logical);
    column.build().map(Arc::new)
}

/// Writes the next column: a required one has only values, and its levels are not read.
fn fill<T: DataType, W: std::io::Write + Send>(
    group: &mut parquet::file::writer::SerializedRowGroupWriter<'_, W>,
    cells: Vec<Option<T::T>>,
) -> Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else {
        return Err(ParquetError::General("the schema has fewer columns than the table".to_owned()));
    };
    let levels: Vec<i16> = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
    let values: Vec<T::T> = cells.into_iter().flatten().collect();
    column.typed::<T>().write_batch(&values, Some(&levels), None)?;
    column.close()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    use super::*;
    use crate::stats::VmStats;

    #[test]
    fn many_captures_are_several_groups_of_one_table() {
        let stats = Stats { vms: vec![VmStats { name: "web".into(), ..VmStats::default() }], ..Stats::default() };
        let each = rows(&stats).len();
        assert!(each > 0);
        let captures = GROUP / each * 2 + 3;
        let mut table = Parquet::new(tempfile::tempfile().unwrap()).unwrap();
        for number in 0..captures {
            table.add(&number.to_string(), &stats).unwrap();
            assert!(table.group.len() < GROUP);
        }
        let file = SerializedFileReader::new(table.finish().unwrap()).unwrap();
        assert_eq!(file.num_row_groups(), 3);
        let read = file.get_row_iter(None).unwrap().map(|row| row.unwrap().get_string(0).unwrap().clone());
        let read: Vec<String> = read.collect();
        assert_eq!(read.len(), captures * each);
        assert_eq!(read.into_iter().collect::<BTreeSet<_>>().len(), captures);
    }
}
