//! `selvedge ca revoke` and `publish-crl`: what an authority has revoked reaches the ledger.
//!
//! Peers and orderers do not ask an authority. They go by the revocation lists in the channels' configuration, from the block on
//! that brings them (spec 02 §13.4, 03 §10).

use bytes::Bytes;
use selvedge_msp::{Certificate, crl, pem};
use selvedge_sdk::{Error, Revocation};

use crate::args::{ChannelsArgs, NetworkArg, PublishCrlArgs, RevokeArgs};
use crate::authority::{OrgAuthority, read};
use crate::channel::msp;
use crate::error::{CliError, During, with_causes};
use crate::session::Session;

/// The authority's codes for what was revoked before, and for what it does not know (spec 06 §6).
const REVOKED_BEFORE: i64 = 66;
const UNKNOWN: [i64; 2] = [8, 10];

/// `selvedge ca revoke`
pub(crate) async fn revoke(args: &RevokeArgs) -> Result<(), CliError> {
    if args.channels.dry_run {
        return Err(CliError::said(format!(
            "the authority cannot revoke on trial. Revoke with --no-channels, and look at what the channels would get with \
             `selvedge ca publish-crl --org {} --dry-run`",
            args.org
        )));
    }
    let revocation = match (&args.certificate, &args.id) {
        (Some(file), _) => {
            let certificate = Certificate::from_pem(&read(file)?)
                .during(|| format!("{} holds no certificate", file.display()))?;
            Revocation::Certificate {
                serial: hex::encode(certificate.serial()),
                aki: hex::encode(certificate.authority_key_id().unwrap_or_default()),
            }
        }
        (None, id) => Revocation::Identity {
            id: id.clone().unwrap_or_default(),
        },
    };
    let session = Session::open(&args.network.network)?;
    let authority = OrgAuthority::open(&session, &args.org).await?;
    let revoking = authority
        .client
        .revoke(&authority.registrar, &revocation, &args.reason, false);
    match revoking.await {
        Ok(revoked) => {
            for (serial, _) in &revoked.certificates {
                println!("revoked certificate {serial}");
            }
            if revoked.certificates.is_empty() {
                println!(
                    "there was no certificate to revoke; the authority refuses the identity from now on"
                );
            }
        }
        // The command may be given again when a channel could not be reached the first time.
        Err(Error::Ca { error, .. }) if error.code == REVOKED_BEFORE => println!("it was revoked before"),
        Err(error) => return Err(error).during(|| "nothing was revoked".to_owned()),
    }
    if let Revocation::Identity { id } = &revocation {
        tls_too(&session, args, id).await;
    }
    if let Some(file) = &args.crl {
        let lists = lists(&authority).await?;
        std::fs::write(file, lists).map_err(|source| CliError::WriteFile {
            path: file.clone(),
            source,
        })?;
        println!("the authority's revocation list is in {}", file.display());
    }
    if args.no_channels {
        println!(
            "no channel knows of it yet: selvedge ca publish-crl --org {}",
            args.org
        );
        return Ok(());
    }
    into_channels(&session, &args.network, &args.channels, &args.org, &authority)
        .await
        .during(|| {
            format!(
                "it is revoked at the authority, but not all channels know; when that is mended: selvedge ca publish-crl --org {}",
                args.org
            )
        })
}

/// An identity that is revoked renews no TLS certificate either. Most have none at that authority.
async fn tls_too(session: &Session, args: &RevokeArgs, id: &str) {
    let revoking = async {
        let authority = OrgAuthority::open_tls(session, &args.org).await?;
        let revocation = Revocation::Identity { id: id.to_owned() };
        match authority
            .client
            .revoke(&authority.registrar, &revocation, &args.reason, false)
            .await
        {
            Ok(_) => Ok(()),
            Err(Error::Ca { error, .. }) if UNKNOWN.contains(&error.code) => Ok(()),
            Err(error) => Err(error).during(|| format!("TLS certificates of {id} are not revoked")),
        }
    };
    if let Err(error) = revoking.await {
        eprintln!("{}", with_causes(&error));
    }
}

/// `selvedge ca publish-crl`
pub(crate) async fn publish(args: &PublishCrlArgs) -> Result<(), CliError> {
    let session = Session::open(&args.network.network)?;
    let authority = OrgAuthority::open(&session, &args.org).await?;
    into_channels(&session, &args.network, &args.channels, &args.org, &authority).await
}

async fn lists(authority: &OrgAuthority) -> Result<String, CliError> {
    authority
        .client
        .revocation_lists(&authority.registrar)
        .await
        .during(|| format!("authority {} gives no revocation list", authority.name))
}

async fn into_channels(
    session: &Session,
    network: &NetworkArg,
    channels: &ChannelsArgs,
    domain: &str,
    authority: &OrgAuthority,
) -> Result<(), CliError> {
    let text = lists(authority).await?;
    let lists: Vec<Bytes> = pem::all_blocks(text.as_bytes())
        .iter()
        .map(|block| pem::encode("X509 CRL", &block.content).into_bytes().into())
        .collect();
    let org = session.org(domain)?;
    let changed = msp::change(network, channels, org.msp_id, |msp| {
        msp.revocation_list = crl::merged(&msp.revocation_list, &lists)
            .during(|| format!("the revocation list of {} cannot be read", authority.name))?;
        Ok(())
    })
    .await?;
    if changed == 0 {
        println!("{} is in no channel of this network", org.name);
    }
    Ok(())
}
