//! Warnings for answers that take longer than the specification allows (SC-003), with where the time went.

use std::time::Duration;

use super::BOUND_MS;
use super::http::Phases;
use super::routes::{PathKind, RouteAnswer};

/// Returns a warning for each slow route of `answers`, with where the time went.
pub fn warnings(answers: &[RouteAnswer]) -> Vec<String> {
    answers.iter().filter(|answer| answer.is_slow()).map(|answer| explain(answer, answers)).collect()
}

fn explain(answer: &RouteAnswer, all: &[RouteAnswer]) -> String {
    let slowest = answer.phases.iter().max_by_key(|phases| phases.total()).copied().unwrap_or_default();
    let mut text = format!(
        "{}: p95 {} ms is over the {BOUND_MS} ms of SC-003; of the slowest {} ms: connecting {}, waiting for the first \
         byte {}, reading the rest {}",
        answer.route.path,
        answer.percentile(95),
        ms(slowest.total()),
        ms(slowest.connect),
        ms(slowest.first_byte),
        ms(slowest.rest),
    );
    text.push_str(&format!("; {}", verdict(answer, slowest, all)));
    text
}

/// Names the slow part. Network and controller are the same for both applications, so a difference is the application's.
fn verdict(answer: &RouteAnswer, slowest: Phases, all: &[RouteAnswer]) -> String {
    if slowest.connect * 2 > slowest.total() {
        return "the network or the controller is slow: the connection itself took most of the time".to_owned();
    }
    if slowest.rest * 2 > slowest.total() {
        return "the answer's length took most of the time".to_owned();
    }
    // The health route asks no database, so its time is that of network, controller and an idle backend.
    let health = all.iter().find(|other| other.route.kind == PathKind::Below && other.route.host == answer.route.host);
    let service = &answer.route.service;
    match health {
        Some(health) if health.is_slow() && health.route.path != answer.route.path => format!(
            "{} takes {} ms too, so not {service} alone is slow: the machine or the controller is busy",
            health.route.path,
            health.percentile(95)
        ),
        Some(health) if health.route.service != *service => format!(
            "the backend answers {} in {} ms the same way, so {service} is slow, or a service that it calls",
            health.route.path,
            health.percentile(95)
        ),
        _ => format!("{service} is slow"),
    }
}

fn ms(time: Duration) -> u128 {
    time.as_millis()
}

#[cfg(test)]
mod tests {
    use super::super::routes::tests::answer;
    use super::*;

    fn timed(path: &str, connect: u64, first_byte: u64, rest: u64) -> RouteAnswer {
        let phases = Phases {
            connect: Duration::from_millis(connect),
            first_byte: Duration::from_millis(first_byte),
            rest: Duration::from_millis(rest),
        };
        let mut answer = answer(path, 200, "");
        answer.route.kind = if path.contains("health") { PathKind::Below } else { PathKind::Rule };
        (answer.times, answer.phases) = (vec![phases.total().as_millis()], vec![phases]);
        answer
    }

    #[test]
    fn a_warning_names_what_took_most_of_the_time() {
        let health = |first_byte| timed("/api/v1/health", 0, first_byte, 0);
        let table = [
            (timed("/", 1, 180, 3), health(4), "the backend answers /api/v1/health in 4 ms the same way"),
            (timed("/", 1, 180, 3), health(140), "takes 140 ms too, so not todo-frontend alone is slow"),
            (timed("/", 150, 10, 3), health(4), "the connection itself"),
            (timed("/", 1, 10, 300), health(4), "the answer's length"),
            (timed("/api", 1, 180, 3), health(4), "reading the rest 3; todo-backend is slow"),
        ];
        for (slow, health, expected) in table {
            let found = warnings(&[slow, health]);
            assert!(found[0].contains(expected) && found[0].contains("SC-003"), "{found:?} lacks {expected}");
        }
        assert!(warnings(&[timed("/", 1, 90, 3), health(4)]).is_empty());
        let mut beside = timed("/apix", 1, 180, 3);
        beside.route.kind = PathKind::Beside;
        assert!(warnings(&[beside]).is_empty());
        let alone = warnings(&[timed("/", 1, 180, 3)]);
        assert!(alone[0].contains("connecting 1, waiting for the first byte 180, reading the rest 3"), "{alone:?}");
    }
}
