//! `cargo xtask config`: shows each resolved value and its source; of secrets only the length.

mod rows;

use std::io::Write;

use anyhow::Result;
use serde_json::json;

use crate::dotenv::{Contract, Database, DotenvSource, Inspection};
use crate::failure;
use crate::project::Project;
use crate::settings::Settings;

use rows::{SettingRow, Value};

/// Prints the values as a table, or adds them to the JSON document. Then fails if `.env` is invalid, because a deploy would
/// not use these values.
pub fn run(project: &Project, json: bool) -> Result<()> {
    let (rows, problem) = collect_rows(project)?;
    if json {
        project.report.fact("values", as_json(&rows));
    } else {
        match std::io::stdout().lock().write_all(as_table(&rows).as_bytes()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
            _ => {}
        }
    }
    problem.map_or(Ok(()), Err)
}

/// Returns the values as a table without secrets, followed by the mistakes in `.env`.
pub fn text(project: &Project) -> Result<String> {
    let (rows, problem) = collect_rows(project)?;
    Ok(as_table(&rows) + &problem.map(|problem| format!("\n{}\n", failure::message(&problem))).unwrap_or_default())
}

fn collect_rows(project: &Project) -> Result<(Vec<SettingRow>, Option<anyhow::Error>)> {
    let mut rows = rows::settings(&project.settings, &project.root)?;
    rows.extend(rows::options(&project.options, project.ca_bundle(), &project.cache, &project.dotenv));
    let (secrets, problem) = secrets(&project.settings, &project.dotenv)?;
    rows.extend(secrets);
    Ok((rows, problem))
}

/// Returns the values of `.env`, the database of each environment, and the mistakes in `.env`.
fn secrets(settings: &Settings, dotenv: &DotenvSource) -> Result<(Vec<SettingRow>, Option<anyhow::Error>)> {
    let shown = dotenv.shown();
    let (mut rows, mut databases, mut problem) = (Vec::<SettingRow>::new(), Vec::new(), None);
    for environment in settings.environments.keys() {
        let contract = Contract::read(settings, &dotenv.root, environment)?;
        let inspection = if dotenv.is_there()? || dotenv.path.is_symlink() {
            dotenv.inspect(&contract).unwrap_or_else(|error| {
                problem.get_or_insert(error);
                Inspection::default()
            })
        } else {
            Inspection::default()
        };
        for key in contract.keys() {
            if rows.iter().any(|row| row.name == key) {
                continue;
            }
            let entry = inspection.entries.iter().find(|entry| entry.key == key && !entry.value.is_empty());
            rows.push(match entry {
                Some(entry) => SettingRow::new(
                    key,
                    Value::Secret(entry.value.length()),
                    entry.line.map_or(shown.clone(), |line| format!("{shown}:{line}")),
                ),
                None => SettingRow::new(key, Value::Unset, format!("not in {shown}")),
            });
        }
        databases.push(database(environment, &contract, inspection.database()));
        if problem.is_none()
            && let Some(failure) = inspection.failure(dotenv)
        {
            problem = Some(failure.into());
        }
    }
    rows.extend(databases);
    Ok((rows, problem))
}

fn database(environment: &str, contract: &Contract, database: Option<&Database>) -> SettingRow {
    let name = format!("database of {environment}");
    match database {
        Some(Database::Remote(host)) => {
            SettingRow::new(name, Value::Plain(host.clone()), contract.kinds.postgres_url.as_str())
        }
        Some(Database::Embedded) => SettingRow::new(
            name,
            Value::Plain("embedded".into()),
            format!("{}: {}", contract.values, contract.embedded_key),
        ),
        None if contract.embedded => {
            SettingRow::new(name, Value::Plain("embedded, unless .env names one".into()), contract.values.as_str())
        }
        None => SettingRow::new(name, Value::Unset, contract.kinds.postgres_url.as_str()),
    }
}

fn as_table(rows: &[SettingRow]) -> String {
    let widest =
        |text: &dyn Fn(&SettingRow) -> String| rows.iter().map(|row| text(row).chars().count()).max().unwrap_or(0);
    let names = widest(&|row| row.name.clone());
    let values = widest(&|row| row.value.to_string());
    rows.iter().map(|row| format!("{:names$}  {:values$}  {}\n", row.name, row.value.to_string(), row.from)).collect()
}

fn as_json(rows: &[SettingRow]) -> serde_json::Value {
    rows.iter()
        .map(|row| match &row.value {
            Value::Plain(value) => json!({"name": row.name, "value": value, "from": row.from}),
            Value::Secret(length) => json!({"name": row.name, "secret": true, "length": length, "from": row.from}),
            Value::Unset => json!({"name": row.name, "value": null, "from": row.from}),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<SettingRow> {
        vec![
            SettingRow::new("cluster.port", Value::Plain("8080".into()), "infra/xtask.toml:18"),
            SettingRow::new("AUTH_SECRET", Value::Secret(64), ".env:7"),
            SettingRow::new("OPENAI_API_KEY", Value::Unset, "not in .env"),
        ]
    }

    #[test]
    fn aligns_columns() {
        let table = as_table(&rows());
        let starts: Vec<_> = table.lines().zip(rows()).map(|(line, row)| line.find(&row.from)).collect();
        assert!(starts.windows(2).all(|pair| pair[0] == pair[1]), "{table}");
        assert!(table.contains("*** (64 characters)"), "{table}");
    }

    #[test]
    fn json_shows_only_the_length_of_secrets() {
        let json = as_json(&rows());
        assert_eq!(json[0], json!({"name": "cluster.port", "value": "8080", "from": "infra/xtask.toml:18"}));
        assert_eq!(json[1], json!({"name": "AUTH_SECRET", "secret": true, "length": 64, "from": ".env:7"}));
        assert_eq!(json[2]["value"], serde_json::Value::Null);
    }
}
