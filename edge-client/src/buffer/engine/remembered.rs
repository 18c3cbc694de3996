//! Finished requests that can still be asked for.

use std::collections::{HashMap, VecDeque};

use super::State;

/// Longest reason that is kept, in bytes.
const MAX_REASON_BYTES: usize = 500;

/// Cuts a text at a character.
pub(crate) fn short(text: &str) -> Box<str> {
    let mut end = text.len().min(MAX_REASON_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}

/// A finished request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) state: State,
    pub(crate) block: u64,
    pub(crate) reason: Option<Box<str>>,
}

/// Finished requests, the oldest of which are forgotten.
#[derive(Debug)]
pub(crate) struct Remembered {
    most: usize,
    finished: HashMap<u64, Finished>,
    order: VecDeque<u64>,
}

impl Remembered {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            finished: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Adds one; gives the ones that are forgotten for it.
    pub(crate) fn add(&mut self, number: u64, finished: Finished) -> Option<u64> {
        if self.finished.insert(number, finished).is_none() {
            self.order.push_back(number);
        }
        if self.order.len() <= self.most {
            return None;
        }
        let oldest = self.order.pop_front()?;
        self.finished.remove(&oldest);
        Some(oldest)
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Finished> {
        self.finished.get(&number)
    }

    pub(crate) fn len(&self) -> usize {
        self.finished.len()
    }
}

/// The reasons of the latest failures, for open requests.
#[derive(Debug, Default)]
pub(crate) struct Reasons {
    by_number: HashMap<u64, Box<str>>,
    order: VecDeque<u64>,
}

const MAX_REASONS: usize = 1000;

impl Reasons {
    pub(crate) fn set(&mut self, number: u64, reason: &str) {
        if self.by_number.insert(number, short(reason)).is_none() {
            self.order.push_back(number);
        }
        while self.order.len() > MAX_REASONS {
            if let Some(oldest) = self.order.pop_front() {
                self.by_number.remove(&oldest);
            }
        }
    }

    pub(crate) fn get(&self, number: u64) -> &str {
        self.by_number.get(&number).map_or("", |reason| reason)
    }

    pub(crate) fn forget(&mut self, number: u64) {
        // Its place in the order goes when its turn comes.
        self.by_number.remove(&number);
    }
}
