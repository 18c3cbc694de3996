//! Reading a channel as it is now, from the orderers: they know the newest configuration.

use prost::Message;
use selvedge_channel::Bundle;
use selvedge_proto::common;
use selvedge_sdk::{ClientIdentity, OrdererClient, Seek};

use crate::error::{CliError, During, with_causes};
use crate::session::{PeerRef, Session};

/// A channel's current configuration.
#[derive(Debug)]
pub(crate) struct Current {
    /// The configuration, ready to be asked.
    pub(crate) bundle: Bundle,
    /// The block that holds it.
    pub(crate) block: common::Block,
}

impl Current {
    /// Asks the orderers of the network, one after another, on behalf of `reader`.
    pub(crate) async fn fetch(session: &Session, reader: &str, channel: &str) -> Result<Self, CliError> {
        let identity = session.identity(reader)?;
        let block = from_any_orderer(session, channel, async |client| {
            client.config_block(&identity, channel).await
        })
        .await
        .map_err(|e| unreadable(channel, reader, &e))?;
        let bundle = Bundle::from_config_block(&block)
            .during(|| format!("the configuration of channel {channel} is not usable"))?;
        Ok(Self { bundle, block })
    }

    /// As [`Self::fetch`], on behalf of `named`, or else of the first administrator in the network's folder who may read the
    /// channel; gives who that is as well.
    pub(crate) async fn fetch_by_any(
        session: &Session,
        named: Option<&str>,
        channel: &str,
    ) -> Result<(String, Self), CliError> {
        let first = reader(session, named)?;
        let refused = match Self::fetch(session, &first, channel).await {
            Ok(current) => return Ok((first, current)),
            Err(error) if named.is_some() => return Err(error),
            Err(error) => error,
        };
        for other in session.administrators() {
            if other != first
                && let Ok(current) = Self::fetch(session, &other, channel).await
            {
                return Ok((other, current));
            }
        }
        Err(refused)
    }

    /// Number of the block that holds the configuration.
    pub(crate) fn block_number(&self) -> u64 {
        number(&self.block)
    }

    /// The network's peers whose organisations are members.
    pub(crate) fn peers<'a>(&self, session: &'a Session) -> Vec<PeerRef<'a>> {
        let members = self.member_msps();
        session
            .peers()
            .filter(|p| members.contains(&p.org.msp_id.as_str()))
            .collect()
    }

    /// MSP ids of the members, in the order of their names.
    pub(crate) fn member_msps(&self) -> Vec<&str> {
        self.bundle.application().map(|a| a.msp_ids()).unwrap_or_default()
    }
}

fn unreadable(channel: &str, reader: &str, why: &CliError) -> CliError {
    CliError::said(format!(
        "cannot read channel {channel} as {reader}: {why}; there is no such channel, or {reader} is no member of it \
         (`selvedge channel list` shows what there is)"
    ))
}

/// Number of a block; blocks that orderers give have a header.
pub(crate) fn number(block: &common::Block) -> u64 {
    block.header.as_ref().map_or(0, |h| h.number)
}

/// One block of a channel.
pub(crate) async fn block(
    session: &Session,
    identity: &ClientIdentity,
    channel: &str,
    seek: Seek,
) -> Result<common::Block, CliError> {
    from_any_orderer(session, channel, async |client| {
        client.block(identity, channel, seek).await
    })
    .await
    .map_err(|e| CliError::said(format!("cannot read a block of channel {channel}: {e}")))
}

/// Runs `ask` against one orderer after the other until one answers.
async fn from_any_orderer<T>(
    session: &Session,
    channel: &str,
    ask: impl AsyncFn(&OrdererClient) -> Result<T, selvedge_sdk::Error>,
) -> Result<T, CliError> {
    let mut refusals: Vec<(Vec<String>, String)> = Vec::new();
    for orderer in session.orderers() {
        let client = OrdererClient::new(&session.orderer_endpoint(orderer)?)
            .during(|| format!("orderer {}", orderer.host()))?;
        match ask(&client).await {
            Ok(found) => return Ok(found),
            Err(error) => {
                let text = with_causes(&error).replace(client.address(), "the orderer");
                match refusals.iter_mut().find(|(_, said)| *said == text) {
                    Some((hosts, _)) => hosts.push(orderer.host()),
                    None => refusals.push((vec![orderer.host()], text)),
                }
            }
        }
    }
    if refusals.is_empty() {
        return Err(CliError::said(format!(
            "this network has no orderer to ask about {channel}"
        )));
    }
    let texts: Vec<String> = refusals
        .into_iter()
        .map(|(hosts, text)| format!("{}: {text}", hosts.join(", ")))
        .collect();
    Err(CliError::said(texts.join("; ")))
}

/// The identity that reads unless another is named: the first administrator whose key is in the network's folder.
fn reader(session: &Session, named: Option<&str>) -> Result<String, CliError> {
    match named {
        Some(name) => Ok(name.to_owned()),
        None => session.administrators().into_iter().next().ok_or_else(|| {
            CliError::said(format!(
                "there is no administrator's key in {}; name an identity with --as",
                session.layout.root().display()
            ))
        }),
    }
}

/// A block as bytes.
pub(crate) fn encoded(block: &common::Block) -> Vec<u8> {
    block.encode_to_vec()
}
