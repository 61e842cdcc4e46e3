//! Commands on the node: `ctr` and `crictl`.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Machine, Surroundings, ToolResult, canonical, import};

pub(super) fn on_node(
    machine: &mut Machine,
    words: &[&str],
    input: &[u8],
    around: &Surroundings,
) -> Option<ToolResult> {
    Some(match words {
        ["true"] => ToolResult::well(""),
        ["systemctl", "is-active", "kubelet"] => ToolResult::well("active\n"),
        ["ctr", "-n", "k8s.io", "content", "ls", "-q"] => {
            ToolResult::well(machine.node_content.keys().map(|digest| format!("{digest}\n")).collect::<String>())
        }
        ["ctr", "-n", "k8s.io", "images", "check", "-q", filters @ ..] => {
            let wanted = filters.iter().filter_map(|filter| filter.strip_prefix("name=="));
            let there = wanted.filter(|name| machine.node_images.contains_key(*name));
            ToolResult::well(there.map(|name| format!("{name}\n")).collect::<String>())
        }
        ["ctr", "-n", "k8s.io", "images", "import", .., "-"] => match import(machine, input) {
            Ok(()) => ToolResult::well("unpacking done\n"),
            Err(error) => ToolResult::badly(format!("ctr: {error:#}")),
        },
        ["ctr", "-n", "k8s.io", "images", "tag", "--force", from, to] => {
            match machine.node_images.get(*from).cloned() {
                Some(id) => {
                    machine.node_images.insert((*to).to_owned(), id);
                    ToolResult::well(format!("{to}\n"))
                }
                None => ToolResult::badly(format!("ctr: image \"{from}\": not found")),
            }
        }
        ["ctr", "-n", "k8s.io", "images", "rm", name] => {
            machine.node_images.remove(*name);
            ToolResult::well(format!("{name}\n"))
        }
        // The log of no pod contains the pattern.
        ["grep", "-rqE", _, "/var/log/pods"] => ToolResult { code: 1, ..ToolResult::well("") },
        ["crictl", _, "images", "-o", "json"] => ToolResult::well(listing(machine)),
        // The list of images, followed by the references that pass the filters.
        ["sh", "-c", script, "images", filters @ ..] if script.starts_with("crictl ") => {
            let mut listed = on_node(machine, &["crictl", "", "images", "-o", "json"], input, around)?;
            let check = [&["ctr", "-n", "k8s.io", "images", "check", "-q"], filters].concat();
            listed.output.extend(on_node(machine, &check, input, around)?.output);
            listed.output.extend(b"end\n");
            listed
        }
        ["crictl", _, "ps", "-a", "-o", "json"] => ToolResult::well(containers(machine, around)),
        ["crictl", _, "rmi", name] => {
            let id = machine.node_images.get(*name).cloned();
            machine.node_images.retain(|_, other| Some(&*other) != id.as_ref());
            ToolResult::well(format!("Deleted: {name}\n"))
        }
        _ => return None,
    })
}

fn listing(machine: &Machine) -> String {
    let mut by_id: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, id) in &machine.node_images {
        by_id.entry(id).or_default().push(name);
    }
    let image = |(id, names): (&str, Vec<&str>)| json!({"id": id, "repoTags": names, "repoDigests": [], "size": "1", "username": "", "pinned": false});
    json!({"images": by_id.into_iter().map(image).collect::<Vec<_>>()}).to_string()
}

fn containers(machine: &Machine, around: &Surroundings) -> String {
    let container = |reference: &String| {
        let id = machine.node_images.get(&canonical(reference)).cloned().unwrap_or_default();
        json!({"id": "c", "image": {"image": id, "userSpecifiedImage": reference}, "imageRef": id})
    };
    json!({"containers": around.used.iter().map(container).collect::<Vec<_>>()}).to_string()
}
