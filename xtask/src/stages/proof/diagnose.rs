//! Why a route does not answer as it should: from the answer and from what the cluster has of controllers, classes and
//! endpoints. Each cause has a message and a fix of its own.

use std::fmt;

use super::facts::Facts;
use super::http::Silence;
use super::routes::{Answer, Why};

/// Why a route fails.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Nobody listens at the address.
    NothingListens,
    /// The node's port is published, but no ingress controller listens in the cluster.
    ControllerAbsent,
    /// A controller is there, but it does not run: its pod.
    ControllerNotReady(String),
    /// The Ingress names no class and none is the default; those there are.
    NoDefaultClass(Vec<String>),
    /// The Ingress names a class that is not there; those there are.
    ClassMissing(String, Vec<String>),
    /// The Ingress' class belongs to a controller that is not the one which listens: class, its controller, who listens.
    ClassForeign(String, String, String),
    /// The controller answers 404 for a route that it should serve.
    NotServed(u16),
    /// The Service has no ready endpoint; whether it is there at all.
    NoEndpoints(String, bool),
    /// The controller does not reach the pods: Service and status.
    PodsUnreachable(String, u16),
    /// The application answered with an error: who, and the status.
    Application(String, u16),
    /// A path beside a rule's is taken for one below it: by whom, and who it belongs to.
    Leak(String, String),
    /// Another application answered: who, and who should have.
    WrongService(String, String),
    /// The certificate is not for this host.
    Certificate(String),
    /// No answer in time.
    TimedOut,
    /// Something else, in the system's words.
    Other(String),
}

impl Cause {
    /// The cause of an `answer` that is not good; without `facts` as far as the answer alone tells.
    pub fn of(answer: &Answer, facts: Option<&Facts>) -> Self {
        match (&answer.silence, answer.status) {
            // An engine without a proxy of its own lets the refusal through that others answer by closing.
            (Some(Silence::Refused), _) => facts.and_then(of_controller).unwrap_or(Self::NothingListens),
            (Some(Silence::Closed), _) => facts.and_then(of_controller).unwrap_or(Self::ControllerAbsent),
            (Some(Silence::TimedOut), _) => facts.and_then(of_controller).unwrap_or(Self::TimedOut),
            (Some(Silence::Certificate(host)), _) => Self::Certificate(host.clone()),
            (Some(Silence::Other(text)), _) => Self::Other(text.clone()),
            (None, Some(status)) if answer.served_by.is_empty() => of_controllers_answer(answer, status, facts),
            (None, Some(_)) if !answer.reached() => {
                let (by, service) = (answer.served_by.clone(), answer.route.service.clone());
                if answer.route.why == Why::Beside { Self::Leak(by, service) } else { Self::WrongService(by, service) }
            }
            (None, Some(status)) => Self::Application(answer.served_by.clone(), status),
            (None, None) => Self::Other("it was not asked".to_owned()),
        }
    }

    /// The next steps.
    pub fn help(&self) -> Vec<String> {
        let tool = "cargo xtask tool kubectl --";
        let lines: Vec<String> = match self {
            Self::NothingListens => vec![
                "see whether the node runs and publishes the port: cargo xtask status".into(),
                "start a node that is stopped: cargo xtask deploy dev".into(),
            ],
            Self::ControllerAbsent | Self::ControllerNotReady(_) => vec![
                "install the controller of infra/ingress, or repair it: cargo xtask deploy dev".into(),
                format!("{tool} get pods,events -n ingress-traefik"),
            ],
            Self::NoDefaultClass(known) if known.is_empty() => {
                vec!["bring controller and class: cargo xtask deploy dev".into()]
            }
            Self::NoDefaultClass(known) | Self::ClassMissing(_, known) => {
                let name = known.first().map_or("NAME", String::as_str);
                vec![
                    "take back what was changed by hand: cargo xtask deploy dev".into(),
                    format!("or name a class that is there: ingress.className: {name} in infra/helm/values-dev.yaml"),
                ]
            }
            Self::ClassForeign(class, ..) => vec![
                "take back what was changed by hand: cargo xtask deploy dev".into(),
                format!("or install the controller of class {class}, or leave ingress.className empty for the default"),
            ],
            Self::NotServed(_) => vec![
                format!("{tool} describe ingress -n todo"),
                "the controller's log says why it leaves the Ingress out: \
                 cargo xtask tool kubectl -- logs -n ingress-traefik deployment/traefik --tail=50"
                    .into(),
            ],
            Self::NoEndpoints(service, _) => vec![
                format!("{tool} get pods,endpointslices -n todo -l app.kubernetes.io/name=todo"),
                format!("cargo xtask logs {}", service.rsplit('-').next().unwrap_or_default()),
                "put replicas and selector right: cargo xtask deploy dev".into(),
            ],
            Self::PodsUnreachable(service, _) | Self::Application(service, _) => {
                let name = service.split('/').next().unwrap_or_default();
                vec![format!("cargo xtask logs {}", name.rsplit('-').next().unwrap_or_default())]
            }
            Self::Leak(..) => vec![
                "take back a pathType that was changed by hand: cargo xtask deploy dev".into(),
                "pathType must be Prefix in infra/helm/templates/ingress.yaml".into(),
                "or the controller takes prefixes by characters; put ours right: cargo xtask deploy dev".into(),
                "(Traefik matches by path elements with --providers.kubernetesingress.strictPrefixMatching=true)"
                    .into(),
            ],
            Self::WrongService(..) => vec![
                format!("{tool} describe ingress -n todo"),
                "take back what was changed by hand: cargo xtask deploy dev".into(),
            ],
            Self::Certificate(_) => vec![
                format!(
                    "see whether the Secret that the Ingress names is there: {tool} describe ingress,secrets -n todo"
                ),
                "a certificate that was renewed goes into the Secret; a deploy is not needed for it".into(),
            ],
            Self::TimedOut | Self::Other(_) => vec!["cargo xtask status".into(), "cargo xtask logs".into()],
        };
        lines
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        match self {
            Self::Certificate(host) => {
                write!(f, "the ingress controller shows a certificate that is not for {host}")
            }
            Self::NothingListens => write!(f, "nothing listens there: the connection is refused"),
            Self::ControllerAbsent => {
                write!(f, "no ingress controller listens in the cluster: the connection is closed before an answer")
            }
            Self::ControllerNotReady(pod) => write!(f, "the ingress controller does not run: {pod}"),
            Self::NoDefaultClass(known) => write!(
                f,
                "the Ingress names no class and no IngressClass is the default one, so no controller serves it (there is: {})",
                listed(known)
            ),
            Self::ClassMissing(wanted, known) => write!(
                f,
                "the Ingress wants IngressClass `{wanted}`, which the cluster does not have (there is: {})",
                listed(known)
            ),
            Self::ClassForeign(class, controller, listens) => write!(
                f,
                "the Ingress' class `{class}` belongs to the controller {controller}, but who listens is {listens}"
            ),
            Self::NotServed(status) => {
                write!(f, "{status} from the ingress controller: it does not serve this Ingress (class?)")
            }
            Self::NoEndpoints(service, true) => {
                write!(f, "the ingress controller finds no endpoints: Service {service} has no ready pod behind it")
            }
            Self::NoEndpoints(service, false) => {
                write!(f, "the Ingress leads to Service {service}, which is not there")
            }
            Self::PodsUnreachable(service, status) => {
                write!(f, "{status} from the ingress controller: it does not reach the pods of {service}")
            }
            Self::Application(who, status) => write!(f, "{status} from {who}: the application itself failed"),
            Self::Leak(by, owner) => write!(
                f,
                "answered by {by}, but it is not below that rule's path: it belongs to {owner} (a prefix ends with a path element)"
            ),
            Self::WrongService(by, owner) => write!(f, "answered by {by}, not by {owner}"),
            Self::TimedOut => write!(f, "no answer within 10 s"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// What is wrong with the controller itself, if anything.
fn of_controller(facts: &Facts) -> Option<Cause> {
    if facts.listeners.is_empty() {
        return Some(Cause::ControllerAbsent);
    }
    let broken = facts.listeners.iter().find(|listener| !listener.ready)?;
    Some(Cause::ControllerNotReady(format!("pod {} ({})", broken.pod, broken.state)))
}

/// An answer that carries no application's name is the controller's own.
fn of_controllers_answer(answer: &Answer, status: u16, facts: Option<&Facts>) -> Cause {
    let service = answer.route.service.clone();
    let Some(facts) = facts else {
        return match status {
            503 => Cause::NoEndpoints(service, true),
            502 | 504 => Cause::PodsUnreachable(service, status),
            _ => Cause::NotServed(status),
        };
    };
    // Where the class is wrong the controller knows nothing of the Ingress: what else it says does not matter.
    let names = || facts.classes.iter().map(|class| class.name.clone()).collect::<Vec<_>>();
    match &facts.wanted {
        None if !facts.classes.iter().any(|class| class.default) => return Cause::NoDefaultClass(names()),
        None => {}
        Some(wanted) => match facts.classes.iter().find(|class| class.name == *wanted) {
            None => return Cause::ClassMissing(wanted.clone(), names()),
            Some(class) => {
                if let Some(other) = facts.listeners.iter().find(|listener| !listener.serves(&class.controller))
                    && status == 404
                {
                    let who = format!("{} ({})", other.pod, other.image);
                    return Cause::ClassForeign(wanted.clone(), class.controller.clone(), who);
                }
            }
        },
    }
    match (facts.ready_endpoints(&service), status) {
        (None, _) => Cause::NoEndpoints(service, false),
        (Some(0), _) => Cause::NoEndpoints(service, true),
        (_, 404) => Cause::NotServed(status),
        _ => Cause::PodsUnreachable(service, status),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Class, Listener};
    use super::super::routes::tests::answer;
    use super::*;

    fn facts() -> Facts {
        Facts {
            wanted: Some("traefik".into()),
            classes: vec![Class {
                name: "traefik".into(),
                controller: "traefik.io/ingress-controller".into(),
                default: true,
            }],
            listeners: vec![Listener {
                pod: "ingress-traefik/traefik-1".into(),
                image: "traefik:v3.7.13".into(),
                ready: true,
                state: "Running".into(),
                started: None,
            }],
            endpoints: [("todo-backend".to_owned(), 2), ("todo-frontend".to_owned(), 2)].into(),
        }
    }

    fn silent(silence: Silence) -> Answer {
        Answer { silence: Some(silence), status: None, ..answer("/", 0, "") }
    }

    #[test]
    fn every_cause_is_told_apart() {
        let with = |change: fn(&mut Facts)| {
            let mut facts = facts();
            change(&mut facts);
            facts
        };
        let table: [(Answer, Facts, &str); 13] = [
            (silent(Silence::Refused), facts(), "nothing listens"),
            (silent(Silence::Closed), with(|f| f.listeners.clear()), "no ingress controller listens"),
            (
                silent(Silence::Closed),
                with(|f| (f.listeners[0].ready, f.listeners[0].state) = (false, "CrashLoopBackOff".into())),
                "does not run: pod ingress-traefik/traefik-1 (CrashLoopBackOff)",
            ),
            (silent(Silence::TimedOut), facts(), "within 10 s"),
            (
                answer("/", 404, ""),
                with(|f| f.classes.clear()),
                "wants IngressClass `traefik`, which the cluster does not",
            ),
            (
                answer("/", 404, ""),
                with(|f| (f.wanted, f.classes[0].default) = (None, false)),
                "no IngressClass is the default one, so no controller serves it (there is: traefik)",
            ),
            (
                answer("/", 404, ""),
                with(|f| f.classes[0].controller = "example.com/other".into()),
                "class `traefik` belongs to the controller example.com/other, but who listens is ingress-traefik/traefik-1",
            ),
            (
                answer("/", 503, ""),
                with(|f| f.endpoints = [("todo-frontend".to_owned(), 0)].into()),
                "no ready pod behind",
            ),
            (answer("/", 503, ""), with(|f| f.endpoints.clear()), "Service todo-frontend, which is not there"),
            (answer("/", 502, ""), facts(), "does not reach the pods of todo-frontend"),
            (answer("/", 404, ""), facts(), "does not serve this Ingress"),
            (answer("/api", 500, "todo-backend/x"), facts(), "500 from todo-backend/x: the application itself"),
            (answer("/apix", 404, "todo-backend/x"), facts(), "answered by todo-backend/x, but it is not below"),
        ];
        let mut seen = std::collections::BTreeSet::new();
        for (answer, facts, expected) in table {
            let cause = Cause::of(&answer, Some(&facts));
            assert!(cause.to_string().contains(expected), "{cause} lacks {expected}");
            assert!(!cause.help().is_empty());
            seen.insert(cause);
        }
        assert_eq!(seen.len(), 13);
        let wrong = Cause::of(&answer("/", 200, "todo-backend/x"), Some(&facts()));
        assert_eq!(wrong.to_string(), "answered by todo-backend/x, not by todo-frontend");
    }
}
