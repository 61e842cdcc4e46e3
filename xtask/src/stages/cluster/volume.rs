//! Fills the volume of a new node with images and Kubernetes' programs before minikube makes the node.
//!
//! minikube would copy each of them: it packs and unpacks the one image of Kubernetes four times, once for each name, and
//! keeps the program three times. It does not copy files that the volume has.

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
use crate::report::Running;
use crate::stages::images::build::LABEL;
use crate::stages::images::load::{self, Wanted};
use crate::toolbox::Toolbox;

/// The folder that a node creates in its volume on its first start.
const DATA: &str = "/var/lib/minikube/etcd";
/// Removes the leftovers of a killed run, and runs containerd until standard input ends, at the latest with xtask.
const SERVE: &str = r"rm -rf /var/lib/containerd /var/lib/minikube/binaries; containerd --log-level error & cat
kill $!; wait $! || [ $? = 143 ]";
/// Links the program $2 of an image under all names in the folder $1. One file is in memory only once.
const LINK: &str = r#"set -e; from=$(find /var/lib/containerd -type f -path "*$2" | head -n 1); mkdir -p "$1"; cd "$1"
shift 2; for name do ln "$from" "$name"; done"#;

/// Returns the step that fills the volume, if the origin has content for it. It also loads `images` that the engine has.
pub fn step<'a>(tools: &'a Toolbox, origin: &'a dyn Origin, kubernetes: &str, images: &[String]) -> Option<Step<'a>> {
    let content = origin.node_content()?;
    let name = &tools.profile;
    let command = [
        serve(&tools.engine, name, &content.node).to_string(),
        "docker save IMAGE | ctr images import -   # in it, each image".to_owned(),
    ];
    let (kubernetes, images) = (kubernetes.to_owned(), images.to_vec());
    let what = format!("fill the volume of node {name}");
    Some(Step::new(what, "minikube would copy each image and program itself", command.join("\n"), move |running| {
        fill(tools, &content, &kubernetes, &images, running)
    }))
}

/// Returns whether the node `name` has a volume that minikube or [`step`] made.
pub fn exists(engine: &Engine, name: &str) -> Result<bool> {
    let volume = engine.inspect_one("volume", name)?.unwrap_or_default();
    Ok(volume["Labels"]["name.minikube.sigs.k8s.io"] == name)
}

/// Returns whether the volume of the node `name` may hold data. True if no image in the engine can look into it.
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
            let what = format!("`{look}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
            Err(Failure::new(Class::Machine, what).help("see whether the engine answers: cargo xtask doctor").into())
        }
    }
}

/// Returns the name of the container that fills the volume.
fn container(name: &str) -> String {
    format!("todo-xtask-volume-{name}")
}

/// Returns the command that starts that container.
fn serve(engine: &Engine, name: &str, node: &str) -> Process {
    let name_of = ["--name", &container(name), "--label", LABEL];
    let run = ["run", "--interactive", "--rm", "--pull=never", "--privileged", "--network=none"];
    // A container's own files are on an overlay, which cannot hold snapshots.
    let run = engine.docker().args(run).args(name_of).arg(format!("--volume={name}:/var"));
    run.args(["--entrypoint=sh", node, "-c", SERVE]).deadline(deadlines::IMAGE_STREAM)
}

fn fill(
    tools: &Toolbox,
    content: &NodeContent,
    kubernetes: &str,
    images: &[String],
    running: &Running,
) -> Result<String> {
    let (engine, name) = (&tools.engine, tools.profile.as_str());
    // A killed run may have left the container.
    remove_container(engine, name)?;
    if !exists(engine, name)? && engine.inspect_one("volume", name)?.is_some() {
        let what =
            format!("the engine has a volume `{name}` that is not minikube's: the node would use it with its data");
        let inspect = format!("see whose it is: docker volume inspect {name}");
        return Err(Failure::new(Class::Cluster, what)
            .help(inspect)
            .help("or use another profile: --profile NAME")
            .into());
    }
    if has_data(engine, name, Some(content))? {
        return Ok("kept: it has the data of a node".to_owned());
    }
    // The labels of minikube, whose `delete` looks for them.
    let labels = [format!("name.minikube.sigs.k8s.io={name}"), "created_by.minikube.sigs.k8s.io=true".to_owned()];
    let create = engine.docker().args(["volume", "create"]);
    create.args(labels.iter().flat_map(|label| ["--label", label])).arg(name).run()?;
    let filled = || {
        let (input, keep_open) = std::io::pipe()?;
        let serving = serve(engine, name, &content.node).pipe_from(Some(input))?;
        let node = Node::container(engine, &container(name));
        let serving = wait_for_containerd(&node, serving)?;
        let cluster = engine.image_ids(&content.images)?;
        let others = engine.image_ids(images)?;
        let count = cluster.len() + others.len();
        load_all(tools, &node, cluster, running)?;
        // Containers need only the unpacked layers, and no later load sends these images again.
        node.ctr(["content", "prune", "references"]).deadline(deadlines::NODE).run()?;
        load_all(tools, &node, others, running)?;
        running.progress("linking the programs of Kubernetes");
        let folder = format!("/var/lib/minikube/binaries/{kubernetes}");
        let link = node.exec(["sh", "-c", LINK, "link", &folder, content.program]).args(content.names);
        link.deadline(deadlines::NODE).run()?;
        drop(keep_open);
        // containerd writes until it ends.
        serving.finish()?;
        Ok(format!("{count} images"))
    };
    let filled = filled();
    let removed = remove_container(engine, name);
    let filled = filled.map_err(|error: anyhow::Error| {
        Failure::new(Class::Cluster, format!("the volume of node {name} cannot be filled"))
            .because(error)
            .help("run the same command again: it fills the volume from the start")
    })?;
    removed.map(|()| filled)
}

/// Removes the container, if it is xtask's. Retries, because the engine refuses while it removes an ended one itself.
fn remove_container(engine: &Engine, name: &str) -> Result<()> {
    let begun = Instant::now();
    let remove = engine.docker().args(["rm", "--force", &container(name)]);
    while let Some(found) = engine.inspect_one("container", &container(name))? {
        let (key, value) = LABEL.split_once('=').unwrap_or_default();
        if found["Config"]["Labels"][key] != value {
            let what = format!("a container `{}` that xtask did not make has the name that it needs", container(name));
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
    // crictl uses a service of containerd that starts later than that of ctr.
    while !node.crictl(["images", "-q"]).deadline(deadlines::NODE).succeeds() {
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

/// Loads the images `ids` (by reference), each once, and then adds the other names of an image.
fn load_all(tools: &Toolbox, node: &Node, ids: BTreeMap<String, String>, running: &Running) -> Result<()> {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (reference, id) in ids {
        names.entry(id).or_default().push(reference);
    }
    let load = |id: &String, names: &[String]| {
        let on_node = NodeImages { content: Some(Default::default()), ..NodeImages::default() };
        let wanted = Wanted { reference: names[0].clone(), id: Some(id.clone()) };
        load::load(tools, node, &on_node, &wanted, running)?;
        let tag = |name: &String| node.ctr(["images", "tag", "--force", &canonical(&names[0]), &canonical(name)]).run();
        names[1..].iter().try_for_each(tag)
    };
    std::thread::scope(|scope| {
        let loads: Vec<_> = names.iter().map(|(id, names)| scope.spawn(move || load(id, names))).collect();
        let results = loads.into_iter().map(|load| load.join().unwrap_or_else(|_| bail!("a load panicked")));
        // Returns the first error only after all loads have ended.
        results.collect::<Vec<_>>().into_iter().collect()
    })
}

#[cfg(test)]
mod tests {

    use camino::Utf8Path;

    use super::*;

    /// Returns an engine whose client is this script, which writes each call to the file `calls` beside it.
    fn engine(folder: &Utf8Path, script: &str) -> Engine {
        let calls = format!("cd {folder}; echo \"$*\" | head -n 1 >>calls");
        Engine::scripted(folder, &format!("{calls}\ncase \"$*\" in\n{script}\n{NO_CONTAINER}esac"))
    }

    fn content() -> NodeContent {
        let images = ["a:1", "b:1"].map(str::to_owned).to_vec();
        NodeContent { node: "node:1".to_owned(), images, program: "/bin/kube", names: ["x", "y", "z"] }
    }

    fn fill_with(script: &str) -> (Result<String>, String) {
        let temp = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(temp.path()).unwrap();
        let tools = Toolbox::of_engine(engine(folder, script));
        let running = tools.report.step("cluster", "fill", "");
        let filled = fill(&tools, &content(), "v1.36.4", &["c:1".to_owned()], &running);
        running.done("");
        (filled, std::fs::read_to_string(folder.join("calls")).unwrap())
    }

    const NODE_IMAGE: &str = "'image inspect'*) echo '{\"Id\": \"sha256:ee\", \"RepoTags\": [\"node:1\"]}' ;;\n";
    const NO_VOLUME: &str = "'volume inspect'*) echo 'Error: no such volume: todo' >&2; exit 1 ;;\n";
    const NO_CONTAINER: &str =
        "'container inspect'*) echo 'Error: No such container: todo-xtask-volume-todo' >&2; exit 1 ;;\n";

    #[test]
    fn sends_each_image_once_and_ends_the_container_with_its_input() {
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
    fn removes_the_container_of_a_killed_run_first() {
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
    fn keeps_a_volume_with_the_data_of_a_node() {
        let ours = r#"'volume inspect'*) echo '{"Labels": {"name.minikube.sigs.k8s.io": "todo"}}' ;;"#;
        let has = |code| format!("{NODE_IMAGE}{ours}\n'run --rm'*) exit {code} ;;");
        let (filled, calls) = fill_with(&has(0));
        assert_eq!(filled.unwrap(), "kept: it has the data of a node");
        assert!(!calls.contains("volume create") && !calls.contains("--interactive"), "{calls}");
        // An engine that fails has not answered "no".
        let (filled, calls) = fill_with(&has(125));
        assert!(
            filled.unwrap_err().to_string().contains("etcd` failed") && !calls.contains("--interactive"),
            "{calls}"
        );
    }

    #[test]
    fn counts_an_unreadable_volume_as_data_and_pulls_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(temp.path()).unwrap();
        let script = r#"'volume inspect'*) echo '{"Name": "todo"}' ;;
'image inspect'*) echo 'Error: No such image: node:1' >&2; exit 1 ;;"#;
        assert!(has_data(&engine(folder, script), "todo", Some(&content())).unwrap());
        let calls = std::fs::read_to_string(folder.join("calls")).unwrap();
        assert!(!calls.contains("run"), "{calls}");
    }

    #[test]
    fn keeps_volumes_and_containers_of_somebody_else() {
        let (filled, calls) = fill_with("'volume inspect'*) echo '{\"Labels\": null}' ;;");
        assert!(filled.unwrap_err().to_string().contains("not minikube's"));
        assert!(!calls.contains("volume create") && !calls.contains("--interactive"), "{calls}");
        let (filled, calls) = fill_with(&format!("'container inspect'*) echo '{{\"Config\": {{}}}}' ;;\n{NO_VOLUME}"));
        assert!(filled.unwrap_err().to_string().contains("did not make") && !calls.contains("rm "), "{calls}");
    }

    #[test]
    fn fails_at_once_if_the_container_ends() {
        let script = "run*) echo no space left >&2; exit 125 ;;\n*crictl*) exit 1 ;;";
        let (filled, _) = fill_with(&format!("{NO_VOLUME}{script}"));
        let error = filled.unwrap_err();
        assert!(format!("{error:#}").contains("no space left"), "{error:#}");
    }
}
