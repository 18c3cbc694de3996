//! `selvedge channel …`: channels, their nodes and their configuration.

pub(crate) mod look;
mod members;
pub(crate) mod msp;
mod nodes;
mod render;
mod settings;
pub(crate) mod source;
mod update;

use crate::args::{AddConsenterArgs, ChannelCommand};
use crate::error::{CliError, During};

/// `channel renew-consenter`
pub(crate) async fn renew_consenter(args: &AddConsenterArgs) -> Result<(), CliError> {
    update::change(&args.update, |session, bundle, tree| {
        members::renew_consenter(args, session, bundle, tree)
    })
    .await
}

/// Runs a `selvedge channel` command.
pub(crate) async fn run(command: ChannelCommand) -> Result<(), CliError> {
    match command {
        ChannelCommand::List(args) => look::list(&args).await,
        ChannelCommand::Info(args) => look::info(&args).await,
        ChannelCommand::Fetch(args) => look::fetch(&args).await,
        ChannelCommand::Config(args) => look::config(&args).await,
        ChannelCommand::Create(args) => nodes::create(&args).await,
        ChannelCommand::Join(args) => nodes::join(&args).await,
        ChannelCommand::Leave(args) => nodes::leave(&args).await,
        ChannelCommand::Set(args) => {
            let edit = |_: &_, bundle: &_, tree: &mut _| settings::apply(tree, bundle, &args.settings);
            update::change(&args.update, edit).await
        }
        ChannelCommand::SetPolicy(args) => {
            let (group, name) = settings::policy_place(&args.path)?;
            let policy = settings::policy(&args.rule)?;
            update::change(&args.update, |_, _, tree| {
                tree.set_policy(&group, &name, policy)
                    .during(|| format!("cannot set policy {}", args.path))
            })
            .await
        }
        ChannelCommand::SetAnchor(args) => {
            update::change(&args.update, |_, bundle, tree| {
                members::set_anchor(&args, bundle, tree)
            })
            .await
        }
        ChannelCommand::AddOrg(args) => {
            update::change(&args.update, |session, bundle, tree| {
                members::add_org(&args, session, bundle, tree)
            })
            .await
        }
        ChannelCommand::RemoveOrg(args) => {
            update::change(&args.update, |_, bundle, tree| {
                members::remove_org(&args, bundle, tree)
            })
            .await
        }
        ChannelCommand::AddConsenter(args) => {
            update::change(&args.update, |session, bundle, tree| {
                members::add_consenter(&args, session, bundle, tree)
            })
            .await
        }
        ChannelCommand::RenewConsenter(args) => renew_consenter(&args).await,
        ChannelCommand::RemoveConsenter(args) => {
            update::change(&args.update, |session, bundle, tree| {
                members::remove_consenter(&args, session, bundle, tree)
            })
            .await
        }
        ChannelCommand::Sign(args) => update::sign(&args).await,
        ChannelCommand::Submit(args) => update::submit_file(&args).await,
    }
}
