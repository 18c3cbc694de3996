//! A network that can be cut: a TCP proxy between the edge gateway and its peer.

use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::error::CliError;

/// A running proxy.
#[derive(Debug)]
pub(super) struct Proxy {
    address: String,
    up: Arc<watch::Sender<bool>>,
}

impl Proxy {
    /// Forwards connections on a free port to `target`.
    pub(super) async fn start(target: String) -> Result<Self, CliError> {
        let failed = |e| CliError::said(format!("cannot open a port for the demo's network: {e}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?.to_string();
        let up = Arc::new(watch::Sender::new(true));
        let line = Arc::clone(&up);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(forward(socket, target.clone(), line.subscribe()));
            }
        });
        Ok(Self { address, up })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Breaks every connection and takes no new one.
    pub(super) fn cut(&self) {
        self.up.send_replace(false);
    }

    /// Forwards again.
    pub(super) fn restore(&self) {
        self.up.send_replace(true);
    }
}

async fn forward(mut from: TcpStream, target: String, mut line: watch::Receiver<bool>) {
    if !*line.borrow() {
        return;
    }
    let Ok(mut to) = TcpStream::connect(&target).await else {
        return;
    };
    tokio::select! {
        // However the connection ends, both sides see it end.
        _ = copy_bidirectional(&mut from, &mut to) => {}
        _ = line.wait_for(|up| !up) => {}
    }
}
