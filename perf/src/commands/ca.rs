//! `selvedge-perf ca`: an authority with many identities. How fast they register and enrol, how long looking one up and
//! listing all take, and what the server needs for it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use selvedge_msp::{
    CaSubject, CertificateAuthority, IssueRequest, PrivateKey, SubjectExtra, Usage, Validity,
};
use selvedge_sdk::{
    CaClient, ClientIdentity, ClientTls, EnrollRequest, Registration, RegistrationAttribute, Revocation,
};
use serde_json::json;

use crate::error::PerfError;
use crate::machine::{self, Machine};
use crate::network::{find_binary, free_ports};

const NAME: &str = "ca-bench";
/// Time for the server to start, which with many identities must not grow.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How much to measure.
#[derive(Debug, Args)]
pub(crate) struct CaArgs {
    /// Identities to register.
    #[arg(long, default_value_t = 100_000)]
    identities: usize,
    /// Enrolments, re-enrolments and look-ups to measure.
    #[arg(long, default_value_t = 2_000)]
    calls: usize,
    /// Calls under way at a time.
    #[arg(long, default_value_t = 16)]
    in_flight: usize,
    /// The selvedge binary; SELVEDGE_BIN or the one beside this program if absent.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// A server with one authority. It ends with its value.
struct Server {
    folder: tempfile::TempDir,
    binary: PathBuf,
    listen: String,
    child: Child,
}

fn failed(what: &str) -> impl FnOnce(&dyn std::fmt::Display) -> PerfError {
    move |e| PerfError::Network(format!("{what}: {e}"))
}

fn spawn(binary: &std::path::Path, folder: &std::path::Path) -> Result<Child, PerfError> {
    let log = folder.join("ca.log");
    let log = std::fs::File::create(&log).map_err(PerfError::file(&log))?;
    Command::new(binary)
        .args(["ca", "start", "--config"])
        .arg(folder.join("ca.yaml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(PerfError::file(binary))
}

impl Server {
    fn start(binary: PathBuf) -> Result<Self, PerfError> {
        let folder = tempfile::tempdir().map_err(PerfError::file(&std::env::temp_dir()))?;
        let dir = folder.path();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let validity = Validity {
            not_before: now - 300,
            not_after: now + 365 * 86_400,
        };
        let subject = CaSubject {
            common_name: NAME.to_owned(),
            ..CaSubject::default()
        };
        let bad = |e: selvedge_msp::IssueError| failed("no certificate")(&e);
        let root = CertificateAuthority::generate_root(&subject, &validity).map_err(bad)?;
        let key = PrivateKey::generate().map_err(|e| failed("no key")(&e))?;
        let tls = root
            .issue(&IssueRequest {
                public_key: key.public_key().clone(),
                common_name: "localhost".to_owned(),
                organizational_units: Vec::new(),
                dns_names: vec!["localhost".to_owned()],
                ip_addresses: Vec::new(),
                attributes: std::collections::BTreeMap::new(),
                usage: Usage::Tls,
                not_before: validity.not_before,
                not_after: validity.not_after,
                subject_extra: SubjectExtra::default(),
            })
            .map_err(bad)?;
        let port = free_ports(1)?.first().copied().unwrap_or_default();
        let listen = format!("127.0.0.1:{port}");
        let departments: Vec<String> = (0..100).map(|n| format!("hall{n}")).collect();
        let config = json!({
            "listen": listen,
            "tls": { "certificate": "tls.pem", "key": "tls.key" },
            "data_dir": "data",
            "cas": [{
                "name": NAME, "certificate": "root.pem", "key": "root.key",
                "bootstrap": { "id": "admin", "secret_file": "admin.secret" },
                "affiliations": { "org1": departments },
            }],
        });
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::write(&path, text).map_err(PerfError::file(&path))
        };
        // JSON is YAML.
        write("ca.yaml", &config.to_string())?;
        write("root.pem", &root.certificate().to_pem())?;
        write("root.key", &root.key().to_pkcs8_pem())?;
        write("tls.pem", &tls.to_pem())?;
        write("tls.key", &key.to_pkcs8_pem())?;
        let child = spawn(&binary, dir)?;
        Ok(Self {
            child,
            folder,
            binary,
            listen,
        })
    }

    fn client(&self) -> Result<CaClient, PerfError> {
        let path = self.folder.path().join("root.pem");
        let tls = ClientTls {
            roots: vec![std::fs::read(&path).map_err(PerfError::file(&path))?],
            ..ClientTls::default()
        };
        let url = format!("https://{}", self.listen.replace("127.0.0.1", "localhost"));
        Ok(CaClient::new(&url, Some(NAME.to_owned()), tls))
    }

    /// Time until it answers.
    async fn answers(&self) -> Result<Duration, PerfError> {
        let (client, start) = (self.client()?, Instant::now());
        loop {
            match client.cainfo().await {
                Ok(_) => return Ok(start.elapsed()),
                Err(error) if start.elapsed() > START_LIMIT => {
                    return Err(PerfError::client("the authority does not start")(error));
                }
                // Refused until it listens.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    async fn restart(&mut self) -> Result<Duration, PerfError> {
        self.stop();
        self.child = spawn(&self.binary, self.folder.path())?;
        self.answers().await
    }

    fn stop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn secret(&self) -> Result<String, PerfError> {
        let path = self.folder.path().join("admin.secret");
        std::fs::read_to_string(&path).map_err(PerfError::file(&path))
    }

    fn cpu(&self) -> f64 {
        machine::cpu_seconds(self.child.id()).unwrap_or(0.0)
    }

    fn memory(&self) -> String {
        let (now, peak) = machine::resident_kib(self.child.id()).unwrap_or((0, 0));
        format!("{} MiB, at its peak {} MiB", now / 1024, peak / 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a number of calls took.
struct Measured {
    what: String,
    count: usize,
    seconds: f64,
    cpu: f64,
    /// Sorted.
    latencies: Vec<Duration>,
}

impl Measured {
    fn line(&self) -> String {
        #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
        let count = self.count as f64;
        let at = |percent: usize| {
            let index = (self.latencies.len() * percent / 100).min(self.latencies.len().saturating_sub(1));
            self.latencies.get(index).map_or(0.0, |l| l.as_secs_f64() * 1e3)
        };
        format!(
            "| {} | {} | {:.0} | {:.1} | {:.1} | {:.2} |",
            self.what,
            self.count,
            count / self.seconds,
            at(50),
            at(99),
            self.cpu * 1e3 / count
        )
    }
}

/// Makes `count` calls, some at a time; stops at the first failure.
async fn measure<C, F, T>(
    what: &str,
    server: &Server,
    (count, in_flight): (usize, usize),
    call: C,
) -> Result<(Measured, Vec<T>), PerfError>
where
    C: Fn(usize) -> F + Send + Sync + 'static,
    F: Future<Output = Result<T, selvedge_sdk::Error>> + Send,
    T: Send + 'static,
{
    eprintln!("{what}: {count}");
    let (call, next) = (Arc::new(call), Arc::new(AtomicUsize::new(0)));
    let (cpu, start) = (server.cpu(), Instant::now());
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let (call, next) = (Arc::clone(&call), Arc::clone(&next));
            tokio::spawn(async move {
                let mut done = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return Ok(done);
                    }
                    let start = Instant::now();
                    let answer = call(number).await?;
                    done.push((number, start.elapsed(), answer));
                }
            })
        })
        .collect();
    let mut all = Vec::with_capacity(count);
    for task in tasks {
        let done: Result<Vec<_>, selvedge_sdk::Error> =
            task.await.map_err(|e| PerfError::Network(e.to_string()))?;
        all.extend(done.map_err(PerfError::client(what))?);
    }
    let seconds = start.elapsed().as_secs_f64();
    let mut latencies: Vec<Duration> = all.iter().map(|(_, latency, _)| *latency).collect();
    latencies.sort();
    all.sort_by_key(|(number, _, _)| *number);
    let measured = Measured {
        what: what.to_owned(),
        count,
        seconds,
        cpu: server.cpu() - cpu,
        latencies,
    };
    Ok((measured, all.into_iter().map(|(_, _, answer)| answer).collect()))
}

fn registration(number: usize) -> Registration {
    let attribute = |name: &str, value: String| RegistrationAttribute {
        name: name.to_owned(),
        value,
        ecert: true,
    };
    Registration {
        id: format!("device-{number:06}"),
        kind: "client".to_owned(),
        affiliation: format!("org1.hall{}", number % 100),
        attributes: vec![
            attribute("selvedge.device", "true".to_owned()),
            attribute("hall", (number % 100).to_string()),
        ],
        max_enrollments: 1,
        ..Registration::default()
    }
}

/// Registers, enrols, looks up, lists and revokes, and prints what it took.
pub(crate) async fn run(args: CaArgs) -> Result<(), PerfError> {
    let machine = Machine::here();
    let mut server = Server::start(find_binary(args.binary)?)?;
    let started_empty = server.answers().await?;
    let client = server.client()?;
    let keys = || PrivateKey::generate().map_err(|e| failed("no key")(&e));
    let key = keys()?;
    let enrolled = client
        .enroll("admin", &server.secret()?, &EnrollRequest::default(), &key)
        .await
        .map_err(PerfError::client("the administrator cannot enrol"))?;
    let admin = ClientIdentity::new("", enrolled.certificate_pem.as_bytes(), key)
        .map_err(|e| failed("the administrator's certificate")(&e))?;
    let memory_empty = server.memory();

    let (count, calls) = (
        args.identities.max(1),
        args.calls.clamp(1, args.identities.max(1)),
    );
    // Spread over all of them.
    let pick = move |number: usize| number * count / calls;
    let mut lines = Vec::new();
    let (own, by) = (client.clone(), admin.clone());
    let call = move |number| {
        let (client, admin) = (own.clone(), by.clone());
        async move { client.register(&admin, &registration(number)).await }
    };
    let (measured, secrets) = measure("register", &server, (count, args.in_flight), call).await?;
    lines.push(measured.line());
    let memory_registered = server.memory();

    let device_keys = (0..calls).map(|_| keys()).collect::<Result<Vec<_>, _>>()?;
    let (own, secrets, device_keys) = (client.clone(), Arc::new(secrets), Arc::new(device_keys));
    let with = Arc::clone(&device_keys);
    let call = move |number: usize| {
        let (client, secrets, keys) = (own.clone(), Arc::clone(&secrets), Arc::clone(&with));
        async move {
            let id = registration(pick(number)).id;
            let enrolled = client
                .enroll(
                    &id,
                    &secrets[pick(number)],
                    &EnrollRequest::default(),
                    &keys[number],
                )
                .await?;
            ClientIdentity::new("", enrolled.certificate_pem.as_bytes(), keys[number].clone())
                .map_err(|e| selvedge_sdk::Error::Request(e.to_string()))
        }
    };
    let (measured, devices) = measure("enrol", &server, (calls, args.in_flight), call).await?;
    lines.push(measured.line());

    let (own, devices) = (client.clone(), Arc::new(devices));
    let call = move |number: usize| {
        let (client, devices) = (own.clone(), Arc::clone(&devices));
        async move {
            let device = &devices[number];
            client
                .reenroll(device, &EnrollRequest::default(), device.key())
                .await
        }
    };
    let (measured, _) = measure("re-enrol", &server, (calls, args.in_flight), call).await?;
    lines.push(measured.line());

    let (own, by) = (client.clone(), admin.clone());
    let call = move |number: usize| {
        let (client, admin) = (own.clone(), by.clone());
        async move { client.identity(&admin, &registration(pick(number)).id).await }
    };
    let (measured, _) = measure("look up one", &server, (calls, args.in_flight), call).await?;
    lines.push(measured.line());

    // A registrar of one hall out of a hundred.
    let mut foreman = registration(0);
    foreman.id = "foreman".to_owned();
    foreman.attributes = vec![RegistrationAttribute {
        name: "hf.Registrar.Roles".to_owned(),
        value: "client".to_owned(),
        ecert: false,
    }];
    let secret = client
        .register(&admin, &foreman)
        .await
        .map_err(PerfError::client("the foreman cannot be registered"))?;
    let key = keys()?;
    let enrolled = client
        .enroll("foreman", &secret, &EnrollRequest::default(), &key)
        .await
        .map_err(PerfError::client("the foreman cannot enrol"))?;
    let foreman = ClientIdentity::new("", enrolled.certificate_pem.as_bytes(), key)
        .map_err(|e| failed("the foreman's certificate")(&e))?;
    for (what, who) in [
        ("list all identities", &admin),
        ("list those of one hall", &foreman),
    ] {
        let (own, by) = (client.clone(), who.clone());
        let call = move |_| {
            let (client, who) = (own.clone(), by.clone());
            async move { client.identities(&who).await.map(|all| all.len()) }
        };
        let (mut measured, seen) = measure(what, &server, (3, 1), call).await?;
        measured.what = format!("{what} ({})", seen.first().copied().unwrap_or_default());
        lines.push(measured.line());
    }

    let (own, by) = (client.clone(), admin.clone());
    let call = move |number: usize| {
        let (client, admin) = (own.clone(), by.clone());
        async move {
            let id = registration(pick(number)).id;
            client
                .revoke(&admin, &Revocation::Identity { id }, "superseded", false)
                .await
        }
    };
    let (measured, _) = measure("revoke", &server, (calls, args.in_flight), call).await?;
    lines.push(measured.line());

    let (memory_end, disk) = (
        server.memory(),
        machine::folder_bytes(&server.folder.path().join("data")),
    );
    let started_full = server.restart().await?;
    println!(
        "{} logical cores, {}; load {} before\n",
        machine.cores, machine.cpu, machine.load_before
    );
    println!(
        "| what | calls | a second | p50 ms | p99 ms | server CPU ms a call |\n|---|---|---|---|---|---|"
    );
    println!("{}", lines.join("\n"));
    println!(
        "\n- {} calls under way at a time; each has a TLS connection of its own",
        args.in_flight
    );
    println!(
        "- memory: {memory_empty} at the start; {memory_registered} with all registered; {memory_end} at the end"
    );
    println!(
        "- disk: {:.1} MiB",
        f64::from(u32::try_from(disk / 1024).unwrap_or(u32::MAX)) / 1024.0
    );
    println!(
        "- start: {:.0} ms empty, {:.0} ms with all identities",
        started_empty.as_secs_f64() * 1e3,
        started_full.as_secs_f64() * 1e3
    );
    Ok(())
}
