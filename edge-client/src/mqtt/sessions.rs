//! What lasts of MQTT sessions: subscriptions, places in feeds of events, and messages of QoS 2 that are half handed over.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use selvedge_callbacks::EventId;
use serde::{Deserialize, Serialize};

use crate::journal::{JournalError, Pending};
use crate::state_log::StateLog;

/// A session that nobody has come back to for so long is forgotten, whatever its client asked for.
const LONGEST_EXPIRY: u32 = 30 * 24 * 3600;
/// Sessions that last, at most.
const MAX_SESSIONS: usize = 1000;

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
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// What a session is kept under: clients of different users have nothing to do with each other.
pub(crate) fn session_key(user: &str, client_id: &str) -> String {
    format!("{}-{}", hex::encode(user), hex::encode(client_id))
}

impl Sessions {
    pub(crate) fn open(path: &Path) -> Result<Self, JournalError> {
        let sessions = Self {
            log: StateLog::open(path)?,
        };
        sessions.forget_expired();
        Ok(sessions)
    }

    fn forget_expired(&self) {
        for (name, value) in self.log.with_prefix("s/") {
            let expired = serde_json::from_slice::<Session>(&value)
                .map_or(true, |session| session.seen + u64::from(session.expiry) < now());
            if let (true, Some(key)) = (expired, name.strip_prefix("s/")) {
                self.forget(key);
            }
        }
    }

    /// The session of a client that comes (back); none if it has none, or wants a new one.
    pub(crate) fn resume(&self, key: &str, clean: bool) -> Option<Session> {
        let session = self
            .log
            .get(&format!("s/{key}"))
            .and_then(|value| serde_json::from_slice::<Session>(&value).ok())
            .filter(|session| !clean && session.seen + u64::from(session.expiry) >= now());
        if session.is_none() {
            self.forget(key);
        }
        session
    }

    /// Whether one more session can last.
    pub(crate) fn has_room(&self, key: &str) -> bool {
        if self.log.with_prefix("s/").len() >= MAX_SESSIONS {
            self.forget_expired();
        }
        self.log.get(&format!("s/{key}")).is_some() || self.log.with_prefix("s/").len() < MAX_SESSIONS
    }

    /// Seconds that a session lasts when its client asks for `expiry`.
    pub(crate) fn granted(expiry: u32) -> u32 {
        expiry.min(LONGEST_EXPIRY)
    }

    /// Keeps a session that lasts `expiry` seconds from now on.
    pub(crate) fn keep(&self, key: &str, session: &mut Session, expiry: u32) -> Pending {
        session.seen = now();
        session.expiry = Self::granted(expiry);
        let value = serde_json::to_vec(session).unwrap_or_default();
        self.log.set(&format!("s/{key}"), Some(value))
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

    /// When a message of QoS 2 had first arrived, if its hand-over has begun and not ended.
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
}
