//! An organisation's REST interface as a process, set up and signed in to with the commands that a user would type.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use selvedge_comm::{HttpAnswer, HttpClient, Method};
use selvedge_sdk::{ClientTls, TlsIdentity};
use serde_json::Value;

use crate::process::{NodeFiles, kill, runs, terminate};
use crate::{CHANNEL, Network, eventually, ports};

/// A REST interface process. It ends with its value.
#[derive(Debug)]
pub struct Portal {
    files: NodeFiles,
    scratch: PathBuf,
    pid: AtomicU32,
    domain: String,
    listen: String,
    /// PEM roots of its certificate; none when it serves without TLS.
    roots: Option<Vec<u8>>,
}

impl Portal {
    /// Sets up and starts the REST interface of an organisation; `more` are further arguments of `selvedge api init`.
    pub async fn start(network: &Network, domain: &str, more: &[&str]) -> Self {
        Self::start_with(network, domain, more, |_| {}).await
    }

    /// [`Self::start`] with a configuration that `tune` has changed.
    pub async fn start_with(
        network: &Network,
        domain: &str,
        more: &[&str],
        tune: impl FnOnce(&mut Value),
    ) -> Self {
        let listen = ports::listen();
        let port = listen.rsplit(':').next().unwrap_or_default();
        let dir = network.scratch().join("api").join(format!("{domain}-{port}"));
        let folder = dir.to_string_lossy().into_owned();
        let mut arguments = vec![
            "api", "init", "--org", domain, "--listen", &listen, "--dir", &folder,
        ];
        arguments.extend_from_slice(more);
        let written = network.cli(&arguments).await.unwrap_or_else(|e| panic!("{e}"));
        let files = NodeFiles { dir };
        let text = std::fs::read(written.trim()).expect("the configuration");
        let mut config: Value = serde_yaml_ng::from_slice(&text).expect("YAML");
        tune(&mut config);
        let text = serde_yaml_ng::to_string(&config).expect("YAML");
        std::fs::write(files.config(), text).expect("the configuration");
        let portal = Self {
            files,
            scratch: network.scratch().to_owned(),
            pid: AtomicU32::new(0),
            domain: domain.to_owned(),
            listen,
            roots: more.contains(&"--tls").then(|| network.tls_root(domain)),
        };
        portal.restart().await;
        portal
    }

    /// Starts the process again after [`Self::kill`], and waits until it follows the channel.
    pub async fn restart(&self) {
        self.pid.store(self.files.start("api"), Ordering::Relaxed);
        eventually(
            "the REST interface follows the channel",
            Duration::from_secs(30),
            || async {
                let me = self
                    .call(Method::GET, "/v1/me", None, &Value::Null)
                    .await
                    .map_err(|e| format!("{e}; its log:\n{}", self.files.log_tail(20)))?;
                let me: Value = serde_json::from_slice(&me.body).map_err(|e| e.to_string())?;
                let channels = me["channels"].as_array().cloned().unwrap_or_default();
                // Who is shown no channels (no identity for visitors) cannot wait for them; the server answers at least.
                if me["view"].is_null() || channels.iter().any(|c| c == CHANNEL) {
                    return Ok(());
                }
                Err(format!(
                    "it has {channels:?}; its log:\n{}",
                    self.files.log_tail(20)
                ))
            },
        )
        .await;
    }

    /// Kills the process as a power cut would.
    pub fn kill(&self) {
        let pid = self.pid.load(Ordering::Relaxed);
        assert!(
            runs(pid, &self.scratch),
            "the REST interface has ended by itself:\n{}",
            self.files.log_tail(20)
        );
        kill(pid);
    }

    /// Ends the process as an administrator would, and waits until it is gone.
    pub async fn stop(&self) {
        terminate(self.pid.load(Ordering::Relaxed)).await;
    }

    /// Base of its addresses.
    pub fn url(&self) -> String {
        let scheme = if self.roots.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.listen.replace("127.0.0.1", "localhost"))
    }

    /// The folder of its configuration and data.
    pub fn dir(&self) -> &std::path::Path {
        &self.files.dir
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.files.log_tail(30)
    }

    /// Signs a user of the organisation in; `more` is `--token` for a token instead of a link.
    pub async fn login(&self, network: &Network, user: &str, more: &[&str]) -> String {
        let (url, name) = (self.url(), format!("{user}@{}", self.domain));
        let mut arguments = vec!["api", "login", "--api", &url, "--as", &name];
        arguments.extend_from_slice(more);
        let said = network.cli(&arguments).await.unwrap_or_else(|e| panic!("{e}"));
        said.trim().to_owned()
    }

    /// One request, with a token if there is one.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: &Value,
    ) -> Result<HttpAnswer, String> {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("content-type", "application/json")];
        if let Some(bearer) = &bearer {
            headers.push(("authorization", bearer));
        }
        self.call_with(method, path, &headers, body).await
    }

    /// One request with these headers.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn call_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<HttpAnswer, String> {
        self.send(None, method, path, headers, body).await
    }

    /// One request on a connection that shows a client certificate.
    ///
    /// # Errors
    /// It does not answer, or does not accept the certificate.
    pub async fn call_by_certificate(
        &self,
        identity: TlsIdentity,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<HttpAnswer, String> {
        self.send(Some(identity), method, path, headers, body).await
    }

    async fn send(
        &self,
        identity: Option<TlsIdentity>,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<HttpAnswer, String> {
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let tls = ClientTls {
            roots: self.roots.clone().into_iter().collect(),
            identity,
            ..ClientTls::default()
        };
        HttpClient::new(tls)
            .request(method, &format!("{}{path}", self.url()), headers, text)
            .await
            .map_err(|e| e.to_string())
    }

    /// Status and JSON of one request.
    pub async fn ask(&self, method: Method, path: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
        let answer = self
            .call(method, path, token, body)
            .await
            .unwrap_or_else(|e| panic!("{path}: {e}; its log:\n{}", self.log()));
        let json = serde_json::from_slice(&answer.body).unwrap_or_else(|e| {
            panic!("{path}: {e}: {}", String::from_utf8_lossy(&answer.body));
        });
        (answer.status.as_u16(), json)
    }
}

impl Drop for Portal {
    fn drop(&mut self) {
        let pid = self.pid.load(Ordering::Relaxed);
        if runs(pid, &self.scratch) {
            kill(pid);
        }
        if std::thread::panicking() {
            eprintln!("--- REST interface of {}\n{}", self.domain, self.log());
        }
    }
}
