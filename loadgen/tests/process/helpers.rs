//! Starts brokers and load generators, and never leaves a process behind.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use ringlog_loadgen::result::RunResult;
use tempfile::TempDir;

/// The broker's binary. It belongs to a crate that this one must not know, so it is built here, beside the binary under
/// test; that takes no time when it is there.
fn broker_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let folder =
            Path::new(env!("CARGO_BIN_EXE_ringlog-loadgen")).parent().expect("a binary is in a folder");
        let profile = match folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(profile) => profile,
        };
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "ringlog", "--bin", "ringlog", "--profile", profile])
            .arg("--target-dir")
            .arg(folder.parent().expect("a profile's folder is in another"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.expect("cargo runs").success(), "the broker can be built");
        folder.join("ringlog")
    })
}

/// A broker on a fresh folder; killed when it is dropped.
pub struct Broker {
    child: Child,
    pub address: String,
    data: TempDir,
}

impl Broker {
    pub fn start() -> Broker {
        let data = tempfile::tempdir().expect("a folder");
        let (child, address) = serve(data.path(), "127.0.0.1:0");
        Broker { child, address, data }
    }

    /// Kills it, and starts another on the same folder and address.
    pub fn restart(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        (self.child, _) = serve(self.data.path(), &self.address);
    }

    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// A load generator that will talk to it.
    pub fn loadgen(&self, arguments: &str) -> Loadgen {
        Loadgen::new(&self.address, arguments)
    }
}

/// A broker's process, once it listens, and where.
fn serve(data: &Path, listen: &str) -> (Child, String) {
    let mut child = Command::new(broker_binary())
        .args(["serve", "--listen", listen, "--cores", "1", "--data"])
        .arg(data)
        .env_remove("RINGLOG_LOG")
        .stderr(Stdio::piped())
        .spawn()
        .expect("the broker starts");
    let mut log = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut said = String::new();
    let address = loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).expect("it is text") > 0, "no broker: {said}");
        if let Some((_, rest)) = line.split_once("listening on ") {
            break rest.split(',').next().unwrap_or_default().to_owned();
        }
        said += &line;
    };
    // Its log is read on, so that it is never stopped by a full pipe.
    thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    (child, address)
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", child.id())).status();
    assert!(sent.expect("a shell runs").success());
}

/// A run of the binary under test; killed when it is dropped.
pub struct Loadgen {
    child: Child,
    folder: TempDir,
}

/// How it ended.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub result: Option<RunResult>,
}

impl Loadgen {
    pub fn new(address: &str, arguments: &str) -> Loadgen {
        let folder = tempfile::tempdir().expect("a folder");
        let child = Command::new(env!("CARGO_BIN_EXE_ringlog-loadgen"))
            .args(arguments.split(' '))
            .args(["--servers", address, "--json"])
            .arg(folder.path().join("result.json"))
            .env_remove("RINGLOG_BROKER")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        Loadgen { child, folder }
    }

    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    pub fn finish(mut self) -> Ran {
        let mut stdout = self.child.stdout.take().expect("it is piped");
        let reader = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        let mut stderr = String::new();
        self.child.stderr.take().expect("it is piped").read_to_string(&mut stderr).expect("it is text");
        let stdout = reader.join().expect("reading does not panic").expect("it is text");
        let status = self.child.wait().expect("a child can be waited for");
        let code = status.code().unwrap_or_else(|| panic!("{status}: {stderr}"));
        let result = RunResult::read(&self.folder.path().join("result.json")).ok();
        Ran { code, stdout, stderr, result }
    }
}

impl Drop for Loadgen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ran {
    /// The result of a run that did what it should. On a busy machine the generator may be late, and says so.
    pub fn good(self) -> RunResult {
        assert!([0, 3].contains(&self.code), "exit code {}: {}{}", self.code, self.stdout, self.stderr);
        let result = self.result.expect("a result was written");
        assert_eq!(self.code == 3, result.void.is_some());
        assert!(result.complete && result.reason.is_none());
        result
    }

    /// The result of a run that could not end as it should.
    pub fn partial(self) -> RunResult {
        assert_eq!(self.code, 1, "{}{}", self.stdout, self.stderr);
        let result = self.result.expect("a partial result was written");
        assert!(!result.complete);
        assert!(result.reason.is_some());
        assert!(self.stdout.contains("PARTIAL"), "{}", self.stdout);
        result
    }
}

/// Long enough for a run to be well under way.
pub fn a_while() {
    thread::sleep(Duration::from_millis(1500));
}
