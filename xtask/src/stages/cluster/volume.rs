//! The volume of a node that minikube is about to make, filled with images and Kubernetes' programs.
//!
//! minikube would copy each of them itself: it packs and unpacks the one image of Kubernetes four times, once for each
//! name, and keeps the program three times. What it finds in the volume it leaves as it is.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::deadlines;
use crate::engine::Engine;
use crate::failure::{Class, Failure};
use crate::node::{Node, NodeImages, canonical};
use crate::origin::{NodeContent, Origin};
use crate::plan::Step;
use crate::process::{self, Piped, Process};
use crate::project::Project;
use crate::report::Running;
use crate::stages::images::build::LABEL;
use crate::stages::images::load::{self, Wanted};
use crate::toolbox::Toolbox;

/// What a node that has worked leaves in its volume.
const DATA: &str = "/var/lib/minikube/etcd";
/// Removes what a killed run has left half done, and serves images until its input ends, which it does with xtask.
const SERVE: &str = r"rm -rf /var/lib/containerd /var/lib/minikube/binaries; containerd --log-level error & cat
kill $!; wait $! || [ $? = 143 ]";
/// Gives the program $2 of an image all names in the folder $1. They are one file, so that memory holds it once.
const LINK: &str = r#"set -e; from=$(find /var/lib/containerd -type f -path "*$2" | head -n 1); mkdir -p "$1"; cd "$1"
shift 2; for name do ln "$from" "$name"; done"#;

/// The step that fills the volume, where the origin leaves that to xtask. `images` are loaded besides what the cluster needs,
/// as far as the engine has them.
pub fn step<'a>(
    project: &'a Project,
    tools: &'a Toolbox,
    origin: &'a dyn Origin,
    kubernetes: &str,
    images: &[String],
) -> Option<Step<'a>> {
    let content = origin.node_content()?;
    let (engine, name) = (&tools.engine, tools.profile.clone());
    let command = [
        serve(engine, &name, &content.node).to_string(),
        "docker save IMAGE | ctr images import -   # in it, each image".to_owned(),
    ];
    let (kubernetes, images) = (kubernetes.to_owned(), images.to_vec());
    let what = format!("fill the volume of node {name}");
    Some(Step::new(what, "minikube would copy each image and program itself", command.join("\n"), move |running| {
        fill(project, engine, &name, &content, &kubernetes, &images, running)
    }))
}

/// Whether there is a volume for the node `name`, as minikube or [`step`] makes it.
pub fn exists(engine: &Engine, name: &str) -> Result<bool> {
    let volume = engine.inspect_one("volume", name)?.unwrap_or_default();
    Ok(volume["Labels"]["name.minikube.sigs.k8s.io"] == name)
}

/// Whether the volume of the node `name` may hold data. A volume that no image here can look into counts as one that does.
pub fn has_data(engine: &Engine, name: &str, content: Option<&NodeContent>) -> Result<bool> {
    if engine.inspect_one("volume", name)?.is_none() {
        return Ok(false);
    }
    let Some(content) = content else { return Ok(true) };
    if engine.image_id(&content.node)?.is_none() {
        return Ok(true);
    }
    let look = ["run", "--rm", "--pull=never", "--network=none", &format!("--volume={name}:/var"), "--entrypoint=test"];
    let look = engine.docker().args(look).args([&content.node, "-e", DATA]);
    let output = look.output()?;
    match output.status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => {
            let what = format!("`{look}` does not say: {}", String::from_utf8_lossy(&output.stderr).trim());
            Err(Failure::new(Class::Machine, what).help("see whether the engine answers: cargo xtask doctor").into())
        }
    }
}

/// The container in which the volume is filled.
fn container(name: &str) -> String {
    format!("todo-xtask-volume-{name}")
}

/// The command that starts it.
fn serve(engine: &Engine, name: &str, node: &str) -> Process {
    let name_of = ["--name", &container(name), "--label", LABEL];
    let run = ["run", "--interactive", "--rm", "--pull=never", "--privileged", "--network=none"];
    // Snapshots cannot be on an overlay, which a container's own files are.
    let run = engine.docker().args(run).args(name_of).arg(format!("--volume={name}:/var"));
    run.args(["--entrypoint=sh", node, "-c", SERVE]).deadline(deadlines::IMAGE_STREAM)
}

fn fill(
    project: &Project,
    engine: &Engine,
    name: &str,
    content: &NodeContent,
    kubernetes: &str,
    images: &[String],
    running: &Running,
) -> Result<String> {
    // A killed run may have left it.
    remove_container(engine, name)?;
    if !exists(engine, name)? && engine.inspect_one("volume", name)?.is_some() {
        let what = format!(
            "the engine has a volume `{name}` that is not minikube's: it would become the node's, data and all"
        );
        let inspect = format!("see whose it is: docker volume inspect {name}");
        return Err(Failure::new(Class::Cluster, what)
            .help(inspect)
            .help("or use another profile: --profile NAME")
            .into());
    }
    if has_data(engine, name, Some(content))? {
        return Ok("it has the data of a node: left as it is".to_owned());
    }
    // As minikube makes it, whose `delete` looks for the labels.
    let labels = [format!("name.minikube.sigs.k8s.io={name}"), "created_by.minikube.sigs.k8s.io=true".to_owned()];
    let create = engine.docker().args(["volume", "create"]);
    create.args(labels.iter().flat_map(|label| ["--label", label])).arg(name).run()?;
    let filled = || {
        let (input, held) = std::io::pipe()?;
        let serving = serve(engine, name, &content.node).pipe_from(Some(input))?;
        let node = Node::container(engine, &container(name));
        let serving = wait_for_containerd(&node, serving)?;
        let cluster = engine.image_ids(&content.images)?;
        let others = engine.image_ids(images)?;
        let count = cluster.len() + others.len();
        load_all(project, engine, &node, cluster, running)?;
        // Containers are made of the unpacked layers. Of these images no later load will leave out what the node has.
        node.ctr(["content", "prune", "references"]).deadline(deadlines::NODE).run()?;
        load_all(project, engine, &node, others, running)?;
        running.progress("linking Kubernetes' programs");
        let folder = format!("/var/lib/minikube/binaries/{kubernetes}");
        let link = node.exec(["sh", "-c", LINK, "link", &folder, content.program]).args(content.names);
        link.deadline(deadlines::NODE).run()?;
        drop(held);
        // Its last writes belong to the node.
        serving.finish()?;
        Ok(format!("{count} images"))
    };
    let filled = filled();
    let removed = remove_container(engine, name);
    let filled = filled.map_err(|error: anyhow::Error| {
        Failure::new(Class::Cluster, format!("the volume of node {name} cannot be filled: {error:#}"))
            .help("run the same command again: it begins the volume anew")
    })?;
    removed.map(|()| filled)
}

/// Removes the container, if it is ours. One that has ended is being removed by the engine, which refuses to do that twice.
fn remove_container(engine: &Engine, name: &str) -> Result<()> {
    let begun = Instant::now();
    let remove = engine.docker().args(["rm", "--force", &container(name)]);
    while let Some(found) = engine.inspect_one("container", &container(name))? {
        let (key, value) = LABEL.split_once('=').unwrap_or_default();
        if found["Config"]["Labels"][key] != value {
            let what = format!("a container `{}` that is not ours is in the way", container(name));
            return Err(Failure::new(Class::Cluster, what).help(format!("if nobody needs it: {remove}")).into());
        }
        let removed = remove.run();
        if begun.elapsed() > deadlines::NODE.time() {
            return removed.and_then(|()| bail!("`{remove}` does not remove it"));
        }
        std::thread::sleep(deadlines::POLL_LOCAL.time());
    }
    Ok(())
}

fn wait_for_containerd(node: &Node, serving: Piped) -> Result<Piped> {
    let begun = Instant::now();
    // crictl asks another service than ctr, which begins later.
    while !node.exec(["crictl", "images", "-q"]).deadline(deadlines::NODE).succeeds() {
        if serving.reader().try_wait()?.is_some() {
            return serving.finish().and_then(|_| bail!("its container has ended"));
        }
        if process::ending() {
            bail!("interrupted");
        }
        if begun.elapsed() > deadlines::NODE.time() {
            bail!("containerd does not answer in it");
        }
        std::thread::sleep(deadlines::POLL_LOCAL.time());
    }
    Ok(serving)
}

/// Loads the images `ids`, by reference, each once; one that has several names gets the others afterwards.
fn load_all(
    project: &Project,
    engine: &Engine,
    node: &Node,
    ids: BTreeMap<String, String>,
    running: &Running,
) -> Result<()> {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (reference, id) in ids {
        names.entry(id).or_default().push(reference);
    }
    let load = |id: &String, names: &[String]| {
        let on_node = NodeImages { content: Some(Default::default()), ..NodeImages::default() };
        let wanted = Wanted { reference: names[0].clone(), id: Some(id.clone()) };
        load::load(project, engine, node, &on_node, &wanted, running)?;
        let tag = |name: &String| node.ctr(["images", "tag", "--force", &canonical(&names[0]), &canonical(name)]).run();
        names[1..].iter().try_for_each(tag)
    };
    std::thread::scope(|scope| {
        let loads: Vec<_> = names.iter().map(|(id, names)| scope.spawn(move || load(id, names))).collect();
        let results = loads.into_iter().map(|load| load.join().unwrap_or_else(|_| bail!("a load panicked")));
        // All have ended before the first error is returned.
        results.collect::<Vec<_>>().into_iter().collect()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use camino::Utf8Path;

    use super::*;
    use crate::project::Options;
    use crate::report::Report;

    /// An engine whose client is this script; each call is a line of the file `calls` beside it.
    fn engine(folder: &Utf8Path, script: &str) -> Engine {
        let client = folder.join("docker");
        let script = format!(
            "#!/bin/sh\ncd {folder}; echo \"$*\" | head -n 1 >>calls\ncase \"$*\" in\n{script}\n{NO_CONTAINER}esac\n"
        );
        std::fs::write(&client, script).unwrap();
        std::fs::set_permissions(&client, std::fs::Permissions::from_mode(0o755)).unwrap();
        Engine { client, ..Engine::system() }
    }

    fn content() -> NodeContent {
        let images = ["a:1", "b:1"].map(str::to_owned).to_vec();
        NodeContent { node: "node:1".to_owned(), images, program: "/bin/kube", names: ["x", "y", "z"] }
    }

    fn fill_with(script: &str) -> (Result<String>, String) {
        let temp = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(temp.path()).unwrap();
        let engine = engine(folder, script);
        let project = Project::open(None, Options::default(), Report::new(false)).unwrap();
        let running = project.report.step("cluster", "fill", "");
        let filled = fill(&project, &engine, "todo", &content(), "v1.36.4", &["c:1".to_owned()], &running);
        running.done("");
        (filled, std::fs::read_to_string(folder.join("calls")).unwrap())
    }

    const NODE_IMAGE: &str = "'image inspect'*) echo '{\"Id\": \"sha256:ee\", \"RepoTags\": [\"node:1\"]}' ;;\n";
    const NO_VOLUME: &str = "'volume inspect'*) echo 'Error: no such volume: todo' >&2; exit 1 ;;\n";
    const NO_CONTAINER: &str =
        "'container inspect'*) echo 'Error: No such container: todo-xtask-volume-todo' >&2; exit 1 ;;\n";

    #[test]
    fn each_image_is_sent_once_and_the_container_ends_with_its_input() {
        let script = r#"
run*) cat; echo ended >>calls ;;
'image inspect'*) for name; do case $name in
    a:1 | b:1) echo "{\"Id\": \"sha256:aa\", \"RepoTags\": [\"$name\"]}" ;;
    c:1) echo "Error: No such image: c:1" >&2; code=1 ;; esac; done; exit ${code:-0} ;;
save*) head -c 10240 /dev/zero ;;
*' images import -') cat >import ;;
*' sh -c '*) printf '{"images": [{"id": "sha256:aa", "repoTags": ["docker.io/library/a:1"]}]}\ndocker.io/library/a:1\nend\n' ;;
"#;
        let (filled, calls) = fill_with(&format!("{NO_VOLUME}{script}"));
        assert_eq!(filled.unwrap(), "2 images", "{calls}");
        let count = |part: &str| calls.lines().filter(|line| line.contains(part)).count();
        assert_eq!(
            (count("images import"), count("images tag --force docker.io/library/a:1 docker.io/library/b:1")),
            (1, 1)
        );
        let at = |part: &str| calls.lines().position(|line| line.contains(part)).unwrap();
        assert!(at("volume create") < at("run --interactive") && at("images import") < at("ended"), "{calls}");
    }

    #[test]
    fn a_container_that_a_killed_run_left_is_removed_first_also_where_the_engine_is_at_it() {
        let script = r#"
'container inspect'*) [ -e removed ] && echo 'Error: No such container: todo-xtask-volume-todo' >&2 && exit 1
    echo '{"Config": {"Labels": {"app": "todo-xtask"}}}' ;;
rm*) [ -e refused ] && touch removed && exit 1; touch refused; echo 'removal is already in progress' >&2; exit 1 ;;
run*) exit 125 ;;
"#;
        let (_, calls) = fill_with(&format!("{NO_VOLUME}{script}"));
        let at = |part: &str| calls.lines().position(|line| line.contains(part)).unwrap();
        assert!(
            calls.lines().filter(|line| line.contains("rm --force todo-xtask-volume-todo")).count() == 2,
            "{calls}"
        );
        assert!(at("rm --force") < at("volume create"), "{calls}");
    }

    #[test]
    fn a_volume_with_the_data_of_a_node_is_left_alone() {
        let ours = r#"'volume inspect'*) echo '{"Labels": {"name.minikube.sigs.k8s.io": "todo"}}' ;;"#;
        let has = |code| format!("{NODE_IMAGE}{ours}\n'run --rm'*) exit {code} ;;");
        let (filled, calls) = fill_with(&has(0));
        assert_eq!(filled.unwrap(), "it has the data of a node: left as it is");
        assert!(!calls.contains("volume create") && !calls.contains("--interactive"), "{calls}");
        // An engine that does not say is no "no".
        let (filled, calls) = fill_with(&has(125));
        assert!(
            filled.unwrap_err().to_string().contains("does not say") && !calls.contains("--interactive"),
            "{calls}"
        );
    }

    #[test]
    fn a_volume_that_nothing_can_look_into_counts_as_data_and_nothing_is_pulled() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(temp.path()).unwrap();
        let script = r#"'volume inspect'*) echo '{"Name": "todo"}' ;;
'image inspect'*) echo 'Error: No such image: node:1' >&2; exit 1 ;;"#;
        assert!(has_data(&engine(folder, script), "todo", Some(&content())).unwrap());
        let calls = std::fs::read_to_string(folder.join("calls")).unwrap();
        assert!(!calls.contains("run"), "{calls}");
    }

    #[test]
    fn a_volume_or_a_container_of_somebody_else_is_left_alone() {
        let (filled, calls) = fill_with("'volume inspect'*) echo '{\"Labels\": null}' ;;");
        assert!(filled.unwrap_err().to_string().contains("not minikube's"));
        assert!(!calls.contains("volume create") && !calls.contains("--interactive"), "{calls}");
        let (filled, calls) = fill_with(&format!("'container inspect'*) echo '{{\"Config\": {{}}}}' ;;\n{NO_VOLUME}"));
        assert!(filled.unwrap_err().to_string().contains("not ours") && !calls.contains("rm "), "{calls}");
    }

    #[test]
    fn a_container_that_ends_is_the_error_and_nothing_is_waited_for() {
        let script = "run*) echo no space left >&2; exit 125 ;;\n*crictl*) exit 1 ;;";
        let (filled, _) = fill_with(&format!("{NO_VOLUME}{script}"));
        let error = filled.unwrap_err();
        assert!(error.to_string().contains("no space left"), "{error:#}");
    }
}
