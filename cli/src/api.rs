//! `selvedge api …`: set up, run and sign in to the platform's REST interface.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use selvedge_api::{
    ApiConfig, ContractNames, GatewayConfig, LimitsConfig, NodeConfig, TlsConfig, UserConfig,
};
use selvedge_callbacks::CallbackSettings;
use selvedge_comm::{HttpClient, Method};
use selvedge_sdk::{ClientIdentity, ClientTls};
use serde_json::{Value, json};

use crate::args::{ApiCommand, InitArgs, LoginArgs};
use crate::error::{CliError, During};
use crate::network::config::{ApiNode, PeerOrganization};
use crate::network::crypto;
use crate::roles;
use crate::session::Session;

/// How long a token lasts unless the configuration says otherwise.
const TOKEN_LIFE: Duration = Duration::from_secs(60 * 60);

/// Runs a `selvedge api` command.
pub(crate) async fn run(command: ApiCommand) -> Result<(), CliError> {
    match command {
        ApiCommand::Start(args) => roles::api(args).await,
        ApiCommand::Init(args) => {
            let path = init(&args)?;
            println!("{}", path.display());
            Ok(())
        }
        ApiCommand::Login(args) => login(&args).await,
    }
}

/// Every user of an organisation whose key is in the network's folder.
fn users(folder: &Path) -> Result<Vec<UserConfig>, CliError> {
    let entries = std::fs::read_dir(folder).map_err(|source| CliError::ReadFile {
        path: folder.to_owned(),
        source,
    })?;
    let mut users: Vec<UserConfig> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("msp/keystore").is_dir())
        .filter_map(|path| {
            Some(UserConfig {
                name: path.file_name()?.to_str()?.to_owned(),
                msp_dir: path.join("msp"),
            })
        })
        .collect();
    users.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(users)
}

fn is_loopback(listen: &str) -> bool {
    listen
        .parse::<std::net::SocketAddr>()
        .is_ok_and(|address| address.ip().is_loopback())
}

fn gateway(text: &str) -> Result<(String, String), CliError> {
    let (id, url) = text.split_once('=').ok_or_else(|| {
        CliError::said(format!(
            "'{text}' is not NAME=URL, for example hall-7=http://127.0.0.1:8600"
        ))
    })?;
    Ok((id.to_owned(), url.to_owned()))
}

/// Writes the configuration, and a TLS certificate where one is needed. Returns the file.
fn init(args: &InitArgs) -> Result<PathBuf, CliError> {
    let root = absolute(&args.network.network)?;
    let session = Session::open(&root)?;
    let org = session.peer_org(&args.org)?;
    let dir = match &args.dir {
        Some(dir) => absolute(dir)?,
        None => root.join("api").join(&org.domain),
    };
    std::fs::create_dir_all(&dir).map_err(|source| CliError::WriteFile {
        path: dir.clone(),
        source,
    })?;
    let wanted = ApiNode {
        listen: args.listen.clone(),
        tls: args.tls,
        visitor: args.visitor.clone(),
        gateways: args
            .gateways
            .iter()
            .map(|text| gateway(text))
            .collect::<Result<_, _>>()?,
    };
    let config = config_of(&session, org, &wanted, &dir.join("data"))?;
    let path = dir.join("api.yaml");
    let text = serde_yaml_ng::to_string(&config).during(|| "cannot write the configuration".to_owned())?;
    std::fs::write(&path, text).map_err(|source| CliError::WriteFile {
        path: path.clone(),
        source,
    })?;
    Ok(path)
}

fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(path).during(|| format!("cannot resolve {}", path.display()))
}

/// The configuration of an organisation's REST interface, with everything that the network's folder has for it. The
/// session's folder and `data_dir` are absolute, so that the file may lie anywhere.
pub(crate) fn config_of(
    session: &Session,
    org: &PeerOrganization,
    wanted: &ApiNode,
    data_dir: &Path,
) -> Result<ApiConfig, CliError> {
    let layout = session.layout.peer_org(&org.domain);
    let tls = if wanted.tls || !is_loopback(&wanted.listen) {
        let host = format!("api.{}", org.domain);
        let files = crypto::server_files(
            &session.config,
            &layout,
            &org.domain,
            &org.name,
            &host,
            &wanted.listen,
        )?;
        Some(TlsConfig {
            certificate: files.tls_certificate(),
            key: files.tls_key(),
            client_roots: vec![layout.ca_certificate(), layout.tls_ca_certificate()],
        })
    } else {
        None
    };
    let peers = session
        .peers()
        .filter(|peer| peer.org.domain == org.domain)
        .map(|peer| NodeConfig {
            address: peer.address(),
            msp_id: org.msp_id.clone(),
            server_name: Some(peer.host()),
            tls_roots: Some(layout.tls_ca_certificate()),
        })
        .collect();
    let users = users(&layout.root().join("users"))?;
    let msp_dir = |name: &str| -> Result<PathBuf, CliError> {
        let user = users
            .iter()
            .find(|user| user.name == name || user.name.split('@').next() == Some(name));
        user.map(|user| user.msp_dir.clone()).ok_or_else(|| {
            let known: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
            CliError::said(format!(
                "there is no user {name} in {}; it has {}",
                layout.root().join("users").display(),
                known.join(", ")
            ))
        })
    };
    let visitor_msp_dir = wanted.visitor.as_deref().map(msp_dir).transpose()?;
    let own = msp_dir(&format!("Admin@{}", org.domain))?;
    let gateways = wanted.gateways.iter().map(|(id, url)| GatewayConfig {
        id: id.clone(),
        url: url.clone(),
    });
    Ok(ApiConfig {
        listen: wanted.listen.clone(),
        public_url: None,
        organization: org.name.clone(),
        msp_id: org.msp_id.clone(),
        msp_dir: own,
        data_dir: data_dir.to_owned(),
        tls,
        peers,
        channels: Vec::new(),
        users: users.clone(),
        visitor_msp_dir,
        gateways: gateways.collect(),
        contracts: ContractNames::default(),
        token_life: TOKEN_LIFE,
        limits: LimitsConfig::default(),
        callbacks: CallbackSettings::default(),
        behind_proxy: false,
        operations: None,
    })
}

/// Whoever signs in: the identity, and what to trust the server by.
struct Applicant {
    identity: ClientIdentity,
    http: HttpClient,
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|source| CliError::ReadFile {
        path: path.to_owned(),
        source,
    })
}

impl Applicant {
    fn of(args: &LoginArgs) -> Result<Self, CliError> {
        let mut tls = ClientTls::default();
        let identity = match (&args.msp, &args.msp_id) {
            (Some(folder), Some(msp_id)) => ClientIdentity::from_msp_dir(msp_id, folder)
                .during(|| format!("cannot act with the identity in {}", folder.display()))?,
            _ => {
                let session = Session::open(&args.network.network)?;
                let identity = session.identity(&args.identity)?;
                let domain = args.identity.split_once('@').map_or("", |(_, domain)| domain);
                tls.roots = vec![read(&session.layout.peer_org(domain).tls_ca_certificate())?];
                identity
            }
        };
        if let Some(path) = &args.tls_roots {
            tls.roots = vec![read(path)?];
        }
        Ok(Self {
            identity,
            http: HttpClient::new(tls),
        })
    }

    async fn post(&self, url: &str, token: Option<&str>, body: &Value) -> Result<Value, CliError> {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("content-type", "application/json")];
        if let Some(bearer) = &bearer {
            headers.push(("authorization", bearer));
        }
        let answer = self
            .http
            .request(Method::POST, url, &headers, body.to_string())
            .await
            .during(|| format!("no REST interface answers at {url}"))?;
        let value: Value = serde_json::from_slice(&answer.body)
            .during(|| format!("{url} does not answer as a REST interface of Selvedge"))?;
        if answer.status.is_success() {
            return Ok(value);
        }
        let why = value["error"]
            .as_str()
            .unwrap_or("it does not say why")
            .to_owned();
        Err(CliError::said(format!(
            "{url} refuses (HTTP {}): {why}",
            answer.status.as_u16()
        )))
    }
}

fn text<'v>(value: &'v Value, name: &str) -> Result<&'v str, CliError> {
    value[name]
        .as_str()
        .ok_or_else(|| CliError::said(format!("the REST interface does not tell '{name}'")))
}

/// `host:port` of an URL, as far as it says whom one talks to; all names of this machine are one.
fn authority(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default().to_lowercase();
    ["127.0.0.1", "[::1]"]
        .into_iter()
        .find_map(|host| {
            authority
                .strip_prefix(host)
                .map(|port| format!("localhost{port}"))
        })
        .unwrap_or(authority)
}

async fn login(args: &LoginArgs) -> Result<(), CliError> {
    let api = args.api.trim_end_matches('/');
    let applicant = Applicant::of(args)?;
    let challenge = applicant
        .post(&format!("{api}/v1/login/challenge"), None, &json!({}))
        .await?;
    // A server in the middle could hand on the challenge of another one: what is signed names who asked for it.
    let audience = text(&challenge, "audience")?;
    if authority(audience) != authority(api) {
        return Err(CliError::said(format!(
            "the server at {api} calls itself {audience}; sign in there, or have public_url corrected in its configuration"
        )));
    }
    let signed = format!(
        "selvedge-api login\n{audience}\n{}",
        text(&challenge, "challenge")?
    );
    let signature = applicant
        .identity
        .sign(signed.as_bytes())
        .during(|| "cannot sign with the identity's key".to_owned())?;
    let proof = json!({
        "certificate": applicant.identity.certificate().to_pem(),
        "challenge": challenge["challenge"],
        "signature": STANDARD.encode(signature),
    });
    let answer = applicant
        .post(&format!("{api}/v1/login/token"), None, &proof)
        .await?;
    let token = text(&answer, "token")?;
    if args.token {
        println!("{token}");
        return Ok(());
    }
    let link = applicant
        .post(&format!("{api}/v1/login/link"), Some(token), &json!({}))
        .await?;
    println!("{}", text(&link, "url")?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_machine_has_many_names() {
        assert_eq!(authority("http://127.0.0.1:8700/"), "localhost:8700");
        assert_eq!(authority("http://[::1]:8700"), "localhost:8700");
        assert_eq!(authority("https://Portal.Example.com/x"), "portal.example.com");
        assert_ne!(
            authority("https://a.example.com"),
            authority("https://b.example.com")
        );
    }

    #[test]
    fn gateways_are_name_and_address() {
        let (id, url) = gateway("hall-7=http://127.0.0.1:8600").unwrap();
        assert_eq!((id.as_str(), url.as_str()), ("hall-7", "http://127.0.0.1:8600"));
        assert!(gateway("hall-7").is_err());
    }
}
