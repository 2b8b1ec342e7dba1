//! Fewer points with the same outline: of each stretch of time the one with the least and the one with the greatest value.

use super::StoreError;
use super::merge::{FieldValue, Merged, StoredPoint};

/// All points, or of more than `points_max` those of the least and the greatest first field of each of half as many equal stretches of the
/// time between the first and the last. They are in the order of time. Where there are more, they are read twice: the first time to know
/// the last.
pub fn thinned<'s>(read: impl Fn() -> Result<Merged<'s>, StoreError>, points_max: usize) -> Result<Vec<StoredPoint>, StoreError> {
    let mut points = read()?;
    let mut kept: Vec<StoredPoint> = points.by_ref().take(points_max).collect::<Result<_, _>>()?;
    let Some(next) = points.next().transpose()? else { return Ok(kept) };
    let first = kept.first().map_or(next.time_ns, |first| first.time_ns);
    let last = points.try_fold(next.time_ns, |_, point| point.map(|point| point.time_ns))?;
    kept.clear();
    let (first, stretches) = (i128::from(first), points_max as i128 / 2);
    let stretch = |time_ns: i64| (i128::from(time_ns) - first) * stretches / (i128::from(last) - first + 1);
    let mut held: Option<Held> = None;
    for point in read()? {
        let point = point?;
        let Some(value) = value(&point) else { continue };
        let of = stretch(point.time_ns);
        match &mut held {
            Some(held) if held.stretch == of => held.add(point, value),
            _ => {
                let next = Held { stretch: of, least: (value, point.clone()), greatest: (value, point) };
                kept.extend(held.replace(next).into_iter().flat_map(Held::points));
            }
        }
    }
    kept.extend(held.into_iter().flat_map(Held::points));
    Ok(kept)
}

/// What is kept of a stretch.
struct Held {
    stretch: i128,
    least: (f64, StoredPoint),
    greatest: (f64, StoredPoint),
}

impl Held {
    fn add(&mut self, point: StoredPoint, value: f64) {
        if value < self.least.0 {
            self.least = (value, point);
        } else if value > self.greatest.0 {
            self.greatest = (value, point);
        }
    }

    /// In the order of time; one, where both are the same.
    fn points(self) -> impl Iterator<Item = StoredPoint> {
        let ((_, least), (_, greatest)) = (self.least, self.greatest);
        let (first, second) = if least.time_ns <= greatest.time_ns { (least, greatest) } else { (greatest, least) };
        let second = Some(second).filter(|second| *second != first);
        std::iter::once(first).chain(second)
    }
}

fn value(point: &StoredPoint) -> Option<f64> {
    match point.fields.first()?.as_ref()? {
        FieldValue::Int(number) => Some(*number as f64),
        FieldValue::Float(number) => Some(*number),
    }
}
