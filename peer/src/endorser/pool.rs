//! The threads that endorse.
//!
//! Endorsing is short work on a CPU: as many threads as there are cores do it best, each taking the next proposal without
//! having slept in between. A contract may run for long, though, and must not hold up the others: a thread that has been at the
//! same proposal for a while does not count, and another one takes its place, up to the number of transactions that may run at
//! the same time.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// How long a thread may be at one proposal before another one takes its place.
const HELD_UP_AFTER: Duration = Duration::from_millis(10);
/// Native stack of a thread; nested contracts share it (`MAX_STACK_BYTES` of each of `MAX_CALL_DEPTH`).
const STACK_BYTES: usize = 2 * 1024 * 1024;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    /// When each job that runs was begun, by a number of its own.
    running: BTreeMap<u64, Instant>,
    begun: u64,
    /// Threads that exist, and those of them that wait for work.
    threads: usize,
    idle: usize,
    /// Whether somebody looks after threads that are held up.
    watched: bool,
    closed: bool,
}

struct Shared {
    jobs: Mutex<Jobs>,
    more: Condvar,
    watch: Condvar,
    usual: usize,
    most: usize,
}

/// A pool of threads. Dropping it ends them when they have done what was handed in.
pub(super) struct Pool(Arc<Shared>);

impl Drop for Pool {
    fn drop(&mut self) {
        {
            let mut jobs = self.0.jobs.lock();
            jobs.closed = true;
            // All of them are woken.
            jobs.idle = 0;
        }
        self.0.more.notify_all();
        self.0.watch.notify_all();
    }
}

impl Pool {
    /// `most` threads at the most; one a core as long as none is held up.
    pub(super) fn new(most: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with(cores, most)
    }

    fn with(usual: usize, most: usize) -> Self {
        let most = most.max(1);
        let shared = Arc::new(Shared {
            jobs: Mutex::default(),
            more: Condvar::new(),
            watch: Condvar::new(),
            usual: usual.clamp(1, most),
            most,
        });
        if shared.usual < shared.most {
            let watching = Arc::clone(&shared);
            Shared::thread("endorse-watch", move || watching.look_after());
        }
        Self(shared)
    }

    /// Runs `work` on a thread of the pool, in the context of the calling runtime; `None` if it panicked.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (give, done) = oneshot::channel();
        let runtime = Handle::current();
        self.hand_in(Box::new(move || {
            if give.is_closed() {
                // Whoever wanted it has given up.
                return;
            }
            let _context = runtime.enter();
            if let Ok(result) = catch_unwind(AssertUnwindSafe(work)) {
                let _ = give.send(result);
            }
        }));
        done.await.ok()
    }

    fn hand_in(&self, job: Job) {
        let mut jobs = self.0.jobs.lock();
        jobs.waiting.push_back(job);
        let busy = jobs.threads - jobs.idle;
        let sent = busy < self.0.usual && Shared::send_one(&self.0, &mut jobs);
        if !sent && !jobs.watched {
            jobs.watched = true;
            self.0.watch.notify_one();
        }
    }
}

impl Shared {
    fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> bool {
        let builder = std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_BYTES);
        match builder.spawn(work) {
            Ok(_) => true,
            Err(error) => {
                tracing::error!(%error, "the system gives no further thread to endorse on");
                false
            }
        }
    }

    /// Gets one more thread to work; whether there is one.
    fn send_one(this: &Arc<Self>, jobs: &mut Jobs) -> bool {
        if jobs.idle > 0 {
            // Counted as busy from now on, and not from when it has woken up.
            jobs.idle -= 1;
            this.more.notify_one();
            return true;
        }
        if jobs.threads >= this.most {
            return false;
        }
        let shared = Arc::clone(this);
        let started = Self::thread("endorse", move || shared.work());
        jobs.threads += usize::from(started);
        started
    }

    /// While work waits, replaces threads that are held up.
    fn look_after(self: &Arc<Self>) {
        let mut jobs = self.jobs.lock();
        while !jobs.closed {
            if jobs.waiting.is_empty() {
                jobs.watched = false;
                self.watch.wait(&mut jobs);
                continue;
            }
            self.watch.wait_for(&mut jobs, HELD_UP_AFTER);
            let Some(since) = Instant::now().checked_sub(HELD_UP_AFTER) else {
                continue;
            };
            let held_up = jobs.running.values().filter(|begun| **begun <= since).count();
            let wanted = jobs.waiting.len().min(self.usual);
            while jobs.threads - jobs.idle < held_up + wanted && Self::send_one(self, &mut jobs) {}
        }
    }

    fn work(&self) {
        let mut jobs = self.jobs.lock();
        loop {
            if let Some(job) = jobs.waiting.pop_front() {
                jobs.begun += 1;
                let number = jobs.begun;
                jobs.running.insert(number, Instant::now());
                parking_lot::MutexGuard::unlocked(&mut jobs, job);
                jobs.running.remove(&number);
            } else if jobs.closed || jobs.threads > self.usual {
                jobs.threads -= 1;
                return;
            } else {
                // Who wakes it takes it out of the idle ones again.
                jobs.idle += 1;
                self.more.wait(&mut jobs);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn all_that_is_handed_in_is_done() {
        let pool = Arc::new(Pool::with(2, 4));
        let calls: Vec<_> = (0..500u64)
            .map(|n| {
                let pool = Arc::clone(&pool);
                tokio::spawn(async move { pool.run(move || n * 2).await })
            })
            .collect();
        for (n, call) in (0..).zip(calls) {
            assert_eq!(call.await.unwrap(), Some(n * 2));
        }
        assert!(pool.0.jobs.lock().threads <= 4);
    }

    /// Every job waits for the three others: with too few threads this would never end.
    #[tokio::test(flavor = "multi_thread")]
    async fn work_that_is_held_up_does_not_hold_up_the_rest() {
        let pool = Arc::new(Pool::with(1, 4));
        let all = Arc::new(Barrier::new(4));
        let calls: Vec<_> = (0..4)
            .map(|_| {
                let (pool, all) = (Arc::clone(&pool), Arc::clone(&all));
                tokio::spawn(async move { pool.run(move || all.wait().is_leader()).await })
            })
            .collect();
        for call in calls {
            assert!(call.await.unwrap().is_some());
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_more_run_at_a_time_than_may() {
        let pool = Arc::new(Pool::with(1, 2));
        let (began, begun) = mpsc::channel();
        let (hold, release) = mpsc::channel::<()>();
        let release = Arc::new(Mutex::new(release));
        let call = |n: u32| {
            let (pool, began, release) = (Arc::clone(&pool), began.clone(), Arc::clone(&release));
            tokio::spawn(async move {
                pool.run(move || {
                    let _ = began.send(n);
                    // Ends when the sender goes.
                    let _ = release.lock().recv();
                })
                .await
            })
        };
        let calls: Vec<_> = (0..3).map(call).collect();
        let first = tokio::task::spawn_blocking(move || (begun.recv(), begun.recv(), begun)).await;
        let (a, b, begun) = first.unwrap();
        assert!(a.is_ok() && b.is_ok());
        assert!(begun.try_recv().is_err());
        drop(hold);
        for call in calls {
            assert_eq!(call.await.unwrap(), Some(()));
        }
        assert!(begun.try_recv().is_ok());
    }

    /// The second is handed in before the idle thread has woken up for the first; each waits for the other.
    #[test]
    fn an_idle_thread_is_sent_to_one_job_only() {
        let pool = Pool::with(2, 2);
        pool.hand_in(Box::new(|| ()));
        while pool.0.jobs.lock().idle == 0 {
            std::thread::yield_now();
        }
        let both = Arc::new(Barrier::new(2));
        let (done, all) = mpsc::channel();
        for _ in 0..2 {
            let (both, done) = (Arc::clone(&both), done.clone());
            pool.hand_in(Box::new(move || {
                both.wait();
                let _ = done.send(());
            }));
        }
        assert!(all.recv().is_ok() && all.recv().is_ok());
    }

    #[tokio::test]
    async fn a_panic_hurts_nobody_else() {
        let pool = Pool::with(1, 1);
        assert_eq!(pool.run(|| panic!("on purpose")).await, None::<()>);
        assert_eq!(pool.run(|| 1).await, Some(1));
    }
}
