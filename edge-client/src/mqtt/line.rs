//! The line of a client's messages while one of them waits.
//!
//! A client of MQTT 3.1.1 cannot be told to send a message again later: it waits here until there is room. The messages after
//! it must not pass it then, so each of them waits until all before it are done with.

use std::sync::Arc;

use tokio::sync::watch;

#[derive(Debug, Default)]
struct State {
    /// Messages that are done with, in their order.
    done: u64,
    /// Those that wait.
    waiting: usize,
}

/// The line of one connection.
#[derive(Debug, Default)]
pub(crate) struct Line {
    state: watch::Sender<State>,
}

/// A message's place in it.
#[derive(Debug)]
pub(crate) struct Place {
    line: Arc<Line>,
    number: u64,
    waits: bool,
}

impl Line {
    /// The place of a connection's next message; they are numbered from 0 on.
    pub(crate) fn place(self: &Arc<Self>, number: u64) -> Place {
        Place {
            line: Arc::clone(self),
            number,
            waits: false,
        }
    }

    /// The oldest message is done with.
    pub(crate) fn done(&self) {
        self.state.send_modify(|state| state.done += 1);
    }
}

impl Place {
    /// Resolves when the message may be tried: at once, unless one before it waits.
    pub(crate) async fn turn(&mut self) {
        if self.line.state.borrow().waiting > 0 {
            self.first().await;
        }
    }

    /// Resolves when all before it are done with. Those behind it wait until it is done with itself.
    pub(crate) async fn first(&mut self) {
        self.wait();
        let mut state = self.line.state.subscribe();
        // The line lives as long as this.
        drop(state.wait_for(|state| state.done >= self.number).await);
    }

    /// Those behind it wait from now on.
    pub(crate) fn wait(&mut self) {
        if !self.waits {
            self.waits = true;
            self.line.state.send_modify(|state| state.waiting += 1);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.waits {
            self.line.state.send_modify(|state| state.waiting -= 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn while_one_waits_the_others_keep_their_order() {
        let line = Arc::new(Line::default());
        let mut places: Vec<Place> = (0..4).map(|number| line.place(number)).collect();
        assert!(places[0].turn().now_or_never().is_some());
        assert!(places[1].turn().now_or_never().is_some(), "nobody waits");
        // The first is refused, and waits; the second, which was refused as well, must not be tried before it.
        places[0].wait();
        assert!(places[1].first().now_or_never().is_none());
        assert!(places[2].turn().now_or_never().is_none());
        assert!(places[0].first().now_or_never().is_some());
        drop(places.remove(0));
        // A new one comes while those before it are still in line.
        assert!(places[2].turn().now_or_never().is_none());
        line.done();
        assert!(places[0].first().now_or_never().is_some());
        assert!(places[1].turn().now_or_never().is_none());
        drop(places.remove(0));
        line.done();
        assert!(places[0].turn().now_or_never().is_some());
        drop(places.remove(0));
        line.done();
        assert!(places[0].turn().now_or_never().is_some());
    }
}
