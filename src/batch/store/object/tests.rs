use object_store::memory::InMemory;
use object_store::multipart::MultipartStore;

use super::*;

fn objects(prefix: &str) -> Objects {
    let bucket = Arc::new(Bucket::new("s3://test", Arc::new(InMemory::new())));
    Objects::new(bucket, PathBuf::from(prefix), &Worker::current())
}

fn below(objects: &Objects, prefix: &str) -> Objects {
    Objects { prefix: PathBuf::from(prefix), ..objects.clone() }
}

#[test]
fn of_many_that_create_one_wins_and_its_bytes_are_there() {
    let store = objects("out");
    let path = Path::new("a/b/claim");
    let won: Vec<usize> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..16)
            .map(|n| {
                let store = store.clone();
                scope.spawn(move || store.create(path, format!("{n}").as_bytes()).unwrap().then_some(n))
            })
            .collect();
        tries.into_iter().filter_map(|t| t.join().unwrap()).collect()
    });
    let [winner] = won.as_slice() else { panic!("{won:?} won") };
    assert_eq!(store.read(path, 100).unwrap().unwrap(), format!("{winner}").as_bytes());
    // The same bytes a second time are another's.
    assert!(!store.create(path, format!("{winner}").as_bytes()).unwrap());
}

#[test]
fn directories_are_prefixes() {
    let store = objects("");
    for path in ["a/host.dat", "a/guest/x", "a/b", "ab", "z/deep/er"] {
        store.put(Path::new(path), b"12345").unwrap();
    }
    let names = |store: &Objects, path: &str| -> Vec<(String, bool)> {
        let entries = store.list(Path::new(path)).unwrap();
        let of = |e: Entry| (e.name.into_string().unwrap(), e.kind == EntryKind::Directory);
        entries.into_iter().map(of).collect()
    };
    let entry = |name: &str, directory| (name.to_owned(), directory);
    assert_eq!(names(&store, ""), [entry("a", true), entry("ab", false), entry("z", true)]);
    let inside = [entry("b", false), entry("guest", true), entry("host.dat", false)];
    assert_eq!(names(&store, "a"), inside);
    assert_eq!(names(&below(&store, "a"), ""), inside);
    assert_eq!(names(&store, "nothing"), []);
    assert_eq!(store.list(Path::new("a")).unwrap()[0].kind, EntryKind::File(5));
    assert_eq!(store.stat(Path::new("a")).unwrap(), None);
    let stat = store.stat(Path::new("a/b")).unwrap().unwrap();
    assert_eq!(stat.size, 5);
    assert!(stat.modified.is_some());
    // Another version has another tag.
    store.put(Path::new("a/b"), b"12346").unwrap();
    assert!(stat.tag.is_some() && stat.tag != store.stat(Path::new("a/b")).unwrap().unwrap().tag);
    assert_eq!(store.shown(Path::new("")), Path::new("s3://test"));
    assert_eq!(below(&store, "a").shown(Path::new("b")).display().to_string(), "s3://test/a/b");
    let error = store.key(Path::new("a//../b")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(store.open(Path::new("a/none")).err().unwrap().kind(), ErrorKind::Io);
}

#[test]
fn an_object_appears_whole_or_not_at_all() {
    let store = objects("out");
    let path = Path::new("x/large");
    let part = vec![7_u8; 5 << 20];
    let mut upload = store.write(path).unwrap();
    for _ in 0..5 {
        upload.write(&part).unwrap();
    }
    assert_eq!(store.stat(path).unwrap(), None);
    assert_eq!(store.list(Path::new(state::UNFINISHED)).unwrap().len(), 1);
    drop(upload);
    assert_eq!(store.list(Path::new(state::UNFINISHED)).unwrap(), []);
    assert_eq!(store.stat(path).unwrap(), None);

    let mut upload = store.write(path).unwrap();
    let mut expected = Vec::new();
    for n in 0..5_u8 {
        let part = vec![n; (5 << 20) + usize::from(n)];
        upload.write(&part).unwrap();
        expected.extend(part);
    }
    upload.finish().unwrap();
    assert_eq!(store.list(Path::new(state::UNFINISHED)).unwrap(), []);
    assert!(store.read(path, 1 << 30).unwrap().unwrap() == expected);
    assert_eq!(store.read(path, 1 << 20).unwrap_err().kind(), ErrorKind::Limit);
    store.remove(path).unwrap();
    store.remove(path).unwrap();
    assert_eq!(store.read(path, 4).unwrap(), None);
}

#[test]
fn what_the_dead_left_is_swept_and_what_the_living_write_stays() {
    let memory = Arc::new(InMemory::new());
    let bucket = Arc::new(Bucket::new("s3://test", Arc::clone(&memory)));
    let store = Objects::new(bucket, PathBuf::from("out"), &Worker::current());
    let key = Key::from("out/x");
    let id = wait(memory.create_multipart(&key)).unwrap().unwrap();
    wait(memory.put_part(&key, &id, 0, PutPayload::from_static(b"half"))).unwrap().unwrap();
    let left = Path::new(state::UNFINISHED);
    store.put(&left.join("other-3"), format!("{key}\n{id}").as_bytes()).unwrap();
    store.put(&left.join("another-3"), b"out/y\nno-such-upload").unwrap();
    let mut upload = store.write(Path::new("y")).unwrap();
    upload.write(&vec![1; 9 << 20]).unwrap();
    store.sweep(&|worker| worker == "other" || worker == "another").unwrap();
    assert_eq!(store.list(left).unwrap().len(), 1);
    upload.finish().unwrap();
    assert_eq!(store.list(left).unwrap(), []);
    assert_eq!(store.stat(Path::new("y")).unwrap().unwrap().size, 9 << 20);
    // The parts are gone.
    assert!(wait(memory.complete_multipart(&key, &id, Vec::new())).unwrap().is_err());
}

#[test]
fn several_threads_read_one_object() {
    let store = objects("");
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let path = Path::new("host.dat");
    store.put(path, &bytes).unwrap();
    store.put(Path::new("empty"), b"").unwrap();
    let source = store.open(path).unwrap();
    assert_eq!(source.len(), 3_000_000);
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let (source, bytes) = (&source, &bytes);
            scope.spawn(move || {
                for n in 0..40_usize {
                    let offset = (n * 4 + thread) * 18_000;
                    let mut buffer = vec![0; 18_000];
                    source.read_exact_at(&mut buffer, offset as u64).unwrap();
                    assert!(buffer == bytes[offset..offset + 18_000]);
                }
            });
        }
    });
    let mut buffer = [0; 10];
    assert!(source.read_exact_at(&mut buffer, 2_999_991).is_err());
    assert!(source.read_exact_at(&mut buffer, u64::MAX).is_err());
    // One that is replaced meanwhile is not read as a mixture: only its beginning has been fetched.
    let source = store.open(path).unwrap();
    source.read_exact_at(&mut buffer, 0).unwrap();
    store.put(path, &vec![0; 3_000_000]).unwrap();
    let mut far = vec![0; 2_000_000];
    let error = source.read_exact_at(&mut far, 900_000).unwrap_err();
    assert!(error.to_string().contains("was changed while it was read"), "{error}");
    assert!(store.open(Path::new("empty")).unwrap().is_empty());
}

#[test]
fn a_log_is_a_directory_of_lines() {
    let store = objects("out");
    for n in 0..3 {
        store.append(Path::new("log/me.jsonl"), n, format!("{n}\n").as_bytes()).unwrap();
    }
    let lines = store.list(Path::new("log/me.jsonl")).unwrap();
    let text: Vec<u8> = lines
        .iter()
        .flat_map(|entry| store.read(&Path::new("log/me.jsonl").join(&entry.name), 100).unwrap().unwrap())
        .collect();
    assert_eq!(text, b"0\n1\n2\n");
}

#[test]
fn urls_name_buckets_of_all_kinds() {
    let worker = Worker::current();
    assert_eq!(bucket::split("s3://bucket/a/b/").unwrap(), ("s3://bucket", "/a/b/"));
    assert_eq!(bucket::split("gs://bucket").unwrap(), ("gs://bucket", ""));
    assert!(bucket::split("s3:///a").is_err());
    // Only made, not asked: there is no such server here.
    let shown = |url: &str| Objects::open(url, &worker).map(|objects| objects.shown(Path::new("c")));
    assert_eq!(shown("gs://bucket/a").unwrap().display().to_string(), "gs://bucket/a/c");
    assert_eq!(shown("http://127.0.0.1:9/a/").unwrap().display().to_string(), "http://127.0.0.1:9/a/c");
    let web = Objects::open("http://127.0.0.1:9/", &worker).unwrap();
    assert_eq!(web.write(Path::new("x")).err().unwrap().kind(), ErrorKind::Unsupported);
    assert_eq!(web.create(Path::new("x"), b"").unwrap_err().kind(), ErrorKind::Unsupported);
    let encoded = Objects::open("http://127.0.0.1:9/a%20b", &worker).unwrap();
    assert_eq!(encoded.key(Path::new("c%20")).unwrap().as_ref(), "a b/c%20");
    assert_eq!(Objects::open("https://host/a?sig=1", &worker).unwrap_err().kind(), ErrorKind::Unsupported);
    // One connection for all that is in a bucket.
    let (one, other) = (Objects::open("gs://b/x", &worker).unwrap(), Objects::open("gs://b/y", &worker).unwrap());
    assert!(Arc::ptr_eq(&one.bucket, &other.bucket));
    assert_eq!(Objects::open("ftp://x/y", &worker).unwrap_err().kind(), ErrorKind::Unsupported);
}
