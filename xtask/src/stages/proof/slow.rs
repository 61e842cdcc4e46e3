//! Where the time of an answer went that is over the specification's bound (SC-003).

use std::time::Duration;

use super::BOUND_MS;
use super::http::Phases;
use super::routes::{Answer, Why};

/// A warning for each slow route of `answers`, with where the time went.
pub fn warnings(answers: &[Answer]) -> Vec<String> {
    answers.iter().filter(|answer| answer.slow()).map(|answer| explain(answer, answers)).collect()
}

fn explain(answer: &Answer, all: &[Answer]) -> String {
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

/// Who took it: the same way was measured to both applications, so what differs is theirs.
fn verdict(answer: &Answer, slowest: Phases, all: &[Answer]) -> String {
    if slowest.connect * 2 > slowest.total() {
        return "the time is the network's or the controller's: the connection itself took it".to_owned();
    }
    if slowest.rest * 2 > slowest.total() {
        return "the time is the answer's length".to_owned();
    }
    // The health route asks no database: network, controller and backend at their best.
    let health = all.iter().find(|other| other.route.why == Why::Below && other.route.host == answer.route.host);
    let service = &answer.route.service;
    match health {
        Some(health) if health.slow() && health.route.path != answer.route.path => format!(
            "{} takes {} ms too, so it is not {service} alone: the machine or the controller is busy",
            health.route.path,
            health.percentile(95)
        ),
        Some(health) if health.route.service != *service => format!(
            "the backend answers {} in {} ms the same way, so the time is {service}'s own or that of what it asks for",
            health.route.path,
            health.percentile(95)
        ),
        _ => format!("the time is {service}'s"),
    }
}

fn ms(time: Duration) -> u128 {
    time.as_millis()
}

#[cfg(test)]
mod tests {
    use super::super::routes::tests::answer;
    use super::*;

    fn timed(path: &str, connect: u64, first_byte: u64, rest: u64) -> Answer {
        let phases = Phases {
            connect: Duration::from_millis(connect),
            first_byte: Duration::from_millis(first_byte),
            rest: Duration::from_millis(rest),
        };
        let mut answer = answer(path, 200, "");
        answer.route.why = if path.contains("health") { Why::Below } else { Why::Rule };
        (answer.times, answer.phases) = (vec![phases.total().as_millis()], vec![phases]);
        answer
    }

    #[test]
    fn a_warning_says_where_the_time_went() {
        let health = |first_byte| timed("/api/v1/health", 0, first_byte, 0);
        let table = [
            (timed("/", 1, 180, 3), health(4), "the backend answers /api/v1/health in 4 ms the same way"),
            (timed("/", 1, 180, 3), health(140), "takes 140 ms too, so it is not todo-frontend alone"),
            (timed("/", 150, 10, 3), health(4), "the connection itself"),
            (timed("/", 1, 10, 300), health(4), "the answer's length"),
            (timed("/api", 1, 180, 3), health(4), "the time is todo-backend's"),
        ];
        for (slow, health, expected) in table {
            let told = warnings(&[slow, health]);
            assert!(told[0].contains(expected) && told[0].contains("SC-003"), "{told:?} lacks {expected}");
        }
        assert!(warnings(&[timed("/", 1, 90, 3), health(4)]).is_empty());
        let mut beside = timed("/apix", 1, 180, 3);
        beside.route.why = Why::Beside;
        assert!(warnings(&[beside]).is_empty());
        let alone = warnings(&[timed("/", 1, 180, 3)]);
        assert!(alone[0].contains("connecting 1, waiting for the first byte 180, reading the rest 3"), "{alone:?}");
    }
}
