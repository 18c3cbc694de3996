//! One channel's blocks, from the peer into the index, for as long as the server runs.

use std::sync::Arc;
use std::time::Duration;

use selvedge_sdk::{Seek, SeekStart};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Network;
use crate::read::BlockView;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Follows a channel until `stop`; connects again after every failure.
pub(super) async fn follow(
    network: Arc<Network>,
    channel: String,
    height: watch::Sender<u64>,
    stop: CancellationToken,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let before = *height.borrow();
        let error = tokio::select! {
            () = stop.cancelled() => return,
            error = run(&network, &channel, &height) => error,
        };
        // A stream that has delivered something was good: what broke it is new.
        if *height.borrow() > before {
            pause = FIRST_PAUSE;
        }
        tracing::warn!(%channel, %error, pause_ms = pause.as_millis(), "following the channel broke off");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Work with the index, away from the threads that serve.
async fn indexed<T: Send + 'static>(
    network: &Arc<Network>,
    work: impl FnOnce(&Network) -> Result<T, crate::ApiError> + Send + 'static,
) -> Result<T, String> {
    let network = Arc::clone(network);
    tokio::task::spawn_blocking(move || work(&network))
        .await
        .map_err(|e| e.to_string())?
        .map_err(|e| e.to_string())
}

/// Runs one stream to its end, which is always a failure.
async fn run(network: &Arc<Network>, channel: &str, height: &watch::Sender<u64>) -> String {
    match stream(network, channel, height).await {
        Ok(()) => "the peer ended the stream".to_owned(),
        Err(why) => why,
    }
}

async fn stream(network: &Arc<Network>, channel: &str, height: &watch::Sender<u64>) -> Result<(), String> {
    let name = channel.to_owned();
    let known = indexed(network, move |n| n.index.height(&name)).await?;
    // Before the peer has answered: what is known can be read while it is away.
    height.send_replace(known);
    // The newest known block once more: it tells whether this is still the same chain.
    let from = known.saturating_sub(1);
    let seek = Seek::from(SeekStart::Block(from));
    let mut blocks = network
        .at_peer(|peer| peer.blocks(&network.identity, channel, seek))
        .await
        .map_err(|e| e.to_string())?;
    while let Some(block) = blocks.next().await.map_err(|e| e.to_string())? {
        let name = channel.to_owned();
        let same = indexed(network, move |n| {
            let view = BlockView::open(&name, &block);
            if view.number < known
                && n.index
                    .block(&name, view.number)?
                    .is_some_and(|row| row.hash != view.hash)
            {
                n.index.forget(&name)?;
                return Ok(None);
            }
            n.index.add(&view)?;
            Ok(Some(view.number + 1))
        })
        .await?;
        let Some(top) = same else {
            height.send_replace(0);
            return Err("the peer has another chain than before; the index of it is built again".to_owned());
        };
        height.send_replace(top);
    }
    Ok(())
}
