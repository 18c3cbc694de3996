//! When a batch is full: Fabric's block cutting (spec 05 §2) as a pure state machine, plus the house rule that a batch
//! is cut at once while nothing is in flight.
//!
//! The caller owns clock and pipeline: it tells the cutter of messages, of the expired timer and of an idle pipeline, and
//! gets batches back.

/// A channel's limits (`BatchSize` of its configuration).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Most messages of a batch.
    pub(crate) max_message_count: usize,
    /// A batch of several messages stays within so many bytes.
    pub(crate) preferred_max_bytes: usize,
}

/// Collects messages into batches.
#[derive(Debug)]
pub(crate) struct Cutter<M> {
    limits: Limits,
    pending: Vec<M>,
    pending_bytes: usize,
}

impl<M> Cutter<M> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            pending: Vec::new(),
            pending_bytes: 0,
        }
    }

    /// Follows a configuration change. Nothing may be pending under the old limits.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes a message of `size` bytes (payload and signature) and returns the batches that it completes, in order: at
    /// most the pending ones and the message itself.
    pub(crate) fn push(&mut self, message: M, size: usize) -> Vec<Vec<M>> {
        let mut cut = Vec::new();
        if size > self.limits.preferred_max_bytes {
            cut.extend(self.cut());
            cut.push(vec![message]);
            return cut;
        }
        if self.pending_bytes.saturating_add(size) > self.limits.preferred_max_bytes {
            cut.extend(self.cut());
        }
        self.pending.push(message);
        self.pending_bytes += size;
        if self.pending.len() >= self.limits.max_message_count {
            cut.extend(self.cut());
        }
        cut
    }

    /// Cuts what is pending: the timer has run out, a configuration message comes next, or the pipeline is idle.
    pub(crate) fn cut(&mut self) -> Option<Vec<M>> {
        self.pending_bytes = 0;
        if self.pending.is_empty() {
            return None;
        }
        Some(std::mem::take(&mut self.pending))
    }

    /// Whether messages wait.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        max_message_count: 3,
        preferred_max_bytes: 100,
    };

    /// Message sizes in, sizes of the cut batches out, and what stays pending.
    #[test]
    fn cuts_as_fabric_does() {
        type Case = (&'static str, &'static [usize], &'static [&'static [usize]], bool);
        let cases: &[Case] = &[
            ("waits for more", &[10, 20], &[], true),
            ("by count", &[10, 20, 30], &[&[10, 20, 30]], false),
            ("a large one goes alone", &[101], &[&[101]], false),
            (
                "a large one cuts those before it",
                &[10, 101],
                &[&[10], &[101]],
                false,
            ),
            ("by preferred bytes", &[60, 60], &[&[60]], true),
            ("exactly the preferred bytes fit", &[50, 50], &[], true),
            ("one over", &[50, 51], &[&[50]], true),
            ("two cuts in a row", &[60, 60, 60], &[&[60], &[60]], true),
            ("empty messages count", &[0, 0, 0, 0], &[&[0, 0, 0]], true),
        ];
        for (name, sizes, expected, pending) in cases {
            let mut cutter = Cutter::new(LIMITS);
            let batches: Vec<Vec<usize>> = sizes.iter().flat_map(|s| cutter.push(*s, *s)).collect();
            assert_eq!(batches, *expected, "{name}");
            assert_eq!(cutter.has_pending(), *pending, "{name}");
        }
    }

    #[test]
    fn a_cut_empties_the_batch() {
        let mut cutter = Cutter::new(LIMITS);
        assert_eq!(cutter.cut(), None);
        cutter.push(1, 99);
        assert_eq!(cutter.cut(), Some(vec![1]));
        assert_eq!(cutter.cut(), None);
        assert!(cutter.push(2, 99).is_empty(), "the byte count started anew");
    }

    #[test]
    fn count_of_one_makes_every_message_a_block() {
        let mut cutter = Cutter::new(Limits {
            max_message_count: 1,
            preferred_max_bytes: 100,
        });
        assert_eq!(cutter.push(7, 1), [[7]]);
        assert!(!cutter.has_pending());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_reordered_or_over_the_limits(
            sizes in proptest::collection::vec(0usize..300, 0..200),
            idle in proptest::collection::vec(any::<bool>(), 200),
            max_message_count in 1usize..20,
            preferred_max_bytes in 1usize..250,
        ) {
            let limits = Limits { max_message_count, preferred_max_bytes };
            let mut cutter = Cutter::new(limits);
            let mut batches = Vec::new();
            for (i, size) in sizes.iter().enumerate() {
                batches.extend(cutter.push(i, *size));
                if idle[i] {
                    batches.extend(cutter.cut());
                    prop_assert!(!cutter.has_pending());
                }
            }
            batches.extend(cutter.cut());
            for batch in &batches {
                prop_assert!(!batch.is_empty());
                prop_assert!(batch.len() <= limits.max_message_count);
                let bytes: usize = batch.iter().map(|i| sizes[*i]).sum();
                prop_assert!(batch.len() == 1 || bytes <= limits.preferred_max_bytes);
            }
            let order: Vec<usize> = batches.concat();
            prop_assert_eq!(order, (0..sizes.len()).collect::<Vec<_>>());
        }
    }
}
