use super::*;
use crate::dotenv::tests::{AUTH_SECRET, DATABASE_URL, OPENAI_API_KEY};

const AUTH: &str = "not-a-secret-0123456789abcdefghijklmn";

fn settings() -> Settings {
    Settings::read(&crate::checkout::find(None)).unwrap()
}

fn dotenv(pairs: &[(&str, &str)]) -> Dotenv {
    Dotenv::of(pairs)
}

fn object(manifest: &Manifest) -> Value {
    serde_json::from_slice(&manifest.json).unwrap()
}

fn value(manifest: &Manifest, key: &str) -> Option<String> {
    decode(&object(manifest), key).unwrap().map(|secret| secret.expose().to_owned())
}

#[test]
fn a_remote_database_is_used_exactly_as_it_is_written() {
    let url = "postgresql://u:not-a-secret@ep-a-pooler.eu.aws.neon.tech/db?sslmode=require&channel_binding=require";
    let manifest = backend(&settings(), &dotenv(&[(AUTH_SECRET, AUTH), (DATABASE_URL, url)]), None).unwrap();
    assert_eq!(value(&manifest, DATABASE_URL).as_deref(), Some(url));
    assert_eq!(value(&manifest, AUTH_SECRET).as_deref(), Some(AUTH));
    assert_eq!(value(&manifest, OPENAI_API_KEY).as_deref(), Some(""));
    assert_eq!(value(&manifest, "DATABASE_URL_UNPOOLED"), None);
    let object = object(&manifest);
    assert_eq!(object["immutable"], true);
    assert_eq!(object["metadata"]["namespace"], "todo");
    assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/managed-by"], "xtask");
    assert_eq!(object["metadata"]["name"], manifest.name.as_str());
}

#[test]
fn the_embedded_database_needs_its_password() {
    let dotenv = dotenv(&[(AUTH_SECRET, AUTH)]);
    assert!(backend(&settings(), &dotenv, None).is_err());
    let manifest = backend(&settings(), &dotenv, Some(&Secret::new("a b/c"))).unwrap();
    let url = value(&manifest, DATABASE_URL).unwrap();
    assert!(
        url.starts_with("postgresql://todo:a%20b%2Fc@") && url.ends_with("todo-postgres:5432/todo?sslmode=disable")
    );
    let database = database(&settings(), &Secret::new("a b/c"));
    assert_eq!(database.name, "todo-postgres");
    assert_eq!(value(&database, POSTGRES_PASSWORD).as_deref(), Some("a b/c"));
}

#[test]
fn the_name_follows_the_content_and_nothing_else() {
    let name = |pairs: &[(&str, &str)]| backend(&settings(), &dotenv(pairs), Some(&Secret::new("p"))).unwrap().name;
    let base = name(&[(AUTH_SECRET, AUTH), (OPENAI_API_KEY, "k")]);
    assert_eq!(base.len(), "todo-backend-".len() + 8);
    assert_eq!(base, name(&[(OPENAI_API_KEY, "k"), (AUTH_SECRET, AUTH)]), "order does not matter");
    let other = format!("{AUTH}o");
    let changed = [
        name(&[(AUTH_SECRET, AUTH), (OPENAI_API_KEY, "l")]),
        name(&[(AUTH_SECRET, AUTH)]),
        name(&[(AUTH_SECRET, &other), (OPENAI_API_KEY, "k")]),
        backend(&settings(), &dotenv(&[(AUTH_SECRET, AUTH), (OPENAI_API_KEY, "k")]), Some(&Secret::new("q")))
            .unwrap()
            .name,
    ];
    assert!(changed.iter().all(|name| *name != base), "{base} {changed:?}");
    assert_eq!(name(&[(AUTH_SECRET, AUTH)]), name(&[(AUTH_SECRET, AUTH), (OPENAI_API_KEY, "")]), "empty is absent");
}

#[test]
fn the_boundary_between_key_and_value_is_part_of_the_digest() {
    let one = digest(&settings(), &[(AUTH_SECRET, AUTH), ("A", "BC")]).unwrap();
    assert_ne!(one, digest(&settings(), &[(AUTH_SECRET, AUTH), ("AB", "C")]).unwrap());
}

#[test]
fn refuses_an_undecodable_value_without_showing_it() {
    assert_eq!(decode(&json!({"data": {}}), "A").unwrap(), None);
    assert_eq!(decode(&json!({"data": null}), "A").unwrap(), None);
    let object = json!({"metadata": {"name": "s"}, "data": {"A": "CANARY!"}});
    let error = format!("{:?}", decode(&object, "A").unwrap_err());
    assert!(!error.contains("CANARY"), "{error}");
}

#[test]
fn a_manifest_does_not_show_its_content() {
    let manifest = database(&settings(), &Secret::new("CANARY"));
    assert_eq!(format!("{manifest:?}"), "Manifest(todo-postgres)");
}

#[test]
fn keys_are_compared_by_name() {
    let live = json!({"data": {"A": STANDARD.encode("1"), "B": STANDARD.encode("2"), "C": STANDARD.encode("3")}});
    let wanted = json!({"data": {"A": STANDARD.encode("1"), "B": STANDARD.encode("x"), "D": STANDARD.encode("4")}});
    let keys = compare(Some(&live), &wanted);
    assert_eq!(
        keys.into_iter().collect::<Vec<_>>(),
        [("B".to_owned(), "changed"), ("C".to_owned(), "removed"), ("D".to_owned(), "added")]
    );
    assert_eq!(compare(None, &wanted).len(), 3);
}

#[test]
fn values_in_the_cluster_are_known_to_a_redactor() {
    let secrets =
        [json!({"data": {"A": STANDARD.encode("not-a-secret-one")}}), json!({"data": {"B": STANDARD.encode("x")}})];
    assert_eq!(redactor_of(&secrets).redact("a not-a-secret-one x"), "a *** x");
}

#[test]
fn the_names_are_those_of_the_settings() {
    let mut other = settings();
    let names = ["SHOP_URL", "SHOP_DIRECT", "SHOP_RANDOM", "SHOP_KEY"].map(str::to_owned);
    let keys = &mut other.keys;
    [keys.postgres_url, keys.postgres_direct_url, keys.random, keys.openai_key] = names;
    (other.chart.name, other.chart.release, other.chart.namespace) = ("shop".into(), "shop".into(), "shops".into());
    (other.components.backend, other.components.database) = ("api".into(), "db".into());
    other.database.name = "orders".to_owned();
    let manifest = backend(&other, &dotenv(&[("SHOP_RANDOM", AUTH)]), Some(&Secret::new("p"))).unwrap();
    assert_eq!(value(&manifest, "SHOP_URL").unwrap(), "postgresql://orders:p@shop-db:5432/orders?sslmode=disable");
    assert_eq!(value(&manifest, "SHOP_KEY").as_deref(), Some(""));
    let shown = object(&manifest).to_string();
    assert!(manifest.name.starts_with("shop-api-"), "{}", manifest.name);
    assert!(
        !["todo", "backend", "postgres", "AUTH_SECRET", "DATABASE_URL", "OPENAI"]
            .iter()
            .any(|name| shown.contains(name)),
        "{shown}"
    );
}
