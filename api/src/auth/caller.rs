//! The caller as handlers see them.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::Serialize;

use super::User;
use crate::error::Problem;

/// How much somebody sees (MISSION B).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum View {
    /// That something exists: blocks and transactions without content, certificates of records by their hash.
    Public,
    /// Everything that the organisation sees on its channels.
    InHouse,
}

/// Who calls. Handlers take it as an argument.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The user, or the visitor; none when nobody has signed in and there is no identity for visitors.
    pub(crate) user: Option<Arc<User>>,
    /// Whether the user has proved who they are.
    pub(crate) signed_in: bool,
    /// Where the request comes from.
    pub(crate) address: IpAddr,
    /// The token that came with the request.
    pub(crate) token: Option<String>,
}

impl Caller {
    /// The identity to read with, whatever the view.
    pub(crate) fn reader(&self) -> Result<&Arc<User>, Problem> {
        self.user.as_ref().ok_or_else(sign_in_first)
    }

    /// What the caller sees.
    pub(crate) fn view(&self) -> View {
        match &self.user {
            Some(user) if self.signed_in => user.view,
            _ => View::Public,
        }
    }
}

fn sign_in_first() -> Problem {
    Problem::unauthorized(
        "nobody is signed in: come with a client certificate, or with a token got by `selvedge api login`",
    )
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Problem::internal(&"a route is served without its gate"))
    }
}

/// A caller with the in-house view. Taking it as an argument closes a handler to everybody else.
#[derive(Debug, Clone)]
pub(crate) struct SignedIn {
    /// Who it is.
    pub(crate) user: Arc<User>,
}

impl<S: Sync> FromRequestParts<S> for SignedIn {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, state).await?;
        if !caller.signed_in {
            return Err(sign_in_first());
        }
        let user = Arc::clone(caller.reader()?);
        if caller.view() < View::InHouse {
            return Err(Problem::forbidden(format!(
                "{} has the public view, and this belongs to the in-house view",
                user.name
            )));
        }
        Ok(Self { user })
    }
}
