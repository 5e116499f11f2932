//! A server with two buckets, and the program beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use object_store_tests::Server;

/// What a run printed, and its exit code.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A path under `fixtures/`.
pub(crate) fn fixture(name: &str) -> String {
    root().join("fixtures").join(name).display().to_string()
}

/// The program: `KVM_TIMELINE`, or what `cargo build` made.
fn program() -> PathBuf {
    let named = std::env::var_os("KVM_TIMELINE").map(PathBuf::from);
    let program = named.unwrap_or_else(|| root().join("target/debug/kvm-timeline"));
    assert!(program.exists(), "{} is not there; run `cargo build` in the repository first", program.display());
    program
}

/// Sends a signal.
pub(crate) fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
    assert!(sent.expect("kill runs").success());
}

/// A directory whose `captures` and `results` are buckets.
pub(crate) struct Place {
    directory: tempfile::TempDir,
    pub(crate) server: Server,
    environment: BTreeMap<String, String>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for bucket in ["captures", "results"] {
            fs::create_dir(directory.path().join(bucket)).expect("made");
        }
        let server = Server::start(directory.path());
        let environment = server.environment().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { directory, server, environment }
    }

    /// Puts larger captures into the bucket.
    pub(crate) fn large(&self) {
        for name in ["two-vm", "tsc-write", "kvmclock"] {
            let to = self.path(&format!("captures/fleet/{name}"));
            fs::create_dir_all(&to).expect("made");
            for entry in fs::read_dir(fixture(name)).expect("a fixture") {
                let from = entry.expect("an entry").path();
                if from.extension().is_some_and(|end| end == "dat") {
                    fs::copy(&from, to.join(from.file_name().expect("a name"))).expect("copied");
                }
            }
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    pub(crate) fn unset(&mut self, name: &str) {
        self.environment.remove(name);
    }

    fn command<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(program());
        // Whatever else is set must not be asked.
        command.args(args).env_clear().envs(&self.environment).env("HOME", self.directory.path());
        command
    }

    pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Done {
        let output = self.command(args).output().expect("the binary starts");
        Done {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub(crate) fn start<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Child {
        let mut command = self.command(args);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts")
    }
}
