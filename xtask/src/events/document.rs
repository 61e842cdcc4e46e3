//! The one JSON document that `--json` prints, also after a failure. Its schema is in docs/schema.

use serde_json::{Map, Value, json};

use super::Recorder;
use crate::clock;
use crate::failure::{Failure, class_of, messages};

/// Raised when something is removed from the document or means something else.
const VERSION: u32 = 1;

/// Returns the document of `command`: its result, its events, and its findings (`facts`).
pub fn document(
    recorder: &Recorder,
    command: &str,
    code: i32,
    error: Option<&anyhow::Error>,
    facts: &Map<String, Value>,
) -> Value {
    let mut document = json!({
        "schema": VERSION,
        "command": command,
        "ok": code == 0,
        "exit_code": code,
        "error": error.map(described),
        "started_at": clock::rfc3339(recorder.started),
        "took_ms": recorder.elapsed_ms(),
        "events": recorder.events(),
    });
    for (name, fact) in facts {
        document[name] = fact.clone();
    }
    // Errors and facts have not passed the redactor one by one.
    recorder.shown_json(document)
}

fn described(error: &anyhow::Error) -> Value {
    let failure = error.downcast_ref::<Failure>();
    let mut because = messages(error);
    let message = because.remove(0);
    json!({
        "class": format!("{:?}", class_of(error)).to_lowercase(),
        "message": message,
        "because": because,
        "help": failure.map(Failure::hints).unwrap_or_default(),
        "hints": failure.map(Failure::repairs).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Class;
    use crate::secrets::{Redactor, Secret};

    #[test]
    fn a_failure_has_its_class_and_hints_but_no_secret() {
        let mut recorder = Recorder::default();
        recorder.hide(Redactor::new([&Secret::new("not-a-secret-canary")]));
        let reason = anyhow::anyhow!("asked with not-a-secret-canary");
        let failure = Failure::new(Class::Rollout, "refused \"not-a-secret-canary\"").help("try again").because(reason);
        let facts = json!({"address": "http://localhost:8080"});
        // As text of the document it would be half of a key and its value.
        let mut odd = Redactor::new([&Secret::new("\",\"ok\":false")]);
        odd.extend(Redactor::default());
        recorder.hide(odd);
        let document = document(&recorder, "deploy", 7, Some(&failure.into()), facts.as_object().unwrap());
        assert_eq!(document["error"]["class"], "rollout");
        assert_eq!(document["error"]["message"], "refused \"***\": asked with ***");
        assert_eq!(document["error"]["help"], json!(["try again"]));
        assert_eq!(document["address"], "http://localhost:8080");
        assert_eq!((document["ok"].as_bool(), document["exit_code"].as_i64()), (Some(false), Some(7)));
    }
}
