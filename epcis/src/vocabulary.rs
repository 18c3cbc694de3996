//! What the parties call a sensor value, and what GS1 calls it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::EpcisError;

/// Measurement types of the GS1 Web Vocabulary that CBV 2.0 names for sensor reports.
const TYPES: &[&str] = &[
    "AbsoluteHumidity",
    "AbsorbedDose",
    "AbsorbedDoseRate",
    "Acceleration",
    "Altitude",
    "AmountOfSubstance",
    "AmountOfSubstancePerUnitVolume",
    "Angle",
    "AngularAcceleration",
    "AngularMomentum",
    "AngularVelocity",
    "Area",
    "Capacitance",
    "Conductance",
    "Conductivity",
    "Count",
    "Density",
    "Dimensionless",
    "DoseEquivalent",
    "DoseEquivalentRate",
    "DynamicViscosity",
    "ElectricCharge",
    "ElectricCurrent",
    "ElectricCurrentDensity",
    "ElectricFieldStrength",
    "Energy",
    "Exposure",
    "Force",
    "Frequency",
    "Illuminance",
    "Inductance",
    "Irradiance",
    "KinematicViscosity",
    "Length",
    "LinearMomentum",
    "Luminance",
    "LuminousFlux",
    "LuminousIntensity",
    "MagneticFlux",
    "MagneticFluxDensity",
    "MagneticVectorPotential",
    "Mass",
    "MassConcentration",
    "MassFlowRate",
    "MassPerAreaTime",
    "MemoryCapacity",
    "MolalityOfSolute",
    "MolarEnergy",
    "MolarMass",
    "MolarVolume",
    "Power",
    "Pressure",
    "RadiantFlux",
    "RadiantIntensity",
    "Radioactivity",
    "RelativeHumidity",
    "Resistance",
    "Resistivity",
    "SolidAngle",
    "SpecificVolume",
    "Speed",
    "SurfaceDensity",
    "SurfaceTension",
    "Temperature",
    "Time",
    "Torque",
    "Voltage",
    "Volume",
    "VolumeFlowRate",
    "VolumeFraction",
    "VolumetricFlux",
    "Wavenumber",
];

/// What a value measures, and in which unit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// A measurement type of the GS1 Web Vocabulary, for example `Temperature`, or a URI of one's own.
    #[serde(rename = "type")]
    pub kind: String,
    /// The unit, by its code in UN/CEFACT Recommendation 20, for example `CEL`; none where the parties did not say.
    #[serde(default)]
    pub uom: Option<String>,
}

/// Which of the parties' names means which measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary(BTreeMap<String, Measurement>);

impl Default for Vocabulary {
    /// The names that say what they mean: `temperature` in degrees Celsius and `humidity` (relative) in percent.
    fn default() -> Self {
        let entry = |name: &str, kind: &str, uom: &str| {
            let measurement = Measurement {
                kind: kind.to_owned(),
                uom: Some(uom.to_owned()),
            };
            (name.to_owned(), measurement)
        };
        Self(BTreeMap::from([
            entry("temperature", "Temperature", "CEL"),
            entry("humidity", "RelativeHumidity", "P1"),
        ]))
    }
}

impl Vocabulary {
    /// The default names, with those of a JSON object in their place:
    /// `{"pressure":{"type":"Pressure","uom":"A97"},"gforce":{"type":"Acceleration","uom":"K40"}}`.
    ///
    /// # Errors
    /// [`EpcisError::Option`] when it is not such an object, or a type is neither GS1's nor a URI.
    pub fn with(json: &str) -> Result<Self, EpcisError> {
        let own: BTreeMap<String, Measurement> = serde_json::from_str(json)
            .map_err(|why| EpcisError::Option(format!("the vocabulary cannot be read: {why}")))?;
        for (name, measurement) in &own {
            if !is_gs1(&measurement.kind) && !measurement.kind.contains(':') {
                return Err(EpcisError::Option(format!(
                    "the vocabulary says that {name} is {}, which is neither a measurement type of GS1 nor a URI",
                    measurement.kind
                )));
            }
        }
        let mut all = Self::default();
        all.0.extend(own);
        Ok(all)
    }

    pub(crate) fn measurement(&self, name: &str) -> Option<&Measurement> {
        self.0.get(name)
    }

    /// The parties' name for a measurement. A unit that is not the one agreed on becomes part of the name, so that a
    /// value is never compared with limits in another unit.
    pub(crate) fn name(&self, kind: &str, uom: Option<&str>) -> String {
        let bare = bare_type(kind);
        let same = |(_, known): &(&String, &Measurement)| {
            bare_type(&known.kind) == bare && (uom.is_none() || known.uom.as_deref() == uom)
        };
        if let Some((name, _)) = self.0.iter().find(same) {
            return name.clone();
        }
        let name = if is_gs1(bare) {
            lower_first(bare)
        } else {
            crate::names::Names::last_part(kind)
        };
        match uom {
            Some(uom) => format!("{name}.{uom}"),
            None => name,
        }
    }
}

fn is_gs1(kind: &str) -> bool {
    TYPES.contains(&bare_type(kind))
}

/// GS1's types may come bare, with the prefix `gs1:`, or as the whole URI of the GS1 Web Vocabulary.
fn bare_type(kind: &str) -> &str {
    [
        "gs1:",
        "https://gs1.org/voc/",
        "https://www.gs1.org/voc/",
        "http://gs1.org/voc/",
    ]
    .iter()
    .find_map(|prefix| kind.strip_prefix(prefix))
    .unwrap_or(kind)
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_ascii_lowercase().to_string() + chars.as_str(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_unit_is_another_value() {
        let vocabulary = Vocabulary::default();
        for (kind, uom, expected) in [
            ("Temperature", Some("CEL"), "temperature"),
            ("gs1:Temperature", None, "temperature"),
            ("https://gs1.org/voc/Temperature", Some("FAH"), "temperature.FAH"),
            ("RelativeHumidity", Some("P1"), "humidity"),
            ("Illuminance", Some("LUX"), "illuminance.LUX"),
            ("https://example.com/sensors/gforce", None, "gforce"),
        ] {
            assert_eq!(vocabulary.name(kind, uom), expected);
        }
        let own = Vocabulary::with(r#"{"light":{"type":"Illuminance","uom":"LUX"}}"#).unwrap();
        assert_eq!(own.name("Illuminance", Some("LUX")), "light");
        assert!(Vocabulary::with(r#"{"light":{"type":"Lux"}}"#).is_err());
        assert!(Vocabulary::with("[]").is_err());
    }
}
