//! Diagnoses why a route fails, from its answer and from the cluster's controllers, classes and endpoints. Each problem has
//! its own message and fix.

use std::fmt;

use super::facts::IngressFacts;
use super::http::RequestError;
use super::routes::{PathKind, RouteAnswer};
use crate::labels::{INSTANCE, Release};

/// The reason for which a route fails. Lists of names are those in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteProblem {
    /// Nothing listens at the address.
    NothingListens,
    /// The node's port is published, but no ingress controller listens in the cluster.
    ControllerAbsent,
    /// The controller's pod (named with its state) is not ready.
    ControllerNotReady(String),
    /// The Ingress names no class, and none of these is the default.
    NoDefaultClass(Vec<String>),
    /// The Ingress names a class that does not exist; these do.
    ClassMissing(String, Vec<String>),
    /// The Ingress' class belongs to a controller that does not listen: class, its controller, the pod that listens.
    ClassForeign(String, String, String),
    /// The controller answers 404 for a route that it should serve.
    NotServed(u16),
    /// The Service has no ready endpoint; whether it exists.
    NoEndpoints(String, bool),
    /// The controller does not reach the pods: Service and status.
    PodsUnreachable(String, u16),
    /// The application answered with a server error: the pod, and the status.
    Application(String, u16),
    /// The controller matches a path beside a rule as one below it: the pod that answered, and the right Service.
    PrefixMismatch(String, String),
    /// Another application answered: the pod, and the right Service.
    WrongService(String, String),
    /// The certificate is not for this host.
    Certificate(String),
    /// No answer in time.
    TimedOut,
    /// Another error, in the system's words.
    Other(String),
}

impl RouteProblem {
    /// Diagnoses an `answer` that is not good; without `facts`, from the answer alone.
    pub fn of(answer: &RouteAnswer, facts: Option<&IngressFacts>) -> Self {
        match (&answer.error, answer.status) {
            // With a userland proxy, the engine accepts and closes the connection; without one, it is refused.
            (Some(RequestError::Refused), _) => facts.and_then(controller_problem).unwrap_or(Self::NothingListens),
            (Some(RequestError::Closed), _) => facts.and_then(controller_problem).unwrap_or(Self::ControllerAbsent),
            (Some(RequestError::TimedOut), _) => facts.and_then(controller_problem).unwrap_or(Self::TimedOut),
            (Some(RequestError::Certificate(host)), _) => Self::Certificate(host.clone()),
            (Some(RequestError::Other(text)), _) => Self::Other(text.clone()),
            (None, Some(status)) if answer.served_by.is_empty() => diagnose_controllers_answer(answer, status, facts),
            (None, Some(_)) if !answer.is_from_service() => {
                let (by, service) = (answer.served_by.clone(), answer.route.service.clone());
                if answer.route.kind == PathKind::Beside {
                    Self::PrefixMismatch(by, service)
                } else {
                    Self::WrongService(by, service)
                }
            }
            (None, Some(status)) => Self::Application(answer.served_by.clone(), status),
            (None, None) => Self::Other("it was not requested".to_owned()),
        }
    }

    /// Returns the next steps for `release`.
    pub fn help(&self, release: &Release) -> Vec<String> {
        let (tool, Release { name, namespace, chart_path, .. }) = ("cargo xtask tool kubectl --", release);
        let lines: Vec<String> = match self {
            Self::NothingListens => vec![
                "see whether the node runs and publishes the port: cargo xtask status".into(),
                "start a stopped node: cargo xtask deploy dev".into(),
            ],
            Self::ControllerAbsent | Self::ControllerNotReady(_) => vec![
                "install the ingress controller, or repair it: cargo xtask deploy dev".into(),
                format!("{tool} get pods,events -n ingress-traefik"),
            ],
            Self::NoDefaultClass(known) if known.is_empty() => {
                vec!["install the controller and its class: cargo xtask deploy dev".into()]
            }
            Self::NoDefaultClass(known) | Self::ClassMissing(_, known) => {
                let class = known.first().map_or("NAME", String::as_str);
                vec![
                    "revert changes made by hand: cargo xtask deploy dev".into(),
                    format!("or name a class that exists: ingress.className: {class} in {chart_path}/values*.yaml"),
                ]
            }
            Self::ClassForeign(class, ..) => vec![
                "revert changes made by hand: cargo xtask deploy dev".into(),
                format!("or install the controller of class {class}, or leave ingress.className empty for the default"),
            ],
            Self::NotServed(_) => vec![
                format!("{tool} describe ingress -n {namespace}"),
                "the controller's log says why it ignores the Ingress: \
                 cargo xtask tool kubectl -- logs -n ingress-traefik deployment/traefik --tail=50"
                    .into(),
            ],
            Self::NoEndpoints(service, _) => vec![
                format!("{tool} get pods,endpointslices -n {namespace} -l {INSTANCE}={name}"),
                format!("cargo xtask logs {}", service.rsplit('-').next().unwrap_or_default()),
                "restore replicas and selector: cargo xtask deploy dev".into(),
            ],
            Self::PodsUnreachable(service, _) | Self::Application(service, _) => {
                let service = service.split('/').next().unwrap_or_default();
                vec![format!("cargo xtask logs {}", service.rsplit('-').next().unwrap_or_default())]
            }
            Self::PrefixMismatch(..) => vec![
                "revert a pathType that was changed by hand: cargo xtask deploy dev".into(),
                format!("pathType must be Prefix in {chart_path}/templates/ingress.yaml"),
                "or the controller matches prefixes by characters; repair ours: cargo xtask deploy dev".into(),
                "(Traefik matches by path elements with --providers.kubernetesingress.strictPrefixMatching=true)"
                    .into(),
            ],
            Self::WrongService(..) => vec![
                format!("{tool} describe ingress -n {namespace}"),
                "revert changes made by hand: cargo xtask deploy dev".into(),
            ],
            Self::Certificate(_) => vec![
                format!(
                    "see whether the Secret that the Ingress names exists: {tool} describe ingress,secrets -n {namespace}"
                ),
                "put a renewed certificate into that Secret; it takes effect without a deploy".into(),
            ],
            Self::TimedOut | Self::Other(_) => vec!["cargo xtask status".into(), "cargo xtask logs".into()],
        };
        lines
    }
}

impl fmt::Display for RouteProblem {
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
                "the Ingress names no class and no IngressClass is the default one, so no controller serves it (the cluster has: {})",
                listed(known)
            ),
            Self::ClassMissing(wanted, known) => write!(
                f,
                "the Ingress wants IngressClass `{wanted}`, which the cluster does not have (it has: {})",
                listed(known)
            ),
            Self::ClassForeign(class, controller, listens) => {
                write!(f, "the Ingress' class `{class}` belongs to the controller {controller}, but {listens} listens")
            }
            Self::NotServed(status) => {
                write!(f, "{status} from the ingress controller: it does not serve this Ingress (wrong class?)")
            }
            Self::NoEndpoints(service, true) => {
                write!(f, "the ingress controller finds no endpoints: Service {service} has no ready pod behind it")
            }
            Self::NoEndpoints(service, false) => {
                write!(f, "the Ingress leads to Service {service}, which does not exist")
            }
            Self::PodsUnreachable(service, status) => {
                write!(f, "{status} from the ingress controller: it does not reach the pods of {service}")
            }
            Self::Application(by, status) => write!(f, "{status} from {by}: the application itself failed"),
            Self::PrefixMismatch(by, owner) => {
                write!(f, "answered by {by}, but the path belongs to {owner}: a prefix matches whole path elements")
            }
            Self::WrongService(by, owner) => write!(f, "answered by {by}, not by {owner}"),
            Self::TimedOut => write!(f, "no answer within 10 s"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// Returns what is wrong with the controller itself, if anything.
fn controller_problem(facts: &IngressFacts) -> Option<RouteProblem> {
    if facts.listeners.is_empty() {
        return Some(RouteProblem::ControllerAbsent);
    }
    let broken = facts.listeners.iter().find(|listener| !listener.is_ready)?;
    Some(RouteProblem::ControllerNotReady(format!("pod {} ({})", broken.pod, broken.state)))
}

/// Diagnoses an answer of the controller itself: one without `X-Served-By`.
fn diagnose_controllers_answer(answer: &RouteAnswer, status: u16, facts: Option<&IngressFacts>) -> RouteProblem {
    let service = answer.route.service.clone();
    let Some(facts) = facts else {
        return match status {
            503 => RouteProblem::NoEndpoints(service, true),
            502 | 504 => RouteProblem::PodsUnreachable(service, status),
            _ => RouteProblem::NotServed(status),
        };
    };
    // A wrong class explains every other answer, because the controller ignores the Ingress.
    let names = || facts.classes.iter().map(|class| class.name.clone()).collect::<Vec<_>>();
    match &facts.wanted {
        None if !facts.classes.iter().any(|class| class.is_default) => return RouteProblem::NoDefaultClass(names()),
        None => {}
        Some(wanted) => match facts.classes.iter().find(|class| class.name == *wanted) {
            None => return RouteProblem::ClassMissing(wanted.clone(), names()),
            Some(class) => {
                if let Some(other) = facts.listeners.iter().find(|listener| !listener.may_be(&class.controller))
                    && status == 404
                {
                    let listens = format!("{} ({})", other.pod, other.image);
                    return RouteProblem::ClassForeign(wanted.clone(), class.controller.clone(), listens);
                }
            }
        },
    }
    match (facts.ready_endpoints(&service), status) {
        (None, _) => RouteProblem::NoEndpoints(service, false),
        (Some(0), _) => RouteProblem::NoEndpoints(service, true),
        (_, 404) => RouteProblem::NotServed(status),
        _ => RouteProblem::PodsUnreachable(service, status),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::{IngressClass, Listener};
    use super::super::routes::tests::answer;
    use super::*;

    fn facts() -> IngressFacts {
        IngressFacts {
            wanted: Some("traefik".into()),
            classes: vec![IngressClass {
                name: "traefik".into(),
                controller: "traefik.io/ingress-controller".into(),
                is_default: true,
            }],
            listeners: vec![Listener {
                pod: "ingress-traefik/traefik-1".into(),
                image: "traefik:v3.7.13".into(),
                is_ready: true,
                state: "Running".into(),
                started: None,
            }],
            endpoints: [("todo-backend".to_owned(), 2), ("todo-frontend".to_owned(), 2)].into(),
        }
    }

    fn silent(error: RequestError) -> RouteAnswer {
        RouteAnswer { error: Some(error), status: None, ..answer("/", 0, "") }
    }

    #[test]
    fn every_problem_has_its_own_message() {
        let with = |change: fn(&mut IngressFacts)| {
            let mut facts = facts();
            change(&mut facts);
            facts
        };
        let table: [(RouteAnswer, IngressFacts, &str); 13] = [
            (silent(RequestError::Refused), facts(), "nothing listens"),
            (silent(RequestError::Closed), with(|f| f.listeners.clear()), "no ingress controller listens"),
            (
                silent(RequestError::Closed),
                with(|f| (f.listeners[0].is_ready, f.listeners[0].state) = (false, "CrashLoopBackOff".into())),
                "does not run: pod ingress-traefik/traefik-1 (CrashLoopBackOff)",
            ),
            (silent(RequestError::TimedOut), facts(), "within 10 s"),
            (
                answer("/", 404, ""),
                with(|f| f.classes.clear()),
                "wants IngressClass `traefik`, which the cluster does not",
            ),
            (
                answer("/", 404, ""),
                with(|f| (f.wanted, f.classes[0].is_default) = (None, false)),
                "no IngressClass is the default one, so no controller serves it (the cluster has: traefik)",
            ),
            (
                answer("/", 404, ""),
                with(|f| f.classes[0].controller = "example.com/other".into()),
                "class `traefik` belongs to the controller example.com/other, but ingress-traefik/traefik-1 (traefik:v3.7.13) listens",
            ),
            (
                answer("/", 503, ""),
                with(|f| f.endpoints = [("todo-frontend".to_owned(), 0)].into()),
                "no ready pod behind",
            ),
            (answer("/", 503, ""), with(|f| f.endpoints.clear()), "Service todo-frontend, which does not exist"),
            (answer("/", 502, ""), facts(), "does not reach the pods of todo-frontend"),
            (answer("/", 404, ""), facts(), "does not serve this Ingress"),
            (answer("/api", 500, "todo-backend/x"), facts(), "500 from todo-backend/x: the application itself"),
            (
                answer("/apix", 404, "todo-backend/x"),
                facts(),
                "answered by todo-backend/x, but the path belongs to todo-frontend",
            ),
        ];
        let release = Release::of("shop", "shops");
        let mut problems = std::collections::BTreeSet::new();
        for (answer, facts, expected) in table {
            let problem = RouteProblem::of(&answer, Some(&facts));
            assert!(problem.to_string().contains(expected), "{problem} lacks {expected}");
            let hints = problem.help(&release).join("\n");
            assert!(!hints.is_empty() && !hints.contains("-n todo") && !hints.contains("infra/helm"), "{hints}");
            problems.insert(problem);
        }
        assert_eq!(problems.len(), 13);
        let wrong = RouteProblem::of(&answer("/", 200, "todo-backend/x"), Some(&facts()));
        assert_eq!(wrong.to_string(), "answered by todo-backend/x, not by todo-frontend");
    }
}
