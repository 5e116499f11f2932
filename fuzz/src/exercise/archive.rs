//! Archives. The first byte says what is put right: nothing, the checksums of a tar's headers, and what the tar is
//! packed with.

use std::io::Write;
use std::path::{Component, Path};
use std::sync::Arc;

use kvm_timeline::capture::archive::{self, Budget, Unpacked};
use kvm_timeline::capture::source::ReadAt;
use kvm_timeline::capture::tree::{EntryKind, Tree};
use kvm_timeline::error::Error;

use super::drain;

/// Most bytes that may be unpacked.
const LIMIT: u64 = 4 << 20;

pub fn run(data: &[u8]) {
    let Some((&mode, bytes)) = data.split_first() else { return };
    let bytes = match mode % 4 {
        0 => bytes.to_vec(),
        1 => repaired(bytes),
        2 => zstd::encode_all(&repaired(bytes)[..], 1).expect("memory"),
        _ => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&repaired(bytes)).and_then(|()| encoder.finish()).expect("memory")
        }
    };
    let Some(packing) = archive::packing(&bytes) else { return };
    let name = Path::new("fuzz.archive");
    let source: Arc<dyn ReadAt> = Arc::new(bytes);
    let _ = archive::peek(name, Arc::clone(&source), packing, archive::HEAD);
    match archive::open(name, source, packing, &Budget::new(LIMIT), &|| false) {
        Ok(Unpacked::File(source)) => read(&*source),
        Ok(Unpacked::Tree(tree, notes)) => {
            assert!(notes.len() < 100);
            walk(&*tree, Path::new(""), 0);
        }
        Err(error) => drain::refused(&error),
    }
}

/// A tar with right checksums: headers follow each other as their sizes say.
fn repaired(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + 512) {
        if header.iter().all(|&byte| byte == 0) {
            break;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let digits: String =
            header[124..136].iter().map(|&byte| char::from(byte)).take_while(char::is_ascii_digit).collect();
        let size = usize::from_str_radix(&digits, 8).unwrap_or(0);
        let Some(next) = at.checked_add(512).and_then(|at| at.checked_add(size.checked_next_multiple_of(512)?)) else {
            break;
        };
        at = next;
    }
    bytes
}

fn walk(tree: &dyn Tree, directory: &Path, depth: usize) {
    assert!(depth <= 64, "{} lies too deep", directory.display());
    let entries = match tree.list(directory) {
        Ok(entries) => entries,
        Err(error) => return member(&error),
    };
    for entry in entries {
        let path = directory.join(&entry.name);
        assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{} leads away", path.display());
        match entry.kind {
            EntryKind::Directory => walk(tree, &path, depth + 1),
            EntryKind::File(most) => match tree.open(&path) {
                Ok(source) => {
                    assert!(source.len() <= most.max(LIMIT));
                    read(&*source);
                }
                Err(error) => member(&error),
            },
        }
    }
}

fn member(error: &Error) {
    drain::refused(error);
}

fn read(source: &dyn ReadAt) {
    assert!(source.len() <= LIMIT);
    let mut last = [0];
    if let Some(at) = source.len().checked_sub(1) {
        source.read_exact_at(&mut last, at).expect("what is there can be read");
    }
    assert!(source.read_exact_at(&mut last, source.len()).is_err());
}
