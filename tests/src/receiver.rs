//! A receiver of web hooks: it checks each signature, fails when it is told to, and keeps what it took.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use selvedge_callbacks::{Secret, signature};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What it signs with who sends here.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A web hook that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// `webhook-id`, the event's id.
    pub id: String,
    /// The event.
    pub event: Value,
}

#[derive(Debug, Default)]
struct State {
    taken: Mutex<Vec<Delivery>>,
    refused: AtomicU32,
    to_refuse: AtomicU32,
    forged: AtomicU32,
}

/// The receiver; it serves as long as it lives.
#[derive(Debug)]
pub struct Receiver {
    address: String,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

impl Receiver {
    /// Starts one that answers 503 to the first `to_refuse` calls.
    pub async fn start(to_refuse: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address").to_string();
        let state = Arc::new(State {
            to_refuse: AtomicU32::new(to_refuse),
            ..State::default()
        });
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, Arc::clone(&shared)));
            }
        });
        Self { address, state, task }
    }

    /// Where to send.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// What to sign with.
    pub fn secret(&self) -> &'static str {
        SECRET
    }

    /// What it has taken, in order.
    pub fn taken(&self) -> Vec<Delivery> {
        self.state.taken.lock().expect("no panic").clone()
    }

    /// Calls that were refused because it was told to fail.
    pub fn refused(&self) -> u32 {
        self.state.refused.load(Ordering::Relaxed)
    }

    /// Calls whose signature was wrong.
    pub fn forged(&self) -> u32 {
        self.state.forged.load(Ordering::Relaxed)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut socket: TcpStream, state: Arc<State>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if socket.read_exact(&mut byte).await.is_err() {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let header = |wanted: &str| {
        head.lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.to_owned())
            .unwrap_or_default()
    };
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    if socket.read_exact(&mut body).await.is_err() {
        return;
    }
    let status = take(&state, &header, &body);
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    // The sender may have been killed.
    drop(socket.write_all(answer.as_bytes()).await);
}

fn take(state: &State, header: &dyn Fn(&str) -> String, body: &[u8]) -> &'static str {
    let id = header("webhook-id");
    let secret = Secret::parse(SECRET).expect("a secret");
    let timestamp = header("webhook-timestamp").parse().unwrap_or_default();
    if header("webhook-signature") != signature(&secret, &id, timestamp, body) {
        state.forged.fetch_add(1, Ordering::Relaxed);
        return "401 Unauthorized";
    }
    let left = state
        .to_refuse
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    if left.is_ok() {
        state.refused.fetch_add(1, Ordering::Relaxed);
        return "503 Service Unavailable";
    }
    let event = serde_json::from_slice(body).unwrap_or_default();
    state.taken.lock().expect("no panic").push(Delivery { id, event });
    "200 OK"
}
