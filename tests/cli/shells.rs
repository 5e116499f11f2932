//! Completion scripts and manual pages are what shells and man read.

use std::process::{Command, Stdio};

use crate::run::{Scratch, kvm_timeline, succeeds};

/// Runs a program that may be missing: its exit code, stdout and stderr.
fn ran(program: &str, args: &[&str]) -> Option<(bool, String)> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

#[test]
fn bash_completes_subcommands_options_and_values() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path("script"), succeeds(["completions", "bash"]).stdout).expect("written");
    let script = scratch.text("script");
    let complete = |words: &[&str]| {
        let list = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let at = words.len() - 1;
        let before = if at > 0 { words[at - 1] } else { "" };
        let program = format!(
            "source '{script}' && f=$(complete -p kvm-timeline) && f=${{f#*-F }} && f=${{f%% *}} && COMP_WORDS=({list}) && \
             COMP_CWORD={at} && $f kvm-timeline '{}' '{before}' && echo \"${{COMPREPLY[*]}}\"",
            words[at]
        );
        let (done, text) = ran("bash", &["--noprofile", "--norc", "-c", &program]).expect("bash, which CI has");
        assert!(done, "{text}");
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["kvm-timeline", "ch"]), ["check"]);
    assert_eq!(complete(&["kvm-timeline", "check", "--req"]), ["--require"]);
    assert_eq!(complete(&["kvm-timeline", "check", "--require", ""]), ["proved", "consistent", "doubtful", "wrong"]);
}

#[test]
fn every_shell_has_a_script() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(succeeds(["completions", shell]).stdout.contains("require"), "{shell}");
    }
    assert_eq!(kvm_timeline(["completions", "dos"]).code, 2);
    // Where the shell is there, it must be able to read its script.
    let scratch = Scratch::new();
    for shell in ["zsh", "fish"] {
        let path = scratch.text(shell);
        std::fs::write(&path, succeeds(["completions", shell]).stdout).expect("written");
        if let Some((done, text)) = ran(shell, &["-n", &path]) {
            assert!(done, "{shell}: {text}");
        }
    }
}

#[test]
fn there_is_a_page_for_every_subcommand_and_groff_has_no_complaint() {
    let scratch = Scratch::new();
    succeeds(["man", &scratch.text("man1")]);
    let mut names: Vec<String> = std::fs::read_dir(scratch.path("man1"))
        .expect("pages")
        .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(names.contains(&"kvm-timeline.1".to_owned()) && names.contains(&"kvm-timeline-check.1".to_owned()));
    let help = succeeds(["--help"]).stdout;
    for name in &names {
        if let Some(part) = name.strip_prefix("kvm-timeline-").and_then(|n| n.strip_suffix(".1")) {
            assert!(help.contains(&format!("  {part} ")), "{part}");
        }
        let page = scratch.path("man1").join(name).display().to_string();
        let text = std::fs::read_to_string(&page).expect("a page");
        assert!(text.contains(".SH NAME") && text.contains(".SH OPTIONS"), "{name}");
        // -k: UTF-8, as man does it; -ww: all warnings; -z: no output. Without groff the macros above are all that is known.
        if let Some((done, complaints)) = ran("groff", &["-k", "-man", "-Tutf8", "-ww", "-z", &page]) {
            assert!(done && complaints.is_empty(), "{name}: {complaints}");
        }
    }
    assert!(succeeds(["man"]).stdout == std::fs::read_to_string(scratch.path("man1/kvm-timeline.1")).expect("a page"));
}
