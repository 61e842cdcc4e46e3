//! Mistakes in arguments, `infra/xtask.toml`, the chart and `.env`: reported with their position before any tool runs.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use crate::common::{DOTENV, Run, Sandbox};

/// Deploys. Fails if xtask calls or changes anything.
fn refused(sandbox: &Sandbox) -> Run {
    let before = sandbox.listing(&sandbox.root);
    let run = sandbox.run(&["deploy", "dev", "--origin=release"]);
    assert_eq!(sandbox.fake("calls"), "", "{run}");
    assert!(before == sandbox.listing(&sandbox.root), "the checkout is not as it was: {run}");
    assert!(!(run.stdout.clone() + &run.stderr).contains("canary"), "{run}");
    assert_eq!(run.code, Some(3), "{run}");
    run
}

#[test]
fn an_unknown_environment_is_reported_with_the_known_ones() {
    let sandbox = Sandbox::with_tools();
    insta::assert_snapshot!(sandbox.run(&["deploy", "dve", "--yes"]), @"
    exit code 3
    -- stderr
    error: there is no environment `dve`; known are: dev
      try: cargo xtask deploy dev
    ");
    assert_eq!(sandbox.fake("calls"), "");
    assert!(!sandbox.root.join(".env").exists() && !sandbox.cache.join("locks").exists());
}

#[test]
fn mistakes_in_the_settings_are_reported_with_their_line() {
    let broken = |good: &str, bad: &str| {
        let sandbox = Sandbox::with_tools();
        sandbox.edit("infra/xtask.toml", |text| text.replace(good, bad));
        let run = refused(&sandbox);
        let line = 1 + sandbox.read("infra/xtask.toml").lines().position(|line| line == bad).unwrap();
        assert!(run.stderr.starts_with(&format!("error: infra/xtask.toml:{line}: ")), "line {line}: {run}");
        run
    };
    insta::assert_snapshot!(broken("port = 8080", "prot = 8080"), @"
    exit code 3
    -- stderr
    error: infra/xtask.toml:<line>: unknown field `prot`, expected one of `profile`, `port`, `kubernetes`, `cpus`, `memory_mib`, `ingress`, `ingress_image`
      try: rename prot in infra/xtask.toml:15 to port
    ");
    insta::assert_snapshot!(broken("port = 8080", "port = 80800"), @"
    exit code 3
    -- stderr
    error: infra/xtask.toml:<line>: invalid value: integer `80800`, expected u16
      try: set port in infra/xtask.toml:15 to a whole number from 0 to 65535
    ");
    insta::assert_snapshot!(broken("[cluster]", "[cluster"), @"
    exit code 3
    -- stderr
    error: infra/xtask.toml:<line>: unclosed table, expected `]`
      try: edit infra/xtask.toml; its comments describe every key
    ");

    let sandbox = Sandbox::with_tools();
    fs::remove_file(sandbox.root.join("infra/xtask.toml")).unwrap();
    insta::assert_snapshot!(refused(&sandbox), @"
    exit code 3
    -- stderr
    error: cannot read infra/xtask.toml: No such file or directory (os error 2)
      try: git checkout infra/xtask.toml
    ");
}

#[test]
fn mistakes_in_the_chart_are_reported_with_their_line() {
    let sandbox = Sandbox::with_tools();
    sandbox.edit("infra/helm/values-dev.yaml", |text| format!("{text}\nbroken: [\n"));
    let run = refused(&sandbox);
    assert!(run.stderr.starts_with("error: infra/helm/values-dev.yaml:"), "{run}");

    let sandbox = Sandbox::with_tools();
    fs::remove_file(sandbox.root.join("infra/helm/values-dev.yaml")).unwrap();
    insta::assert_snapshot!(refused(&sandbox), @"
    exit code 3
    -- stderr
    error: cannot read infra/helm/values-dev.yaml: No such file or directory (os error 2)
      try: git checkout infra/helm/values-dev.yaml
    ");
}

#[test]
fn a_broken_dotenv_is_reported_by_line_before_anything_else() {
    let auth = DOTENV.trim();
    let cases = [
        ("OPENAI_API_KEY=canary$canary-canary", "2: OPENAI_API_KEY=… has a $ outside single quotes"),
        ("OPENAI_API_KEY='canary", "2: OPENAI_API_KEY=… has a ' that is not closed"),
        ("OPENAI_API_KEY=canary canary", "2: OPENAI_API_KEY=… has text after a space"),
        ("OPENAI_API_KEY=sk-...", "2: OPENAI_API_KEY is a placeholder"),
        ("canary", "2: there is no ="),
        ("OPENAI_KEY=canary", "2: OPENAI_KEY is not known; OPENAI_API_KEY is"),
        ("DATABSE_URL=canary", "2: DATABSE_URL is not known; DATABASE_URL is"),
        ("REDIS_HOST=canary", "2: REDIS_HOST is not known"),
        (auth, "2: AUTH_SECRET is set again, first in line 1"),
        ("DATABASE_URL=mysql://u:canary@db.lan/x", "2: DATABASE_URL is no Postgres URL"),
        ("DATABASE_URL=postgresql://u:not-a-secret-canary@localhost/x", "2: DATABASE_URL names this machine"),
        (
            "DATABASE_URL=psql 'postgresql://u:not-a-secret-canary@db.lan/x'",
            "2: DATABASE_URL=… begins with the command psql",
        ),
    ];
    let sandbox = Sandbox::with_tools();
    for (line, message) in cases {
        sandbox.dotenv(format!("{auth}\n{line}\n"));
        let run = refused(&sandbox);
        assert!(run.stderr.starts_with(&format!("error: .env:{message}")), "{line}: {run}");
        assert!(run.stderr.contains("\n  try: "), "{line}: {run}");
    }
    for (text, message) in [
        ("", ": AUTH_SECRET is missing"),
        ("# nothing\nAUTH_SECRET=\n", ":2: AUTH_SECRET is empty"),
        ("AUTH_SECRET=canary\n", ":1: AUTH_SECRET is shorter than 32 bytes"),
        ("AUTH_SECRET=changeme-canary\n", ":1: AUTH_SECRET is a placeholder"),
    ] {
        sandbox.dotenv(text);
        let run = refused(&sandbox);
        assert!(run.stderr.starts_with(&format!("error: .env{message}")), "{text}: {run}");
    }
}

#[test]
fn all_mistakes_in_dotenv_are_reported_at_once() {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv("OPENAI_API_KEY=sk-...\nDATABASE_URL=canary$\nFOO_BAR=canary\n");
    fs::set_permissions(sandbox.root.join(".env"), fs::Permissions::from_mode(0o644)).unwrap();
    insta::assert_snapshot!(refused(&sandbox), @"
    exit code 3
    -- stderr
    error: 5 problems in .env:
      .env: may be read or changed by other users (mode 644)
      .env:1: OPENAI_API_KEY is a placeholder, no key
      .env:2: DATABASE_URL=… has a $ outside single quotes, which would be replaced by a variable
      .env:3: FOO_BAR is not known; known are DATABASE_URL, AUTH_SECRET, OPENAI_API_KEY, DATABASE_URL_UNPOOLED
      .env: AUTH_SECRET is missing
      try: chmod 600 .env
      try: set OPENAI_API_KEY in .env:1 to a key from platform.openai.com, or remove line 1: the assistant is off then
      try: set DATABASE_URL in .env:2 to the same value in single quotes
      try: remove FOO_BAR from .env:3
      try: set AUTH_SECRET in .env to what this prints: openssl rand -hex 32
    ");
}

#[test]
fn a_dotenv_that_is_not_a_text_file_is_refused() {
    let sandbox = Sandbox::with_tools();
    let path = sandbox.root.join(".env");
    let expect_error = |message: &str| {
        let run = refused(&sandbox);
        assert!(run.stderr.starts_with(&format!("error: .env:{message}")), "{run}");
    };
    fs::create_dir(&path).unwrap();
    expect_error(" is a folder");
    fs::remove_dir(&path).unwrap();
    symlink("nowhere", &path).unwrap();
    expect_error(" is a link to nowhere, which does not exist");
    fs::remove_file(&path).unwrap();
    sandbox.dotenv(b"A=1\nB=\xff\n");
    expect_error("2: is not UTF-8");
    sandbox.dotenv([b'#'; 70_000]);
    expect_error(" is larger than 64 KiB");
}

#[test]
fn a_dotenv_that_git_would_publish_is_refused() {
    let sandbox = Sandbox::with_tools();
    sandbox.dotenv(DOTENV);
    let git = |args: &[&str]| {
        let output = std::process::Command::new("git").args(args).current_dir(&sandbox.root).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    git(&["init", "--quiet"]);
    insta::assert_snapshot!(refused(&sandbox), @"
    exit code 3
    -- stderr
    error: .env: is not ignored by git: the next `git add .` would take it
      try: echo .env >> .gitignore
    ");
    fs::write(sandbox.root.join(".gitignore"), ".env\n").unwrap();
    git(&["add", "--force", ".env"]);
    insta::assert_snapshot!(refused(&sandbox), @"
    exit code 3
    -- stderr
    error: .env: is tracked by git, so its secrets go wherever the repository goes
      try: git rm --cached .env   # commit, and replace every secret in it: others may have them
    ");
}

#[test]
fn config_masks_secrets() {
    let sandbox = Sandbox::new();
    sandbox.dotenv(format!("{DOTENV}DATABASE_URL='postgresql://u:not-a-secret-canary@db.lan/x'\n"));
    let run = sandbox.run(&["config"]);
    let tail = run.stdout.lines().skip_while(|line| !line.starts_with("DATABASE_URL"));
    let tail: Vec<String> = tail.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    insta::assert_snapshot!(tail.join("\n"), @"
    DATABASE_URL *** (43 characters) .env:2
    AUTH_SECRET *** (36 characters) .env:1
    OPENAI_API_KEY - not in .env
    DATABASE_URL_UNPOOLED - not in .env
    database of dev db.lan DATABASE_URL
    ");
    assert!(run.code == Some(0) && run.stdout.contains("infra/xtask.toml:"), "{run}");

    let json = sandbox.run(&["config", "--json", "--port=9090"]);
    let document: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let rows = &document["values"];
    let row = |name: &str| rows.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().to_string();
    insta::assert_snapshot!(row("AUTH_SECRET"), @r#"{"name":"AUTH_SECRET","secret":true,"length":36,"from":".env:1"}"#);
    insta::assert_snapshot!(row("cluster.port"), @r#"{"name":"cluster.port","value":"9090","from":"command line"}"#);
    for run in [&run, &json] {
        assert!(!(run.stdout.clone() + &run.stderr).contains("canary"), "{run}");
    }

    sandbox.dotenv("AUTH_SECRET=canary$\n");
    let run = sandbox.run(&["config"]);
    assert_eq!(run.code, Some(3), "{run}");
    assert!(run.stdout.contains("AUTH_SECRET") && !run.to_string().contains("canary"), "{run}");
}

#[test]
fn wrong_usage_has_its_own_exit_code() {
    let sandbox = Sandbox::new();
    for args in [["deploy"].as_slice(), &["deplyo"], &["deploy", "dev", "--dryrun"], &["--port=x"]] {
        let run = sandbox.run(args);
        assert_eq!(run.code, Some(2), "{run}");
    }
    insta::assert_snapshot!(sandbox.run(&["deplyo", "dev"]), @"
    exit code 2
    -- stderr
    error: unrecognized subcommand 'deplyo'

      tip: a similar subcommand exists: 'deploy'

    Usage: cargo xtask [OPTIONS] [COMMAND]

    For more information, try '--help'.
    ");
}

/// Runs with `text` on standard input.
fn run_with_input(sandbox: &Sandbox, args: &[&str], text: &str) -> (Option<i32>, String) {
    let mut command = sandbox.command(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn secrets_can_come_from_a_pipe_the_environment_or_standard_input() {
    let plan = ["deploy", "dev", "--dry-run", "--origin=release"];
    let url = "postgresql://u:not-a-secret-canary@db.lan/x";
    let dotenv = format!("{DOTENV}DATABASE_URL={url}\n");
    let auth = DOTENV.trim().split_once('=').unwrap().1;
    let variables = [("AUTH_SECRET", auth), ("DATABASE_URL", url)];
    let from = |source| [&plan[..], &["--secrets", source]].concat();

    // By default, the environment is ignored: its variables may serve other work.
    let sandbox = Sandbox::with_tools();
    let run = sandbox.run_with(&plan, &variables);
    assert!(
        run.code == Some(0) && !run.stderr.contains("look at the database") && run.stderr.contains("make .env"),
        "{run}"
    );
    let run = sandbox.run_with(&from("env"), &variables);
    assert!(
        run.code == Some(0) && run.stderr.contains("look at the database") && !run.stderr.contains("make .env"),
        "{run}"
    );
    let run = sandbox.run_with(&from("env"), &[("AUTH_SECRET", ""), ("DATABASE_URL", url)]);
    assert!(run.code == Some(3) && run.stderr.contains("error: environment: AUTH_SECRET is missing"), "{run}");
    let run = sandbox.run_with(&["config", "--secrets=env"], &variables);
    assert!(run.code == Some(0) && run.stdout.contains("environment") && !run.stdout.contains("canary"), "{run}");

    let (code, text) = run_with_input(&sandbox, &from("stdin"), &dotenv);
    assert!(code == Some(0) && text.contains("look at the database"), "{text}");
    let (code, text) = run_with_input(&sandbox, &from("stdin"), "AUTH_SECRE=x\n");
    assert!(code == Some(3) && text.contains("standard input:1: AUTH_SECRE is not known"), "{text}");
    assert!(!sandbox.root.join(".env").exists());

    // `config` checks two contracts, but may read the pipe only once, as may a deploy.
    let pipe = sandbox.root.join(".env");
    assert!(std::process::Command::new("mkfifo").args(["-m", "600", pipe.as_str()]).status().unwrap().success());
    let to = pipe.clone();
    let writer = std::thread::spawn(move || fs::write(to, dotenv).unwrap());
    let run = sandbox.run(&plan);
    assert!(run.code == Some(0) && run.stderr.contains("look at the database"), "{run}");
    writer.join().unwrap();
    // Read-only commands do not read it.
    let run = sandbox.run(&["--origin=release"]);
    assert!(run.code == Some(0) && run.stdout.contains(".env     present"), "{run}");
}
