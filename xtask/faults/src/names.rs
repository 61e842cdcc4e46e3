//! Names of calls: the tool or path with its arguments, without the parts that differ between runs.

use std::ops::RangeInclusive;

/// The beginnings of the kept parts of a query.
const KEPT: [&str; 4] = ["watch=true", "labelSelector=", "dryRun=", "tailLines="];

/// Returns the name of a request to the API server. Of the query, keeps only `watch=true`, `labelSelector`, `dryRun` and
/// `tailLines`, which shows what reads a log.
pub fn request(method: &str, target: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let telling = query.split('&').filter(|part| KEPT.iter().any(|start| part.starts_with(start)));
    let telling: Vec<&str> = telling.collect();
    let path: Vec<String> = path.split('/').map(generated).collect();
    let mark = if telling.is_empty() { "" } else { "?" };
    format!("{method} {}{mark}{}", path.join("/"), telling.join("&"))
}

/// Returns the name of a tool's call, for example `docker image inspect todo-backend:<tag>`. Leaves out most flags, and
/// `folder` in paths.
pub fn tool(words: &[String], folder: &str) -> String {
    let mut shown = Vec::new();
    let mut skip = false;
    for word in words {
        if std::mem::take(&mut skip) {
            continue;
        }
        // Flags whose value is the next word.
        skip = [
            "--format",
            "--kubeconfig",
            "--kube-context",
            "--namespace",
            "--values",
            "--label",
            "--build-arg",
            "--builder",
            "--profile",
            "--secret",
            "-o",
            "-n",
            "-c",
            "-C",
        ]
        .contains(&word.as_str());
        let kept = ["--dry-run=server", "--show-toplevel"].contains(&word.as_str());
        if skip || word.starts_with('-') && !kept && word != "-" {
            continue;
        }
        let word = word.replace(folder, "").replace("docker.io/library/", "").replace("name==", "");
        shown.push(generated(&word));
    }
    shown.dedup();
    shown.join(" ")
}

/// Replaces content tags, digests and the ends of generated names in `word` with placeholders.
fn generated(word: &str) -> String {
    if let Some((name, tag)) = word.rsplit_once(':')
        && tag.len() >= 16
        && tag.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return format!("{name}:<tag>");
    }
    let parts: Vec<&str> = word.split('-').collect();
    // A real controller's hash has up to ten characters.
    let ends = |part: &str, lengths: RangeInclusive<usize>| {
        lengths.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    match parts.as_slice() {
        ["todo", component, hash, pod] if ends(hash, 8..=10) && ends(pod, 5..=5) => format!("todo-{component}-<pod>"),
        ["todo", component, hash] if ends(hash, 8..=10) && hash.bytes().any(|b| b.is_ascii_digit()) => {
            format!("todo-{component}-<hash>")
        }
        _ => word.to_owned(),
    }
}
