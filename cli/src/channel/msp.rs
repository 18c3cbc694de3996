//! Changes of an organisation's MSP in all channels at once: what it revokes, and which roots it has.

use std::path::PathBuf;

use selvedge_channel::Bundle;
use selvedge_proto::msp::FabricMspConfig;

use super::look::channel_names;
use super::source::Current;
use super::update;
use crate::args::{ChannelArg, ChannelsArgs, NetworkArg, UpdateArgs};
use crate::error::{CliError, During};
use crate::session::Session;

/// The groups of a channel's configuration that are the organisation with this MSP id.
pub(crate) fn groups_of(bundle: &Bundle, msp_id: &str) -> Vec<String> {
    let application = bundle.application().into_iter().flat_map(|a| {
        a.orgs
            .iter()
            .map(|(name, org)| ("Application", name, org.msp_id.as_str()))
    });
    let orderer = bundle
        .orderer()
        .into_iter()
        .flat_map(|o| o.orgs.iter().map(|(name, id)| ("Orderer", name, id.as_str())));
    application
        .chain(orderer)
        .filter(|(_, _, id)| *id == msp_id)
        .map(|(part, name, _)| format!("/Channel/{part}/{name}"))
        .collect()
}

/// The channels that an organisation is in, or those that were named.
pub(crate) async fn channels_of(
    session: &Session,
    args: &ChannelsArgs,
    msp_id: &str,
) -> Result<Vec<Current>, CliError> {
    let named = args.signers.first().map(String::as_str);
    let names = match &args.channels {
        Some(named) => named.clone(),
        None => channel_names(session).await,
    };
    let mut found = Vec::new();
    for name in names {
        let (_, current) = Current::fetch_by_any(session, named, &name).await?;
        if !groups_of(&current.bundle, msp_id).is_empty() {
            found.push(current);
        } else if args.channels.is_some() {
            return Err(CliError::said(format!("{msp_id} is no member of channel {name}")));
        }
    }
    Ok(found)
}

/// Edits the MSP of an organisation in the channels that it is in: shows what differs, signs and submits, or writes a file a
/// channel for others to sign. Gives the number of channels that the organisation is in.
pub(crate) async fn change(
    network: &NetworkArg,
    args: &ChannelsArgs,
    msp_id: &str,
    edit: impl Fn(&mut FabricMspConfig) -> Result<(), CliError>,
) -> Result<usize, CliError> {
    let session = Session::open(&network.network)?;
    let channels = channels_of(&session, args, msp_id).await?;
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder).map_err(|source| CliError::WriteFile {
            path: folder.clone(),
            source,
        })?;
    }
    for current in &channels {
        let name = current.bundle.channel_id().to_owned();
        let out: Option<PathBuf> = args.out.as_ref().map(|dir| dir.join(format!("{name}.update")));
        let update = UpdateArgs {
            channel: ChannelArg {
                network: network.clone(),
                channel: name,
            },
            signers: args.signers.clone(),
            dry_run: args.dry_run,
            out,
        };
        update::change(&update, |_, bundle, tree| {
            for group in groups_of(bundle, msp_id) {
                let mut failed = None;
                tree.edit_msp(&group, |msp| failed = edit(msp).err())
                    .during(|| format!("cannot change the MSP of {group}"))?;
                if let Some(error) = failed {
                    return Err(error);
                }
            }
            Ok(())
        })
        .await?;
    }
    Ok(channels.len())
}
