//! Channels: does every member have all blocks, and what ends in the configuration?

use selvedge_msp::Certificate;
use selvedge_sdk::Seek;
use selvedge_sdk::participation::OrdererAdmin;

use super::Report;
use crate::channel::look::channel_names;
use crate::channel::source::{self, Current};
use crate::error::{CliError, During, with_causes};
use crate::network::chain_height;
use crate::session::Session;

/// Blocks that a node may be behind without a word: they are on their way.
const ON_THEIR_WAY: u64 = 10;

pub(super) async fn check(session: &Session, report: &mut Report) {
    let mut names = channel_names(session).await;
    names.extend(session.config.channels.iter().map(|c| c.name.clone()));
    names.sort();
    names.dedup();
    for name in names {
        if let Err(error) = check_one(session, &name, report).await {
            report.problem(
                format!("channel {name}"),
                with_causes(&error),
                "without an orderer that serves the channel nothing is ordered; `selvedge channel info` and the orderers' logs say more",
            );
        }
    }
}

async fn check_one(session: &Session, channel: &str, report: &mut Report) -> Result<(), CliError> {
    let (reads_as, current) = Current::fetch_by_any(session, None, channel).await?;
    configuration(session, &current, report);
    let identity = session.identity(&reads_as)?;
    let newest = source::block(session, &identity, channel, Seek::newest()).await?;
    let height = source::number(&newest) + 1;
    for peer in current.peers(session) {
        let object = format!("{}, channel {channel}", peer.host());
        match chain_height(session, peer, channel).await {
            Ok(own) => behind(object, own, height, report),
            Err(error) => report.problem(
                object,
                with_causes(&error),
                format!(
                    "if it has not joined: selvedge channel join -C {channel} {}",
                    peer.host()
                ),
            ),
        }
    }
    for orderer in session.orderers() {
        let object = format!("{}, channel {channel}", orderer.host());
        let asking = async {
            let url = format!("https://{}", orderer.node.admin_listen);
            let admin = OrdererAdmin::new(&url, session.orderer_admin_tls(orderer)?);
            admin
                .status(channel)
                .await
                .during(|| "it does not say".to_owned())
        };
        match asking.await {
            Ok(status) if status.status == "failed" => report.problem(
                object,
                "the channel has failed on this node",
                format!("`selvedge network logs {}` says why", orderer.host()),
            ),
            Ok(status) => behind(object, status.height, height, report),
            Err(error) => report.problem(
                object,
                with_causes(&error),
                format!(
                    "if it has not joined: selvedge channel join -C {channel} {}",
                    orderer.host()
                ),
            ),
        }
    }
    Ok(())
}

fn behind(object: String, own: u64, height: u64, report: &mut Report) {
    if own.saturating_add(ON_THEIR_WAY) < height {
        report.warning(
            object,
            format!("has {own} of {height} blocks"),
            "it catches up by itself if it reaches an orderer; its log says if it does not",
        );
    } else {
        report.good(object, format!("has {own} of {height} blocks"));
    }
}

/// Certificates in the configuration: what has ended there may no longer be shown or signed with, and the roots decide how long
/// everything else can be renewed.
fn configuration(session: &Session, current: &Current, report: &mut Report) {
    let channel = current.bundle.channel_id();
    let orderer = current.bundle.orderer();
    let application = current.bundle.application();
    let members = application
        .into_iter()
        .flat_map(|a| a.orgs.iter().map(|(name, org)| (name, &org.msp_id)));
    let orderers = orderer.into_iter().flat_map(|o| o.orgs.iter());
    for (name, msp_id) in members.chain(orderers) {
        let Some(msp) = current.bundle.msps().get(msp_id) else {
            continue;
        };
        let config = msp.config();
        let domain = session
            .orgs()
            .iter()
            .find(|o| o.msp_id == msp_id)
            .map(|o| o.domain.to_owned());
        let rotate = match domain {
            Some(domain) => format!("selvedge ca rotate --org {domain} makes a new root beside it"),
            None => format!("{name} must make a new root and have the channel's configuration updated"),
        };
        let lists = [
            ("root", &config.root_certs, rotate.as_str()),
            (
                "intermediate authority",
                &config.intermediate_certs,
                rotate.as_str(),
            ),
            ("TLS root", &config.tls_root_certs, rotate.as_str()),
            (
                "TLS intermediate authority",
                &config.tls_intermediate_certs,
                rotate.as_str(),
            ),
            (
                "administrator",
                &config.admins,
                "renew it, and update the MSP in the channel's configuration",
            ),
        ];
        for (what, certificates, advice) in lists {
            for pem in certificates {
                if let Ok(certificate) = Certificate::from_pem(pem) {
                    let object = format!("channel {channel}, {name}, {what} '{}'", certificate.subject());
                    report.certificate(object, &certificate, advice);
                }
            }
        }
    }
    for consenter in orderer.map(|o| o.consenters.as_slice()).unwrap_or_default() {
        let address = format!("{}:{}", consenter.host, consenter.port);
        let host = session
            .orderers()
            .find(|o| o.address() == address)
            .map(|o| o.host());
        // The node goes on under its renewed certificate, as long as its key is the same (spec 05 §5.1).
        let advice = format!(
            "when the orderer has renewed: selvedge channel renew-consenter -C {channel} {}",
            host.as_deref().unwrap_or(&address)
        );
        for (what, pem) in [
            ("client", &consenter.client_tls_cert),
            ("server", &consenter.server_tls_cert),
        ] {
            if let Ok(certificate) = Certificate::from_pem(pem) {
                let object = format!("channel {channel}, consenter {address}, {what} TLS certificate");
                report.certificate(object, &certificate, &advice);
            }
        }
    }
}
