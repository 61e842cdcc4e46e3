//! The script in docs/json.md repairs mistakes by following hints.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::common::{DOTENV, Sandbox, checkout};
use crate::secrets;

const URL: &str = "u:not-a-secret@db.lan/x";

/// Returns the code blocks of `language` in docs/json.md.
pub fn blocks(language: &str) -> Vec<String> {
    let page = fs::read_to_string(checkout().join("docs/json.md")).unwrap();
    let begin = format!("```{language}\n");
    let blocks = page.split(&begin).skip(1);
    blocks.map(|block| block.split("\n```").next().unwrap().to_owned()).collect()
}

/// Lets the script run `cargo xtask deploy dev --json` with the arguments `more`. Returns its exit code and output.
fn repair(sandbox: &Sandbox, more: &[&str]) -> (Option<i32>, String) {
    let cargo = sandbox.dir.join("bin/cargo");
    let script = format!(
        "#!/bin/sh\nshift\nPATH='{}'\nexec '{}' \"$@\"\n",
        sandbox.dir.join("bin"),
        env!("CARGO_BIN_EXE_xtask")
    );
    fs::write(&cargo, script).unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    let [script] = blocks("python").try_into().unwrap();
    let inner = sandbox.command(&[]);
    let path = format!("{}:{}", sandbox.dir.join("bin"), std::env::var("PATH").unwrap());
    let mut command = std::process::Command::new("python3");
    command.args(["-c", &script, "cargo", "xtask", "deploy", "dev", "--json"]).args(more);
    let variables = inner.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let output = command
        .env_clear()
        .envs(variables)
        .env("PATH", path)
        .current_dir(&sandbox.root)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// A mistake: its description, how to make it, and whether a script can repair it.
type Mistake = (&'static str, fn(&Sandbox), bool);

fn dotenv(sandbox: &Sandbox, line: &str) {
    sandbox.dotenv(format!("{DOTENV}{line}\n"));
}

fn git(sandbox: &Sandbox, args: &[&str]) {
    let user = ["-c", "user.name=x", "-c", "user.email=x@example.com"];
    let output = std::process::Command::new("git").args(user).args(args).current_dir(&sandbox.root).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

const MISTAKES: [Mistake; 12] = [
    ("a key of .env is missing", |sandbox| sandbox.dotenv("# AUTH_SECRET=\n"), true),
    ("a secret is a placeholder", |sandbox| sandbox.dotenv("AUTH_SECRET=changeme\n"), true),
    ("a key of .env is misspelt", |sandbox| sandbox.dotenv(DOTENV.replace("AUTH_SECRET", "AUTH_SECRT")), true),
    (
        "everybody may read .env",
        |sandbox| {
            sandbox.dotenv(DOTENV);
            fs::set_permissions(sandbox.root.join(".env"), fs::Permissions::from_mode(0o644)).unwrap();
        },
        true,
    ),
    ("the URL names a driver", |sandbox| dotenv(sandbox, &format!("DATABASE_URL=postgresql+asyncpg://{URL}")), true),
    (
        "the database is on this machine",
        |sandbox| dotenv(sandbox, "DATABASE_URL='postgresql://u:not-a-secret@localhost/x'"),
        true,
    ),
    (
        "a setting is misspelt",
        |sandbox| sandbox.edit("infra/xtask.toml", |text| text.replace("port = 8080", "prot = 8080")),
        true,
    ),
    (
        "a setting has the wrong type",
        |sandbox| sandbox.edit("infra/xtask.toml", |text| text.replace("cpus = 2", "cpus = \"2\"")),
        true,
    ),
    (
        "a values file is missing",
        |sandbox| {
            fs::write(sandbox.root.join(".gitignore"), ".env\n").unwrap();
            git(sandbox, &["init", "--quiet"]);
            git(sandbox, &["add", "."]);
            git(sandbox, &["commit", "--quiet", "--message=x"]);
            fs::remove_file(sandbox.root.join("infra/helm/values-dev.yaml")).unwrap();
        },
        true,
    ),
    (
        "the engine's machine is too small",
        |sandbox| {
            sandbox.edit("infra/xtask.toml", |text| text.replace("memory_mib = 3\n", "memory_mib = 6144\n"));
            sandbox.fake_tool("colima");
            sandbox.on("colima stop", "");
            sandbox.on("colima start --cpu 2 --memory 7", "echo >\"$FAKES/large\"");
            let size = "if [ -e \"$FAKES/large\" ]; then m=7516192768; else m=2056257536; fi";
            sandbox.on("docker info *", &format!("{size}; echo $m 2 colima Ubuntu 24.04.2 LTS"));
        },
        // The repair would stop other containers of the user.
        false,
    ),
    // Only the user has the key, or knows the database.
    ("an API key is a placeholder", |sandbox| dotenv(sandbox, "OPENAI_API_KEY=sk-..."), false),
    (
        "a URL is the sample of the documentation",
        |sandbox| dotenv(sandbox, "DATABASE_URL=postgresql://USER:PASSWORD@HOST-pooler.REGION.aws.neon.tech/DATABASE"),
        false,
    ),
];

#[test]
fn a_script_repairs_nine_of_twelve_mistakes_by_following_hints() {
    let repairs = |(mistake, make, is_repairable): Mistake| {
        let sandbox = Sandbox::with_tools();
        sandbox.dotenv(DOTENV);
        sandbox.fake_tool("openssl");
        sandbox.on("openssl rand -hex 32", "echo 0123456789abcdef0123456789abcdef");
        make(&sandbox);
        let made = sandbox.run(&["deploy", "dev", "--dry-run", "--origin=release"]);
        assert!(matches!(made.code, Some(3 | 4)), "{mistake}: it is no mistake: {made}");
        let before = sandbox.listing(&sandbox.root);
        let (code, text) = repair(&sandbox, &["--dry-run", "--origin=release"]);
        assert_eq!(code == Some(0), is_repairable, "{mistake}: {code:?} {text}");
        assert!(is_repairable || before == sandbox.listing(&sandbox.root), "{mistake}: something was changed: {text}");
        assert!(!text.contains("canary"), "{mistake}: {text}");
    };
    std::thread::scope(|scope| {
        let threads = MISTAKES.map(|mistake| scope.spawn(move || repairs(mistake)));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_script_uses_another_profile_where_the_port_is_taken() {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(DOTENV);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    sandbox.profile("containerd");
    sandbox.node("exited", listener.local_addr().unwrap().port());
    let (code, text) = repair(&sandbox, &["--dry-run", "--origin=release"]);
    assert!(code == Some(0) && text.contains("create cluster todo2"), "{text}");
}

/// The fake Helm prints the message of Helm 4 for these values.
#[test]
fn a_script_repairs_values_that_helm_refuses() {
    let sandbox = secrets::cluster();
    sandbox.dotenv(DOTENV);
    let values = sandbox.root.join("infra/helm/values-dev.yaml");
    sandbox.edit("infra/helm/values-dev.yaml", |text| {
        format!("{text}\nbackend:\n  replicas: \"3\"\nfrontend:\n  replcias: 1\n")
    });
    let helm = format!(
        "case $(cat '{values}') in *'replicas: \"3\"'* | *replcias*) echo \"Error: values don't meet the specifications of the \
         schema(s) in the following chart(s):\ntodo:\n- at '/backend/replicas': got string, want integer\n\
         - at '/frontend': additional properties 'replcias' not allowed\" >&2 ;; \
         *) echo 'Error: as far as this test goes' >&2 ;; esac; exit 1"
    );
    sandbox.on("helm *upgrade *", &helm);
    let (code, text) = repair(&sandbox, &["--origin=release"]);
    assert!(code == Some(3) && text.contains("as far as this test goes"), "{text}");
    let repaired = fs::read_to_string(&values).unwrap();
    assert!(repaired.ends_with("\nbackend:\n  replicas: 3\nfrontend:\n  replicas: 1\n"), "{repaired}\n{text}");
}
