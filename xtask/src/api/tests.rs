//! Tests of the client with a small API server with real TLS. Its answers are correct, wrong, late, incomplete or
//! missing.

use std::io::BufRead;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::deadlines::HANG;
use crate::failure::class_of;
use crate::snapshot::{WATCHED, Watch};
use crate::toolbox::Toolbox;

#[path = "../../tests/cli/api_server.rs"]
#[expect(dead_code, reason = "the command-line tests use the rest of it")]
pub mod api_server;

use api_server::{ApiServer, Reply, not_found, status};

const TODO: &str = "GET /api/v1/namespaces/todo";
const PODS: &str = "GET /api/v1/namespaces/todo/pods";

/// Returns deadlines for a server that answers, also on a busy machine.
fn patient() -> Deadlines {
    let millis = Duration::from_millis;
    Deadlines {
        connect: HANG,
        answer: HANG,
        head: HANG,
        watch: Duration::from_secs(1),
        // Attempts are counted, because a busy machine needs any time for one.
        retry: HANG * 2,
        attempts: 4,
        pause: millis(5),
        longest_pause: millis(40),
        deletion: HANG,
        namespace_deletion: HANG,
        poll: millis(5),
    }
}

/// Returns short deadlines for a server that hangs or an object that stays.
fn short() -> Deadlines {
    let time = Duration::from_millis(1500);
    Deadlines { answer: time, head: time, deletion: time, ..patient() }
}

/// Returns a client for the namespace `todo`.
pub fn client(server: &ApiServer) -> Api {
    client_at(server, server.address)
}

fn client_at(server: &ApiServer, address: SocketAddr) -> Api {
    Api::with_deadlines(address, &credentials(server), "todo", patient()).unwrap()
}

/// Returns a client whose deadlines are just long enough for `reply`.
fn client_for(server: &ApiServer, reply: &Reply) -> Api {
    let deadlines = if matches!(reply, Reply::Hang) { short() } else { patient() };
    Api::with_deadlines(server.address, &credentials(server), "todo", deadlines).unwrap()
}

/// Returns a toolbox that reaches only `server`, and waits for `reply` no longer than it must.
pub fn toolbox_for(server: &ApiServer, reply: &Reply) -> Toolbox {
    Toolbox::of_api(credentials(server), client_for(server, reply))
}

/// Returns a toolbox that reaches only `server`.
pub fn toolbox(server: &ApiServer) -> Toolbox {
    Toolbox::of_api(credentials(server), client(server))
}

fn credentials(server: &ApiServer) -> Credentials {
    Credentials {
        authority: server.authority.clone().into_bytes(),
        certificate: server.certificate.clone().into_bytes(),
        key: server.key.clone().into_bytes(),
    }
}

fn namespace() -> Value {
    json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "todo"}})
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": "todo"}}})
}

fn unavailable() -> Reply {
    let status = status(503, "ServiceUnavailable", "the server is currently unable to handle the request", json!({}));
    Reply::Json(503, "", status)
}

/// Returns the result of a GET that the server always answers with `reply`, and the number of requests.
fn asked(reply: Reply) -> (Result<Option<Value>>, usize) {
    let server = ApiServer::start();
    server.on(TODO, std::slice::from_ref(&reply));
    let answer = client_for(&server, &reply).get(&kinds::NAMESPACE, "todo");
    (answer, server.received().len())
}

#[test]
fn an_object_is_present_and_a_status_about_it_is_its_absence() {
    let server = ApiServer::start();
    let api = client(&server);
    assert!(api.get(&kinds::NAMESPACE, "todo").unwrap().is_none());
    server.put("/api/v1/namespaces/todo", namespace());
    assert_eq!(api.get(&kinds::NAMESPACE, "todo").unwrap().unwrap()["metadata"]["name"], "todo");
    assert_eq!(server.connections(), 1, "the connection is kept alive");
}

#[test]
fn other_answers_are_neither_present_nor_absent() {
    let forbidden = status(403, "Forbidden", "namespaces \"todo\" is forbidden", json!({"name": "todo"}));
    let other = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "todo"}});
    // Whether it is asked again: how often depends on how busy the machine is.
    let table: [(Reply, &str, bool); 13] = [
        (Reply::Text(404, "404 page not found"), "404 Not Found: 404 page not found", false),
        (Reply::Text(404, ""), "404 Not Found", false),
        (not_found("namespaces", "other"), "namespaces \"other\" not found", false),
        (not_found("pods", "todo"), "pods \"todo\" not found", false),
        (
            Reply::Json(404, "", status(404, "NotFound", "could not find the requested resource", json!({}))),
            "could not",
            false,
        ),
        (Reply::Json(403, "", forbidden), "is forbidden", false),
        (unavailable(), "currently unable to handle the request", true),
        (Reply::Text(200, "<html>"), "not JSON", false),
        (Reply::Json(200, "", json!([])), "no object", false),
        (Reply::Json(200, "", other), "not Namespace todo", false),
        (Reply::CutOff("{\"kind\": \"Namespace\""), "cut off", false),
        (Reply::Hang, "no answer in time", false),
        (Reply::Close, "did not answer", true),
    ];
    for (reply, expected, is_asked_again) in table {
        let (answer, asked) = asked(reply.clone());
        let error = answer.expect_err(&format!("{reply:?} was taken for an answer"));
        let told = format!("{error:#}");
        assert!(told.contains(expected) && told.contains("`GET /api/v1/namespaces/todo`"), "{reply:?}: {told}");
        assert_eq!(class_of(&error), Class::Cluster, "{told}");
        assert!(!error.downcast_ref::<Failure>().unwrap().hints().is_empty(), "{told}");
        assert_eq!(asked > 1, is_asked_again, "{reply:?}: {asked} times");
    }
}

/// Returns the kinds of wrong answers.
pub fn wrong() -> [Reply; 5] {
    let refused = status(500, "InternalError", "etcdserver: request timed out", json!({}));
    let other = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    [
        Reply::Json(500, "", refused),
        Reply::Hang,
        Reply::Json(200, "", other),
        Reply::CutOff("{\"kind\": \"Pod"),
        unavailable(),
    ]
}

/// `reply` for one request, as often as the client asks.
pub fn each_time(reply: &Reply) -> Vec<Reply> {
    let times = if matches!(reply, Reply::Json(503, ..)) { patient().attempts } else { 1 };
    vec![reply.clone(); usize::try_from(times).unwrap()]
}

#[test]
fn a_list_that_fails_fails_all_of_them() {
    let resources = [kinds::POD, kinds::SERVICE, kinds::CONFIG_MAP];
    for reply in wrong() {
        let errors = resources.each_ref().map(|failing| {
            let server = ApiServer::start();
            server.on(&format!("GET {}", failing.collection("todo", Scope::Namespace)), std::slice::from_ref(&reply));
            let error =
                client_for(&server, &reply).list_all(&resources, Scope::Namespace).expect_err("one of them failed");
            let hints = error.downcast_ref::<Failure>().unwrap().hints();
            let said = format!("{error:#}").replace(failing.plural, "<kind>").replace(failing.kind, "<Kind>");
            (said.replace(&server.address.to_string(), "<address>"), class_of(&error), hints)
        });
        assert!(errors.iter().all(|error| *error == errors[0]), "{reply:?}: {errors:#?}");
    }
}

/// `test faults` relies on it: one way in which a read fails stands for the others where the error ends the command.
#[test]
fn however_a_read_fails_its_caller_gets_an_error_of_the_same_class() {
    type Read = fn(&Api) -> Result<()>;
    let reads: [(&str, Read); 4] = [
        (TODO, |api| api.get(&kinds::NAMESPACE, "todo").map(drop)),
        (PODS, |api| api.list(&kinds::POD, Scope::Namespace).map(drop)),
        (PODS, |api| api.select(&kinds::POD, Scope::Namespace, "app=todo").map(drop)),
        (PODS, |api| api.list_metadata(&kinds::POD, "app=todo").map(drop)),
    ];
    for (request, read) in reads {
        for reply in wrong() {
            let server = ApiServer::start();
            server.on(request, std::slice::from_ref(&reply));
            let error = read(&client_for(&server, &reply)).expect_err(&format!("{reply:?} was taken for an answer"));
            assert_eq!(class_of(&error), Class::Cluster, "{error:#}");
        }
    }
}

#[test]
fn whichever_watch_fails_a_whole_snapshot_is_taken() {
    let try_one = |failing: &Resource, reply: &Reply| {
        let server = ApiServer::start();
        // The list is answered. The watch fails as often as the client may ask for it.
        let replies = [vec![Reply::Pass], each_time(reply), vec![Reply::Pass]].concat();
        server.on(&format!("GET {}", failing.collection("todo", Scope::Namespace)), &replies);
        let tools = toolbox_for(&server, reply);
        let mut watch = Watch::start(&tools).unwrap();
        // No watch says so: a new list does.
        server.put("/api/v1/namespaces/todo/pods/later", pod("later"));
        let begun = Instant::now();
        while watch.snapshot().get("Pod", "later").is_none() {
            assert!(begun.elapsed() < HANG, "{reply:?} of {}", failing.kind);
            watch.next(Duration::from_millis(5)).unwrap();
        }
    };
    let replies = wrong();
    std::thread::scope(|scope| {
        // Each kind once, each reply twice.
        for (number, reply) in replies.iter().enumerate() {
            scope.spawn(move || WATCHED[number..=number + 1].iter().for_each(|failing| try_one(failing, reply)));
        }
    });
}

#[test]
fn a_server_that_is_away_for_a_moment_is_asked_again() {
    let server = ApiServer::start();
    server.put("/api/v1/namespaces/todo", namespace());
    let later = Reply::Json(429, "retry-after: 1\r\n", json!({}));
    server.on(TODO, &[Reply::Close, unavailable(), later, Reply::Pass]);
    assert!(client(&server).get(&kinds::NAMESPACE, "todo").unwrap().is_some());
    assert_eq!(server.received().len(), 4);
}

#[test]
fn a_port_where_nobody_listens_is_asked_a_bounded_number_of_times() {
    let server = ApiServer::start();
    let closed = SocketAddr::from(([127, 0, 0, 1], 1));
    let begun = Instant::now();
    let error = client_at(&server, closed).get(&kinds::NAMESPACE, "todo").unwrap_err();
    assert!(error.to_string().contains("efused"), "{error}");
    assert!(begun.elapsed() < HANG, "{:?}", begun.elapsed());
}

#[test]
fn retries_end_in_time_however_long_the_server_asks_to_wait() {
    let server = ApiServer::start();
    server.on(TODO, &[Reply::Json(429, "retry-after: 3600\r\n", json!({}))]);
    let begun = Instant::now();
    assert!(client(&server).get(&kinds::NAMESPACE, "todo").is_err());
    assert!(begun.elapsed() < HANG, "{:?}", begun.elapsed());
    assert_eq!(server.received().len(), 4);
}

#[test]
fn a_server_with_another_authority_is_not_trusted() {
    let (server, other) = (ApiServer::start(), ApiServer::start());
    other.put("/api/v1/namespaces/todo", namespace());
    let error = client_at(&server, other.address).get(&kinds::NAMESPACE, "todo").unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(other.received().is_empty());
}

#[test]
fn lists_have_pages_and_their_items_have_kinds() {
    let server = ApiServer::start();
    let page = |name: &str, next: &str| {
        let metadata = json!({"resourceVersion": "7", "continue": next});
        Reply::Json(200, "", json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": [pod(name)]}))
    };
    server.on(PODS, &[page("a", "more"), page("b", "")]);
    let list = client(&server).list(&kinds::POD, Scope::Namespace).unwrap();
    assert_eq!(list.version, "7");
    let names: Vec<&str> = list.items.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!((names, list.items[0]["kind"].as_str()), (vec!["a", "b"], Some("Pod")));
    assert!(server.received()[1].query.contains("continue=more"));
}

#[test]
fn a_list_of_something_else_is_no_empty_list() {
    for body in [json!({}), json!({"kind": "PodList", "items": {}}), json!({"kind": "ServiceList", "items": []})] {
        let server = ApiServer::start();
        server.on(PODS, &[Reply::Json(200, "", body.clone())]);
        assert!(client(&server).list(&kinds::POD, Scope::Namespace).is_err(), "{body}");
    }
    let server = ApiServer::start();
    let empty = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": null});
    server.on(PODS, &[Reply::Json(200, "", empty)]);
    assert!(client(&server).list(&kinds::POD, Scope::Namespace).unwrap().items.is_empty());
}

#[test]
fn secrets_can_be_listed_without_their_content() {
    let server = ApiServer::start();
    client(&server).list_metadata(&kinds::SECRET, "owner=helm").unwrap();
    let request = &server.received()[0];
    assert!(request.accept.contains("partialobjectmetadatalist"), "{}", request.accept);
    assert_eq!(request.query, "limit=500&labelSelector=owner%3Dhelm");
}

#[test]
fn an_apply_is_sent_again_and_a_create_is_not() {
    let server = ApiServer::start();
    let api = client(&server);
    let config = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "c"}, "data": {"a": "1"}});
    server.on("PATCH *", &[Reply::Close, unavailable(), Reply::Pass]);
    assert_eq!(api.apply(&config, MANAGER).unwrap()["data"]["a"], "1");
    let request = server.received().pop().unwrap();
    assert_eq!(request.line, "PATCH /api/v1/namespaces/todo/configmaps/c");
    assert_eq!(request.query, "fieldManager=xtask&force=true");
    let job = json!({"kind": "Job", "apiVersion": "batch/v1", "metadata": {"name": "j"}});
    for fault in [Reply::Close, unavailable()] {
        server.on("POST *", &[fault, Reply::Pass]);
        let before = server.received().len();
        assert!(api.create(&job).is_err());
        assert_eq!(server.received().len(), before + 1);
    }
    server.on("POST *", &[Reply::Pass]);
    assert!(matches!(api.create(&job).unwrap(), Write::Done(_)));
    assert!(matches!(api.create(&job).unwrap(), Write::Conflict(words) if words.contains("already exists")));
}

#[test]
fn an_answer_about_something_else_does_not_say_that_anything_was_written() {
    let server = ApiServer::start();
    let api = client(&server);
    let elsewhere = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    server.on("*", &[Reply::Json(200, "", elsewhere)]);
    let config = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "c"}});
    let told = |error: anyhow::Error| assert!(error.to_string().contains("that is not ConfigMap c"), "{error}");
    told(api.apply(&config, MANAGER).unwrap_err());
    told(api.create(&config).err().unwrap());
    told(api.json_patch(&kinds::CONFIG_MAP, "c", &json!([])).err().unwrap());
}

#[test]
fn a_patch_whose_test_fails_is_a_conflict() {
    let server = ApiServer::start();
    let refusal = status(422, "Invalid", "the server rejected our request due to an error in our request", json!({}));
    server.on("PATCH *", &[Reply::Json(422, "", refusal)]);
    let write = client(&server).json_patch(&kinds::CONFIG_MAP, "c", &json!([])).unwrap();
    assert!(matches!(write, Write::Conflict(_)));
}

#[test]
fn a_deletion_waits_for_the_object_with_that_uid() {
    let server = ApiServer::start();
    let path = "/api/v1/namespaces/todo/pods/p";
    let object = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "uid": "old"}});
    server.put(path, object.clone());
    let api = client(&server);
    assert!(api.delete(&kinds::POD, "p", Propagation::Background).unwrap());
    assert!(!api.delete(&kinds::POD, "p", Propagation::Background).unwrap(), "twice is fine");
    // A successor of the same name is not waited for, and not deleted.
    let going = Reply::Json(200, "", object.clone());
    let successor = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "uid": "new"}});
    server.on(&format!("DELETE {path}"), std::slice::from_ref(&going));
    server.on(&format!("GET {path}"), &[going.clone(), Reply::Json(200, "", successor)]);
    assert!(api.delete(&kinds::POD, "p", Propagation::Background).unwrap());
    let conflict = status(409, "Conflict", "the UID in the precondition (old) does not match", json!({}));
    server.on(&format!("DELETE {path}"), &[Reply::Json(409, "", conflict)]);
    assert_eq!(api.begin_delete_of(&kinds::POD, "p", "old").unwrap(), None);
    // One that stays is an error, and so is a server that stops answering.
    server.on(&format!("DELETE {path}"), std::slice::from_ref(&going));
    server.on(&format!("GET {path}"), std::slice::from_ref(&going));
    let impatient = client_for(&server, &Reply::Hang);
    let error = impatient.delete(&kinds::POD, "p", Propagation::Background).unwrap_err();
    assert!(error.to_string().contains("deletion of Pod p, but after 1 s it is still there"), "{error}");
    // An answer about something else is no deletion.
    let other =
        json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "details": {"name": "q", "uid": "old"}});
    server.on(&format!("DELETE {path}"), &[Reply::Json(200, "", other), going]);
    let error = api.begin_delete_of(&kinds::POD, "p", "old").unwrap_err();
    let words = error.to_string();
    assert!(
        words.contains("sent an unexpected answer to `DELETE ") && words.contains(": it is not about p"),
        "{words}"
    );
    server.on(&format!("GET {path}"), &[Reply::Text(404, "")]);
    assert!(api.delete(&kinds::POD, "p", Propagation::Background).is_err(), "a bare 404 is no absence");
}

fn event(kind: &str, name: &str, version: &str) -> String {
    let object = json!({"kind": "Pod", "metadata": {"name": name, "resourceVersion": version}});
    json!({"type": kind, "object": object}).to_string()
}

#[test]
fn a_watch_goes_on_where_the_server_ended_it() {
    let server = ApiServer::start();
    let first = [event("ADDED", "a", "8"), event("BOOKMARK", "", "9")].map(|event| format!("{event}\n"));
    // An event in two chunks, and two in one.
    let (b, c) = (event("MODIFIED", "b", "10"), event("DELETED", "c", "11"));
    let second = vec![b[..10].to_owned(), format!("{}{c}", &b[10..])];
    server.on("GET *pods", &[Reply::Chunks(first.to_vec()), Reply::Chunks(second), Reply::Hang]);
    let mut seen = Vec::new();
    let streams = client(&server).streams();
    let take = |event: Value| {
        seen.push(event["object"]["metadata"]["name"].as_str().unwrap().to_owned());
        seen.len() < 3
    };
    streams.watch(&kinds::POD, "7", take).unwrap();
    assert_eq!(seen, ["a", "b", "c"]);
    let versions: Vec<bool> = server.received().iter().map(|r| r.query.contains("resourceVersion=9")).collect();
    assert_eq!(versions, [false, true]);
}

#[test]
fn a_watch_that_breaks_says_so() {
    let gone =
        json!({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}});
    let table = [
        (Reply::Chunks(vec![gone.to_string()]), "too old resource version"),
        (Reply::BrokenChunks(vec![event("ADDED", "a", "8")]), "the watch broke"),
        (Reply::Chunks(vec!["nonsense".to_owned()]), "the watch broke"),
        (Reply::Text(404, ""), "404"),
        (Reply::Json(410, "", status(410, "Expired", "too old", json!({}))), "too old"),
    ];
    for (reply, expected) in table {
        let server = ApiServer::start();
        server.on("GET *pods", std::slice::from_ref(&reply));
        let error = client(&server).streams().watch(&kinds::POD, "7", |_| true).unwrap_err().to_string();
        assert!(error.contains(expected), "{reply:?}: {error}");
    }
}

#[test]
fn closing_ends_a_watch_that_waits_for_a_byte() {
    let server = ApiServer::start();
    let deadlines = Deadlines { watch: HANG * 2, ..patient() };
    let api = Api::with_deadlines(server.address, &credentials(&server), "todo", deadlines).unwrap();
    let streams = Arc::new(api.streams());
    let watching = streams.clone();
    let thread = std::thread::spawn(move || watching.watch(&kinds::POD, "7", |_| true));
    while server.received().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(50));
    let begun = Instant::now();
    streams.close();
    thread.join().unwrap().unwrap();
    assert!(begun.elapsed() < HANG, "{:?}", begun.elapsed());
}

#[test]
fn a_missing_log_differs_from_an_unreadable_one() {
    let server = ApiServer::start();
    let api = client(&server);
    let path = "GET /api/v1/namespaces/todo/pods/p/log";
    server.on(path, &[Reply::Text(200, "a\nb\n")]);
    let options = LogOptions { previous: true, tail: Some(5), ..LogOptions::default() };
    let Log::Lines(lines) = api.log("p", "c", &options).unwrap() else { panic!("no lines") };
    assert_eq!(lines.lines().map(Result::unwrap).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(server.received()[0].query, "container=c&previous=true&tailLines=5");
    let before = status(400, "BadRequest", "previous terminated container \"c\" in pod \"p\" not found", json!({}));
    server.on(path, &[Reply::Json(400, "", before)]);
    assert!(matches!(api.log("p", "c", &options).unwrap(), Log::Nothing(words) if words.contains("previous")));
    server.on(path, &[not_found("pods", "p")]);
    assert!(matches!(api.log("p", "c", &options).unwrap(), Log::NoPod));
    for fault in [Reply::Text(404, ""), Reply::Text(500, "x"), Reply::Hang] {
        server.on(path, std::slice::from_ref(&fault));
        assert!(client_for(&server, &fault).log("p", "c", &options).is_err());
    }
}

#[test]
fn distinguishes_a_starting_server_from_a_silent_one() {
    let server = ApiServer::start();
    let api = client(&server);
    assert_eq!(api.health().unwrap(), Health::Ready);
    server.on("GET /readyz", &[Reply::Text(500, "[-]poststarthook failed"), Reply::Pass]);
    assert!(matches!(api.health().unwrap(), Health::NotReady(words) if words.contains("poststarthook")));
    assert_eq!(api.health().unwrap(), Health::Ready);
    server.on("GET /readyz", &[Reply::Text(401, "")]);
    assert!(matches!(api.health().unwrap(), Health::Refused(_)));
    for fault in [Reply::Close, Reply::Hang] {
        server.on("GET /readyz", std::slice::from_ref(&fault));
        assert!(matches!(client_for(&server, &fault).health().unwrap(), Health::Silent(_)));
    }
}

#[test]
fn a_kind_that_is_not_in_the_table_is_refused() {
    let error = Resource::of(&json!({"kind": "Widget", "apiVersion": "example.com/v1"})).unwrap_err();
    assert!(error.to_string().contains("Widget"), "{error}");
    assert_eq!(Resource::of_kind("configmap"), Some(&kinds::CONFIG_MAP));
}
