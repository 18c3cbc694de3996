//! Small sensors of this machine, by the files that Linux's IIO and hwmon drivers give.
//!
//! A chip is named by what its driver calls it (`bme280`, `cpu_thermal`), since the numbers of device folders change
//! from start to start. Values come in whole units: degrees Celsius, percent, volts, amperes, kilopascals, watts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::config::duration_text;
use crate::intake::Intake;
use crate::intake::reading::SentReading;
use crate::intake::sources::Sender;

/// Sensors that are read together.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SensorConfig {
    /// The source of the readings; the gateway's id if absent.
    #[serde(default)]
    pub source: Option<String>,
    /// Their stream.
    pub stream: String,
    /// How often they are read.
    #[serde(default = "every", with = "duration_text")]
    pub every: Duration,
    /// The chip's name, as its driver gives it.
    #[serde(default)]
    pub chip: Option<String>,
    /// Where each value comes from, by its name.
    pub values: std::collections::BTreeMap<String, SensorValue>,
}

/// Where a value comes from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SensorValue {
    /// Channel of the chip: `temp`, `humidityrelative`, `pressure` (IIO), `temp1`, `in0`, `power1` (hwmon).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// A file with a number, below the root of sysfs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The number is multiplied by this; for a channel after the driver's own scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
}

fn every() -> Duration {
    Duration::from_secs(10)
}

impl SensorConfig {
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.values.is_empty() {
            return Err(format!("sensors: stream {} has no values", self.stream));
        }
        for (name, value) in &self.values {
            match (&value.channel, &value.file, &self.chip) {
                (Some(_), None, Some(_)) | (None, Some(_), _) => {}
                (Some(_), None, None) => {
                    return Err(format!(
                        "sensors: value {name} has a channel, so 'chip' must name its chip"
                    ));
                }
                _ => return Err(format!("sensors: value {name} needs either 'channel' or 'file'")),
            }
        }
        Ok(())
    }
}

/// Factor from a driver's unit to the whole unit (Linux: Documentation/ABI/testing/sysfs-bus-iio, hwmon/sysfs-interface).
fn factor(channel: &str) -> f64 {
    let kind = channel.trim_end_matches(|c: char| c.is_ascii_digit());
    match kind {
        "temp" | "humidityrelative" | "humidity" | "voltage" | "in" | "current" | "curr" => 1e-3,
        "power" | "energy" => 1e-6,
        _ => 1.0,
    }
}

fn read_number(path: &Path) -> Result<f64, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    text.trim()
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
        .ok_or_else(|| format!("{} holds no number", path.display()))
}

/// The folder of the chip with this name, among IIO and hwmon devices.
fn find_chip(root: &Path, chip: &str) -> Result<PathBuf, String> {
    for class in ["bus/iio/devices", "class/hwmon"] {
        let Ok(entries) = std::fs::read_dir(root.join(class)) else {
            continue;
        };
        let mut folders: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        folders.sort();
        for folder in folders {
            if std::fs::read_to_string(folder.join("name")).is_ok_and(|name| name.trim() == chip) {
                return Ok(folder);
            }
        }
    }
    Err(format!("no IIO or hwmon device is called {chip}"))
}

fn read_channel(folder: &Path, channel: &str) -> Result<f64, String> {
    let input = folder.join(format!("in_{channel}_input"));
    let hwmon = folder.join(format!("{channel}_input"));
    let number = if input.exists() {
        read_number(&input)?
    } else if hwmon.exists() {
        read_number(&hwmon)?
    } else {
        let part = |name: &str, otherwise: f64| {
            let own = folder.join(format!("in_{channel}_{name}"));
            if own.exists() {
                read_number(&own)
            } else {
                Ok(otherwise)
            }
        };
        let raw = read_number(&folder.join(format!("in_{channel}_raw")))?;
        (raw + part("offset", 0.0)?) * part("scale", 1.0)?
    };
    Ok(number * factor(channel))
}

/// Six places hide what binary fractions add.
fn rounded(number: f64) -> Value {
    Value::from((number * 1e6).round() / 1e6)
}

fn read(config: &SensorConfig, root: &Path) -> (SentReading, Vec<String>) {
    let mut reading = SentReading {
        stream: Some(config.stream.clone()),
        ..SentReading::default()
    };
    let mut troubles = Vec::new();
    let chip = config.chip.as_ref().map(|chip| find_chip(root, chip));
    for (name, value) in &config.values {
        let number = match (&value.channel, &value.file, &chip) {
            (_, Some(file), _) => read_number(&root.join(file)),
            (Some(channel), None, Some(Ok(folder))) => read_channel(folder, channel),
            (_, None, Some(Err(why))) => Err(why.clone()),
            (_, None, _) => Err(format!("value {name} names no channel")),
        };
        match number {
            Ok(number) => {
                let scaled = number * value.scale.unwrap_or(1.0);
                reading.values.insert(name.clone(), rounded(scaled));
            }
            Err(why) => troubles.push(why),
        }
    }
    (reading, troubles)
}

/// Reads sensors until `stop` is cancelled.
pub(crate) async fn run(
    config: SensorConfig,
    root: PathBuf,
    gateway: String,
    intake: Arc<Intake>,
    stop: CancellationToken,
) {
    let sender = Sender::Own(config.source.clone().unwrap_or(gateway));
    let mut tick = tokio::time::interval(config.every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut told = Vec::new();
    let config = Arc::new(config);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let (own, root) = (Arc::clone(&config), root.clone());
        // A slow bus must not hold up the others.
        let Ok((reading, mut troubles)) = tokio::task::spawn_blocking(move || read(&own, &root)).await else {
            continue;
        };
        if !reading.values.is_empty() {
            let taken = intake
                .readings(sender.clone(), vec![reading], intake.arrival())
                .await;
            let refused = match taken {
                Ok(results) => results.into_iter().find_map(Result::err),
                Err(refusal) => Some(refusal),
            };
            troubles.extend(refused.map(|refusal| format!("a reading was not taken: {refusal}")));
        }
        if troubles != told {
            for why in &troubles {
                tracing::warn!(stream = %config.stream, %why, "sensor");
            }
            told = troubles;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn config(yaml: &str) -> SensorConfig {
        let config: SensorConfig = serde_yaml_ng::from_str(yaml).unwrap();
        config.check().unwrap();
        config
    }

    #[test]
    fn chips_are_found_by_name_and_read_in_whole_units() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root, "bus/iio/devices/iio:device1/name", "bme280\n");
        write(root, "bus/iio/devices/iio:device1/in_temp_input", "21480\n");
        write(
            root,
            "bus/iio/devices/iio:device1/in_humidityrelative_input",
            "45123\n",
        );
        write(root, "bus/iio/devices/iio:device1/in_pressure_input", "101.325\n");
        write(root, "bus/iio/devices/iio:device0/name", "other\n");
        write(root, "class/hwmon/hwmon3/name", "cpu_thermal\n");
        write(root, "class/hwmon/hwmon3/temp1_input", "48312\n");
        let climate = config(
            "{stream: climate, chip: bme280, values: {temperature: {channel: temp}, humidity: {channel: humidityrelative}, \
             pressure: {channel: pressure, scale: 10}}}",
        );
        let (reading, troubles) = read(&climate, root);
        assert!(troubles.is_empty());
        assert_eq!(
            serde_json::to_value(&reading.values).unwrap(),
            json!({ "temperature": 21.48, "humidity": 45.123, "pressure": 1013.25 })
        );
        let own = config("{stream: own, chip: cpu_thermal, values: {cpu: {channel: temp1}}}");
        assert_eq!(read(&own, root).0.values["cpu"], json!(48.312));
    }

    #[test]
    fn raw_values_have_their_offset_and_scale() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let device = "bus/iio/devices/iio:device0";
        for (file, text) in [
            ("name", "adc"),
            ("in_temp_raw", "100"),
            ("in_temp_offset", "-20"),
            ("in_temp_scale", "250.5"),
        ] {
            write(root, &format!("{device}/{file}"), text);
        }
        write(root, "class/thermal/thermal_zone0/temp", "51000");
        let sensors = config(
            "{stream: s, chip: adc, values: {t: {channel: temp}, zone: {file: class/thermal/thermal_zone0/temp, scale: 0.001}, \
             missing: {channel: humidityrelative}}}",
        );
        let (reading, troubles) = read(&sensors, root);
        assert_eq!(
            serde_json::to_value(&reading.values).unwrap(),
            json!({ "t": 20.04, "zone": 51.0 })
        );
        assert!(troubles[0].contains("in_humidityrelative_raw"), "{troubles:?}");
        let gone = config("{stream: s, chip: nowhere, values: {t: {channel: temp}}}");
        assert!(read(&gone, root).1[0].contains("nowhere"));
    }

    #[test]
    fn mistakes_are_named() {
        for yaml in [
            "{stream: s, values: {}}",
            "{stream: s, values: {t: {channel: temp}}}",
            "{stream: s, values: {t: {}}}",
            "{stream: s, chip: c, values: {t: {channel: temp, file: x}}}",
        ] {
            let config: SensorConfig = serde_yaml_ng::from_str(yaml).unwrap();
            assert!(config.check().is_err(), "{yaml}");
        }
    }
}
