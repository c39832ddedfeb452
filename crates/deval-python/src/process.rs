//! Programs that are started, waited for, and ended when they take too long.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::PythonError;

/// Bytes that are kept of what a program says, from its end.
const KEPT: u64 = 64 * 1024;

/// Variables by which a user's own Python would reach into a managed one.
const FOREIGN: [&str; 6] =
    ["PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONUSERBASE", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"];

/// How a program ended.
pub(crate) struct Ended {
    /// None when it was ended for taking too long.
    pub(crate) status: Option<ExitStatus>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// The last lines of its standard error, or of its standard output if that is empty.
    pub(crate) fn last_lines(&self, count: usize) -> String {
        let text = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

/// A Python that sees nothing of the caller's own environment of packages.
pub(crate) fn python(interpreter: &Path) -> Command {
    let mut command = Command::new(interpreter);
    FOREIGN.iter().for_each(|name| {
        command.env_remove(name);
    });
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUTF8", "1");
    command
}

/// Runs a program without input. What it says goes through files, so that it never waits for a reader, and one that leaves children
/// behind does not keep anyone waiting.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<Ended, PythonError> {
    let program = Path::new(command.get_program()).to_owned();
    let failed = |action| PythonError::io(action, &program);
    let mut said = [tempfile::tempfile(), tempfile::tempfile()].into_iter();
    let mut file = || said.next().expect("two files").map_err(failed("keep the words of"));
    let (mut stdout, mut stderr) = (file()?, file()?);
    let handle = |file: &File| file.try_clone().map(Stdio::from).map_err(failed("keep the words of"));
    command.stdin(Stdio::null()).stdout(handle(&stdout)?).stderr(handle(&stderr)?);
    let mut child = command.spawn().map_err(failed("run"))?;
    let status = wait(&mut child, limit).map_err(failed("wait for"))?;
    Ok(Ended { status, stdout: tail(&mut stdout), stderr: tail(&mut stderr) })
}

fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() >= limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The end of a file as text. What cannot be read is left out: these are words for people.
fn tail(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let length = file.metadata().map_or(0, |meta| meta.len());
    if file.seek(SeekFrom::Start(length.saturating_sub(KEPT))).is_ok() {
        file.read_to_end(&mut bytes).ok();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn words_and_status_are_kept() {
        let ended = run(&mut shell("echo a; echo b >&2; echo; echo c >&2; exit 3"), Duration::from_secs(60)).unwrap();
        assert_eq!(ended.status.unwrap().code(), Some(3));
        assert_eq!((ended.stdout.as_str(), ended.last_lines(1).as_str()), ("a\n\n", "c"));
        assert_eq!(ended.last_lines(9), "b\nc");
    }

    #[test]
    fn what_takes_too_long_is_ended_though_its_child_holds_on() {
        let ended = run(&mut shell("echo begun; sleep 30 & wait"), Duration::from_millis(100)).unwrap();
        assert!(ended.status.is_none() && !ended.succeeded());
    }

    #[test]
    fn much_talk_is_cut_at_its_beginning() {
        let ended = run(&mut shell("seq 100000"), Duration::from_secs(60)).unwrap();
        assert!(ended.stdout.len() as u64 <= KEPT && ended.stdout.ends_with("\n100000\n"));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run(&mut Command::new("/nowhere/python"), Duration::from_secs(1)).map(|_| ()).unwrap_err();
        assert!(error.to_string().starts_with("cannot run /nowhere/python: "), "{error}");
    }
}
