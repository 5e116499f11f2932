use super::*;

fn parse(text: &str) -> Result<Manifest> {
    Manifest::parse(Path::new("capture.toml"), text)
}

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn says_what_the_files_are() {
    let manifest = parse(
        "notes = 'third try'\ntsc_hz = 2596116000\n[[file]]\npath = './x/db.dat'\nrole = 'guest'\nvm = 'db'\n\
         [[vm]]\nname = 'db'\npid = 7\nthreads = [9, 8]\noffsets = [-5, '0xfffffffffffffffa']\n",
    )
    .unwrap();
    assert_eq!(manifest.tsc_hz, Some((2_596_116_000, 2)));
    let file = manifest.file(Path::new("x/db.dat")).unwrap();
    assert_eq!(file.line, 4);
    let guest = manifest.guest(file).unwrap();
    assert_eq!((guest.name.as_str(), guest.pid, guest.threads), ("db", Some(7), vec![9, 8]));
    let offsets: Vec<i64> = manifest.offsets.iter().map(|o| o.offset.signed()).collect();
    assert_eq!(offsets, [-5, -6]);
}

#[test]
fn errors_name_the_line() {
    assert!(error("notes = 'a'\ntsc_hz = x\n").starts_with("capture.toml: line 2: "));
    assert!(error("\n\ncolour = 'red'\n").starts_with("capture.toml: line 3: unknown field `colour`"));
    assert!(error("[[file]]\npath = 'a'\nrole = 'boss'\n").starts_with("capture.toml: line 3: unknown variant `boss`"));
    assert!(error("[[file]]\npath = 'a'\n").contains("missing field `role`"));
    assert_eq!(error("tsc_hz = 0"), "capture.toml: line 1: tsc_hz is 0");
    let away = error("[[file]]\npath = '../a'\nrole = 'host'\n");
    assert_eq!(away, "capture.toml: line 2: path \"../a\" leads away from the manifest's directory");
    assert!(error("[[file]]\npath = '/etc/passwd'\nrole = 'host'\n").contains("leads away"));
    let no_vm = error("[[file]]\npath = 'a'\nrole = 'guest'\n");
    assert_eq!(no_vm, "capture.toml: line 2: guest \"a\" has no vm = \"NAME\"");
    assert!(error("[[file]]\npath = 'a'\nrole = 'host'\nvm = 'x'\n").contains("vm is for guests"));
    let twice = error("[[file]]\npath='a'\nrole='host'\n[[file]]\npath='./a'\nrole='ignore'\n");
    assert_eq!(twice, "capture.toml: line 5: \"./a\" is described already, in line 2");
    assert!(error("[[vm]]\nname='a'\n[[vm]]\nname='a'\n").starts_with("capture.toml: line 4: "));
    assert!(error("[[vm]]\nname='a'\noffsets=['many']\n").contains("line 3: "));
}
