//! Waiting for something to be so, with an end.

use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures::FutureExt;

const POLL: Duration = Duration::from_millis(20);

/// Asks until `look` gives a value, and panics with the last reason when `limit` has passed.
pub async fn eventually<T, E, F, Fut>(what: &str, limit: Duration, mut look: F) -> T
where
    E: Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let start = Instant::now();
    loop {
        let why = match look().await {
            Ok(value) => return value,
            Err(why) => why.to_string(),
        };
        assert!(
            start.elapsed() < limit,
            "waited {limit:?} in vain until {what}: {why}"
        );
        tokio::time::sleep(POLL).await;
    }
}

/// Lets `work` take `limit` at most.
pub async fn within<T>(what: &str, limit: Duration, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, work).await {
        Ok(value) => value,
        Err(_) => panic!("{what} took longer than {limit:?}"),
    }
}

/// Runs one case of a test under a limit and prints its name, so that a failure names it.
pub async fn case<T>(name: &str, work: impl Future<Output = T>) -> T {
    let start = Instant::now();
    println!("case: {name}");
    let value = within(name, Duration::from_secs(90), work).await;
    println!("  ok  {name} ({} ms)", start.elapsed().as_millis());
    value
}

/// Cases that do not depend on each other: all are run, and the failed ones are named at the end.
#[derive(Debug, Default)]
pub struct Cases {
    failed: Vec<String>,
}

impl Cases {
    /// Runs a case; its failure does not keep the next ones from being run.
    pub async fn run(&mut self, name: &str, work: impl Future<Output = ()>) {
        if AssertUnwindSafe(case(name, work)).catch_unwind().await.is_err() {
            println!("  FAILED  {name}");
            self.failed.push(name.to_owned());
        }
    }

    /// Panics if a case has failed.
    pub fn finish(self) {
        assert!(self.failed.is_empty(), "failed cases: {}", self.failed.join("; "));
    }
}
