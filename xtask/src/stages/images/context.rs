//! What a build context holds, as `.dockerignore` leaves it: a digest for each path. Times do not count.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest, Sha256};

use super::ignore::{Ignore, Matches};
use crate::failure::{Class, Failure};

/// Path relative to the context -> what is there: `file <sha256>`, `exec <sha256>`, `link <target>`, `folder`.
pub type Files = BTreeMap<String, String>;

/// The value for a folder.
pub const FOLDER: &str = "folder";

/// Reads the context `dir`. Dockerfile and ignore file always count, also where patterns leave them out. Folders that
/// are left out are not entered unless an exception could bring back something below.
pub fn read(dir: &Utf8Path) -> Result<Files> {
    let mut files = Files::new();
    let dockerfile = dir.join("Dockerfile");
    let Some(digest) = entry(&dockerfile)? else {
        return Err(Failure::new(Class::Config, format!("there is no {dockerfile}"))
            .help(format!("`context` in {} names the folder that holds the Dockerfile", crate::settings::FILE))
            .into());
    };
    files.insert("Dockerfile".into(), digest);
    let mut ignore = Ignore::default();
    // Docker prefers the one that belongs to the Dockerfile.
    for name in ["Dockerfile.dockerignore", ".dockerignore"] {
        let path = dir.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                ignore = Ignore::parse(&text, path.as_str())?;
                files.extend(entry(&path)?.map(|digest| (name.to_owned(), digest)));
                break;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(&path, &error)),
        }
    }
    walk(dir, "", &ignore, &Matches::default(), &mut files)?;
    Ok(files)
}

/// Everything in the folder `dir`.
pub fn tree(dir: &Utf8Path) -> Result<Files> {
    let mut files = Files::new();
    walk(dir, "", &Ignore::default(), &Matches::default(), &mut files)?;
    Ok(files)
}

fn walk(dir: &Utf8Path, below: &str, ignore: &Ignore, parent: &Matches, files: &mut Files) -> Result<()> {
    let here = if below.is_empty() { dir.to_owned() } else { dir.join(below) };
    for found in std::fs::read_dir(&here).map_err(|error| unreadable(&here, &error))? {
        let found = found.map_err(|error| unreadable(&here, &error))?;
        let name = found.file_name().into_string().map_err(|name| {
            Failure::new(Class::Image, format!("{here} holds a file whose name is not UTF-8: {}", name.display()))
                .help("rename it, or leave it out in .dockerignore")
        })?;
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        let matches = ignore.judge(&path, parent);
        let is_dir = found.file_type().is_ok_and(|kind| kind.is_dir());
        if !matches.excluded {
            files.extend(entry(&dir.join(&path))?.map(|digest| (path.clone(), digest)));
        }
        if is_dir && (!matches.excluded || ignore.may_return_below(&path)) {
            walk(dir, &path, ignore, &matches, files)?;
        }
    }
    Ok(())
}

/// What is at `path`; `None` if it is gone (editors replace files while we look) or is a socket or the like, which a
/// build does not get either.
pub fn entry(path: &Utf8Path) -> Result<Option<String>> {
    let look = || -> std::io::Result<Option<String>> {
        let metadata = path.symlink_metadata()?;
        Ok(if metadata.is_symlink() {
            Some(format!("link {}", path.as_std_path().read_link()?.display()))
        } else if metadata.is_dir() {
            Some(FOLDER.into())
        } else if metadata.is_file() {
            Some(format!("{} {}", kind(&metadata), digest(path)?))
        } else {
            None
        })
    };
    match look() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map_err(|error| unreadable(path, &error)),
    }
}

fn kind(metadata: &Metadata) -> &'static str {
    if metadata.permissions().mode() & 0o111 == 0 { "file" } else { "exec" }
}

fn digest(path: &Utf8Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unreadable(path: &Utf8Path, error: &std::io::Error) -> anyhow::Error {
    let path: Utf8PathBuf = path.to_owned();
    Failure::new(Class::Image, format!("cannot read {path} of the build context: {error}"))
        .help(format!("make it readable (ls -ld {path}), or leave it out in .dockerignore"))
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
    fn what_is_ignored_does_not_count_but_the_dockerfile_does() {
        let (_temp, dir) = context(&[
            ("Dockerfile", "FROM x"),
            (".dockerignore", "Dockerfile\n.dockerignore\nnode_modules\n**/*.pyc\n!node_modules/kept/it"),
            ("a/b.py", "1"),
            ("a/b.pyc", "2"),
            ("node_modules/m/index.js", "3"),
            ("node_modules/kept/it", "4"),
        ]);
        let paths: Vec<String> = read(&dir).unwrap().into_keys().collect();
        assert_eq!(paths, [".dockerignore", "Dockerfile", "a", "a/b.py", "node_modules/kept/it"]);
    }

    #[test]
    fn an_ignored_folder_is_not_entered() {
        let (_temp, dir) = context(&[("Dockerfile", ""), (".dockerignore", "secret"), ("a", "")]);
        // A name that is not UTF-8 would be an error if the walk saw it.
        std::fs::create_dir(dir.join("secret")).unwrap();
        let bad = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff");
        std::fs::write(dir.join("secret").as_std_path().join(bad), "").unwrap();
        read(&dir).unwrap();
        std::fs::write(dir.join(".dockerignore"), "").unwrap();
        assert!(read(&dir).unwrap_err().to_string().contains("not UTF-8"));
    }

    #[test]
    fn mode_and_link_target_count_and_time_does_not() {
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

    #[test]
    fn a_socket_is_passed_over_and_no_dockerfile_is_an_error() {
        let (_temp, dir) = context(&[("a", "")]);
        assert!(read(&dir).unwrap_err().to_string().ends_with("/Dockerfile"));
        std::fs::write(dir.join("Dockerfile"), "").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
        assert_eq!(read(&dir).unwrap().into_keys().collect::<Vec<_>>(), ["Dockerfile", "a"]);
    }

    #[test]
    fn an_unreadable_file_is_named() {
        let (_temp, dir) = context(&[("Dockerfile", "")]);
        // Reading a folder as a file fails for root too, unlike one without permission.
        std::fs::create_dir(dir.join(".dockerignore")).unwrap();
        assert!(read(&dir).unwrap_err().to_string().contains(".dockerignore of the build context"));
    }
}
