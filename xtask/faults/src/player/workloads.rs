//! Simulates the controllers of Deployments, StatefulSets and endpoints. An update of a Deployment removes old pods
//! only once the new ones are ready.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{create, is_ready, metadata, now, of_kind, owns, selects, short, text};
use crate::etcd::{Objects, Stored, Write};

pub(super) fn reconcile(live: &Objects) -> Vec<Write> {
    let mut writes = Vec::new();
    for (key, stored) in live {
        let object = &stored.value;
        if object.pointer("/metadata/deletionTimestamp").is_some() {
            continue;
        }
        match text(object, "/kind") {
            "Deployment" => deployment(live, key, stored, &mut writes),
            "StatefulSet" => stateful_set(live, key, stored, &mut writes),
            "Service" if object.pointer("/spec/selector").is_some() => endpoints(live, object, &mut writes),
            _ => {}
        }
    }
    writes
}

fn wanted(workload: &Value) -> u64 {
    workload.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1)
}

/// Returns the pods of `owner`, with their keys.
fn pods<'a>(live: &'a Objects, owner: &'a Value) -> Vec<(&'a String, &'a Value)> {
    let pods = live.iter().filter(|(key, _)| key.starts_with("/registry/pods/"));
    pods.filter(|(_, pod)| owns(owner, &pod.value)).map(|(key, pod)| (key, &pod.value)).collect()
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn deployment(live: &Objects, key: &str, stored: &Stored, writes: &mut Vec<Write>) {
    let deployment = &stored.value;
    let template = &deployment["spec"]["template"];
    let hash = short(template, 8);
    let sets: Vec<(&String, &Arc<Stored>)> =
        live.iter().filter(|(_, set)| set.value["kind"] == "ReplicaSet" && owns(deployment, &set.value)).collect();
    let is_new = |set: &Value| set["metadata"]["labels"]["pod-template-hash"] == json!(hash);
    let number = |object: &Value| {
        object["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    };
    let newest: u64 = sets.iter().map(|(_, set)| number(&set.value)).max().unwrap_or(0);
    let Some((new_key, new)) = sets.iter().find(|(_, set)| is_new(&set.value)) else {
        let mut template = template.clone();
        template["metadata"]["labels"]["pod-template-hash"] = json!(hash);
        let mut selector = deployment["spec"]["selector"].clone();
        selector["matchLabels"]["pod-template-hash"] = json!(hash);
        let name = format!("{}-{hash}", text(deployment, "/metadata/name"));
        let mut metadata = metadata(&name, deployment, &template["metadata"]["labels"]);
        metadata["annotations"] = json!({"deployment.kubernetes.io/revision": (newest + 1).to_string()});
        let spec = json!({"replicas": wanted(deployment), "selector": selector, "template": template});
        writes.push(create("replicasets", json!({"kind": "ReplicaSet", "apiVersion": "apps/v1", "metadata": metadata, "spec": spec, "status": {"replicas": 0}})));
        return;
    };
    let fresh = pods(live, &new.value);
    let ready_new = fresh.iter().filter(|(_, pod)| is_ready(pod)).count();
    let complete = count(ready_new) >= wanted(deployment);
    let (mut all, mut ready) = (fresh.len(), ready_new);
    for (set_key, set) in &sets {
        let is_new = is_new(&set.value);
        let target = if is_new {
            wanted(deployment)
        } else if complete {
            0
        } else {
            wanted(&set.value)
        };
        let has = pods(live, &set.value);
        if !is_new {
            all += has.len();
            ready += has.iter().filter(|(_, pod)| is_ready(pod)).count();
        }
        scale(set_key, set, target, &has, writes);
    }
    let revision = if number(&new.value) < newest { newest + 1 } else { number(&new.value) };
    if number(&new.value) != revision && writes.is_empty() {
        let mut set = new.value.clone();
        set["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!(revision.to_string());
        writes.push(Write::Put((*new_key).clone(), set, new.revision.clone()));
    }
    let mut next = deployment.clone();
    next["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!(revision.to_string());
    let mut status = json!({"observedGeneration": deployment["metadata"]["generation"], "replicas": all,
        "updatedReplicas": fresh.len(), "readyReplicas": ready, "availableReplicas": ready,
        "unavailableReplicas": wanted(deployment).saturating_sub(count(ready))});
    let condition = |kind: &str, is: bool, reason: &str| {
        json!({"type": kind, "status": if is { "True" } else { "False" },
        "reason": reason, "lastUpdateTime": now(), "lastTransitionTime": now()})
    };
    let conditions = deployment.pointer("/status/conditions").cloned();
    status["conditions"] = conditions.clone().unwrap_or_default();
    if next["status"] == status && next == *deployment {
        return;
    }
    status["conditions"] = json!([
        condition("Available", count(ready) >= wanted(deployment), "MinimumReplicasAvailable"),
        condition("Progressing", true, if complete { "NewReplicaSetAvailable" } else { "ReplicaSetUpdated" })
    ]);
    next["status"] = status;
    writes.push(Write::Put(key.to_owned(), next, stored.revision.clone()));
}

/// Creates or deletes pods until the ReplicaSet has `target` pods.
fn scale(key: &str, stored: &Stored, target: u64, has: &[(&String, &Value)], writes: &mut Vec<Write>) {
    let set = &stored.value;
    let ready = has.iter().filter(|(_, pod)| is_ready(pod)).count();
    let mut next = set.clone();
    next["spec"]["replicas"] = json!(target);
    next["status"] = json!({"replicas": has.len(), "readyReplicas": ready, "availableReplicas": ready, "fullyLabeledReplicas": has.len(),
        "observedGeneration": set["metadata"]["generation"]});
    if next != *set {
        writes.push(Write::Put(key.to_owned(), next, stored.revision.clone()));
    }
    let template = &set["spec"]["template"];
    for number in count(has.len())..target {
        let seed =
            json!([number, now(), std::time::Instant::now().elapsed().subsec_nanos(), text(set, "/metadata/uid")]);
        let name = format!("{}-{}", text(set, "/metadata/name"), short(&seed, 5));
        writes.push(create("pods", pod(&name, set, template)));
    }
    let surplus = has.len().saturating_sub(usize::try_from(target).unwrap_or(usize::MAX));
    writes.extend(has.iter().take(surplus).map(|(key, _)| Write::Delete((*key).clone())));
}

fn pod(name: &str, owner: &Value, template: &Value) -> Value {
    let mut metadata = metadata(name, owner, &template["metadata"]["labels"]);
    if let Some(annotations) = template.pointer("/metadata/annotations") {
        metadata["annotations"] = annotations.clone();
    }
    json!({"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": template["spec"], "status": {"phase": "Pending"}})
}

fn stateful_set(live: &Objects, key: &str, stored: &Stored, writes: &mut Vec<Write>) {
    let set = &stored.value;
    let (name, template) = (text(set, "/metadata/name"), &set["spec"]["template"]);
    let revision = format!("{name}-{}", short(template, 8));
    let has = pods(live, set);
    for number in 0..wanted(set) {
        let pod_name = format!("{name}-{number}");
        let mut spec = template.clone();
        for claim in set.pointer("/spec/volumeClaimTemplates").and_then(Value::as_array).into_iter().flatten() {
            let of = text(claim, "/metadata/name");
            let claim_name = format!("{of}-{pod_name}");
            if !of_kind(live, "PersistentVolumeClaim").any(|other| text(other, "/metadata/name") == claim_name) {
                let mut metadata = metadata(&claim_name, set, &claim["metadata"]["labels"]);
                metadata.as_object_mut().map(|metadata| metadata.remove("ownerReferences"));
                let mut claim_spec = claim["spec"].clone();
                claim_spec["volumeName"] = json!(format!("pv-{claim_name}"));
                writes.push(create(
                    "persistentvolumeclaims",
                    json!({"kind": "PersistentVolumeClaim", "apiVersion": "v1", "metadata": metadata,
                    "spec": claim_spec, "status": {"phase": "Bound"}}),
                ));
            }
            if !spec["spec"]["volumes"].is_array() {
                spec["spec"]["volumes"] = json!([]);
            }
            if let Some(volumes) = spec["spec"]["volumes"].as_array_mut() {
                volumes.push(json!({"name": of, "persistentVolumeClaim": {"claimName": claim_name}}));
            }
        }
        spec["metadata"]["labels"]["controller-revision-hash"] = json!(revision);
        spec["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] = json!(pod_name);
        match has.iter().find(|(_, pod)| text(pod, "/metadata/name") == pod_name) {
            None => writes.push(create("pods", pod(&pod_name, set, &spec))),
            Some((key, pod)) if pod["metadata"]["labels"]["controller-revision-hash"] != json!(revision) => {
                writes.push(Write::Delete((*key).clone()));
            }
            Some(_) => {}
        }
    }
    let ready = has.iter().filter(|(_, pod)| is_ready(pod)).count();
    let mut next = set.clone();
    next["status"] = json!({"observedGeneration": set["metadata"]["generation"], "replicas": has.len(), "readyReplicas": ready,
        "availableReplicas": ready, "currentReplicas": has.len(), "updatedReplicas": has.len(), "currentRevision": revision,
        "updateRevision": revision, "collisionCount": 0});
    if next != *set {
        writes.push(Write::Put(key.to_owned(), next, stored.revision.clone()));
    }
}

fn endpoints(live: &Objects, service: &Value, writes: &mut Vec<Write>) {
    let mut ready: Vec<&Value> = of_kind(live, "Pod").filter(|pod| selects(service, pod) && is_ready(pod)).collect();
    ready.sort_by_key(|pod| text(pod, "/metadata/name"));
    let endpoint = |pod: &&Value| {
        json!({"addresses": [text(pod, "/status/podIP")], "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": "todo", "targetRef": {"kind": "Pod", "namespace": pod["metadata"]["namespace"], "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}})
    };
    let list = json!(ready.iter().map(endpoint).collect::<Vec<_>>());
    let name = format!("{}-slice", text(service, "/metadata/name"));
    let key = format!("/registry/endpointslices/{}/{name}", text(service, "/metadata/namespace"));
    match live.get(&key) {
        Some(stored) if stored.value["endpoints"] == list => {}
        Some(stored) => {
            let mut next = stored.value.clone();
            next["endpoints"] = list;
            writes.push(Write::Put(key, next, stored.revision.clone()));
        }
        None => {
            let labels = json!({"kubernetes.io/service-name": service["metadata"]["name"]});
            writes.push(create(
                "endpointslices",
                json!({"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
                "metadata": metadata(&name, service, &labels), "addressType": "IPv4", "endpoints": list, "ports": []}),
            ));
        }
    }
}
