//! `cargo xtask bench`: latency and throughput of the deployed application at the user's address. `bench idle`: processor
//! time and memory of its cluster without requests.

mod client;
mod idle;
mod load;
mod saturation;
mod table;

use std::time::{Duration, Instant};

use anyhow::Result;
use xtask::commands::bench::{self, Bench, Subject};
use xtask::commands::output;
use xtask::failure::{Class, Failure};
use xtask::project::Project;
use xtask::report::{Running, seconds};
use xtask::stages::proof::{Access, BOUND_MS};

use client::{Account, RequestKind};
use load::LoadResult;

/// Time limit for creating the todos.
const FILLING: Duration = Duration::from_secs(420);
/// Duration of the requests of each kind before the measurement.
const WARM_UP: Duration = Duration::from_secs(2);
/// Number of concurrent writers: enough for both replicas, few enough for the other processes of the machine.
const FILLERS: usize = 16;

fn main() {
    xtask::program::main(|cli, report| match cli.bench() {
        Some(args) => {
            let project = cli.open(report)?;
            match &args.subject {
                Some(Subject::Idle(idle)) => idle::run(&project, idle),
                _ => run(&project, args),
            }
            .map(|()| 0)
        }
        None => Err(Failure::new(Class::Internal, "xtask-bench runs `bench` only").help("cargo xtask bench").into()),
    })
}

/// Measures and prints a table, or adds the figures to the document of `--json`.
fn run(project: &Project, args: &Bench) -> Result<()> {
    let report = &project.report;
    let (toolchain, profile) = bench::running_cluster(project)?;
    let access = Access::open(&toolchain.tools, &profile)?;
    let address = access.address.clone();
    report.fact("address", address.as_str());
    report.fact("todos", args.todos);
    report.fact("rate", args.rate);
    report.fact("seconds", args.seconds);
    report.fact("bound_ms", u64::try_from(BOUND_MS).unwrap_or(u64::MAX));

    let account = step(project, "sign up a separate user", |_| Account::sign_up(&address))?;
    // Deletes the user and its todos after Ctrl-C too.
    let (interrupted, output) = (account.clone(), report.clone());
    report.on_interrupt(move || match interrupted.delete() {
        Ok(()) => output.line("\ninterrupted: the user of this measurement is deleted"),
        Err(error) => output.line(format!("\ninterrupted; the user of this measurement is left: {error:#}")),
    });
    let measured = measure(project, args, &account);
    let deleted = step(project, "delete the user", |_| account.delete());
    let (steady, saturation) = measured?;
    deleted?;

    report.fact("steady", steady.iter().map(|(kind, result)| result.json(*kind)).collect::<Vec<_>>());
    report.fact("saturation", saturation.iter().map(saturation::Saturation::json).collect::<Vec<_>>());
    if !args.json {
        output::print(&table::render(&steady, &saturation))?;
    }
    for (kind, outcome) in &steady {
        if u128::from(outcome.percentile_us(99) / 1000) >= BOUND_MS {
            report.warn(format!("{}: p99 is not under the {BOUND_MS} ms of SC-003", kind.name()));
        }
        if outcome.failed > 0 {
            let first = outcome.first_failure.as_deref().unwrap_or_default();
            report.warn(format!("{}: {} requests failed, the first: {first}", kind.name(), outcome.failed));
        }
    }
    Ok(())
}

type Measured = (Vec<(RequestKind, LoadResult)>, Vec<saturation::Saturation>);

fn measure(project: &Project, args: &Bench, account: &Account) -> Result<Measured> {
    step(project, &format!("create {} todos", args.todos), |running| fill(account, args.todos, running))?;
    let mut clients = RequestKind::ALL.map(|kind| (kind, account.requests(kind)));
    // The measurement excludes new connections, cold caches and the interpreter's start.
    step(project, "warm up", |_| {
        for (kind, requests) in &mut clients {
            let warm = load::run(&kind.load(args.rate.into(), WARM_UP), requests);
            if warm.done == 0 {
                let reason = warm.first_failure.unwrap_or_default();
                return Err(Failure::new(Class::Proof, format!("{} does not answer: {reason}", kind.name()))
                    .help("cargo xtask status")
                    .into());
            }
        }
        Ok(())
    })?;
    let mut steady = Vec::new();
    for (kind, requests) in &mut clients {
        let load = kind.load(args.rate.into(), Duration::from_secs(args.seconds.into()));
        let what = format!("{} at {} requests/s for {} s", kind.name(), load.rate, args.seconds);
        let outcome = step(project, &what, |_| Ok(load::run(&load, requests)))?;
        steady.push((*kind, outcome));
    }
    let mut found = Vec::new();
    // Skips sign-ins: the rate limit against guessing would end the search before the processors are saturated.
    let saturable = clients.iter_mut().filter(|(kind, _)| *kind != RequestKind::SignIn && !args.no_saturation);
    for (kind, requests) in saturable {
        let what = format!("saturate {}", kind.name());
        found.push(step(project, &what, |running| Ok(saturation::find(*kind, requests, running)))?);
    }
    Ok((steady, found))
}

/// Runs `action` as a step without a result text.
fn step<T>(project: &Project, what: &str, action: impl FnOnce(&Running) -> Result<T>) -> Result<T> {
    let running = project.report.step("bench", what, "");
    let result = action(&running)?;
    running.done("");
    Ok(result)
}

/// Creates todos as fast as the API accepts them.
fn fill(account: &Account, count: u32, running: &Running) -> Result<()> {
    let start = Instant::now();
    let next = std::sync::atomic::AtomicU32::new(0);
    let order = std::sync::atomic::Ordering::Relaxed;
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let filler = || -> Result<()> {
            let mut request = account.request(RequestKind::Post);
            loop {
                let number = next.fetch_add(1, order);
                if number >= count {
                    return Ok(());
                }
                if start.elapsed() > FILLING {
                    let what = format!("{number} of {count} todos after {}: too slow", seconds(FILLING));
                    return Err(Failure::new(Class::Proof, what).help("fewer: --todos 1000").into());
                }
                client::send_with_retries(&mut request)?;
                if number.is_multiple_of(250) {
                    running.progress(format!("{number} of {count}"));
                }
            }
        };
        let threads: Vec<_> = (0..FILLERS).map(|_| scope.spawn(filler)).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))).collect()
    });
    results.into_iter().collect()
}
