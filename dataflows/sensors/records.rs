//! The inputs: names of sensors, and measurements.
//!
//! A value is kept exactly, as the bits of its float in an order that is that of the numbers: it is part of a measurement's
//! identity. Sums and scores use [`Value::summed`], whose squares are numbers too.

use retally_core::calendar::Naming;
use retally_core::definition::Wide;
use retally_core::record::{Context, Field, Fields, Record, Refusal};
use retally_core::time::Moment;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A sensor's UUID, or what stands for its id where ids are text. Printed in lower case, with hyphens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sensor(pub u128);

impl Sensor {
    /// Reads a UUID: 32 hexadecimal digits in either case, with hyphens or without.
    pub fn parse(text: &[u8]) -> Option<Sensor> {
        // Braces and `urn:uuid:` are read too.
        uuid::Uuid::try_parse_ascii(text).ok().map(|uuid| Sensor(uuid.as_u128()))
    }
}

impl fmt::Display for Sensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_u128(self.0).hyphenated().fmt(f)
    }
}

/// A finite value. Zero has no sign. The order is that of the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Value(i64);

/// Sums see values beyond this as this, about 2.6e120. Squares of them, by the thousand million, are still finite.
pub const SUMMED_MAX: f64 = power_of_two(400);
/// Sums see values nearer to 0 than this as 0, about 3.9e-121. Squares of a millionth of it still have all their digits.
pub const SUMMED_MIN: f64 = power_of_two(-400);

/// 2 to a power that a normal float has: from -1022 to 1023.
pub const fn power_of_two(power: i16) -> f64 {
    f64::from_bits(((power + 1023) as u64) << 52)
}

impl Value {
    /// The value of a float, when it is one.
    pub fn new(number: f64) -> Option<Value> {
        if !number.is_finite() {
            return None;
        }
        let bits = if number == 0.0 { 0 } else { number.to_bits().cast_signed() };
        // The bits of negative floats sort backwards.
        Some(Value(if bits < 0 { bits ^ i64::MAX } else { bits }))
    }

    /// As a float.
    pub fn get(self) -> f64 {
        f64::from_bits((if self.0 < 0 { self.0 ^ i64::MAX } else { self.0 }).cast_unsigned())
    }

    /// As sums and scores see it: with a magnitude from [`SUMMED_MIN`] to [`SUMMED_MAX`], or 0.
    pub fn summed(self) -> f64 {
        let number = self.get();
        if number.abs() < SUMMED_MIN { 0.0 } else { number.clamp(-SUMMED_MAX, SUMMED_MAX) }
    }
}

/// A measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Measurement {
    /// Of which sensor.
    pub sensor: Sensor,
    /// When and what.
    pub reading: Reading,
}

/// The fields of a measurement in a file with a column for each sensor.
pub const WIDE: Wide = Wide { line: 0, column: 1, cell: 2 };

/// What a sensor showed, and when: 16 bytes, because the graph keeps one for every measurement.
///
/// How the time was written is no part of the identity; it takes the two lowest bits beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Reading {
    time_and_naming: i64,
    /// What.
    pub value: Value,
}

impl Reading {
    /// A reading.
    pub fn new(time: Moment, naming: Naming, value: Value) -> Reading {
        let naming = match naming {
            Naming::Unique => 0,
            Naming::Ambiguous => 1,
            Naming::Missing => 2,
        };
        Reading { time_and_naming: time.0 << 2 | naming, value }
    }

    /// When.
    pub fn time(&self) -> Moment {
        Moment(self.time_and_naming >> 2)
    }

    /// How the time was written.
    pub fn naming(&self) -> Naming {
        match self.time_and_naming & 3 {
            0 => Naming::Unique,
            1 => Naming::Ambiguous,
            _ => Naming::Missing,
        }
    }

    /// The measurement alone, however its time was written.
    #[must_use]
    pub fn plain(self) -> Reading {
        Reading { time_and_naming: self.time_and_naming & !3, ..self }
    }
}

impl Record for Measurement {
    const FIELDS: &'static [Field] = &[
        Field::new("timestamp", "when it was measured").time(),
        Field::new("sensor_uuid", "the sensor, a UUID (or any text: --ids text)"),
        Field::new("sensor_value", "what was measured: a finite number"),
    ];

    fn decode(fields: Fields<'_>, context: &Context) -> Result<Self, Refusal> {
        let (time, naming) = fields.time_naming(0, context)?;
        let sensor = Sensor(fields.uuid(1, context)?);
        let value = Value::new(fields.float(2)?).ok_or_else(|| fields.refusal(2, "is not finite"))?;
        Ok(Measurement { sensor, reading: Reading::new(time, naming, value) })
    }

    fn time(&self) -> Option<Moment> {
        Some(self.reading.time())
    }
}

/// A sensor's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Name {
    /// The name.
    pub name: String,
    /// Whose.
    pub sensor: Sensor,
}

impl Record for Name {
    const FIELDS: &'static [Field] =
        &[Field::new("sensor_name", "what people call it"), Field::new("sensor_uuid", "what its measurements call it")];

    fn decode(fields: Fields<'_>, context: &Context) -> Result<Self, Refusal> {
        Ok(Name { name: fields.required_text(0)?.into(), sensor: Sensor(fields.uuid(1, context)?) })
    }

    fn time(&self) -> Option<Moment> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use retally_core::calendar::Calendar;

    proptest! {
        #[test]
        fn values_are_kept_exactly_and_sort_as_numbers(a in any::<f64>(), b in prop_oneof![-1.0f64..1.0, any::<f64>()]) {
            prop_assume!(a.is_finite() && b.is_finite());
            let (x, y) = (Value::new(a).unwrap(), Value::new(b).unwrap());
            prop_assert_eq!(x.get(), a);
            prop_assert_eq!(y.get(), b);
            prop_assert_eq!(x.cmp(&y), a.partial_cmp(&b).unwrap());
            let seen = x.summed();
            let limit = if a.abs() < 1.0 { 0.0 } else { SUMMED_MAX.copysign(a) };
            prop_assert_eq!(seen, if (SUMMED_MIN..=SUMMED_MAX).contains(&a.abs()) { a } else { limit });
        }
    }

    fn decode(slots: &[&[u8]]) -> Result<Measurement, String> {
        let context = Context::new(Calendar::named("Europe/Berlin").unwrap(), Measurement::FIELDS);
        Measurement::decode(Fields::new(Measurement::FIELDS, slots), &context).map_err(|refusal| refusal.into_owned())
    }

    #[test]
    fn measurements_are_read_and_refused() {
        let uuid = b"67E55044-10b1-426f-9247-bb680e5fe0c8".as_slice();
        let found = decode(&[b"2024-10-27 02:30:00", uuid, b" -1.5e3 "]).unwrap();
        assert_eq!(found.sensor.to_string(), "67e55044-10b1-426f-9247-bb680e5fe0c8");
        assert_eq!((found.reading.time().to_string(), found.reading.naming()), ("2024-10-27T00:30:00Z".into(), Naming::Ambiguous));
        assert_eq!(found.reading.value.get(), -1500.0);
        assert_eq!(
            decode(&[b"2024-10-27T00:30:00Z", b"67e5504410b1426f9247bb680e5fe0c8", b"-1500"]).unwrap().reading,
            found.reading.plain()
        );
        for (value, why) in [
            (b"".as_slice(), "sensor_value is missing"),
            (b"NaN", "sensor_value \"NaN\" is not finite"),
            (b"-inf", "sensor_value \"-inf\" is not finite"),
            (b"1e999", "sensor_value \"1e999\" is not finite"),
            (b"1,5", "sensor_value \"1,5\" is no number"),
        ] {
            assert_eq!(decode(&[b"2024-01-01T00:00:00Z", uuid, value]).unwrap_err(), why);
        }
        for value in [f64::MAX, f64::MIN, 5e-324, -68_719_476_736.5] {
            let text = value.to_string();
            assert_eq!(decode(&[b"2024-01-01T00:00:00Z", uuid, text.as_bytes()]).unwrap().reading.value.get(), value);
        }
        assert!(decode(&[b"2024-01-01T00:00:00Z", b"67e55044", b"1"]).unwrap_err().contains("is no UUID"));
        assert_eq!(decode(&[b"2024-01-01T00:00:00Z", uuid, b"-0"]), decode(&[b"2024-01-01T00:00:00Z", uuid, b"0.0"]), "zero has no sign");
    }
}
