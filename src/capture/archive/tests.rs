//! Hostile and damaged archives, made on the fly.

use std::io::{Cursor, Write};
use std::path::PathBuf;

use super::*;
use crate::capture::tree::EntryKind;

/// A tar of members with these names, which may be anything.
fn tar_of(members: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        // What the library itself would refuse to write.
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
            header.set_link_name(std::str::from_utf8(bytes).unwrap()).unwrap();
            header.set_size(0);
            header.set_cksum();
            builder.append(&header, &[][..]).unwrap();
        } else {
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            builder.append(&header, *bytes).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn opened(bytes: Vec<u8>, budget: u64) -> Result<Unpacked> {
    let packing = packing(bytes.get(..bytes.len().min(512)).unwrap()).expect("is packed");
    open(Path::new("a"), Arc::new(bytes), packing, &Budget::new(budget), &|| false)
}

fn tree(bytes: Vec<u8>) -> (Arc<dyn Tree>, Vec<String>) {
    match opened(bytes, 1 << 20).unwrap() {
        Unpacked::Tree(tree, notes) => (tree, notes),
        Unpacked::File(_) => panic!("one file"),
    }
}

fn error(unpacked: Result<Unpacked>) -> Error {
    unpacked.map(|_| ()).unwrap_err()
}

/// All files of a tree with their contents.
fn files(tree: &dyn Tree, directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in tree.list(directory).unwrap() {
        let path = directory.join(&entry.name);
        if entry.kind == EntryKind::Directory {
            all.extend(files(tree, &path));
        } else {
            let source = tree.open(&path).unwrap();
            all.push((path.display().to_string(), head(&path, &*source, 1 << 20).unwrap()));
        }
    }
    all
}

use tar::EntryType::{Directory, Link, Regular, Symlink};

#[test]
fn names_stay_inside() {
    let members = [
        ("./x/", Directory, &b""[..]),
        ("./x//one", Regular, b"1"),
        ("/etc/two", Regular, b"2"),
        ("x/../../three", Regular, b"3"),
        ("link", Symlink, b"/etc/passwd"),
        ("x/hard", Link, b"x/one"),
        ("x/lost", Link, b"../../etc/passwd"),
        // A file where a directory is, and the other way round.
        ("x", Regular, b"4"),
    ];
    let plain = tar_of(&members);
    for bytes in [plain.clone(), gzip(&plain)] {
        let (tree, notes) = tree(bytes);
        let expected = [("etc/two", "2"), ("x/hard", "1"), ("x/one", "1")];
        let found = files(&*tree, Path::new(""));
        let found: Vec<_> = found.iter().map(|(n, b)| (n.as_str(), std::str::from_utf8(b).unwrap())).collect();
        assert_eq!(found, expected);
        assert_eq!(tree.shown(Path::new("x/one")), PathBuf::from("a/x/one"));
        let notes = notes.join("\n");
        assert!(notes.contains("\"x/../../three\" is left out: its name leaves the archive"), "{notes}");
        assert!(notes.contains("\"link\" is left out: it is a symbolic link"), "{notes}");
        assert!(notes.contains("\"x/lost\" is left out"), "{notes}");
        assert!(notes.contains("\"x\" is left out: a directory has the same name"), "{notes}");
        assert!(tree.open(Path::new("../etc/passwd")).is_err() && tree.open(Path::new("x")).is_err());
    }
}

#[test]
fn bombs_end_at_the_budget() {
    // 3 MB of zeros in a few KB: as one file, as a member, twice packed.
    let zeros = vec![0; 3 << 20];
    let member = tar_of(&[("a", Regular, &zeros)]);
    for bytes in [gzip(&zeros), gzip(&member), zstd::encode_all(&zeros[..], 1).unwrap(), zip_of(&zeros)] {
        assert!(bytes.len() < 100_000);
        let over = match opened(bytes.clone(), 1 << 20) {
            // A zip's members are unpacked when they are asked for.
            Ok(Unpacked::Tree(tree, _)) => tree.open(Path::new("a")).map(|_| ()).unwrap_err(),
            other => error(other),
        };
        assert_eq!(over.kind(), ErrorKind::Limit);
        assert!(over.to_string().ends_with("unpacks to more than 1 MiB"), "{over}");
        assert!(over.hint_text().unwrap().contains("--max-unpacked"));
        assert!(opened(bytes, 4 << 20).is_ok());
    }
}

fn zip_of(bytes: &[u8]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    writer.start_file("a", options).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap().into_inner()
}

#[test]
fn archives_that_were_cut_short_say_so() {
    let noise: Vec<u8> = (0..300_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let plain = tar_of(&[("a", Regular, &noise), ("b", Regular, &noise)]);
    for bytes in [plain.clone(), gzip(&plain), gzip(&noise), zstd::encode_all(&noise[..], 1).unwrap()] {
        for cut in [600, bytes.len() / 2, bytes.len() * 3 / 4] {
            let error = error(opened(bytes[..cut].to_vec(), 1 << 30));
            assert_eq!(error.kind(), ErrorKind::Format, "{error}");
            assert!(error.to_string().contains("cut short") || error.to_string().contains("damaged"), "{error}");
            assert!(error.hint_text().is_some());
        }
    }
    let zip = zip_of(&noise);
    assert!(error(opened(zip[..zip.len() / 2].to_vec(), 1 << 30)).to_string().contains("zip"));
}

#[test]
fn members_of_any_size_are_read_back() {
    let large: Vec<u8> = (0..700_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let plain = tar_of(&[("small", Regular, b"s"), ("large", Regular, &large), ("last", Regular, b"l")]);
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&plain).unwrap();
    for bytes in [plain.clone(), gzip(&plain), zstd::encode_all(&plain[..], 1).unwrap(), bzip2.finish().unwrap()] {
        let Unpacked::Tree(tree, notes) = opened(bytes, 1 << 30).unwrap() else { panic!("no tree") };
        assert!(notes.is_empty());
        let source = tree.open(Path::new("large")).unwrap();
        assert_eq!(source.len(), 700_000);
        let mut part = [0; 100];
        source.read_exact_at(&mut part, 699_900).unwrap();
        assert_eq!(part, large[699_900..]);
        // Nothing of the next member can be reached.
        assert!(source.read_exact_at(&mut part, 699_901).is_err());
        assert!(source.read_exact_at(&mut part, u64::MAX).is_err());
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_behind_a_magic_are_safe(kind in 0_usize..6, bytes in proptest::collection::vec(0_u8.., 0..600)) {
        let starts: [&[u8]; 6] =
            [b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"PK\x03\x04", b"BZh91AY&SY", b"PK\x05\x06"];
        let bytes = [starts[kind], &bytes].concat();
        let _ = opened(bytes, 1 << 20);
    }

    #[test]
    fn a_damaged_tar_is_safe(at in 0_usize..2048, byte in 0_u8..) {
        let mut bytes = tar_of(&[("x/a", Regular, b"1"), ("b", Link, b"x/a")]);
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        if packing(&bytes).is_some() {
            let _ = opened(bytes, 1 << 20);
        }
    }
}
