//! The threads that validation uses.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;

use parking_lot::{Condvar, Mutex};

/// Transactions for which another thread is woken.
const WORTH_A_THREAD: usize = 2;

/// Threads that open transactions and check signatures, of one channel or shared by several (Fabric's
/// `peer.validatorPoolSize`). Verdicts do not depend on how many there are.
///
/// Whoever hands in a block works on it as well, so a pool of `size` has a thread less of its own. Those sleep while there is
/// nothing to do: small blocks come in quick succession, and threads that look for work in between cost more than the checks.
#[derive(Debug, Clone)]
pub struct ValidatorPool(Arc<Helpers>);

/// The system gives no threads.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {size} validation threads: {source}; choose a smaller validator_pool_size")]
pub struct ValidatorPoolError {
    size: NonZeroUsize,
    source: std::io::Error,
}

/// For channels that are given no pool.
static ALL_CORES: LazyLock<ValidatorPool> = LazyLock::new(|| {
    let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    ValidatorPool::new(cores).unwrap_or_else(|error| {
        tracing::warn!(%error, "blocks are validated on one thread");
        ValidatorPool(Arc::default())
    })
});

/// Ends its threads when it goes.
#[derive(Debug, Default)]
struct Helpers {
    shared: Arc<Shared>,
    count: usize,
}

impl Drop for Helpers {
    fn drop(&mut self) {
        self.shared.waiting.lock().closed = true;
        self.shared.more.notify_all();
    }
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Arc<dyn Job>>,
    closed: bool,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting")
            .field("jobs", &self.jobs.len())
            .finish_non_exhaustive()
    }
}

/// Work that several threads can take part in.
trait Job: Send + Sync {
    /// Works until nothing is left to begin.
    fn take_part(&self);
}

impl Shared {
    fn help(&self) {
        let mut waiting = self.waiting.lock();
        while !waiting.closed {
            match waiting.jobs.pop_front() {
                Some(job) => {
                    parking_lot::MutexGuard::unlocked(&mut waiting, || {
                        job.take_part();
                        drop(job);
                    });
                }
                None => self.more.wait(&mut waiting),
            }
        }
    }

    fn ask(&self, job: &Arc<dyn Job>, helpers: usize) {
        let mut waiting = self.waiting.lock();
        for _ in 0..helpers {
            waiting.jobs.push_back(Arc::clone(job));
            self.more.notify_one();
        }
    }

    /// Nobody need come any more.
    fn withdraw(&self, job: &Arc<dyn Job>) {
        self.waiting
            .lock()
            .jobs
            .retain(|other| !std::ptr::addr_eq(Arc::as_ptr(other), Arc::as_ptr(job)));
    }
}

enum Slot<T, R> {
    Waiting(T),
    InWork,
    Done(thread::Result<R>),
}

struct Mapping<T, R, F> {
    slots: Vec<Mutex<Slot<T, R>>>,
    work: F,
    /// The first that nobody has begun.
    next: AtomicUsize,
    unfinished: Mutex<usize>,
    finished: Condvar,
}

impl<T: Send, R: Send, F: Fn(T) -> R + Send + Sync> Job for Mapping<T, R, F> {
    fn take_part(&self) {
        let mut done = 0;
        while let Some(slot) = self.slots.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let taken = std::mem::replace(&mut *slot.lock(), Slot::InWork);
            let Slot::Waiting(item) = taken else { continue };
            let result = catch_unwind(AssertUnwindSafe(|| (self.work)(item)));
            *slot.lock() = Slot::Done(result);
            done += 1;
        }
        if done > 0 {
            let mut unfinished = self.unfinished.lock();
            *unfinished -= done;
            if *unfinished == 0 {
                self.finished.notify_one();
            }
        }
    }
}

impl ValidatorPool {
    /// A pool for `size` threads at a time.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn new(size: NonZeroUsize) -> Result<Self, ValidatorPoolError> {
        let count = size.get() - 1;
        let shared = Arc::<Shared>::default();
        let pool = Self(Arc::new(Helpers {
            shared: Arc::clone(&shared),
            count,
        }));
        for index in 1..=count {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(format!("validate {index}"))
                .spawn(move || shared.help())
                .map_err(|source| ValidatorPoolError { size, source })?;
        }
        Ok(pool)
    }

    /// One thread for each core, shared by all who ask.
    pub(crate) fn all_cores() -> &'static Self {
        &ALL_CORES
    }

    /// Does `work` for every item, on the calling thread and others; the results stand in the order of the items.
    ///
    /// # Panics
    /// As `work` does.
    pub(crate) fn map<T, R>(&self, items: Vec<T>, work: impl Fn(T) -> R + Send + Sync + 'static) -> Vec<R>
    where
        T: Send + 'static,
        R: Send + 'static,
    {
        let count = items.len();
        let helpers = self.0.count.min((count / WORTH_A_THREAD).saturating_sub(1));
        if helpers == 0 {
            return items.into_iter().map(work).collect();
        }
        let slots = items.into_iter().map(|item| Mutex::new(Slot::Waiting(item)));
        let mapping = Arc::new(Mapping {
            slots: slots.collect(),
            work,
            next: AtomicUsize::new(0),
            unfinished: Mutex::new(count),
            finished: Condvar::new(),
        });
        let job: Arc<dyn Job> = Arc::clone(&mapping) as Arc<dyn Job>;
        let shared = &self.0.shared;
        shared.ask(&job, helpers);
        job.take_part();
        shared.withdraw(&job);
        let mut unfinished = mapping.unfinished.lock();
        while *unfinished > 0 {
            mapping.finished.wait(&mut unfinished);
        }
        drop(unfinished);
        let results = mapping.slots.iter().filter_map(|slot| {
            match std::mem::replace(&mut *slot.lock(), Slot::InWork) {
                Slot::Done(Ok(result)) => Some(result),
                Slot::Done(Err(panic)) => resume_unwind(panic),
                // Nothing is unfinished.
                Slot::Waiting(_) | Slot::InWork => None,
            }
        });
        results.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::mpsc;

    use super::*;

    fn pool(size: usize) -> ValidatorPool {
        ValidatorPool::new(NonZeroUsize::new(size).unwrap()).unwrap()
    }

    #[test]
    fn results_stand_in_the_order_of_the_items() {
        for size in [1, 2, 5] {
            let pool = pool(size);
            for count in 0..40usize {
                let doubled = pool.map((0..count).collect(), |n| n * 2);
                assert_eq!(doubled, (0..count).map(|n| n * 2).collect::<Vec<_>>());
            }
        }
    }

    /// Each item waits for another one: on one thread this would never end.
    #[test]
    fn a_helper_takes_part() {
        let both = Arc::new(Barrier::new(2));
        let names = pool(2).map(vec![(); 4], move |()| {
            both.wait();
            thread::current().name().map(str::to_owned)
        });
        let helped = names.iter().filter(|name| name.as_deref() == Some("validate 1"));
        assert_eq!(helped.count(), 2);
    }

    #[test]
    fn a_helper_that_is_busy_elsewhere_holds_nobody_up() {
        let pool = pool(2);
        let (began, begun) = mpsc::channel();
        let (hold, release) = mpsc::channel::<()>();
        let release = Mutex::new(release);
        let other = pool.clone();
        let held = thread::spawn(move || {
            other.map(vec![(); 4], move |()| {
                let _ = began.send(());
                // Ends when the sender goes.
                let _ = release.lock().recv();
            })
        });
        // Its own thread and the helper: one has an item, the other waits for the lock behind it.
        assert!(begun.recv().is_ok() && begun.recv().is_ok());
        assert_eq!(pool.map(vec![1, 2, 3, 4], |n| n + 1), [2, 3, 4, 5]);
        drop(hold);
        assert_eq!(held.join().unwrap().len(), 4);
    }

    #[test]
    fn a_panic_reaches_who_asked_and_the_pool_goes_on() {
        let pool = pool(2);
        let asked = catch_unwind(AssertUnwindSafe(|| {
            pool.map((0..8).collect(), |n: i32| assert!(n != 5, "on purpose"))
        }));
        assert!(asked.is_err());
        assert_eq!(pool.map(vec![1; 8], |n| n), [1; 8]);
    }
}
