use super::*;
use crate::settings::{Keys, Settings};
use std::collections::BTreeMap;

/// The names of the real settings.
pub const DATABASE_URL: &str = "DATABASE_URL";
pub const DATABASE_URL_UNPOOLED: &str = "DATABASE_URL_UNPOOLED";
pub const OPENAI_API_KEY: &str = "OPENAI_API_KEY";
pub const AUTH_SECRET: &str = "AUTH_SECRET";

pub fn settings() -> Settings {
    Settings::read(&crate::checkout::find(None)).unwrap()
}

pub fn keys() -> Keys {
    settings().keys
}

/// A value of which no part may show up in a message.
const CANARY: &str = "CANARYq7Zk2m";
const AUTH: &str = "AUTH_SECRET=not-a-secret-0123456789abcdef-0123";
const OPENAI_URL: &str = "https://api.openai.com/v1";
const URL: &str = "DATABASE_URL=postgresql://u:not-a-secret@db.lan/x";

pub(super) fn contract(embedded: bool) -> Contract {
    Contract {
        environment: "dev".into(),
        values: "infra/helm/values-dev.yaml".into(),
        required: vec![DATABASE_URL.into(), AUTH_SECRET.into()],
        optional: vec![OPENAI_API_KEY.into(), DATABASE_URL_UNPOOLED.into()],
        embedded,
        embedded_key: "postgres.enabled".into(),
        ingress_class: String::new(),
        kinds: keys(),
        assistant_url: OPENAI_URL.into(),
        variables: BTreeMap::new(),
    }
}

fn load(text: &str, embedded: bool) -> Result<Dotenv> {
    inspect_text(text, &contract(embedded)).result(".env", "dev")
}

fn refused(text: &str, embedded: bool) -> (String, Vec<String>) {
    let error = load(text, embedded).unwrap_err();
    let failure = error.downcast_ref::<Failure>().unwrap();
    assert_eq!(failure.class, Class::Config);
    (failure.to_string(), failure.hints().to_vec())
}

#[test]
fn only_the_random_value_is_required_with_an_embedded_database() {
    let dotenv = load(AUTH, true).unwrap();
    assert_eq!(dotenv.database, Database::Embedded);
    assert_eq!(dotenv.notes, ["no OPENAI_API_KEY: the assistant is off"]);
    let dotenv = load(&format!("{AUTH}\n{URL}\nOPENAI_API_KEY=not-a-secret-but-long\n"), false).unwrap();
    assert_eq!(dotenv.database, Database::Remote("db.lan".into()));
    assert!(dotenv.notes.is_empty());
    assert_eq!(dotenv.values().count(), 3);
}

#[test]
fn an_empty_optional_key_is_an_absent_one() {
    let dotenv = load(&format!("{AUTH}\nDATABASE_URL=\nOPENAI_API_KEY=\nDATABASE_URL_UNPOOLED=''\n"), true).unwrap();
    assert_eq!(dotenv.database, Database::Embedded);
    assert_eq!(dotenv.notes.len(), 1);
}

/// Every mistake: the file, the message, the way out. `~` stands for a value that must not be shown, `{AUTH}` for a
/// line that is in order.
#[test]
fn each_mistake_has_its_message() {
    let make_auth = "set AUTH_SECRET in .env:1 to what this prints: openssl rand -hex 32";
    let key =
        "set OPENAI_API_KEY in .env:2 to a key from platform.openai.com, or remove line 2: the assistant is off then";
    let cases: &[(&str, &str, &str)] = &[
        // Lines.
        (
            "{AUTH}\nOPENAI_API_KEY=~$~",
            ".env:2: OPENAI_API_KEY=… has a $ outside single quotes, which would be replaced by a variable",
            "set OPENAI_API_KEY in .env:2 to the same value in single quotes",
        ),
        (
            "{AUTH}\nOPENAI_API_KEY=\"~$~\"",
            ".env:2: OPENAI_API_KEY=… has a $ outside single quotes, which would be replaced by a variable",
            "set OPENAI_API_KEY in .env:2 to the same value in single quotes",
        ),
        (
            "{AUTH}\nOPENAI_API_KEY='~",
            ".env:2: OPENAI_API_KEY=… has a ' that is not closed in this line",
            "set OPENAI_API_KEY in .env:2 to the value with both quotes in one line",
        ),
        (
            "{AUTH}\nOPENAI_API_KEY=~\\",
            ".env:2: OPENAI_API_KEY=… ends with a backslash, which would be dropped",
            "set OPENAI_API_KEY in .env:2 to the same value in single quotes",
        ),
        (
            "{AUTH}\nOPENAI_API_KEY=~ ~",
            ".env:2: OPENAI_API_KEY=… has text after a space",
            "set OPENAI_API_KEY in .env:2 to the same value in single quotes",
        ),
        (
            "{AUTH}\nOPENAI_API_KEY=“~”",
            ".env:2: OPENAI_API_KEY=… has typographic quotes",
            "set OPENAI_API_KEY in .env:2 to the value in straight quotes",
        ),
        (
            "{AUTH}\nOPENAI_API_KEY=~\\q",
            ".env:2: OPENAI_API_KEY=… is malformed",
            "write line 2 as NAME=value or NAME='value'",
        ),
        ("{AUTH}\n~", ".env:2: there is no = in this line", "write line 2 as NAME=value or NAME='value'"),
        (
            "{AUTH}\nOPENAI_API_KEY: ~",
            ".env:2: there is no = in this line",
            "write line 2 as NAME=value or NAME='value'",
        ),
        (
            "{AUTH}\n~/~==",
            ".env:2: what is before the = is not a variable's name",
            "write line 2 as NAME=value or NAME='value'",
        ),
        (
            "{AUTH}\nDATABASE_URL=psql 'postgresql://u:~@db.lan/x'",
            ".env:2: DATABASE_URL=… begins with the command psql",
            "set DATABASE_URL in .env:2 to the URL alone, in single quotes",
        ),
        // Keys.
        ("{AUTH}\n\n{AUTH}", ".env:3: AUTH_SECRET is set again, first in line 1", "remove line 1 or line 3"),
        (
            "{AUTH}\nOPENAI_KEY=~",
            ".env:2: OPENAI_KEY is not known; OPENAI_API_KEY is",
            "rename OPENAI_KEY in .env:2 to OPENAI_API_KEY",
        ),
        (
            "{AUTH}\ndatabase_url=~",
            ".env:2: database_url is not known; DATABASE_URL is",
            "rename database_url in .env:2 to DATABASE_URL",
        ),
        (
            "{AUTH}\nREDIS_HOST=~",
            ".env:2: REDIS_HOST is not known; known are DATABASE_URL, AUTH_SECRET, OPENAI_API_KEY, DATABASE_URL_UNPOOLED",
            "remove REDIS_HOST from .env:2",
        ),
        (
            "{AUTH}\n~=",
            ".env:2: this name is not known; known are DATABASE_URL, AUTH_SECRET, OPENAI_API_KEY, DATABASE_URL_UNPOOLED",
            "remove line 2",
        ),
        // AUTH_SECRET.
        ("", ".env: AUTH_SECRET is missing", "set AUTH_SECRET in .env to what this prints: openssl rand -hex 32"),
        (
            "\nAUTH_SECRET=",
            ".env:2: AUTH_SECRET is empty",
            "set AUTH_SECRET in .env:2 to what this prints: openssl rand -hex 32",
        ),
        ("AUTH_SECRET=~", ".env:1: AUTH_SECRET is shorter than 32 bytes", make_auth),
        (
            "AUTH_SECRET=abababababababababababababababababab",
            ".env:1: AUTH_SECRET has fewer than 8 different characters",
            make_auth,
        ),
        ("AUTH_SECRET=please-changeme-please-~-please", ".env:1: AUTH_SECRET is a placeholder", make_auth),
        ("AUTH_SECRET=your-own-here", ".env:1: AUTH_SECRET is a placeholder", make_auth),
        (
            "AUTH_SECRET=<32 random bytes>",
            ".env:1: AUTH_SECRET=… has text after a space",
            "set AUTH_SECRET in .env:1 to the same value in single quotes",
        ),
        ("AUTH_SECRET='<32 random bytes>'", ".env:1: AUTH_SECRET is a placeholder", make_auth),
        (
            "AUTH_SECRET=' ~~~~~~'",
            ".env:1: AUTH_SECRET begins or ends with a space",
            "set AUTH_SECRET in .env:1 to its value without the space inside the quotes",
        ),
        (
            "AUTH_SECRET=~\\n~",
            ".env:1: AUTH_SECRET has a line break or another control character",
            "set AUTH_SECRET in .env:1 to one line in single quotes",
        ),
        // OPENAI_API_KEY.
        ("{AUTH}\nOPENAI_API_KEY=sk-...", ".env:2: OPENAI_API_KEY is a placeholder, no key", key),
        ("{AUTH}\nOPENAI_API_KEY=sk-xxxxxxxxxxxxxxxxxxxxxxxx", ".env:2: OPENAI_API_KEY is a placeholder, no key", key),
        ("{AUTH}\nOPENAI_API_KEY=your-openai-api-key-here", ".env:2: OPENAI_API_KEY is a placeholder, no key", key),
        // The database.
        (
            "{AUTH}\nDATABASE_URL=mysql://u:~@db.lan/x",
            ".env:2: DATABASE_URL is no Postgres URL",
            "set DATABASE_URL in .env:2 to a URL that begins with postgresql://, as Neon shows it",
        ),
        (
            "{AUTH}\nDATABASE_URL=postgresql+asyncpg://u:~@db.lan/x",
            ".env:2: DATABASE_URL names a driver in its scheme",
            "replace postgresql+asyncpg:// with postgresql:// in DATABASE_URL, .env:2",
        ),
        (
            "{AUTH}\nDATABASE_URL=postgresql://u:~@~@db.lan/x",
            ".env:2: DATABASE_URL has a @ in user or password, which ends them in a URL",
            "set DATABASE_URL in .env:2 to the same URL with %40 for the @ in the password",
        ),
        (
            "{AUTH}\nDATABASE_URL=postgresql://u:~%zz@db.lan/x",
            ".env:2: DATABASE_URL has a % that is not followed by two hex digits",
            "set DATABASE_URL in .env:2 to the same URL with %25 for the % in the password",
        ),
        (
            "{AUTH}\nDATABASE_URL=postgresql://USER:PASSWORD@HOST-pooler.REGION.aws.neon.tech/DATABASE",
            ".env:2: DATABASE_URL is a sample, not a real URL",
            "set DATABASE_URL in .env:2 to the connection string from Neon's console, with its password, in single quotes",
        ),
        (
            "{AUTH}\nDATABASE_URL=postgresql://u:~@localhost/x",
            ".env:2: DATABASE_URL names this machine, which a pod cannot reach by that name",
            "replace @localhost with @host.minikube.internal in DATABASE_URL, .env:2",
        ),
        (
            "{AUTH}\nDATABASE_URL_UNPOOLED=postgresql://u:~@db.lan/x",
            ".env:2: DATABASE_URL_UNPOOLED is set without DATABASE_URL: migrations would go to another database",
            "set DATABASE_URL too, or remove line 2",
        ),
    ];
    for (text, message, fix) in cases {
        let text = text.replace("{AUTH}", AUTH).replace('~', CANARY);
        let (what, help) = refused(&text, true);
        assert_eq!((what.as_str(), help.as_slice()), (*message, &[(*fix).to_owned()][..]), "{text}");
    }
}

#[test]
fn a_url_is_required_without_an_embedded_database() {
    let fix = "set DATABASE_URL in .env to the connection string that Neon shows, or set postgres.enabled to true in \
               infra/helm/values-dev.yaml";
    let (what, help) = refused(AUTH, false);
    assert_eq!(what, ".env: DATABASE_URL is missing, and infra/helm/values-dev.yaml has no database of its own");
    assert_eq!(help, [fix]);
    let (what, _) = refused(&format!("DATABASE_URL=\n{AUTH}"), false);
    assert_eq!(what, ".env:1: DATABASE_URL is empty, and infra/helm/values-dev.yaml has no database of its own");
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    let text = format!("OPENAI_API_KEY=sk-...\nDATABASE_URL={CANARY}$\nFOO_BAR={CANARY}\n");
    let (what, help) = refused(&text, true);
    assert_eq!(
        what,
        "4 problems in .env:\n  .env:1: OPENAI_API_KEY is a placeholder, no key\n  \
         .env:2: DATABASE_URL=… has a $ outside single quotes, which would be replaced by a variable\n  \
         .env:3: FOO_BAR is not known; known are DATABASE_URL, AUTH_SECRET, OPENAI_API_KEY, DATABASE_URL_UNPOOLED\n  \
         .env: AUTH_SECRET is missing"
    );
    assert_eq!(help.len(), 4);
}

#[test]
fn a_compatible_api_may_take_any_key() {
    let text = format!("{AUTH}\nOPENAI_API_KEY=ollama\n");
    let elsewhere = Contract { assistant_url: "http://host.minikube.internal:11434/v1".into(), ..contract(true) };
    assert_eq!(inspect_text(&text, &elsewhere).problems, []);
    let (what, help) = refused(&text, true);
    assert_eq!(what, ".env:2: OPENAI_API_KEY is a placeholder, no key");
    assert!(help[0].contains("platform.openai.com"), "{help:?}");
}

#[test]
fn a_typo_is_one_problem_not_two() {
    let (what, _) = refused("AUTH_SECRE=x", true);
    assert_eq!(what, ".env:1: AUTH_SECRE is not known; AUTH_SECRET is");
}

#[test]
fn no_message_shows_a_value_whatever_its_line_looks_like() {
    let around =
        ["", "'", "\"", "“", "$", "\\", " ", "=", "@", "/", "%", "#", ":", "\u{7}", "://", "postgresql://", "psql "];
    let keys =
        ["", "AUTH_SECRET=", "DATABASE_URL=", "OPENAI_API_KEY=", "DATABASE_URL_UNPOOLED=", "X=", "export ", "A B="];
    for key in keys {
        for before in around {
            for after in around {
                let text = format!("{key}{before}{CANARY}{after}{CANARY}@h.lan{after}\n");
                let inspection = inspect_text(&text, &contract(true));
                let shown = format!("{inspection:?} {:?}", failure(".env", &inspection.problems));
                assert!(!shown.contains(CANARY), "{text} -> {shown}");
            }
        }
    }
}

#[test]
fn the_environment_is_neither_read_nor_changed() {
    let dotenv = load(&format!("{AUTH}\nOPENAI_API_KEY='$HOME-and-some-more'\n"), true).unwrap();
    let value = dotenv.values().find(|(key, _)| *key == OPENAI_API_KEY).unwrap().1;
    assert_eq!(value.expose(), "$HOME-and-some-more");
    assert!(std::env::var_os("AUTH_SECRET").is_none_or(|value| value != AUTH.trim_start_matches("AUTH_SECRET=")));
}

#[test]
fn redacts_values_of_an_invalid_file() {
    let text = "# AUTH_SECRET=commented-out\nAUTH_SECRET='not-a-secret-$one'\n  OTHER = not-a-secret-two\nbroken\n";
    let redactor = Redactor::new(&values_in(text));
    assert_eq!(
        redactor.redact("a not-a-secret-$one b not-a-secret-two c commented-out"),
        "a *** b *** c commented-out"
    );
}

#[test]
fn a_variable_of_the_environment_is_named_without_a_line() {
    let entry = |key: &str, value: &str| Entry { key: key.into(), value: Secret::new(value), line: None };
    let entries = vec![entry(AUTH_SECRET, "short"), entry(OPENAI_API_KEY, "sk-...")];
    let lines = syntax::Lines { entries, ..syntax::Lines::default() };
    let inspection = inspect_lines(lines, &contract(true));
    let failure = failure("environment", &inspection.problems).unwrap();
    let what = "2 problems in environment:\n  environment: AUTH_SECRET is shorter than 32 bytes\n  \
                environment: OPENAI_API_KEY is a placeholder, no key";
    assert_eq!(failure.to_string(), what);
    assert!(failure.hints()[1].contains("or unset OPENAI_API_KEY:"), "{failure:?}");
    // No file can be edited.
    assert!(failure.repairs().iter().all(|hint| hint["kind"] == "tell"), "{failure:?}");
}
