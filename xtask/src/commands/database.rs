//! The embedded database after its image was renewed: the tag is the same, so neither Helm nor Kubernetes sees a change.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

use crate::api::{Api, kinds};
use crate::failure::{Class, Failure};
use crate::origin::bases::short;
use crate::plan::{self, Mode, Step};
use crate::process;
use crate::project::Project;
use crate::snapshot::{Snapshot, text};
use crate::stages::images::load::Wanted;
use crate::toolbox::Toolbox;

/// How long the new pod may take: longer than Postgres needs after an unclean end.
const LIMIT: Duration = Duration::from_secs(180);

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
    let loaded = Wanted::of(project, &tools.engine, name)?;
    let Some(step) = restart(tools, &loaded, snapshot) else { return Ok(0) };
    plan::apply(project, "release", mode, vec![step])
}

/// The step that replaces the database's pod, if that runs another image than the `database` of the same name.
fn restart<'a>(tools: &'a Toolbox, database: &Wanted, snapshot: &Snapshot) -> Option<Step<'a>> {
    let Outdated { owner, pod, uid, image } = outdated(database, snapshot)?;
    let why = format!("it runs {}, and {} was renewed", short(&image), database.reference);
    let command = format!("kubectl delete pod {pod}  # its StatefulSet makes the next one");
    Some(Step::new(format!("restart {owner}"), why, command, move |running| {
        let api = tools.api()?;
        api.begin_delete_of(&kinds::POD, &pod, &uid)?;
        running.progress("the database is away for some seconds");
        wait_until_ready(&api, &owner, &pod, &uid)?;
        Ok(String::new())
    }))
}

/// Waits until the StatefulSet `owner` has another pod than the one with `uid` under the same name, and it is ready.
fn wait_until_ready(api: &Api, owner: &str, pod: &str, uid: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        let found = api.get(&kinds::POD, pod)?;
        if found.is_some_and(|found| text(&found, "/metadata/uid") != uid && is_ready(&found)) {
            return Ok(());
        }
        if process::ending() {
            bail!("interrupted");
        }
        if begun.elapsed() > LIMIT {
            let what = format!("{owner} has no ready pod {} s after its restart", LIMIT.as_secs());
            return Err(Failure::new(Class::Rollout, what).help("cargo xtask status    (tells why)").into());
        }
        std::thread::sleep(api.deadlines().poll);
    }
}

fn is_ready(pod: &Value) -> bool {
    list(pod, "/status/conditions").any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// A pod of the database that runs an image which was renewed since.
#[derive(Debug, PartialEq, Eq)]
struct Outdated {
    owner: String,
    pod: String,
    uid: String,
    image: String,
}

/// The pod that runs an image of the database's name, but not of its ID.
fn outdated(database: &Wanted, snapshot: &Snapshot) -> Option<Outdated> {
    let wanted = database.id.as_deref()?;
    snapshot.kind("Pod").find_map(|pod| {
        let owner = list(pod, "/metadata/ownerReferences").find(|owner| text(owner, "/kind") == "StatefulSet")?;
        let container = list(pod, "/spec/containers").find(|spec| text(spec, "/image") == database.reference)?;
        let mut statuses = list(pod, "/status/containerStatuses");
        let runs = text(statuses.find(|status| status["name"] == container["name"])?, "/imageID");
        // A name by manifest says nothing here; the proof looks it up on the node.
        let runs = runs.rsplit_once("://").map_or(runs, |(_, id)| id);
        (runs.starts_with("sha256:") && runs != wanted).then(|| Outdated {
            owner: text(owner, "/name").to_owned(),
            pod: text(pod, "/metadata/name").to_owned(),
            uid: text(pod, "/metadata/uid").to_owned(),
            image: runs.to_owned(),
        })
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
        let found = |image: &str, id: &str| outdated(&wanted, &pod(image, id)).map(|pod| pod.image);
        assert_eq!(found("db:1", "sha256:old").as_deref(), Some("sha256:old"));
        assert_eq!(found("db:1", "docker://sha256:new"), None);
        // Another tag is a change that Helm makes.
        assert_eq!(found("db:0", "sha256:old"), None);
        assert_eq!(found("db:1", "docker.io/library/db@sha256:manifest"), None);
    }
}
