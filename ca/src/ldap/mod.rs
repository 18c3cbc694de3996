//! Identities from an LDAP directory, as Fabric CA takes them: who enrols is searched with a filter, the secret is checked
//! by binding as the entry that was found, and expressions say which attributes, affiliation and type it has.
//!
//! The registry keeps beside it what a directory does not know: how often somebody enrolled, wrong secrets, and whom the
//! authority has revoked. Identities that were registered here, the bootstrap one at least, stay known and come first.

mod connection;
mod expression;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::CaServerError;
use crate::attributes::server_attributes;
use crate::config::{AuthorityConfig, LdapConfig};
use crate::error::Refusal;
use crate::identities::{Change, Identities, Registered};
use crate::registry::{Attribute, Identity, Registry};

use connection::{Connection, Found};
use expression::{Expression, Maps};

/// Longest value of an attribute that is taken over, in bytes: certificates carry them.
const MAX_VALUE_BYTES: usize = 4096;

/// What a converter's result goes into, besides attributes.
const TYPE: &str = "hf.Type";
const AFFILIATION: &str = "hf.Affiliation";

/// The identities of a directory.
pub(crate) struct Directory {
    connection: Connection,
    registered: Registered,
    registry: Arc<Registry>,
    /// Attributes of entries that are taken over as they are.
    names: Vec<String>,
    converters: Vec<(String, Expression)>,
    /// Attributes that go into certificates unasked.
    ecert: Vec<String>,
    registrations: bool,
}

impl expression::Entry for Found {
    fn dn(&self) -> &str {
        &self.dn
    }

    fn affiliation(&self) -> &str {
        &self.affiliation
    }

    fn values(&self, attribute: &str) -> &[String] {
        Found::values(self, attribute)
    }
}

impl Directory {
    /// Reads the settings; the directory is first asked when somebody calls.
    pub(crate) fn open(
        authority: &AuthorityConfig,
        config: &LdapConfig,
        registry: Arc<Registry>,
    ) -> Result<Self, CaServerError> {
        let bad = |why: String| CaServerError::Authority {
            name: authority.name.clone(),
            why: format!("ldap: {why}"),
        };
        let mut maps = Maps::new();
        for (name, entries) in &config.attribute.maps {
            let mut map: Vec<_> = entries
                .iter()
                .map(|e| (e.name.clone(), e.value.clone()))
                .collect();
            if map.iter().any(|(from, _)| from.is_empty()) {
                return Err(bad(format!("map '{name}' replaces an empty name")));
            }
            // The longest first, so that "dn1" does not spoil "dn10".
            map.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.0.cmp(&b.0)));
            maps.insert(name.clone(), map);
        }
        let converters = config.attribute.converters.iter().map(|converter| {
            let expression = Expression::parse(&converter.value, &maps)
                .map_err(|e| bad(format!("the value of '{}': {e}", converter.name)))?;
            Ok((converter.name.clone(), expression))
        });
        Ok(Self {
            converters: converters.collect::<Result<_, CaServerError>>()?,
            connection: Connection::new(config).map_err(bad)?,
            registered: Registered(Arc::clone(&registry)),
            registry,
            names: config.attribute.names.clone(),
            ecert: config.attribute.ecert.clone(),
            registrations: config.registrations,
        })
    }

    /// What an entry means.
    fn identity(&self, id: &str, found: &Found) -> Identity {
        let mut attributes: BTreeMap<String, String> = self
            .names
            .iter()
            .map(|name| (name.clone(), found.values(name).join(",")))
            .collect();
        for (name, expression) in &self.converters {
            attributes.insert(name.clone(), expression.of(found));
        }
        let kind = attributes.remove(TYPE).filter(|kind| !kind.is_empty());
        let kind = kind.unwrap_or_else(|| "client".to_owned());
        let affiliation = attributes
            .remove(AFFILIATION)
            .unwrap_or_else(|| found.affiliation.clone());
        attributes.remove("hf.EnrollmentID");
        let mut all: Vec<Attribute> = attributes
            .into_iter()
            .filter(|(_, value)| !value.is_empty() && value.len() <= MAX_VALUE_BYTES)
            .map(|(name, value)| Attribute {
                ecert: self.ecert.contains(&name),
                name,
                value,
            })
            .collect();
        all.extend(server_attributes(id, &kind, &affiliation));
        Identity {
            id: id.to_owned(),
            secret_hash: String::new(),
            kind,
            affiliation,
            attributes: all,
            state: 0,
            max_enrollments: -1,
            wrong_attempts: 0,
        }
    }

    /// Whether the registry itself knows the secret of somebody, who then is no matter of the directory.
    fn is_registered(identity: &Identity) -> bool {
        !identity.secret_hash.is_empty()
    }

    fn search(&self, id: &str) -> Result<Option<Found>, Refusal> {
        let mut wanted: Vec<&str> = self.names.iter().map(String::as_str).collect();
        // Expressions name what they need, and an entry is small.
        if !self.converters.is_empty() {
            wanted.push("*");
        }
        self.connection.search(id, &wanted)
    }
}

impl Identities for Directory {
    fn find(&self, id: &str) -> Result<Option<Identity>, Refusal> {
        let kept = self.registered.find(id)?;
        if kept.as_ref().is_some_and(Self::is_registered) {
            return Ok(kept);
        }
        let Some(found) = self.search(id)? else {
            return Ok(None);
        };
        let mut identity = self.identity(id, &found);
        match kept {
            None => {
                self.registry
                    .insert(&identity)
                    .map_err(|e| Refusal::internal(52, e))?;
            }
            Some(kept) => {
                identity.state = kept.state;
                identity.wrong_attempts = kept.wrong_attempts;
                if identity != kept {
                    self.registry
                        .mirror(&identity)
                        .map_err(|e| Refusal::internal(58, e))?;
                }
            }
        }
        Ok(Some(identity))
    }

    fn is_secret_of(&self, identity: Option<&Identity>, secret: &str) -> Result<bool, Refusal> {
        match identity {
            Some(identity) if !Self::is_registered(identity) => match self.search(&identity.id)? {
                Some(found) => self.connection.is_password_of(&found.dn, secret),
                None => Ok(false),
            },
            other => self.registered.is_secret_of(other, secret),
        }
    }

    fn check(&self, change: Change<'_>) -> Result<(), Refusal> {
        let refuse = |what: &str| {
            Err(Refusal::new(
                403,
                72,
                format!("{what} is not supported when using LDAP"),
            ))
        };
        match change {
            Change::Register(_) if !self.registrations => refuse("Registration"),
            Change::Register(id) => match self.search(id)? {
                None => Ok(()),
                Some(_) => Err(Refusal::new(
                    409,
                    74,
                    format!("Identity '{id}' is in the directory already"),
                )),
            },
            Change::Modify(identity) if !Self::is_registered(identity) => {
                refuse("Modifying an identity of the directory")
            }
            Change::Remove(identity) if !Self::is_registered(identity) => {
                refuse("Removing an identity of the directory")
            }
            Change::Modify(_) | Change::Remove(_) => Ok(()),
        }
    }
}
