//! Reads a build context without the files in `.dockerignore`: as a digest for each path, and as the tar for BuildKit.
//!
//! One walk makes both, so the content tag describes exactly the bytes that are sent. Owner, times and all of the mode but
//! the executable bit are the same for each entry. So the umask, the user and the time of a checkout change neither the tag
//! nor a layer. BuildKit applies no `.dockerignore` to a tar; `ignore.rs` alone decides what is in it.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{BufWriter, ErrorKind, Read, Seek};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest, Sha256};

use super::ignore::{Ignore, Matches};
use crate::failure::{Class, Failure};
use crate::units::{hex, quote};

/// Path relative to the context -> its entry: `file <sha256>`, `exec <sha256>`, `link <target>`, `folder`.
pub type Files = BTreeMap<String, String>;

/// The entry of a folder.
pub const FOLDER: &str = "folder";

/// The name of the Dockerfile in a context and in its tar.
pub const DOCKERFILE: &str = "Dockerfile";

/// Modification time of every tar entry: 1980-01-01, the earliest that zip files support.
const MODIFIED: u64 = 315_532_800;

type TarBuilder = tar::Builder<BufWriter<File>>;

/// Returns the digests of the context `dir`.
pub fn read(dir: &Utf8Path) -> Result<Files> {
    context(dir, None)
}

/// Writes the context `dir` as a tar to an unnamed file in `temp`. Returns its digests and the file, rewound.
pub fn pack(dir: &Utf8Path, temp: &Utf8Path) -> Result<(Files, File)> {
    let unwritable = || format!("cannot write the build context of {dir} to {temp}");
    std::fs::create_dir_all(temp).with_context(unwritable)?;
    let file = tempfile::tempfile_in(temp).with_context(unwritable)?;
    let mut tar = TarBuilder::new(BufWriter::with_capacity(1 << 18, file));
    let files = context(dir, Some(&mut tar))?;
    let finish = || -> std::io::Result<File> {
        let mut file = tar.into_inner()?.into_inner()?;
        file.rewind()?;
        Ok(file)
    };
    Ok((files, finish().with_context(unwritable)?))
}

/// Returns the digests of everything in the folder `dir`.
pub fn tree(dir: &Utf8Path) -> Result<Files> {
    let mut walk = Walk { dir, ignore: Ignore::default(), reads_ignore: false, files: Files::new(), tar: None };
    walk.add_folder("", &Matches::default())?;
    Ok(walk.files)
}

/// Returns whether `name` is a private file of an editor or desktop: Vim's swap files and its write test (`4913`), backups,
/// locks and automatic saves of Emacs, safe writes of JetBrains, views of Finder. They come and go while somebody types, so
/// they belong to no context and start no deploy.
pub fn is_editors(name: &str) -> bool {
    let swap = name.rsplit_once(".sw").is_some_and(|(_, last)| matches!(last.as_bytes(), [b'a'..=b'p' | b'x']));
    swap && name.starts_with('.')
        || name == "4913"
        || name.ends_with('~')
        || name.starts_with(".#")
        || name.starts_with('#') && name.ends_with('#')
        || name.ends_with("___jb_tmp___")
        || name.ends_with("___jb_old___")
        || name == ".DS_Store"
}

/// Returns the entry at `path`; `None` if there is none.
pub fn entry(path: &Utf8Path) -> Result<Option<String>> {
    read_entry(path, path.as_str(), None)
}

fn context(dir: &Utf8Path, tar: Option<&mut TarBuilder>) -> Result<Files> {
    let mut ignore = Ignore::default();
    // In Docker's order: the file of the Dockerfile takes precedence.
    for name in ["Dockerfile.dockerignore", ".dockerignore"] {
        let path = dir.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                ignore = Ignore::parse(&text, path.as_str())?;
                break;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(read_error(&path, &error)),
        }
    }
    let mut walk = Walk { dir, ignore, reads_ignore: true, files: Files::new(), tar };
    // BuildKit reads the Dockerfile from the tar, so it is there even if a pattern excludes it.
    walk.add(DOCKERFILE)?;
    if walk.files.is_empty() {
        return Err(Failure::new(Class::Config, format!("there is no {}", dir.join(DOCKERFILE)))
            .help(format!("`context` in {} names the folder that holds the Dockerfile", crate::settings::FILE))
            .into());
    }
    walk.add_folder("", &Matches::default())?;
    Ok(walk.files)
}

/// A walk through a context, in the order of the names.
struct Walk<'a> {
    dir: &'a Utf8Path,
    ignore: Ignore,
    /// Whether hints may name `.dockerignore`.
    reads_ignore: bool,
    files: Files,
    tar: Option<&'a mut TarBuilder>,
}

impl Walk<'_> {
    /// Adds the entries of the folder `below`. Enters an excluded folder only if an exception could match something in it.
    fn add_folder(&mut self, below: &str, parent: &Matches) -> Result<()> {
        let here = if below.is_empty() { self.dir.to_owned() } else { self.dir.join(below) };
        let list = || -> std::io::Result<Vec<_>> {
            here.as_std_path()
                .read_dir()?
                .map(|found| found.and_then(|f| Ok((f.file_name(), f.file_type()?))))
                .collect()
        };
        let mut list = list().map_err(|error| read_error(&here, &error))?;
        list.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (name, kind) in list {
            let is_text = name.to_str().is_some();
            // As in Docker, patterns see the replacement character for bytes that are not UTF-8.
            let shown = name.to_string_lossy();
            if is_editors(&shown) {
                continue;
            }
            let path = if below.is_empty() { shown.into_owned() } else { format!("{below}/{shown}") };
            let matches = self.ignore.judge(&path, parent);
            if !is_text {
                if matches.excluded && !(kind.is_dir() && self.ignore.may_return_below(&path)) {
                    continue;
                }
                let what = format!("{here} holds a file whose name is not UTF-8: {}", name.display());
                let help = if self.reads_ignore { "rename it, or exclude it in .dockerignore" } else { "rename it" };
                return Err(Failure::new(Class::Image, what).help(help).into());
            }
            if !matches.excluded {
                self.add(&path)?;
            }
            if kind.is_dir() && (!matches.excluded || self.ignore.may_return_below(&path)) {
                self.add_folder(&path, &matches)?;
            }
        }
        Ok(())
    }

    /// Adds the entry at `path`, after its parent folders: a pattern may have excluded those.
    fn add(&mut self, path: &str) -> Result<()> {
        if self.files.contains_key(path) {
            return Ok(());
        }
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.add(folder)?;
        }
        let found = read_entry(&self.dir.join(path), path, self.tar.as_deref_mut())?;
        self.files.extend(found.map(|what| (path.to_owned(), what)));
        Ok(())
    }
}

/// Returns the entry at `path` and writes it to `tar` as `name`. `None` if it is gone: editors replace files meanwhile.
fn read_entry(path: &Utf8Path, name: &str, tar: Option<&mut TarBuilder>) -> Result<Option<String>> {
    let result = (|| {
        let metadata = path.symlink_metadata()?;
        if metadata.is_symlink() {
            return add_link(name, &path.read_link_utf8()?, tar).map(Some);
        }
        if metadata.is_dir() {
            if let Some(tar) = tar {
                append_entry(tar, tar::EntryType::Directory, 0o755, 0, &format!("{name}/"), std::io::empty())?;
            }
            return Ok(Some(FOLDER.to_owned()));
        }
        if !metadata.is_file() {
            let kind = describe_kind(&metadata);
            return Err(std::io::Error::other(format!("it is a {kind}, which an image cannot contain")));
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        add_file(name, file, &metadata, tar).map(Some)
    })();
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map_err(|error| read_error(path, &error)),
    }
}

fn add_link(name: &str, target: &Utf8Path, tar: Option<&mut TarBuilder>) -> std::io::Result<String> {
    if let Some(tar) = tar {
        let mut header = header(tar::EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut header, name, target)?;
    }
    Ok(format!("link {target}"))
}

/// Hashes the file and writes the same bytes to `tar`, as many as the file had when it was opened.
fn add_file(name: &str, file: File, metadata: &Metadata, tar: Option<&mut TarBuilder>) -> std::io::Result<String> {
    let (kind, mode) = if metadata.permissions().mode() & 0o111 == 0 { ("file", 0o644) } else { ("exec", 0o755) };
    let size = metadata.len();
    let mut hashed = HashingReader { inner: file.take(size), hash: Sha256::new(), count: 0 };
    match tar {
        Some(tar) => append_entry(tar, tar::EntryType::Regular, mode, size, name, &mut hashed)?,
        None => drop(std::io::copy(&mut hashed, &mut std::io::sink())?),
    }
    if hashed.count != size {
        return Err(std::io::Error::other("it shrank while xtask read it; run the same command again"));
    }
    Ok(format!("{kind} {}", hex(&hashed.hash.finalize())))
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(MODIFIED);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn append_entry(
    tar: &mut TarBuilder,
    kind: tar::EntryType,
    mode: u32,
    size: u64,
    name: &str,
    data: impl Read,
) -> std::io::Result<()> {
    tar.append_data(&mut header(kind, mode, size), name, data)
}

fn describe_kind(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_socket() {
        "socket"
    } else if kind.is_fifo() {
        "named pipe"
    } else {
        "device"
    }
}

struct HashingReader<R> {
    inner: R,
    hash: Sha256,
    count: u64,
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.count += count as u64;
        Ok(count)
    }
}

fn read_error(path: &Utf8Path, error: &std::io::Error) -> anyhow::Error {
    let path: Utf8PathBuf = path.to_owned();
    Failure::new(Class::Image, format!("cannot read {path} of the build context: {error}"))
        .help(format!("ls -ld {}    (fix it, or exclude it in .dockerignore)", quote(&path)))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn context(files: &[(&str, &str)]) -> (tempfile::TempDir, Utf8PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let dir = Utf8PathBuf::from_path_buf(temp.path().to_owned()).unwrap();
        for (path, text) in files {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        (temp, dir)
    }

    #[test]
    fn excludes_ignored_files_but_never_the_dockerfile() {
        let (_temp, dir) = context(&[
            ("Dockerfile", "FROM x"),
            (".dockerignore", "Dockerfile\n.dockerignore\nnode_modules\n**/*.pyc\n!node_modules/kept/it"),
            ("a/b.py", "1"),
            ("a/b.pyc", "2"),
            ("node_modules/m/index.js", "3"),
            ("node_modules/kept/it", "4"),
        ]);
        let paths: Vec<String> = read(&dir).unwrap().into_keys().collect();
        // The parent folders of an excepted file are there as well: the tar sets their mode.
        let kept = ["node_modules", "node_modules/kept", "node_modules/kept/it"];
        assert_eq!(paths, [&["Dockerfile", "a", "a/b.py"][..], &kept].concat());
        let (files, tar) = pack(&dir, dir.parent().unwrap()).unwrap();
        let mut packed: Vec<String> = entries(tar).into_iter().map(|entry| entry.0).collect();
        packed.sort();
        assert_eq!((files.into_keys().collect::<Vec<_>>(), packed), (paths.clone(), paths));
    }

    #[test]
    fn excludes_private_files_of_editors() {
        let (_temp, dir) = context(&[("Dockerfile", ""), ("a.py", "")]);
        let before = read(&dir).unwrap();
        for name in [".a.py.swp", ".a.py.swx", ".swo", "4913", "a.py~", "#a.py#", "a.py___jb_tmp___", ".DS_Store"] {
            std::fs::write(dir.join(name), "").unwrap();
        }
        // Emacs' lock is a dangling link.
        symlink("somebody@host.1", dir.join(".#a.py")).unwrap();
        assert_eq!((read(&dir).unwrap(), tree(&dir).unwrap()), (before.clone(), before));
        for name in ["a.swp", "answer.sw", ".env.swap", "~a", "#a", "a#"] {
            assert!(!is_editors(name), "{name}");
        }
    }

    #[test]
    fn excludes_tests_and_supervisors_of_the_applications() {
        let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for app in ["apps/backend", "apps/frontend"] {
            let files = read(&root.join(app)).unwrap();
            assert!(
                !files.keys().any(|path| path.starts_with("tests") || path.starts_with("dev/")) && files.len() > 10,
                "{app}: {files:?}"
            );
        }
    }

    #[test]
    fn does_not_enter_an_ignored_folder() {
        let (_temp, dir) = context(&[("Dockerfile", ""), (".dockerignore", "secret"), ("a", "")]);
        // A name that is not UTF-8 is an error if the walk sees it.
        std::fs::create_dir(dir.join("secret")).unwrap();
        let bad = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff");
        std::fs::write(dir.join("secret").as_std_path().join(bad), "").unwrap();
        read(&dir).unwrap();
        std::fs::write(dir.join(".dockerignore"), "").unwrap();
        assert!(read(&dir).unwrap_err().to_string().contains("not UTF-8"));
    }

    #[test]
    fn accepts_an_ignored_name_that_is_not_utf8() {
        let bad = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"caf\xe9.tmp");
        let (_temp, dir) = context(&[("Dockerfile", ""), (".dockerignore", "**/*.tmp"), ("a/b", "")]);
        std::fs::write(dir.join("a").as_std_path().join(bad), "").unwrap();
        std::fs::create_dir(dir.as_std_path().join(bad)).unwrap();
        std::fs::write(dir.as_std_path().join(bad).join(bad), "").unwrap();
        assert_eq!(read(&dir).unwrap().into_keys().collect::<Vec<_>>(), [".dockerignore", "Dockerfile", "a", "a/b"]);
        for patterns in ["*.tmp", "**/*.tmp\n!**/b"] {
            std::fs::write(dir.join(".dockerignore"), patterns).unwrap();
            assert!(read(&dir).unwrap_err().to_string().contains("not UTF-8"), "{patterns}");
        }
        assert!(tree(&dir).unwrap_err().downcast_ref::<Failure>().unwrap().hints() == ["rename it"]);
    }

    #[test]
    fn depends_on_mode_and_link_target_but_not_on_time() {
        let (_temp, dir) = context(&[("Dockerfile", ""), ("run", "x")]);
        symlink("run", dir.join("link")).unwrap();
        symlink("nowhere", dir.join("broken")).unwrap();
        let before = read(&dir).unwrap();
        assert_eq!((before["link"].as_str(), before["broken"].as_str()), ("link run", "link nowhere"));

        let file = std::fs::File::options().write(true).open(dir.join("run")).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(read(&dir).unwrap(), before);

        file.set_permissions(std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(read(&dir).unwrap()["run"], before["run"].replace("file", "exec"));
    }

    /// Returns path, mode, time and content (or link target) of each entry.
    fn entries(tar: File) -> Vec<(String, u32, u64, String)> {
        let read = |entry: std::io::Result<tar::Entry<'_, File>>| {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let (mode, time) = (entry.header().mode().unwrap(), entry.header().mtime().unwrap());
            assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (0, 0), "{path}");
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            let link = entry.link_name().unwrap().map(|target| target.display().to_string());
            (path.trim_end_matches('/').to_owned(), mode, time, link.unwrap_or(text))
        };
        tar::Archive::new(tar).entries().unwrap().map(read).collect()
    }

    #[test]
    fn depends_on_neither_umask_nor_times() {
        let (_temp, dir) = context(&[("Dockerfile", "FROM x"), ("a/b.py", "1"), ("run", "x")]);
        let mode = |path: &str, mode| {
            std::fs::set_permissions(dir.join(path), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode("run", 0o755);
        symlink("b.py", dir.join("a/link")).unwrap();
        let temp = dir.parent().unwrap();
        let bytes = |mut tar: File| {
            let mut bytes = Vec::new();
            tar.read_to_end(&mut bytes).unwrap();
            bytes
        };
        let (files, tar) = pack(&dir, temp).unwrap();
        assert_eq!(files, read(&dir).unwrap());
        let before = bytes(tar);
        // As with umask 077.
        for (path, to) in [("a/b.py", 0o600), ("a", 0o700), ("run", 0o700), ("Dockerfile", 0o600)] {
            mode(path, to);
        }
        let file = File::options().write(true).open(dir.join("run")).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let (again, tar) = pack(&dir, temp).unwrap();
        assert_eq!((again, bytes(tar)), (files, before));

        let entry = |path: &str, mode, text: &str| (path.to_owned(), mode, MODIFIED, text.to_owned());
        let wanted = [
            entry("Dockerfile", 0o644, "FROM x"),
            entry("a", 0o755, ""),
            entry("a/b.py", 0o644, "1"),
            entry("a/link", 0o777, "b.py"),
            entry("run", 0o755, "x"),
        ];
        assert_eq!(entries(pack(&dir, temp).unwrap().1), wanted);
    }

    #[test]
    fn fails_for_a_file_that_shrinks_while_it_is_read() {
        let (_temp, dir) = context(&[("a", "12345")]);
        let path = dir.join("a");
        let (file, metadata) = (File::open(&path).unwrap(), path.metadata().unwrap());
        File::options().write(true).open(&path).unwrap().set_len(3).unwrap();
        assert!(add_file("a", file, &metadata, None).unwrap_err().to_string().contains("shrank"));
        // A file that grows is sent with its size at the opening.
        let (file, metadata) = (File::open(&path).unwrap(), path.metadata().unwrap());
        let before = entry(&path).unwrap().unwrap();
        std::fs::write(&path, "123456").unwrap();
        assert_eq!(add_file("a", file, &metadata, None).unwrap(), before);
    }

    #[test]
    fn fails_for_a_socket_and_without_a_dockerfile() {
        let (_temp, dir) = context(&[("a", "")]);
        assert!(read(&dir).unwrap_err().to_string().ends_with("/Dockerfile"));
        std::fs::write(dir.join("Dockerfile"), "").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
        let error = read(&dir).unwrap_err().to_string();
        assert!(error.contains("/socket of the build context: it is a socket"), "{error}");
        std::fs::write(dir.join(".dockerignore"), "socket").unwrap();
        assert!(!read(&dir).unwrap().contains_key("socket"));
    }

    #[test]
    fn names_an_unreadable_file() {
        let (_temp, dir) = context(&[("Dockerfile", "")]);
        // Unlike a file without permission, a folder cannot be read as a file by root either.
        std::fs::create_dir(dir.join(".dockerignore")).unwrap();
        assert!(read(&dir).unwrap_err().to_string().contains(".dockerignore of the build context"));
    }
}
