//! A TCP proxy whose connections can be cut, stalled, slowed, half-closed or corrupted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How connections fare now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// Everything passes.
    Fair,
    /// Connections are closed, new ones too.
    Cut,
    /// Connections stay open and nothing passes, as behind a dead radio link.
    Stalled,
    /// What the server sends ends; what the client sends passes.
    HalfClosed,
    /// One bit of each piece of data is flipped.
    Corrupted,
}

/// A proxy in front of one node.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    weather: watch::Sender<Weather>,
    delay_ms: Arc<AtomicU64>,
    passed: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port and connects each caller to `target` (`host:port`).
    pub async fn start(target: &str) -> Self {
        let listen = crate::ports::listen();
        let listener = TcpListener::bind(&listen).await.expect("a free port");
        let (weather, seen) = watch::channel(Weather::Fair);
        let (delay_ms, passed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let link = Link {
            seen,
            delay_ms: Arc::clone(&delay_ms),
            passed: Arc::clone(&passed),
        };
        let target = target.to_owned();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, target.clone(), link.clone()));
            }
        });
        Self {
            address: listen,
            weather,
            delay_ms,
            passed,
            task,
        }
    }

    /// `host:port` to dial instead of the target.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Bytes that went through in both directions.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Closes every connection and refuses new ones.
    pub fn cut(&self) {
        self.weather.send_replace(Weather::Cut);
    }

    /// Lets nothing pass, while every connection seems to be there.
    pub fn stall(&self) {
        self.weather.send_replace(Weather::Stalled);
    }

    /// Ends the direction from server to client of every connection.
    pub fn half_close(&self) {
        self.weather.send_replace(Weather::HalfClosed);
    }

    /// Flips a bit in every piece of data, in both directions.
    pub fn corrupt(&self) {
        self.weather.send_replace(Weather::Corrupted);
    }

    /// Lets everything pass again.
    pub fn restore(&self) {
        self.weather.send_replace(Weather::Fair);
    }

    /// Holds every piece of data back for a while.
    pub fn delay(&self, delay: Duration) {
        self.delay_ms.store(
            u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.weather.send_replace(Weather::Cut);
    }
}

#[derive(Clone)]
struct Link {
    seen: watch::Receiver<Weather>,
    delay_ms: Arc<AtomicU64>,
    passed: Arc<AtomicU64>,
}

async fn connect(client: TcpStream, target: String, link: Link) {
    if *link.seen.borrow() == Weather::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(target.as_str()).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = carry(from_client, to_server, link.clone(), false);
    let down = carry(from_server, to_client, link, true);
    tokio::join!(up, down);
}

/// Carries one direction until it ends or the weather ends it.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut link: Link, downstream: bool) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            changed = link.seen.changed() => {
                let weather = *link.seen.borrow_and_update();
                if changed.is_err() || weather == Weather::Cut || (weather == Weather::HalfClosed && downstream) {
                    break;
                }
                continue;
            }
            read = from.read(&mut buffer) => read,
        };
        let Ok(count @ 1..) = read else { break };
        let delay = link.delay_ms.load(Ordering::Relaxed);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        // While the link is dead, what was read waits here; the sockets' buffers fill up behind it.
        let Ok(weather) = link.seen.wait_for(|w| *w != Weather::Stalled).await.map(|w| *w) else {
            break;
        };
        if weather == Weather::Cut || (weather == Weather::HalfClosed && downstream) {
            break;
        }
        if weather == Weather::Corrupted {
            buffer[count / 2] ^= 0x08;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
        link.passed.fetch_add(count as u64, Ordering::Relaxed);
    }
    // The other side sees an orderly end of this direction; when both have ended, the sockets go.
    let _ = to.shutdown().await;
}
