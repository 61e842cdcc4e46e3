//! Child processes: deadline, environment, process group, quoting and error context in one place.
//!
//! Every child leads its own process group. One watchdog thread ends groups whose deadline has passed. Ctrl-C ends all
//! of them (see [`end_all`]), and a guardian does so if xtask is killed.

mod environment;
mod guardian;
mod piped;
mod show;
mod watchdog;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};

pub use environment::{ALL, APT, CARGO, DOCKER, GO, NPM, Names, PROXY, proxies};
pub use guardian::hold;
pub use piped::Piped;
use show::tail;

use crate::deadlines::{self, Limit};
use crate::failure::{Class, Failure};
use crate::private;
use crate::pure;
pub use watchdog::{end_all, ending};

/// Maximum number of reruns of a command that [`Process::again_if`] reports as not begun.
const AGAIN: u32 = 3;

/// A log of more bytes than this is renamed; it replaces the one renamed before.
const LOG_SIZE: u64 = 1 << 20;

/// The standard input of a command.
#[derive(Clone, Debug)]
enum Stdin {
    Null,
    Bytes(Vec<u8>),
    File(Arc<File>),
}

/// A command: shown and run from the same value, so secrets must not be arguments.
#[derive(Clone, Debug)]
pub struct Process {
    program: String,
    args: Vec<String>,
    envs: Vec<(String, String)>,
    inherited: Vec<&'static str>,
    cwd: Option<Utf8PathBuf>,
    stdin: Stdin,
    log: Option<Utf8PathBuf>,
    deadline: Limit,
    again_if: Option<fn(&Output) -> bool>,
    stderr_shown: bool,
    until: Vec<Arc<AtomicBool>>,
    is_question: bool,
    class: Class,
}

impl Process {
    /// Makes a command with a deadline of two minutes, no standard input and the base environment. Its failure is one of the
    /// machine; see [`Process::class`].
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            envs: Vec::new(),
            inherited: Vec::new(),
            cwd: None,
            stdin: Stdin::Null,
            log: None,
            deadline: deadlines::CHILD,
            again_if: None,
            stderr_shown: false,
            until: Vec::new(),
            is_question: false,
            class: Class::Machine,
        }
    }

    /// Sets the class of its failure: what the command is for.
    pub fn class(self, class: Class) -> Self {
        Self { class, ..self }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable. Values are not echoed unless they are shown by [`fmt::Display`] as `NAME=value`;
    /// secrets go through standard input instead.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.envs.push((name.into(), value.into()));
        self
    }

    /// Passes on these variables of xtask's environment, besides the base list (see [`Names`]).
    pub fn inherit(mut self, names: Names) -> Self {
        self.inherited.extend(names);
        self
    }

    /// Runs in `dir`.
    pub fn cwd(mut self, dir: impl Into<Utf8PathBuf>) -> Self {
        self.cwd = Some(dir.into());
        self
    }

    /// Feeds `bytes` to standard input; they are never shown or logged.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Stdin::Bytes(bytes.into());
        self
    }

    /// Feeds `file` to standard input, from its start.
    pub fn stdin_file(mut self, file: Arc<File>) -> Self {
        self.stdin = Stdin::File(file);
        self
    }

    /// Appends the command and its output to the file `log`.
    pub fn log(mut self, log: impl Into<Utf8PathBuf>) -> Self {
        self.log = Some(log.into());
        self
    }

    /// Ends the whole process group after `deadline`.
    pub fn deadline(mut self, deadline: impl Into<Limit>) -> Self {
        self.deadline = deadline.into();
        self
    }

    /// Ends the whole process group once `flag` is set, or any other flag that was given.
    pub fn until(mut self, flag: &Arc<AtomicBool>) -> Self {
        self.until.push(flag.clone());
        self
    }

    /// Marks a command that changes nothing: the guardian starts for it only if it takes long.
    pub fn question(mut self) -> Self {
        self.is_question = true;
        self
    }

    /// Runs the command again, at most three times, while `not_begun` reports that it never started its work. Only for
    /// [`Process::output`] and the functions that use it: a stream has been passed on by then.
    pub fn again_if(mut self, not_begun: fn(&Output) -> bool) -> Self {
        self.again_if = Some(not_begun);
        self
    }

    /// Lets the command write to our standard error: its reports appear at once, with colours and progress. Only
    /// [`Process::output`] honours it.
    pub fn show_stderr(mut self) -> Self {
        self.stderr_shown = true;
        self
    }

    /// Returns the program as it is started.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Returns the arguments.
    pub fn arguments(&self) -> &[String] {
        &self.args
    }

    /// Returns the program's name, for messages.
    pub fn name(&self) -> &str {
        Utf8Path::new(&self.program).file_name().unwrap_or(&self.program)
    }

    /// Runs a command that must succeed, and returns its standard output.
    pub fn read(&self) -> Result<String> {
        let output = self.output()?;
        self.check(&output)?;
        String::from_utf8(output.stdout).with_context(|| format!("`{self}` did not print UTF-8"))
    }

    /// Runs a command that must succeed; its output goes to the log only.
    pub fn run(&self) -> Result<()> {
        let output = self.output()?;
        self.check(&output)
    }

    /// Returns whether the command succeeds; a program that does not start does not succeed.
    pub fn succeeds(&self) -> bool {
        self.output().is_ok_and(|output| output.status.success())
    }

    /// Runs the command and returns its status and both outputs. A failing exit status is no error here; a missing
    /// program or a passed deadline is one.
    pub fn output(&self) -> Result<Output> {
        let not_begun = self.again_if.unwrap_or(|_| false);
        for _ in 0..AGAIN {
            let output = self.run_once()?;
            if !not_begun(&output) {
                return Ok(output);
            }
            std::thread::sleep(deadlines::CHILD_AGAIN.time());
        }
        self.run_once()
    }

    fn run_once(&self) -> Result<Output> {
        let expression = self.expression()?.stdout_capture().unchecked();
        let expression = if self.stderr_shown { expression } else { expression.stderr_capture() };
        let handle = expression.start().map_err(|error| self.cannot_start(error))?;
        let guard = watchdog::watch(&handle.pids(), self);
        let output = handle.wait().with_context(|| format!("waiting for `{self}`"))?.clone();
        let expired = guard.expired();
        self.record(&output)?;
        if expired {
            return Err(self.expired(&output.stderr));
        }
        Ok(output)
    }

    /// Runs a command that must succeed, and passes each line of both outputs to `each` as it appears.
    pub fn stream(&self, mut each: impl FnMut(&str)) -> Result<()> {
        let handle =
            self.expression()?.stderr_to_stdout().unchecked().reader().map_err(|error| self.cannot_start(error))?;
        let guard = watchdog::watch(&handle.pids(), self);
        // Written as it comes: the log of a command that takes minutes is read while it runs.
        let mut log = self.open_log()?;
        let mut lines = Vec::new();
        let mut reader = BufReader::new(&handle);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if let Some(log) = &mut log {
                writeln!(log, "{text}")?;
            }
            each(&text);
            lines.push(text);
            line.clear();
        }
        let output = handle.try_wait()?.cloned().with_context(|| format!("`{self}` closed its output but runs on"))?;
        let output = Output { stdout: lines.join("\n").into_bytes(), ..output };
        if let Some(log) = &mut log {
            writeln!(log, "-> {}", output.status)?;
        }
        if guard.expired() {
            return Err(self.expired(&output.stdout));
        }
        self.check(&output)
    }

    /// Runs with the terminal's standard streams (for `tool`, `logs -f`), and returns the exit code.
    pub fn interactive(&self) -> Result<i32> {
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.args).env_clear().envs(self.environment());
        if let Some(dir) = &self.cwd {
            command.current_dir(dir);
        }
        let status = command.status().map_err(|error| self.cannot_start(error))?;
        Ok(status.code().unwrap_or(130))
    }

    /// Starts the command with `input` as standard input, and returns its output as a stream. The end of the stream
    /// checks the exit status.
    pub fn pipe_from(&self, input: Option<PipeReader>) -> Result<Piped> {
        // Not on top of `expression()`: of two redirections duct takes the inner one.
        let expression = match input {
            Some(input) => self.bare().stdin_file(input),
            None => self.expression()?,
        };
        let reader = expression.stderr_capture().unchecked().reader().map_err(|error| self.cannot_start(error))?;
        let guard = watchdog::watch(&reader.pids(), self);
        Ok(Piped { process: self.clone(), reader, guard })
    }

    fn expression(&self) -> Result<duct::Expression> {
        Ok(match &self.stdin {
            Stdin::Null => self.bare().stdin_null(),
            Stdin::Bytes(bytes) => self.bare().stdin_bytes(bytes.clone()),
            Stdin::File(file) => {
                let rewound = || -> std::io::Result<File> {
                    (&**file).rewind()?;
                    file.try_clone()
                };
                self.bare().stdin_file(rewound().with_context(|| format!("reading the input of `{self}`"))?)
            }
        })
    }

    /// Returns the command without its standard input.
    fn bare(&self) -> duct::Expression {
        pure::effect(format_args!("starts `{self}`"));
        if !self.is_question {
            guardian::ready();
        }
        let environment = self.environment();
        let expression = duct::cmd(self.path(&environment), &self.args).full_env(environment);
        let mut expression = expression.before_spawn(|command| {
            std::os::unix::process::CommandExt::process_group(command, 0);
            // After Ctrl-C, a retry or a rollback must not begin anything new.
            if ending() { Err(std::io::Error::other("interrupted")) } else { Ok(()) }
        });
        if let Some(dir) = &self.cwd {
            expression = expression.dir(dir);
        }
        expression
    }

    /// Returns the program's path, or its name if no absolute folder of `PATH` has it. Given a name, the standard library
    /// would fork, which copies the page tables of this process for each child.
    fn path(&self, environment: &BTreeMap<OsString, OsString>) -> OsString {
        let folders = environment.get(OsStr::new("PATH")).into_iter().flat_map(std::env::split_paths);
        let is_program = |file: &PathBuf| {
            file.is_absolute() && file.metadata().is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0)
        };
        // Joined to a folder, an absolute path stays as it is. A name stays a string: duct makes a relative `Path` one of the
        // current folder.
        let mut files = folders.map(|folder| folder.join(&self.program));
        files.find(is_program).map_or_else(|| (&self.program).into(), PathBuf::into_os_string)
    }

    /// Returns the child's whole environment.
    fn environment(&self) -> BTreeMap<OsString, OsString> {
        let mut all = environment::chosen(&self.inherited);
        all.extend(self.envs.iter().map(|(name, value)| (name.into(), value.into())));
        all
    }

    fn cannot_start(&self, error: std::io::Error) -> Failure {
        Failure::new(self.class, format!("cannot start `{}`", self.program)).because(error.into())
    }

    fn check(&self, output: &Output) -> Result<()> {
        if output.status.success() {
            return Ok(());
        }
        let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
        let log = self.log.as_ref().map_or(String::new(), |log| format!("\nwhole output: {log}"));
        Err(self.failure(format!("`{self}` failed ({}){}{log}", output.status, tail(said))))
    }

    /// Returns the error for a command that the deadline ended; `said` is its output until then.
    fn expired(&self, said: &[u8]) -> anyhow::Error {
        self.failure(format!("`{self}` took longer than {} s and was ended{}", self.deadline.as_secs(), tail(said)))
    }

    /// Returns the failure `what`, with the hint to run the command alone. Callers that know its purpose add better hints.
    fn failure(&self, what: String) -> anyhow::Error {
        Failure::new(self.class, what).help(format!("run it alone to see its output: {self}")).into()
    }

    fn record(&self, output: &Output) -> Result<()> {
        let Some(mut log) = self.open_log()? else { return Ok(()) };
        log.write_all(&output.stdout)?;
        log.write_all(&output.stderr)?;
        writeln!(log, "\n-> {}", output.status)?;
        Ok(())
    }

    /// Opens the log and appends the command as its newest line.
    fn open_log(&self) -> Result<Option<File>> {
        let Some(log) = &self.log else { return Ok(None) };
        if let Some(dir) = log.parent() {
            private::create_dir(dir)?;
        }
        if log.metadata().is_ok_and(|log| log.len() > LOG_SIZE) {
            std::fs::rename(log, format!("{log}.1"))?;
        }
        let mut file = private::append(log)?;
        writeln!(file, "$ {self}")?;
        Ok(Some(file))
    }
}

#[cfg(test)]
mod tests;
