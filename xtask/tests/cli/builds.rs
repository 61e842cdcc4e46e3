//! The content of image builds, and the resulting images in the engine.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::common::{ID, Sandbox, image};

/// Returns a sandbox whose engine has every base image and all built images. Each build runs `script`.
fn engine(script: &str) -> Sandbox {
    let sandbox = Sandbox::with_tools();
    let build = format!(
        r#"{script}
        for word; do [ "$before" = --tag ] && echo "$word" >>"$FAKES/images"; before=$word; done"#
    );
    sandbox.on("docker buildx build *", &build);
    let inspect = format!(
        r#": >>"$FAKES/images"; code=0
        for name; do
            case $name in image | inspect | *{{* | --*) continue ;; esac
            found=
            while read -r have; do [ "$have" = "$name" ] && found=yes; done <"$FAKES/images"
            [ "$found" ] && {image} || {{ echo "Error: No such image: $name" >&2; code=1; }}
        done
        exit $code"#,
        image = image(ID, "")
    );
    sandbox.on("docker image inspect *todo-*", &inspect);
    sandbox
}

/// Returns the tags that `images` prints.
fn tags(sandbox: &Sandbox) -> Vec<String> {
    let run = sandbox.run(&["images", "--origin=release"]);
    assert_eq!(run.code, Some(0), "{run}");
    run.stdout.lines().map(str::to_owned).collect()
}

fn mode(sandbox: &Sandbox, path: &str, mode: u32) {
    fs::set_permissions(sandbox.root.join(path), Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_file_that_is_saved_during_a_build_is_part_of_the_next_build() {
    let root = "$FAKES/../root/apps/backend";
    let sandbox = engine(&format!(r#"echo "FROM saved" >{root}/Dockerfile"#));
    let before = tags(&sandbox);
    let sent = sandbox.fake("stdin");
    assert!(sent.contains("FROM backend") && !sent.contains("FROM saved"), "{sent:?}");
    let after = tags(&sandbox);
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1], after[1]);
    assert!(sandbox.fake("stdin").contains("FROM saved"));
    assert_eq!(tags(&sandbox), after, "nothing is left to build");
}

#[test]
fn a_umask_changes_neither_the_image_nor_its_tag() {
    let sandbox = engine("");
    fs::write(sandbox.root.join("apps/backend/app.py"), "1").unwrap();
    mode(&sandbox, "apps/backend/app.py", 0o600);
    let before = tags(&sandbox);
    // A tar entry: the name, padded to 100 bytes, then the octal mode.
    let sent = sandbox.fake("stdin");
    let entry = sent.find("app.py").unwrap();
    assert_eq!(&sent[entry + 100..entry + 107], "0000644");
    mode(&sandbox, "apps/backend/app.py", 0o644);
    assert_eq!(tags(&sandbox), before);
    mode(&sandbox, "apps/backend/app.py", 0o755);
    assert_ne!(tags(&sandbox), before, "an executable is another file");
}

#[test]
fn an_unreadable_file_is_an_error_with_its_path() {
    let sandbox = engine("");
    let _socket = std::os::unix::net::UnixListener::bind(sandbox.root.join("apps/frontend/s")).unwrap();
    let run = sandbox.run(&["images", "--origin=release"]);
    assert_eq!(run.code, Some(6), "{run}");
    assert!(run.stderr.contains("apps/frontend/s of the build context: it is a socket"), "{run}");
    assert!(!sandbox.calls().contains("docker buildx"), "{}", sandbox.calls());
}
