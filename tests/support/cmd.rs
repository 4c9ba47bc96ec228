//! The built binary as a person runs it: in a directory of its own, with nothing of the tester's environment.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Server;
use ropeway::entry::SideName;

/// One command line, being put together.
pub struct Cmd {
    command: Command,
}

/// How it ended.
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Cmd {
    /// `ropeway ARGUMENTS...`, in `directory`. `ROPEWAY_TEST_IO` chooses the file backend for the whole suite.
    pub fn new<S: AsRef<OsStr>>(directory: &Path, arguments: impl IntoIterator<Item = S>) -> Cmd {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ropeway"));
        command.current_dir(directory).args(arguments).env_clear().env("HOME", directory).stdin(Stdio::null());
        // Not among the files that a test compares.
        command.env("XDG_STATE_HOME", env!("CARGO_TARGET_TMPDIR"));
        // Services that fail for good are played often, and starting over has tests of its own.
        command.env("ROPEWAY_FORCE_RETRY_COUNT", "0");
        if let Ok(io) = std::env::var("ROPEWAY_TEST_IO") {
            command.env("ROPEWAY_IO", io);
        }
        Cmd { command }
    }

    /// `ropeway sync SOURCE TARGET`.
    pub fn sync(directory: &Path, source: &str, target: &str) -> Cmd {
        Cmd::new(directory, ["sync", source, target])
    }

    /// Endpoint, keys and region of one side.
    pub fn at(mut self, side: SideName, server: &Server) -> Cmd {
        let name = side.to_string().to_uppercase();
        self.command.env(format!("ROPEWAY_{name}_ENDPOINT_URL"), &server.endpoint);
        self.command.env(format!("ROPEWAY_{name}_ACCESS_KEY"), &server.access_key);
        self.command.env(format!("ROPEWAY_{name}_SECRET_ACCESS_KEY"), &server.secret_key);
        self.command.env(format!("ROPEWAY_{name}_REGION"), &server.region);
        self
    }

    /// The source is on `server`.
    pub fn from(self, server: &Server) -> Cmd {
        self.at(SideName::Source, server)
    }

    /// The target is on `server`.
    pub fn to(self, server: &Server) -> Cmd {
        self.at(SideName::Target, server)
    }

    /// Whichever of the two is in a bucket is on `server`.
    pub fn between(self, server: &Server, source: &str, target: &str) -> Cmd {
        let sides = [(SideName::Source, source), (SideName::Target, target)];
        sides
            .into_iter()
            .filter(|(_, place)| place.starts_with("s3://"))
            .fold(self, |run, (side, _)| run.at(side, server))
    }

    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Cmd {
        self.command.arg(argument);
        self
    }

    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Cmd {
        self.command.args(arguments);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Cmd {
        self.command.env(name, value);
        self
    }

    /// Has another program start it, in the same directory and environment.
    pub fn under<S: AsRef<OsStr>>(self, program: impl IntoIterator<Item = S>) -> Cmd {
        let mut words = program.into_iter();
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).arg(self.command.get_program()).args(self.command.get_args()).env_clear();
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null());
        if let Some(directory) = self.command.get_current_dir() {
            command.current_dir(directory);
        }
        Cmd { command }
    }

    /// Starts it and leaves it running, its output piped.
    pub fn spawn(mut self) -> std::process::Child {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")
    }

    /// Runs it to its end.
    pub fn run(self) -> Output {
        Output::of(self.spawn())
    }

    /// Runs it to its end, which must be exit code `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Output {
        let output = self.run();
        assert_eq!(output.code, code, "stdout:\n{}\nstderr:\n{}", output.stdout, output.stderr);
        output
    }
}

impl Output {
    /// Waits for the end of a started command. A signal that killed it counts as in a shell: 128 and its number.
    pub fn of(child: std::process::Child) -> Output {
        use std::os::unix::process::ExitStatusExt;
        let output = child.wait_with_output().expect("the binary ends");
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Output { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// The summary of a run with `--json`.
    #[track_caller]
    pub fn summary(&self) -> serde_json::Value {
        let line = self.stdout.lines().last().unwrap_or_else(|| panic!("no summary; stderr:\n{}", self.stderr));
        let value: serde_json::Value = serde_json::from_str(line).expect("the summary is JSON");
        assert_eq!(value["event"], "summary", "{line}");
        value
    }

    /// A counter of the summary.
    #[track_caller]
    pub fn count(&self, name: &str) -> u64 {
        self.summary()[name].as_u64().unwrap_or_else(|| panic!("no counter `{name}`"))
    }
}
