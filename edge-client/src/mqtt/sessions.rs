//! What lasts of MQTT sessions: subscriptions, places in feeds of events, and messages of QoS 2 that are half handed over.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use selvedge_callbacks::EventId;
use serde::{Deserialize, Serialize};

use crate::intake::time::is_known;
use crate::journal::{JournalError, Pending};
use crate::state_log::StateLog;

/// A session that nobody has come back to for so long is forgotten, whatever its client asked for.
const LONGEST_EXPIRY: u32 = 30 * 24 * 3600;
/// Sessions that last, at most.
const MAX_SESSIONS: usize = 1000;
/// The clock has been set when it differs by so many seconds from what the time since the last look makes of it.
const CLOCK_STEP: u64 = 60;
/// While a client is connected, when it was last seen is written each quarter of its session's time, and not more often.
const SELDOM: u64 = 300;

/// A session that lasts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// Unix seconds of its last connection or its end.
    seen: u64,
    /// Seconds that it lasts after that.
    expiry: u32,
    /// Filters with the QoS granted.
    pub(crate) subscriptions: BTreeMap<String, u8>,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Sessions {
    log: StateLog,
    clock: Mutex<Looked>,
}

/// The clocks at the last look.
#[derive(Debug)]
struct Looked {
    at: Instant,
    /// Unix seconds.
    seconds: u64,
    /// What this clock said when the process began.
    began: u64,
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// What a session is kept under: clients of different users have nothing to do with each other.
pub(crate) fn session_key(user: &str, client_id: &str) -> String {
    format!("{}-{}", hex::encode(user), hex::encode(client_id))
}

impl Session {
    /// A session that was seen when nobody knew the time does not expire, and nothing does while nobody knows it.
    fn is_over(&self, now: u64) -> bool {
        let known = is_known(self.seen) && is_known(now);
        known && self.seen.saturating_add(u64::from(self.expiry)) < now
    }
}

impl Sessions {
    pub(crate) fn open(path: &Path) -> Result<Self, JournalError> {
        Self::open_at(path, Instant::now(), unix_seconds())
    }

    fn open_at(path: &Path, at: Instant, seconds: u64) -> Result<Self, JournalError> {
        let sessions = Self {
            log: StateLog::open(path)?,
            clock: Mutex::new(Looked {
                at,
                seconds,
                began: seconds,
            }),
        };
        sessions.forget_expired(seconds);
        Ok(sessions)
    }

    fn all(&self) -> impl Iterator<Item = (String, Option<Session>)> {
        let all = self.log.with_prefix("s/").into_iter();
        all.map(|(name, value)| (name, serde_json::from_slice(&value).ok()))
    }

    fn put(&self, name: &str, session: &Session) -> Pending {
        self.log
            .set(name, Some(serde_json::to_vec(session).unwrap_or_default()))
    }

    /// Looks whether the clock was set, and if so dates the sessions anew that this process has seen. To be called now and then.
    pub(crate) fn look_at_clock(&self) -> u64 {
        self.look(Instant::now(), unix_seconds())
    }

    fn look(&self, at: Instant, seconds: u64) -> u64 {
        let mut clock = self.clock.lock();
        let expected = clock.seconds + at.duration_since(clock.at).as_secs();
        let began = clock.began;
        *clock = Looked {
            at,
            seconds,
            began: clock.began,
        };
        if seconds.abs_diff(expected) <= CLOCK_STEP {
            return seconds;
        }
        let moved = |time: u64| (time + seconds).saturating_sub(expected);
        clock.began = moved(began);
        for (name, session) in self.all() {
            if let Some(mut session) = session.filter(|session| session.seen >= began) {
                session.seen = moved(session.seen);
                drop(self.put(&name, &session));
            }
        }
        seconds
    }

    fn forget_expired(&self, now: u64) {
        for (name, session) in self.all() {
            let expired = session.is_none_or(|session| session.is_over(now));
            if let (true, Some(key)) = (expired, name.strip_prefix("s/")) {
                self.forget(key);
            }
        }
    }

    /// The session of a client that comes (back); none if it has none, or wants a new one.
    pub(crate) fn resume(&self, key: &str, clean: bool) -> Option<Session> {
        let now = self.look_at_clock();
        let session = self
            .log
            .get(&format!("s/{key}"))
            .and_then(|value| serde_json::from_slice::<Session>(&value).ok())
            .filter(|session| !clean && !session.is_over(now));
        if session.is_none() {
            self.forget(key);
        }
        session
    }

    /// Whether one more session can last.
    pub(crate) fn has_room(&self, key: &str) -> bool {
        if self.log.with_prefix("s/").len() >= MAX_SESSIONS {
            self.forget_expired(self.look_at_clock());
        }
        self.log.get(&format!("s/{key}")).is_some() || self.log.with_prefix("s/").len() < MAX_SESSIONS
    }

    /// Seconds that a session lasts when its client asks for `expiry`.
    pub(crate) fn granted(expiry: u32) -> u32 {
        expiry.min(LONGEST_EXPIRY)
    }

    /// Keeps a session that lasts `expiry` seconds from now on.
    pub(crate) fn keep(&self, key: &str, session: &mut Session, expiry: u32) -> Pending {
        session.seen = self.look_at_clock();
        session.expiry = Self::granted(expiry);
        self.put(&format!("s/{key}"), session)
    }

    /// Keeps the session of a client that is connected, if it was last done long ago.
    pub(crate) fn refresh(&self, key: &str, session: &mut Session, expiry: u32) {
        if expiry > 0 && session.seen.abs_diff(unix_seconds()) > SELDOM.max(u64::from(expiry / 4)) {
            // Not waited for: it is done again.
            drop(self.keep(key, session, expiry));
        }
    }

    /// Forgets everything of a session.
    pub(crate) fn forget(&self, key: &str) {
        for prefix in ["s", "p", "q"] {
            let exact = format!("{prefix}/{key}");
            let below = format!("{exact}/");
            for (name, _) in self.log.with_prefix(&exact) {
                if name == exact || name.starts_with(&below) {
                    drop(self.log.set(&name, None));
                }
            }
        }
    }

    /// Up to where a session has acknowledged the events of a feed.
    pub(crate) fn place(&self, key: &str, feed: &str) -> Option<EventId> {
        let value = self.log.get(&format!("p/{key}/{feed}"))?;
        std::str::from_utf8(&value).ok()?.parse().ok()
    }

    /// Moves that place.
    pub(crate) fn set_place(&self, key: &str, feed: &str, place: &EventId) -> Pending {
        self.log
            .set(&format!("p/{key}/{feed}"), Some(place.to_string().into_bytes()))
    }

    /// Forgets that place.
    pub(crate) fn forget_place(&self, key: &str, feed: &str) -> Pending {
        self.log.set(&format!("p/{key}/{feed}"), None)
    }

    /// The number that a message of QoS 2 had when it first arrived, if its hand-over has begun and not ended.
    pub(crate) fn begun(&self, key: &str, id: u16) -> Option<u64> {
        let value = self.log.get(&format!("q/{key}/{id}"))?;
        std::str::from_utf8(&value).ok()?.parse().ok()
    }

    /// Notes that the hand-over of a message of QoS 2 begins.
    pub(crate) fn begin(&self, key: &str, id: u16, arrived: u64) -> Pending {
        self.log
            .set(&format!("q/{key}/{id}"), Some(arrived.to_string().into_bytes()))
    }

    /// Notes that it has ended: the id is free again. None if it had not begun.
    pub(crate) fn end(&self, key: &str, id: u16) -> Option<Pending> {
        let name = format!("q/{key}/{id}");
        self.log.get(&name)?;
        Some(self.log.set(&name, None))
    }

    /// Comes back to what is on disk after a failed write.
    pub(crate) async fn recover(&self) {
        drop(
            self.log
                .recover()
                .await
                .inspect_err(|error| tracing::error!(%error, "the MQTT sessions cannot be written")),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sessions_are_there_again_and_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mqtt");
        let sessions = Sessions::open(&path).unwrap();
        let (one, two) = (session_key("u", "c"), session_key("u", "c2"));
        assert!(sessions.resume(&one, false).is_none());
        let mut session = Session::default();
        session.subscriptions.insert("events/#".into(), 1);
        sessions.keep(&one, &mut session, 60).durable().await.unwrap();
        sessions
            .keep(&two, &mut session.clone(), 60)
            .durable()
            .await
            .unwrap();
        let place: EventId = "7.ab".parse().unwrap();
        sessions
            .set_place(&one, "events/x", &place)
            .durable()
            .await
            .unwrap();
        sessions.begin(&one, 9, 1234).durable().await.unwrap();
        drop(sessions);

        let sessions = Sessions::open(&path).unwrap();
        assert_eq!(
            sessions.resume(&one, false).unwrap().subscriptions,
            session.subscriptions
        );
        assert_eq!(sessions.place(&one, "events/x"), Some(place));
        assert_eq!(sessions.begun(&one, 9), Some(1234));
        sessions.end(&one, 9).unwrap().durable().await.unwrap();
        assert_eq!(sessions.begun(&one, 9), None);
        assert!(sessions.end(&one, 9).is_none());
        assert!(sessions.resume(&one, true).is_none());
        assert_eq!(sessions.place(&one, "events/x"), None);
        assert!(sessions.resume(&two, false).is_some(), "another client's stays");
    }

    #[tokio::test]
    async fn a_clock_that_is_set_ends_no_session() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mqtt");
        let start = Instant::now();
        let real = unix_seconds();
        let later = |seconds| start + std::time::Duration::from_secs(seconds);
        // The time is not known, or that of the last end of the machine; then it is set, and the process is restarted.
        for first in [100, real - 40 * 86_400] {
            let sessions = Sessions::open_at(&path, start, first).unwrap();
            let mut session = Session {
                seen: first + 5,
                expiry: 3600,
                ..Session::default()
            };
            session.subscriptions.insert("events/#".into(), 1);
            sessions.put("s/one", &session).durable().await.unwrap();
            sessions.look(later(10), real);
            drop(sessions);
            let sessions = Sessions::open_at(&path, later(10), real).unwrap();
            assert!(sessions.resume("one", false).is_some(), "{first}");
            sessions.look(later(10 + 4000), real + 4000);
            sessions.forget_expired(real + 4000);
            assert!(
                sessions.log.get("s/one").is_none(),
                "{first}: it ends in its time"
            );
        }
        // It was never seen with the time known.
        let session = Session {
            seen: 5,
            expiry: 60,
            ..Session::default()
        };
        let sessions = Sessions::open_at(&path, start, real).unwrap();
        sessions.put("s/two", &session).durable().await.unwrap();
        sessions.forget_expired(real);
        assert!(sessions.resume("two", false).is_some());
    }
}
