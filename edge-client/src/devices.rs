//! The configuration of everything between devices and the buffer, and its start.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use selvedge_callbacks::{CallbackSettings, EventSource, GatewaySource, Hub, NewSubscription};
use selvedge_comm::{ClientAuth, ServerTls, TlsIdentity, bind};
use selvedge_operations::Metrics;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::EdgeError;
use crate::buffer::Buffer;
use crate::config::EdgeConfig;
use crate::folder::{Folder, FolderConfig};
use crate::intake::rate::RateLimit;
use crate::intake::route::{Route, RouteConfig};
use crate::intake::sources::{AddressRange, SourceConfig, Sources};
use crate::intake::{Intake, Settings};
use crate::mqtt::{MqttConfig, MqttServer};
use crate::sealed::{SealedConfig, SealedServer};
use crate::sensors::{self, SensorConfig};
use crate::state_log::StateLog;
use crate::uplink::Uplink;

/// Who may hand over what, and by which ways.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DevicesConfig {
    /// Addresses that may reach REST, MQTT and the listener for sealed messages; any if empty.
    pub addresses: Vec<AddressRange>,
    /// Devices and programs that are known by name.
    pub sources: Vec<SourceConfig>,
    /// What each may send; no limit if absent.
    pub rate: Option<RateLimit>,
    /// The REST interface.
    pub rest: RestConfig,
    /// MQTT; not served if absent.
    pub mqtt: Option<MqttConfig>,
    /// Sealed messages over TCP; not served if absent.
    pub sealed: Option<SealedConfig>,
    /// Watched folders.
    pub folders: Vec<FolderConfig>,
    /// Sensors of this machine.
    pub sensors: Vec<SensorConfig>,
    /// Root of sysfs; `/sys` if absent.
    pub sys_root: Option<PathBuf>,
}

/// How devices reach the REST interface.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RestConfig {
    /// Whether callers must log in, as a source with its password (HTTP Basic) or by its TLS certificate.
    pub login: bool,
    /// TLS; plain HTTP if absent.
    pub tls: Option<RestTlsConfig>,
}

/// TLS of the REST interface.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestTlsConfig {
    /// PEM file with the gateway's certificate and those between it and the root.
    pub certificate: PathBuf,
    /// PEM file with its key.
    pub key: PathBuf,
    /// PEM file with the roots of callers' certificates; they show none if absent.
    #[serde(default)]
    pub client_roots: Option<PathBuf>,
}

/// Contract events for the devices.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallbacksConfig {
    /// Limits and pauses.
    pub settings: CallbackSettings,
    /// Web hooks that are always there; others are made over REST.
    pub webhooks: Vec<NewSubscription>,
}

impl DevicesConfig {
    /// Makes paths relative to the configuration file's folder and checks what can be checked without files.
    pub(crate) fn resolve(&mut self, base: &Path) -> Result<(), String> {
        if let Some(mqtt) = &mut self.mqtt {
            mqtt.resolve(base)?;
        }
        if let Some(tls) = &mut self.rest.tls {
            tls.certificate = base.join(&tls.certificate);
            tls.key = base.join(&tls.key);
            if let Some(roots) = &mut tls.client_roots {
                *roots = base.join(&*roots);
            }
        }
        for folder in &mut self.folders {
            folder.path = base.join(&folder.path);
        }
        for sensor in &self.sensors {
            sensor.check()?;
        }
        if let Some(rate) = self.rate {
            rate.check()?;
        }
        if let Some(root) = &mut self.sys_root {
            *root = base.join(&*root);
        }
        Sources::new(self.sources.clone(), self.addresses.clone()).map(drop)
    }

    /// TLS of the REST interface.
    pub(crate) fn rest_tls(&self) -> Result<Option<ServerTls>, EdgeError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| EdgeError::ReadFile {
                path: path.to_owned(),
                source,
            })
        };
        let Some(tls) = &self.rest.tls else {
            return Ok(None);
        };
        let client_roots: Vec<Vec<u8>> = tls
            .client_roots
            .iter()
            .map(|path| read(path))
            .collect::<Result<_, _>>()?;
        Ok(Some(ServerTls {
            identity: TlsIdentity::new(&read(&tls.certificate)?, &read(&tls.key)?),
            client_auth: if client_roots.is_empty() {
                ClientAuth::Request
            } else {
                ClientAuth::Verify
            },
            client_roots: client_roots.into(),
        }))
    }
}

/// Checks the routes.
pub(crate) fn routes(configs: &[RouteConfig], gateway: &str) -> Result<Vec<Route>, String> {
    (1..)
        .zip(configs)
        .map(|(number, config)| {
            Route::new(config.clone(), gateway).map_err(|why| format!("route {number} of 'readings': {why}"))
        })
        .collect()
}

/// Everything that takes from devices and tells them, at work.
pub(crate) struct Devices {
    pub(crate) intake: Arc<Intake>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) events: Arc<GatewaySource>,
    /// TLS of the MQTT listener.
    pub(crate) mqtt_tls: Option<ServerTls>,
    pub(crate) mqtt: Vec<SocketAddr>,
    pub(crate) sealed: Option<SocketAddr>,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Devices")
            .field("mqtt", &self.mqtt)
            .field("sealed", &self.sealed)
            .finish_non_exhaustive()
    }
}

impl Devices {
    /// Opens what the configuration names. Everything ends when `stop` is cancelled.
    pub(crate) async fn start(
        config: &EdgeConfig,
        buffer: Arc<Buffer>,
        uplink: &Arc<Uplink>,
        stop: &CancellationToken,
    ) -> Result<Self, EdgeError> {
        let bad = |why: String| EdgeError::Config {
            path: config.data_dir.clone(),
            why,
        };
        let devices = &config.devices;
        let settings = Settings {
            sources: Sources::new(devices.sources.clone(), devices.addresses.clone()).map_err(bad)?,
            rate: devices.rate,
            routes: routes(&config.readings, &config.id).map_err(bad)?,
        };
        let intake = Intake::open(settings, &config.data_dir, buffer, Arc::clone(uplink))?;
        let tasks = TaskTracker::new();
        tasks.spawn(Arc::clone(&intake).run(stop.clone()));

        let events = event_source(uplink);
        let source: Arc<dyn EventSource> = Arc::clone(&events) as _;
        let callbacks = &config.callbacks;
        let folder = config.data_dir.join("callbacks");
        let hub = Hub::start(Arc::clone(&source), &folder, callbacks.settings.clone())?;
        hub.set_fixed("", callbacks.webhooks.clone()).await?;

        let (mut mqtt_addresses, mut mqtt_tls) = (Vec::new(), None);
        if let Some(mqtt) = &devices.mqtt {
            let server = MqttServer::open(
                mqtt.clone(),
                &config.data_dir,
                Arc::clone(&intake),
                source,
                callbacks.settings.clone(),
            )
            .await?;
            mqtt_addresses = server.addresses().to_vec();
            mqtt_tls = server.tls();
            tasks.spawn(server.run(stop.clone()));
        }
        let mut sealed_address = None;
        if let Some(sealed) = &devices.sealed {
            let server = SealedServer::open(&config.data_dir, Arc::clone(&intake))?;
            let listener = bind(&sealed.listen).await?;
            sealed_address = listener.local_addr().ok();
            tasks.spawn(server.run(listener, stop.clone()));
        }
        let progress = match &devices.folders[..] {
            [] => None,
            _ => Some(Arc::new(StateLog::open(&config.data_dir.join("folders"))?)),
        };
        for (folder, progress) in devices.folders.iter().zip(progress.iter().cycle()) {
            let path = folder.path.clone();
            let folder = Folder::new(folder.clone(), Arc::clone(&intake), Arc::clone(progress))
                .map_err(|source| EdgeError::ReadFile { path, source })?;
            tasks.spawn(folder.run(stop.clone()));
        }
        let root = devices.sys_root.clone().unwrap_or_else(|| PathBuf::from("/sys"));
        for sensor in &devices.sensors {
            tasks.spawn(sensors::run(
                sensor.clone(),
                root.clone(),
                config.id.clone(),
                Arc::clone(&intake),
                stop.clone(),
            ));
        }
        tasks.close();
        Ok(Self {
            intake,
            hub,
            events,
            mqtt_tls,
            mqtt: mqtt_addresses,
            sealed: sealed_address,
            tasks,
        })
    }

    /// Counts of what came in.
    pub(crate) fn measure(&self, metrics: &Metrics) {
        let intake = Arc::clone(&self.intake);
        metrics.counter(
            "selvedge_edge_received",
            "Readings and transactions that devices handed over since the start, by what became of them: taken, kept by the \
             edge rules, refused; and calls of those that were too fast.",
            &["result"],
            move || {
                intake
                    .counts
                    .all()
                    .into_iter()
                    .map(|(result, count)| (vec![result.to_owned()], count))
                    .collect()
            },
        );
        let intake = Arc::clone(&self.intake);
        metrics.gauge(
            "selvedge_edge_owed_readings",
            "Readings that the edge rules have let out and that wait for room in the buffer.",
            &[],
            move || {
                vec![(
                    Vec::new(),
                    f64::from(u32::try_from(intake.owed()).unwrap_or(u32::MAX)),
                )]
            },
        );
    }

    /// Waits until everything has ended, after `stop` was cancelled.
    pub(crate) async fn ended(&self) {
        self.hub.stop().await;
        self.tasks.wait().await;
    }
}

/// Events come from the same peers that transactions go to, under the identity of the moment.
fn event_source(uplink: &Arc<Uplink>) -> Arc<GatewaySource> {
    let asked = Arc::clone(uplink);
    Arc::new(GatewaySource::new(uplink.peers(), move |_| {
        asked.current_signer()
    }))
}
