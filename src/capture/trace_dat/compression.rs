//! How a version 7 file is compressed, and bounded decompression.

use std::cell::RefCell;
use std::fmt;
use std::io::{BufReader, Read};

use crate::error::{Error, ErrorKind, Result};

/// Compression of sections and CPU data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Zlib,
    Zstd,
}

/// How much is read at a time where not all may be needed, in bytes.
const PIECE: usize = 32 << 10;

thread_local! {
    // Contexts are some 100 KiB each and are made once per thread, not per chunk.
    static ZSTD: RefCell<zstd::bulk::Decompressor<'static>> = RefCell::default();
    static ZLIB: RefCell<flate2::Decompress> = RefCell::new(flate2::Decompress::new(true));
}

impl Compression {
    /// The name in the file header.
    pub(super) fn from_name(name: &[u8]) -> Result<Self> {
        match name {
            b"none" | b"" => Ok(Self::None),
            b"zlib" => Ok(Self::Zlib),
            b"zstd" => Ok(Self::Zstd),
            other => {
                let message = format!("compression \"{}\" is not supported", other.escape_ascii());
                let hint = "rewrite the file: trace-cmd convert --compression zstd -i FILE -o NEW";
                Err(Error::new(ErrorKind::Unsupported, message).hint(hint))
            }
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "uncompressed",
            Self::Zlib => "zlib",
            Self::Zstd => "zstd",
        }
    }

    /// Unpacks `packed` into the empty vector `out`; the result has exactly `size` bytes. The caller has checked
    /// `size` against a limit.
    pub(super) fn unpack(self, packed: &[u8], size: usize, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        out.reserve(size);
        let written = match self {
            Self::None => Err("the file says that it is not compressed".to_owned()),
            // Into the vector's spare room, which is at least `size`: nothing is zeroed first.
            Self::Zstd => {
                ZSTD.with_borrow_mut(|context| context.decompress_to_buffer(packed, out)).map_err(|e| e.to_string())
            }
            Self::Zlib => ZLIB.with_borrow_mut(|context| {
                context.reset(true);
                match context.decompress_vec(packed, out, flate2::FlushDecompress::Finish) {
                    Ok(flate2::Status::StreamEnd) => Ok(context.total_out() as usize),
                    Ok(_) => Err(format!("the stream does not end after {} bytes", context.total_out())),
                    Err(error) => Err(error.to_string()),
                }
            }),
        };
        match written {
            Ok(written) if written == size => Ok(()),
            Ok(written) => Err(Error::format(format!("{} data unpacks to {written} bytes, not {size}", self.name()))),
            Err(why) => Err(self.failed(why)),
        }
    }

    /// What `packed` unpacks to, from its beginning on, as far as somebody reads.
    pub(super) fn reader(self, packed: impl Read + Send + 'static) -> Result<Box<dyn Read + Send>> {
        let packed = BufReader::with_capacity(PIECE, packed);
        match self {
            Self::None => Err(self.failed("the file says that it is not compressed")),
            Self::Zlib => Ok(Box::new(flate2::bufread::ZlibDecoder::new(packed))),
            Self::Zstd => match zstd::stream::read::Decoder::with_buffer(packed) {
                Ok(decoder) => Ok(Box::new(decoder.single_frame())),
                Err(error) => Err(self.failed(error)),
            },
        }
    }

    pub(super) fn failed(self, why: impl fmt::Display) -> Error {
        Error::format(format!("{} data does not unpack: {why}", self.name()))
    }
}
