//! Points as text: `measurement,tag=value field=1i,other=0.5 1700000000000000000`.
//!
//! Names and tag values are escaped: a backslash before commas, spaces and (but for measurements) equals signs. What the protocol has no
//! form for, or none that all servers read alike, becomes `_`: control characters, and a backslash before another, before what is escaped,
//! or at the end. (For InfluxDB `\\` is two backslashes, for VictoriaMetrics one.) Points of such series are counted. A tag without a
//! value is left out, as the protocol demands, and so is a field without one; a point without any field can't be said and is left out
//! itself. Integers end in `i`; floats are the shortest text that reads back the same. A retracted point is `retracted=true`, and a point
//! that may have been retracted before takes that back by `retracted=false`.
//!
//! Text of a float takes longer to make than all the rest of a point, and many fields hold the same for thousands of points: the
//! last text of each column is kept.

use retally_core::points::{PointBatch, PointColumn, Series, Standing, Values};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The field that marks retracted points.
const RETRACTED: &[u8] = b"retracted=true";
/// The field that takes the mark away.
const RESTORED: &[u8] = b"retracted=false";

/// Points whose tags were not written as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// How many.
    pub points: u64,
    /// The first of these tags.
    pub first: Option<String>,
}

impl Replaced {
    /// Counts what another has counted.
    pub fn join(&mut self, other: Replaced) {
        self.points += other.points;
        self.first = self.first.take().or(other.first);
    }
}

/// Writes points as text. Remembers what the last ones had in common.
#[derive(Default)]
pub struct Encoder {
    /// Of these, `head` is the text.
    series: Option<Arc<Series>>,
    /// `measurement,tags `.
    head: Vec<u8>,
    /// Whether `head` has a `_` for something else.
    changed: bool,
    /// For each field.
    fields: Vec<FieldText>,
    replaced: Replaced,
}

#[derive(Default)]
struct FieldText {
    /// `name=`.
    key: Vec<u8>,
    /// The last float, and its text.
    last: Option<u64>,
    text: Vec<u8>,
}

impl Encoder {
    /// Appends the points of a batch, from `from` on, until `out` is `bytes_max` long or more. Returns the first point that is left.
    pub fn encode(&mut self, batch: &PointBatch, from: usize, bytes_max: usize, out: &mut Vec<u8>) -> usize {
        self.take_series(&batch.series);
        let mut numbers = itoa::Buffer::new();
        for (place, time_ns) in batch.times_ns.iter().enumerate().skip(from) {
            if out.len() >= bytes_max {
                return place;
            }
            let start = out.len();
            out.extend_from_slice(&self.head);
            let fields_start = out.len();
            match batch.standing {
                Standing::Retracted => out.extend_from_slice(RETRACTED),
                Standing::Fresh | Standing::Restored => {
                    for (field, column) in self.fields.iter_mut().zip(&batch.columns) {
                        field.write(column, place, out.len() == fields_start, &mut numbers, out);
                    }
                    if out.len() == fields_start {
                        out.truncate(start);
                        continue;
                    }
                    if batch.standing == Standing::Restored {
                        out.push(b',');
                        out.extend_from_slice(RESTORED);
                    }
                }
            }
            out.push(b' ');
            out.extend_from_slice(numbers.format(*time_ns).as_bytes());
            out.push(b'\n');
            self.replaced.points += u64::from(self.changed);
        }
        batch.len()
    }

    /// The points since the last call whose tags had characters that the protocol has no form for.
    pub fn take_replaced(&mut self) -> Replaced {
        std::mem::take(&mut self.replaced)
    }

    fn take_series(&mut self, series: &Arc<Series>) {
        if self.series.as_ref().is_some_and(|known| Arc::ptr_eq(known, series)) {
            return;
        }
        self.head.clear();
        self.changed = false;
        escape(series.measurement.name, b", ", &mut self.head);
        for (tag, value) in series.measurement.tags.iter().zip(&series.tags).filter(|(_, value)| !value.is_empty()) {
            self.head.push(b',');
            escape(tag.name, b",= ", &mut self.head);
            self.head.push(b'=');
            if escape(value, b",= ", &mut self.head) {
                self.changed = true;
                self.replaced.first.get_or_insert_with(|| value.clone());
            }
        }
        self.head.push(b' ');
        let field = |name: &str| {
            let mut field = FieldText::default();
            escape(name, b",= ", &mut field.key);
            field.key.push(b'=');
            field
        };
        self.fields = series.measurement.fields.iter().map(|declared| field(declared.name)).collect();
        self.series = Some(Arc::clone(series));
    }
}

impl FieldText {
    fn write(&mut self, column: &PointColumn, place: usize, first: bool, numbers: &mut itoa::Buffer, out: &mut Vec<u8>) {
        if !column.is_present(place) {
            return;
        }
        match &column.values {
            Values::Int(values) => {
                let Some(value) = values.get(place) else { return };
                self.write_key(first, out);
                out.extend_from_slice(numbers.format(*value).as_bytes());
                out.push(b'i');
            }
            Values::Float(values) => {
                let Some(value) = values.get(place).filter(|value| value.is_finite()) else { return };
                self.write_key(first, out);
                if self.last != Some(value.to_bits()) {
                    self.last = Some(value.to_bits());
                    self.text.clear();
                    let mut text = zmij::Buffer::new();
                    let text = text.format_finite(*value);
                    // Whole numbers need no fraction: without an `i` behind it, it is a float.
                    self.text.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
                }
                out.extend_from_slice(&self.text);
            }
        }
    }

    fn write_key(&self, first: bool, out: &mut Vec<u8>) {
        if !first {
            out.push(b',');
        }
        out.extend_from_slice(&self.key);
    }
}

/// Appends a name or a tag's value, with a backslash before each byte of `special`. Returns whether something was replaced.
fn escape(text: &str, special: &[u8], out: &mut Vec<u8>) -> bool {
    let mut replaced = false;
    for (byte, next) in text.bytes().zip(text.bytes().skip(1).map(Some).chain([None])) {
        let is_doubtful = byte == b'\\' && next.is_none_or(|next| next == b'\\' || b",= ".contains(&next));
        if byte.is_ascii_control() || is_doubtful {
            replaced = true;
            out.push(b'_');
            continue;
        }
        if special.contains(&byte) {
            out.push(b'\\');
        }
        out.push(byte);
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;
    use retally_core::points::{FieldKind, Measurement, PointField, Tag};

    fn batch(name: &'static str, tags: &[(&'static str, &str)], standing: Standing) -> PointBatch {
        let field = |name, kind| PointField { name, kind, about: "" };
        let measurement = Measurement {
            name,
            about: "",
            tags: tags.iter().map(|(name, _)| Tag { name, about: "" }).collect(),
            fields: vec![field("tick", FieldKind::Int), field("a b", FieldKind::Float)],
        };
        let tags = tags.iter().map(|(_, value)| value.to_string()).collect();
        PointBatch::new(Arc::new(Series { measurement: Arc::new(measurement), tags }), standing)
    }

    fn with(mut batch: PointBatch, points: &[(i64, i64, Option<f64>)]) -> PointBatch {
        batch.times_ns = points.iter().map(|point| point.0).collect();
        batch.columns[0].values = Values::Int(points.iter().map(|point| point.1).collect());
        batch.columns[1].values = Values::Float(points.iter().map(|point| point.2.unwrap_or(f64::NAN)).collect());
        batch.columns[1].present = points.iter().map(|point| point.2.is_some()).collect();
        batch
    }

    fn text(batch: &PointBatch) -> String {
        let mut out = Vec::new();
        assert_eq!(Encoder::default().encode(batch, 0, usize::MAX, &mut out), batch.len());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn integers_floats_and_what_is_missing() {
        let points =
            [(5, -1, Some(0.5)), (6, i64::MAX, Some(0.5)), (-7, 0, None), (8, 1, Some(1.0)), (9, 1, Some(1e-9)), (10, 2, Some(1e300))];
        let text = text(&with(batch("m", &[], Standing::Fresh), &points));
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                r"m tick=-1i,a\ b=0.5 5",
                r"m tick=9223372036854775807i,a\ b=0.5 6",
                "m tick=0i -7",
                r"m tick=1i,a\ b=1 8",
                r"m tick=1i,a\ b=1e-9 9",
                r"m tick=2i,a\ b=1e+300 10"
            ]
        );
        for line in text.lines() {
            if let Some((_, float)) = line.split_once(r"a\ b=") {
                assert!(float.split(' ').next().unwrap().parse::<f64>().is_ok());
            }
        }
    }

    #[test]
    fn a_float_is_never_nan_and_a_point_never_without_fields() {
        let mut batch = with(batch("m", &[], Standing::Fresh), &[(1, 1, Some(f64::NAN)), (2, 2, Some(f64::INFINITY)), (3, 3, None)]);
        batch.columns[0].present = vec![true, false, false];
        assert_eq!(text(&batch), "m tick=1i 1\n");
    }

    #[test]
    fn names_and_values_are_escaped() {
        let tags = [("a=b", "x, y=z"), ("empty", ""), ("q", "\"quoted\" \u{e4}"), ("n", "one\ntwo"), ("s", "end\\"), ("i", "a\\b")];
        let batch = with(batch("m, =1", &tags, Standing::Fresh), &[(1, 2, None)]);
        assert_eq!(text(&batch), "m\\,\\ =1,a\\=b=x\\,\\ y\\=z,q=\"quoted\"\\ \u{e4},n=one_two,s=end_,i=a\\b tick=2i 1\n");
    }

    #[test]
    fn what_servers_read_differently_is_replaced_and_counted() {
        for (value, written) in [
            ("a\\b", "a\\b"),
            ("a\\\\b", "a_\\b"),
            ("a\\,b", "a_\\,b"),
            ("a\\ b", "a_\\ b"),
            ("a\\=b", "a_\\=b"),
            ("\\", "_"),
            ("a\\\\", "a__"),
            ("a\tb\u{7f}", "a_b_"),
            ("\\\\\\,", "___\\,"),
        ] {
            let points = with(batch("m", &[("t", value)], Standing::Fresh), &[(1, 2, None), (2, 3, None)]);
            let (mut encoder, mut out) = (Encoder::default(), Vec::new());
            encoder.encode(&points, 0, usize::MAX, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("m,t={written} tick=2i 1\nm,t={written} tick=3i 2\n"));
            let replaced = encoder.take_replaced();
            let expected = if value == written { Replaced::default() } else { Replaced { points: 2, first: Some(value.into()) } };
            // A comma alone is escaped, and nothing is replaced.
            assert_eq!(replaced, expected, "{value}");
        }
    }

    #[test]
    fn retracted_points_are_marked_and_restored_ones_unmarked() {
        let points = [(1, 2, Some(0.25))];
        assert_eq!(text(&with(batch("m", &[("t", "x")], Standing::Retracted), &points)), "m,t=x retracted=true 1\n");
        assert_eq!(text(&with(batch("m", &[("t", "x")], Standing::Restored), &points)), "m,t=x tick=2i,a\\ b=0.25,retracted=false 1\n");
    }

    #[test]
    fn it_stops_where_the_buffer_is_full_and_goes_on_from_there() {
        let batch = with(batch("m", &[], Standing::Fresh), &(0..100).map(|n| (n, n, Some(n as f64 / 7.0))).collect::<Vec<_>>());
        let (mut encoder, mut from, mut pieces) = (Encoder::default(), 0, Vec::new());
        while from < batch.len() {
            let mut out = Vec::new();
            from = encoder.encode(&batch, from, 64, &mut out);
            pieces.push(String::from_utf8(out).unwrap());
        }
        assert!(pieces.len() > 10 && pieces.iter().all(|piece| piece.ends_with('\n') && piece.len() < 64 + 40));
        assert_eq!(pieces.concat(), text(&batch));
    }
}
