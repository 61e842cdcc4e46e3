//! The embedded database after its image was renewed: the tag is the same, so neither Helm nor Kubernetes sees a change.

use anyhow::Result;
use serde_json::Value;

use crate::origin::bases::short;
use crate::plan::{self, Mode, Step};
use crate::project::Project;
use crate::snapshot::{Snapshot, text};
use crate::stages::images::load::Wanted;
use crate::toolbox::Toolbox;

/// How long the new pod may take: longer than Postgres needs after an unclean end.
const LIMIT: &str = "--timeout=180s";

/// Replaces the embedded database's pod if its image among `wanted` was renewed under the same tag. Returns the number of
/// steps.
pub fn restart_if_renewed(
    project: &Project,
    tools: &Toolbox,
    wanted: &[Wanted],
    snapshot: Option<&Snapshot>,
    mode: Mode,
) -> Result<usize> {
    let name = &project.settings.database.image;
    let database = wanted.iter().find(|image| image.reference == *name);
    let (Some(database), Some(snapshot)) = (database, snapshot) else { return Ok(0) };
    if outdated(database, snapshot).is_none() {
        return Ok(0);
    }
    // Asked again: an engine may have called the image by its manifest until it was loaded.
    let loaded = Wanted::of(project, &tools.engine, name);
    let Some(step) = restart(tools, &loaded, snapshot) else { return Ok(0) };
    plan::apply(project, "release", mode, vec![step])
}

/// The step that replaces the database's pod, if that runs another image than the `database` of the same name.
fn restart<'a>(tools: &'a Toolbox, database: &Wanted, snapshot: &Snapshot) -> Option<Step<'a>> {
    let (owner, old) = outdated(database, snapshot)?;
    let set = format!("statefulset/{owner}");
    let restart = tools.kubectl_here().args(["rollout", "restart", &set]);
    let wait = tools.kubectl_here().args(["rollout", "status", &set, LIMIT]).arg("--request-timeout=0");
    let wait = wait.deadline(std::time::Duration::from_secs(190));
    let why = format!("it runs {}, and {} was renewed", short(&old), database.reference);
    let command = format!("{restart}\n{wait}");
    Some(Step::new(format!("restart {owner}"), why, command, move |running| {
        restart.run()?;
        running.progress("the database is away for some seconds");
        wait.run()?;
        Ok(String::new())
    }))
}

/// The StatefulSet whose pod runs an image of the database's name, but not of its ID; and the ID that it runs.
fn outdated(database: &Wanted, snapshot: &Snapshot) -> Option<(String, String)> {
    let wanted = database.id.as_deref()?;
    snapshot.kind("Pod").find_map(|pod| {
        let owner = list(pod, "/metadata/ownerReferences").find(|owner| text(owner, "/kind") == "StatefulSet")?;
        let container = list(pod, "/spec/containers").find(|spec| text(spec, "/image") == database.reference)?;
        let mut statuses = list(pod, "/status/containerStatuses");
        let runs = text(statuses.find(|status| status["name"] == container["name"])?, "/imageID");
        // A name by manifest says nothing here; the proof looks it up on the node.
        let runs = runs.rsplit_once("://").map_or(runs, |(_, id)| id);
        (runs.starts_with("sha256:") && runs != wanted).then(|| (text(owner, "/name").to_owned(), runs.to_owned()))
    })
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_of_the_old_image_is_found_and_one_of_the_new_is_not() {
        let pod = |image: &str, id: &str| {
            let items = json!({"items": [{"kind": "Pod",
                "metadata": {"name": "p-0", "ownerReferences": [{"kind": "StatefulSet", "name": "p"}]},
                "spec": {"containers": [{"name": "c", "image": image}]},
                "status": {"containerStatuses": [{"name": "c", "imageID": id}]}}]});
            Snapshot::parse(&items.to_string()).unwrap()
        };
        let wanted = Wanted { reference: "db:1".into(), id: Some("sha256:new".into()) };
        let found = |image: &str, id: &str| outdated(&wanted, &pod(image, id)).map(|(_, old)| old);
        assert_eq!(found("db:1", "sha256:old").as_deref(), Some("sha256:old"));
        assert_eq!(found("db:1", "docker://sha256:new"), None);
        // Another tag is a change that Helm makes.
        assert_eq!(found("db:0", "sha256:old"), None);
        assert_eq!(found("db:1", "docker.io/library/db@sha256:manifest"), None);
    }
}
