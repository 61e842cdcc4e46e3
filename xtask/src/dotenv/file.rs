//! Reads the file `.env`, and checks that no other user can.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::sync::{Mutex, PoisonError, mpsc};

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};

use super::syntax::Lines;
use super::{Entry, Problem};
use crate::deadlines;
use crate::failure::{Class, Failure};
use crate::git::{GitStatus, git_status};
use crate::secrets::Secret;
use crate::units::quote;
use crate::wsl;

/// Largest dotenv file, in bytes; a real one has a few hundred.
const LARGEST: u64 = 64 * 1024;

/// The name of standard input in messages.
pub const STDIN: &str = "standard input";

/// Reads the text of `path`; `shown` is its name in messages.
pub fn read(path: &Utf8Path, shown: &str) -> Result<String> {
    let fail = |what: String, fix: &str| Failure::new(Class::Config, format!("{shown}: {what}")).help(fix);
    let word = quote(shown);
    let own = std::fs::symlink_metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            fail("does not exist".into(), "cargo xtask deploy dev   # makes it from .env.example")
        }
        _ => fail(format!("cannot be read: {error}"), &format!("ls -l {word}")),
    })?;
    let meta = std::fs::metadata(path).map_err(|error| {
        if own.is_symlink() {
            let target = std::fs::read_link(path).map(|t| t.display().to_string()).unwrap_or_default();
            fail(format!("is a link to {target}, which does not exist"), &format!("rm {word}   # or make {target}"))
        } else {
            fail(format!("cannot be read: {error}"), &format!("ls -l {word}"))
        }
    })?;
    if meta.is_dir() {
        return Err(
            fail("is a folder, not a file".into(), &format!("mv {word} {}", quote(format!("{shown}.old")))).into()
        );
    }
    if !meta.is_file() && !meta.file_type().is_fifo() {
        return Err(fail("is neither a file nor a named pipe".into(), &format!("rm {word}")).into());
    }
    let refused = |error| fail(format!("cannot be read: {error}"), &format!("chown \"$USER\" {word}"));
    if meta.is_file() {
        return text(&read_from(std::fs::File::open(path).map_err(refused)?)?, shown);
    }
    read_once(path, || {
        let (sender, receiver) = mpsc::channel();
        let pipe = path.to_owned();
        // Opening a pipe waits for its writer, which may ask a person first.
        std::thread::spawn(move || sender.send(std::fs::File::open(&pipe).and_then(read_from)));
        let limit = deadlines::DOTENV_PIPE;
        let silent = |_| {
            let what = format!("is a named pipe, and no program wrote to it within {} s", limit.as_secs());
            fail(
                what,
                &format!("start the program that writes to {shown}; or rm {word}, and the next deploy makes a file"),
            )
        };
        text(&receiver.recv_timeout(limit.time()).map_err(silent)?.map_err(refused)?, shown)
    })
}

/// Reads the text of standard input, as [`read`] does for a file.
pub fn read_stdin() -> Result<String> {
    if std::io::stdin().is_terminal() {
        let what = format!("{STDIN} is a terminal, and no values come from it");
        let help = "sops decrypt secrets.env | cargo xtask deploy dev --secrets stdin";
        return Err(Failure::new(Class::Config, what).help(help).into());
    }
    read_once(STDIN.into(), || text(&read_from(std::io::stdin().lock())?, STDIN))
}

/// Returns the variables of the environment among `keys`. An empty one counts as absent.
pub fn environment(keys: &[&str]) -> Lines {
    let mut lines = Lines::default();
    for key in keys {
        match std::env::var(key) {
            Ok(value) if !value.is_empty() => {
                lines.entries.push(Entry { key: (*key).to_owned(), value: Secret::new(value), line: None });
            }
            Err(std::env::VarError::NotUnicode(_)) => {
                lines.problems.push(Problem::new(None, format!("{key} is not UTF-8"), format!("unset {key}")));
                lines.broken.push((*key).to_owned());
            }
            Ok(_) | Err(std::env::VarError::NotPresent) => {}
        }
    }
    lines
}

/// Returns the result of the first `read` of `name`: a stream can be read only once.
fn read_once(name: &Utf8Path, read: impl FnOnce() -> Result<String>) -> Result<String> {
    static READ: Mutex<BTreeMap<Utf8PathBuf, String>> = Mutex::new(BTreeMap::new());
    let mut known = READ.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(text) = known.get(name) {
        return Ok(text.clone());
    }
    let text = read()?;
    known.insert(name.to_owned(), text.clone());
    Ok(text)
}

fn read_from(source: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns the text in `bytes`; `shown` is the name of their source in messages.
fn text(bytes: &[u8], shown: &str) -> Result<String> {
    let fail = |what: String, fix: &str| Failure::new(Class::Config, format!("{shown}: {what}")).help(fix);
    if bytes.len() as u64 > LARGEST {
        let what = format!("is larger than {} KiB, so it is no dotenv file", LARGEST / 1024);
        return Err(fail(
            what,
            &format!("mv {} {}   # the next deploy makes a new one", quote(shown), quote(format!("{shown}.old"))),
        )
        .into());
    }
    decode(bytes.to_vec()).map_err(|line| {
        let what = format!("{shown}:{line}: is not UTF-8");
        Failure::new(Class::Config, what).help("save the file as UTF-8 (PowerShell: Set-Content -Encoding utf8)").into()
    })
}

/// Returns the text if it is UTF-8, else the line that is not.
fn decode(bytes: Vec<u8>) -> Result<String, usize> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        1 + valid.iter().filter(|byte| **byte == b'\n').count()
    })
}

/// Returns problems with the file's exposure: to other users, or through the repository.
pub fn exposure(path: &Utf8Path, shown: &str) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        let text = format!("may be read or changed by other users (mode {:03o})", mode & 0o777);
        problems.push(Problem::new(None, text, mode_fix(path, shown, &wsl::kernel())));
    }
    match git_status(path)? {
        GitStatus::Tracked => problems.push(Problem::new(
            None,
            "is tracked by git, so its secrets go wherever the repository goes",
            format!(
                "git rm --cached {}   # commit, and replace every secret in it: others may have them",
                quote(shown)
            ),
        )),
        GitStatus::Exposed => problems.push(Problem::new(
            None,
            "is not ignored by git: the next `git add .` would take it",
            format!("echo {} >> .gitignore", quote(shown)),
        )),
        GitStatus::Ignored | GitStatus::NoRepository => {}
    }
    Ok(problems)
}

/// Returns the command that makes the file private. A Windows drive in WSL has no modes, unless it is mounted with
/// `metadata`.
fn mode_fix(path: &Utf8Path, shown: &str, kernel: &str) -> String {
    wsl::drive(path, kernel).map_or(format!("chmod 600 {}", quote(shown)), |drive| {
        format!("chmod has no effect on a Windows drive: clone into WSL's own file system (~), not below {drive}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(make: impl FnOnce(&Utf8Path)) -> (String, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap().join(".env");
        make(&path);
        let error = read(&path, ".env").unwrap_err();
        let failure = error.downcast_ref::<Failure>().unwrap();
        assert_eq!(failure.class, Class::Config);
        (failure.to_string(), failure.hints().to_vec())
    }

    #[test]
    fn reports_an_unreadable_file_with_a_hint() {
        let (what, help) = message(|_| {});
        assert_eq!(
            (what.as_str(), help[0].as_str()),
            (".env: does not exist", "cargo xtask deploy dev   # makes it from .env.example")
        );
        let (what, help) = message(|path| std::fs::create_dir(path).unwrap());
        assert_eq!((what.as_str(), help[0].as_str()), (".env: is a folder, not a file", "mv .env .env.old"));
        let (what, _) = message(|path| std::os::unix::fs::symlink("/no/where", path).unwrap());
        assert_eq!(what, ".env: is a link to /no/where, which does not exist");
        let (what, _) = message(|path| std::os::unix::fs::symlink("/dev/null", path).unwrap());
        assert_eq!(what, ".env: is neither a file nor a named pipe");
        let (what, _) = message(|path| std::fs::write(path, vec![b'#'; 70_000]).unwrap());
        assert_eq!(what, ".env: is larger than 64 KiB, so it is no dotenv file");
        let (what, _) = message(|path| std::fs::write(path, b"A=1\nB=\xff\n").unwrap());
        assert_eq!(what, ".env:2: is not UTF-8");
        let (what, _) = message(|path| std::fs::write(path, b"\xff\xfeA\0=\x001\0").unwrap());
        assert_eq!(what, ".env:1: is not UTF-8");
    }

    /// The kernel's words are those of WSL 2, by hand after Microsoft's documentation.
    #[test]
    fn a_mode_on_a_windows_drive_cannot_be_changed() {
        let wsl = "Linux version 5.15.167.4-microsoft-standard-WSL2 (root@f9c826d3017f) (gcc 11.2.0)";
        let fix = |path: &str, kernel| mode_fix(path.into(), ".env", kernel);
        assert!(fix("/mnt/c/Users/me/todo/.env", wsl).contains("not below /mnt/c"));
        for (path, kernel) in
            [("/home/me/todo/.env", wsl), ("/mnt/data/.env", wsl), ("/mnt/c/x/.env", "Linux version 6.1")]
        {
            assert_eq!(fix(path, kernel), "chmod 600 .env", "{path}");
        }
    }

    #[test]
    fn a_named_pipe_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap().join(".env");
        rustix::fs::mkfifoat(rustix::fs::CWD, path.as_std_path(), rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
            .unwrap();
        let to = path.clone();
        let writer = std::thread::spawn(move || std::fs::write(to, "A=b\n"));
        for _ in 0..2 {
            assert_eq!(read(&path, ".env").unwrap(), "A=b\n");
        }
        writer.join().unwrap().unwrap();
        assert_eq!(exposure(&path, ".env").unwrap(), []);
    }

    #[test]
    fn a_dotenv_that_others_can_read_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        let path = root.join(".env");
        std::fs::write(&path, "A=b\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o600);
        assert_eq!(exposure(&path, ".env").unwrap(), []);
        mode(0o640);
        let problems = exposure(&path, ".env").unwrap();
        assert_eq!(problems[0].text, "may be read or changed by other users (mode 640)");
        assert_eq!(problems[0].fix.text(), "chmod 600 .env");
        mode(0o600);
        crate::git::git(root).args(["init", "--quiet"]).run().unwrap();
        assert_eq!(exposure(&path, ".env").unwrap()[0].fix.text(), "echo .env >> .gitignore");
        crate::git::git(root).args(["add", ".env"]).run().unwrap();
        let problems = exposure(&path, ".env").unwrap();
        assert!(problems[0].text.starts_with("is tracked by git"), "{problems:?}");
        assert!(problems[0].fix.text().starts_with("git rm --cached .env"), "{problems:?}");
    }
}
