//! Starts the binary, gives it input, takes its output, and never leaves a process behind.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// Far above what anything here takes, so that only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks for something again and again, each time for a moment, until there is something or patience ends. A machine that
/// stands still for a while (it may be paused) costs one look only, not the patience.
pub fn patiently<T>(mut look: impl FnMut(Duration) -> Option<T>) -> Option<T> {
    const LOOK: Duration = Duration::from_millis(20);
    (0..PATIENCE.as_millis() / LOOK.as_millis()).find_map(|_| look(LOOK))
}

/// The next message, or none when nobody will send one.
///
/// # Panics
/// If none comes, with these words.
pub fn next_of<T>(messages: &Receiver<T>, otherwise: impl FnOnce() -> String) -> Option<T> {
    let next = patiently(|wait| match messages.recv_timeout(wait) {
        Ok(message) => Some(Some(message)),
        Err(RecvTimeoutError::Disconnected) => Some(None),
        Err(RecvTimeoutError::Timeout) => None,
    });
    next.unwrap_or_else(|| panic!("{}", otherwise()))
}

/// The binary under test, with nothing of this process's environment that it would listen to.
pub fn ringlog() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringlog"));
    command.env_remove("RINGLOG_BROKER").env_remove("RINGLOG_LOG").stdin(Stdio::null());
    command
}

/// A folder that goes with the test.
pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

/// How a finished process ended and what it said.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    /// Standard output, which must be text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("this output is text")
    }

    /// The last line for people.
    pub fn last_words(&self) -> &str {
        self.stderr.lines().last().unwrap_or_default()
    }

    /// It must have ended well.
    pub fn ok(self) -> Ran {
        assert_eq!(self.code, Some(0), "it said: {}", self.stderr);
        self
    }

    /// It must have ended with this code.
    pub fn code(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "it said: {}", self.stderr);
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ran { code: output.status.code(), stdout: output.stdout, stderr }
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ran {
    Running::spawn(command).finish()
}

/// Runs a command to its end with this standard input.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Ran {
    let mut running = Running::spawn(command.stdin(Stdio::piped()));
    let mut stdin = running.child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    let feeder = thread::spawn(move || {
        // A process that ends before it has read everything is for the test to judge.
        let _ = stdin.write_all(&input);
    });
    let ran = running.finish();
    feeder.join().expect("writing does not panic");
    ran
}

/// A process that is running; killed when it is dropped.
pub struct Running {
    pub child: Child,
}

impl Running {
    /// Starts it with its output piped.
    pub fn spawn(command: &mut Command) -> Running {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Running { child: child.expect("the binary starts") }
    }

    /// Waits for its end; one that does not come fails the test.
    pub fn finish(mut self) -> Ran {
        let stdout = drain(self.child.stdout.take());
        let stderr = drain(self.child.stderr.take());
        let status = patiently(|wait| {
            let status = self.child.try_wait().expect("a child can be waited for");
            if status.is_none() {
                thread::sleep(wait / 4);
            }
            status
        });
        if status.is_none() {
            let _ = self.child.kill();
        }
        let stdout = stdout.join().expect("reading does not panic");
        let stderr = String::from_utf8_lossy(&stderr.join().expect("reading does not panic")).into_owned();
        let status = status.unwrap_or_else(|| panic!("it did not end; it said: {stderr}"));
        Ran { code: status.code(), stdout, stderr }
    }

    /// Sends it a signal by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.id())).status();
        assert!(status.expect("a shell runs").success());
    }

    /// The same for a process that may have ended by itself.
    pub fn signal_if_alive(&self, name: &str) {
        let kill = format!("kill -{name} {} 2>/dev/null; true", self.child.id());
        Command::new("sh").arg("-c").arg(kill).status().expect("a shell runs");
    }

    /// Lines of its standard output, as they come.
    pub fn lines(&mut self) -> Receiver<String> {
        follow(self.child.stdout.take().expect("standard output is piped and not taken yet"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn drain(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            stream.read_to_end(&mut bytes).expect("a pipe can be read");
        }
        bytes
    })
}

fn follow(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            // Nobody listens any more: the lines are still taken, so that the process is not stopped by a full pipe.
            let _ = sender.send(line.expect("output is text"));
        }
    });
    receiver
}

/// A serving broker; killed when it is dropped.
pub struct Broker {
    running: Running,
    log: Receiver<String>,
    pub address: SocketAddr,
    /// The line that said it is ready.
    pub ready: String,
}

impl Broker {
    /// On a free port, with this folder.
    pub fn start(data: &Path) -> Broker {
        Broker::start_with(data, &["--cores", "2"])
    }

    /// The same with more flags.
    pub fn start_with(data: &Path, flags: &[&str]) -> Broker {
        let mut command = ringlog();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(flags);
        Broker::spawn(&mut command)
    }

    /// At the address that an earlier one had.
    pub fn start_again(data: &Path, address: SocketAddr) -> Broker {
        let mut command = ringlog();
        command.args(["serve", "--cores", "2", "--listen", &address.to_string(), "--data"]).arg(data);
        Broker::spawn(&mut command)
    }

    /// From a whole command line.
    pub fn spawn(command: &mut Command) -> Broker {
        let mut running = Running::spawn(command);
        let log = follow(running.child.stderr.take().expect("standard error is piped"));
        let mut said = String::new();
        let ready = loop {
            match next_of(&log, || format!("the broker is not ready; it said: {said}")) {
                Some(line) if line.contains("ready: ") => break line,
                Some(line) => said = said + &line + "\n",
                None => panic!("the broker has ended; it said: {said}"),
            }
        };
        let address = ready.split("listening on ").nth(1).and_then(|rest| rest.split(',').next());
        let address = address.and_then(|address| address.parse().ok());
        Broker { running, log, address: address.expect("the ready line has the address"), ready }
    }

    /// A client command line that talks to this broker.
    pub fn ringlog(&self, arguments: &[&str]) -> Command {
        let mut command = ringlog();
        command.env("RINGLOG_BROKER", self.address.to_string()).args(arguments);
        command
    }

    /// Runs one to its end, which must be good.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        run(&mut self.ringlog(arguments)).ok()
    }

    /// Runs one with input to its end, which must be good.
    pub fn run_with_input(&self, arguments: &[&str], input: impl AsRef<[u8]>) -> Ran {
        run_with_input(&mut self.ringlog(arguments), input.as_ref()).ok()
    }

    /// Makes a topic.
    pub fn create_topic(&self, name: &str, partitions: u32) {
        self.run(&["topic", "create", name, "--partitions", &partitions.to_string()]);
    }

    /// SIGKILL: no chance to write anything.
    pub fn kill(mut self) {
        self.running.child.kill().expect("a child can be killed");
        self.running.child.wait().expect("a child can be waited for");
    }

    /// Sends it a signal by its name.
    pub fn signal(&self, name: &str) {
        self.running.signal(name);
    }

    /// A signal that asks it to stop; gives its last log lines and exit code.
    pub fn stop_by(mut self, signal: &str) -> (Option<i32>, String) {
        self.running.signal(signal);
        let mut said = String::new();
        // Its standard error ends with it.
        while let Some(line) = next_of(&self.log, || format!("it does not stop; it said: {said}")) {
            said = said + &line + "\n";
        }
        (self.running.child.wait().expect("a child can be waited for").code(), said)
    }

    /// Bytes of memory that are its own now.
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.running.child.id());
        let status = std::fs::read_to_string(path).expect("it is running");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process has a size");
        let kib: u64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number");
        kib << 10
    }
}

/// A file of lines, some of them odd, each different, and all of them text.
pub fn many_lines(count: usize) -> String {
    (0..count).map(|n| format!("key-{}:line {n} {}\n", n % 997, "x".repeat(n % 61))).collect()
}
