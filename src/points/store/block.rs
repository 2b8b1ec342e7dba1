//! A block: some points of one series, in time order, as bytes.
//!
//! A block is columns: times first, then each field that some point has. Times, integers and floats that are short decimals (21.5) are
//! integers whose changes, or changes of changes, are small, so they take a byte or two; where nothing changes, a run takes two. Other
//! floats are the bytes in which they differ from the one before. A column of a field that some points do not have begins with which do.
//!
//! All numbers but the bytes of floats are LEB128. The layout is: count; time from first to last; times; then for each column that is not
//! empty: 1 + number of the field, presence, codec, values. The first time is not in the block, but in its key.

use retally_core::points::{FieldKind, PointColumn, Values};

/// Decimals of more digits are stored as the floats that they are.
const DECIMALS_MAX: u8 = 9;
/// Floats beyond this have no exact neighbours: integers are exact below.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

const ALL_PRESENT: u8 = 0;
const SOME_PRESENT: u8 = 1;

const CODEC_INT: u8 = 0;
const CODEC_DECIMAL: u8 = 1;
const CODEC_FLOAT: u8 = 2;

/// Points of one series, in time order and none at the time of another. Columns are numbered as the fields of the stored measurement; each
/// is as long as `times_ns`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    pub times_ns: Vec<i64>,
    /// A column for each field.
    pub columns: Vec<PointColumn>,
}

/// What the beginning of a block holds about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many points it has.
    pub points: usize,
    /// The time of its last point.
    pub last_ns: i64,
}

/// A column of `points` points that do not have the field.
pub fn absent(kind: FieldKind, points: usize) -> PointColumn {
    let values = match kind {
        FieldKind::Int => Values::Int(vec![0; points]),
        FieldKind::Float => Values::Float(vec![0.0; points]),
    };
    PointColumn { values, present: vec![false; points] }
}

/// The bytes of the points from `from` to `to`, of which there is at least one.
pub fn encode(block: &Block, from: usize, to: usize) -> Vec<u8> {
    let times = block.times_ns.get(from..to).unwrap_or_default();
    let (first, last) = (times.first().copied().unwrap_or_default(), times.last().copied().unwrap_or_default());
    let mut out = Vec::with_capacity(16 + times.len() * (2 + 2 * block.columns.len()));
    put_number(times.len() as u64, &mut out);
    put_number(last.wrapping_sub(first).cast_unsigned(), &mut out);
    put_integers(times, first, &mut out);
    for (number, column) in block.columns.iter().enumerate() {
        let present = column.present.get(from..to).unwrap_or_default();
        // An empty list of presences says that all are there.
        if !present.is_empty() && !present.contains(&true) {
            continue;
        }
        put_number(1 + number as u64, &mut out);
        if present.contains(&false) {
            out.push(SOME_PRESENT);
            put_presence(present, &mut out);
        } else {
            out.push(ALL_PRESENT);
        }
        match &column.values {
            Values::Int(values) => {
                out.push(CODEC_INT);
                put_integers(&those_present(values.get(from..to).unwrap_or_default(), present), 0, &mut out);
            }
            Values::Float(values) => put_floats(&those_present(values.get(from..to).unwrap_or_default(), present), &mut out),
        }
    }
    out
}

/// The values that are there, which mostly are all.
fn those_present<'a, T: Copy>(values: &'a [T], present: &[bool]) -> std::borrow::Cow<'a, [T]> {
    if present.contains(&false) {
        values.iter().zip(present).filter(|(_, present)| **present).map(|(value, _)| *value).collect()
    } else {
        values.into()
    }
}

/// What the beginning of a block holds. `None`: it is no block.
pub fn head(first_ns: i64, bytes: &[u8]) -> Option<Head> {
    let mut input = bytes;
    let points = usize::try_from(take_number(&mut input)?).ok()?;
    let last_ns = first_ns.wrapping_add(take_number(&mut input)?.cast_signed());
    Some(Head { points, last_ns })
}

/// The points of a block, with a column for each field of these kinds. `None`: it is no block, or has other fields.
pub fn decode(first_ns: i64, bytes: &[u8], kinds: &[FieldKind]) -> Option<Block> {
    let mut input = bytes;
    let points = usize::try_from(take_number(&mut input)?).ok().filter(|points| *points <= super::BLOCK_POINTS_MAX)?;
    take_number(&mut input)?;
    let times_ns = take_integers(points, first_ns, &mut input)?;
    let mut columns: Vec<Option<PointColumn>> = vec![None; kinds.len()];
    while !input.is_empty() {
        let number = usize::try_from(take_number(&mut input)?).ok()?.checked_sub(1)?;
        let present = match take_byte(&mut input)? {
            ALL_PRESENT => Vec::new(),
            SOME_PRESENT => take_presence(points, &mut input)?,
            _ => return None,
        };
        let count = if present.is_empty() { points } else { present.iter().filter(|present| **present).count() };
        let values = match (kinds.get(number)?, take_byte(&mut input)?) {
            (FieldKind::Int, CODEC_INT) => Values::Int(spread(take_integers(count, 0, &mut input)?, &present)),
            (FieldKind::Float, CODEC_DECIMAL) => Values::Float(spread(take_decimals(count, &mut input)?, &present)),
            (FieldKind::Float, CODEC_FLOAT) => Values::Float(spread(take_floats(count, &mut input)?, &present)),
            _ => return None,
        };
        *columns.get_mut(number)? = Some(PointColumn { values, present });
    }
    let columns = columns.into_iter().zip(kinds).map(|(column, kind)| column.unwrap_or_else(|| absent(*kind, points))).collect();
    Some(Block { times_ns, columns })
}

/// Puts values where they are present, and zeros where they are not.
fn spread<T: Copy + Default>(values: Vec<T>, present: &[bool]) -> Vec<T> {
    if present.is_empty() {
        return values;
    }
    let mut values = values.into_iter();
    present.iter().map(|present| if *present { values.next().unwrap_or_default() } else { T::default() }).collect()
}

fn put_number(mut number: u64, out: &mut Vec<u8>) {
    while let (low, high @ 1..) = (number.to_le_bytes()[0], number >> 7) {
        out.push(low | 0x80);
        number = high;
    }
    out.push(number.to_le_bytes()[0]);
}

fn take_number(input: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(input)?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn take_byte(input: &mut &[u8]) -> Option<u8> {
    let (byte, rest) = input.split_first()?;
    *input = rest;
    Some(*byte)
}

/// Small numbers of both signs as small numbers.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Writes the changes from value to value (order 1), or the changes of changes (order 2): whichever are smaller. Runs of zeros are a zero
/// and their length - 1.
fn put_integers(values: &[i64], first: i64, out: &mut Vec<u8>) {
    let (mut last, mut last_change, mut bits) = (first, 0_i64, [0_u64; 2]);
    for value in values {
        let change = value.wrapping_sub(last);
        let orders = [change, change.wrapping_sub(last_change)];
        for (bits, change) in bits.iter_mut().zip(orders) {
            *bits += u64::from(64 - zigzag(change).leading_zeros());
        }
        (last, last_change) = (*value, change);
    }
    let second = bits[1] < bits[0];
    out.push(if second { 2 } else { 1 });
    let (mut last, mut last_change, mut zeros) = (first, 0_i64, 0_u64);
    for value in values {
        let change = value.wrapping_sub(last);
        let written = if second { change.wrapping_sub(last_change) } else { change };
        (last, last_change) = (*value, change);
        if written == 0 {
            zeros += 1;
            continue;
        }
        put_zeros(&mut zeros, out);
        put_number(zigzag(written), out);
    }
    put_zeros(&mut zeros, out);
}

fn put_zeros(zeros: &mut u64, out: &mut Vec<u8>) {
    if *zeros > 0 {
        out.push(0);
        put_number(*zeros - 1, out);
        *zeros = 0;
    }
}

fn take_integers(count: usize, first: i64, input: &mut &[u8]) -> Option<Vec<i64>> {
    let second = match take_byte(input)? {
        1 => false,
        2 => true,
        _ => return None,
    };
    let (mut last, mut last_change, mut zeros) = (first, 0_i64, 0_u64);
    let mut values = Vec::with_capacity(count);
    while values.len() < count {
        let written = if zeros > 0 {
            zeros -= 1;
            0
        } else {
            match unzigzag(take_number(input)?) {
                0 => {
                    zeros = take_number(input)?;
                    0
                }
                written => written,
            }
        };
        last_change = if second { last_change.wrapping_add(written) } else { written };
        last = last.wrapping_add(last_change);
        values.push(last);
    }
    (zeros == 0).then_some(values)
}

fn put_floats(values: &[f64], out: &mut Vec<u8>) {
    if let Some((decimals, integers)) = as_decimals(values) {
        out.push(CODEC_DECIMAL);
        out.push(decimals);
        put_integers(&integers, 0, out);
        return;
    }
    out.push(CODEC_FLOAT);
    let (mut last, mut zeros) = (0_u64, 0_u64);
    for value in values {
        let differs = value.to_bits() ^ last;
        last = value.to_bits();
        if differs == 0 {
            zeros += 1;
            continue;
        }
        put_zeros(&mut zeros, out);
        // The bytes between the zeros, and how many zeros come before and after them. There is one at least, so this is never 0.
        let (before, after) = (differs.leading_zeros() / 8, differs.trailing_zeros() / 8);
        let kept = 8 - before - after;
        out.push((before << 4 | kept).to_le_bytes()[0]);
        let bytes = (differs >> (8 * after)).to_le_bytes();
        out.extend(bytes.iter().take(kept as usize));
    }
    put_zeros(&mut zeros, out);
}

fn take_floats(count: usize, input: &mut &[u8]) -> Option<Vec<f64>> {
    let (mut last, mut zeros) = (0_u64, 0_u64);
    let mut values = Vec::with_capacity(count);
    while values.len() < count {
        if zeros > 0 {
            zeros -= 1;
        } else {
            match take_byte(input)? {
                0 => zeros = take_number(input)?,
                widths => {
                    let (before, kept) = (u32::from(widths >> 4), u32::from(widths & 0xf));
                    let after = 8_u32.checked_sub(before + kept).filter(|_| kept > 0)?;
                    let (bytes, rest) = input.split_at_checked(kept as usize)?;
                    *input = rest;
                    let differs = bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
                    last ^= differs << (8 * after);
                }
            }
        }
        values.push(f64::from_bits(last));
    }
    (zeros == 0).then_some(values)
}

/// The values as integers over a power of ten, where that gives back every bit of them.
fn as_decimals(values: &[f64]) -> Option<(u8, Vec<i64>)> {
    // The first values tell how many digits there are; all others have to agree.
    let decimals = values.iter().take(16).try_fold(0, |decimals, value| {
        let mut wanted = decimals..=DECIMALS_MAX;
        wanted.find(|decimals| as_decimal(*value, 10_f64.powi(i32::from(*decimals))).is_some())
    })?;
    let scale = 10_f64.powi(i32::from(decimals));
    let integers = values.iter().map(|value| as_decimal(*value, scale)).collect::<Option<Vec<i64>>>()?;
    Some((decimals, integers))
}

#[allow(clippy::cast_possible_truncation, reason = "it is a whole number in the range where floats are exact")]
fn as_decimal(value: f64, scale: f64) -> Option<i64> {
    let whole = (value * scale).round();
    let exact = whole.abs() < EXACT_MAX && whole != 0.0 || value.to_bits() == 0;
    (exact && (whole / scale).to_bits() == value.to_bits()).then_some(whole as i64)
}

fn take_decimals(count: usize, input: &mut &[u8]) -> Option<Vec<f64>> {
    let decimals = take_byte(input).filter(|decimals| *decimals <= DECIMALS_MAX)?;
    let scale = 10_f64.powi(i32::from(decimals));
    Some(take_integers(count, 0, input)?.into_iter().map(|whole| whole as f64 / scale).collect())
}

fn put_presence(present: &[bool], out: &mut Vec<u8>) {
    let byte = |bits: &[bool]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
    out.extend(present.chunks(8).map(byte));
}

fn take_presence(points: usize, input: &mut &[u8]) -> Option<Vec<bool>> {
    let (bytes, rest) = input.split_at_checked(points.div_ceil(8))?;
    *input = rest;
    let bits = bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
    Some(bits.take(points).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KINDS: [FieldKind; 3] = [FieldKind::Int, FieldKind::Float, FieldKind::Float];

    fn column(values: Values) -> PointColumn {
        PointColumn { values, present: Vec::new() }
    }

    fn round_trip(block: &Block) -> Vec<u8> {
        let bytes = encode(block, 0, block.times_ns.len());
        let first = block.times_ns[0];
        let read = decode(first, &bytes, &KINDS).expect("it is a block");
        assert_eq!(read.times_ns, block.times_ns);
        for (read, written) in read.columns.iter().zip(&block.columns) {
            for place in 0..block.times_ns.len() {
                assert_eq!(read.is_present(place), written.is_present(place));
                if written.is_present(place) {
                    let bits = |values: &Values| match values {
                        Values::Int(values) => values[place].cast_unsigned(),
                        Values::Float(values) => values[place].to_bits(),
                    };
                    assert_eq!(bits(&read.values), bits(&written.values));
                }
            }
        }
        let head = head(first, &bytes).unwrap();
        assert_eq!((head.points, Some(&head.last_ns)), (block.times_ns.len(), block.times_ns.last()));
        bytes
    }

    fn float() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<f64>(),
            (-1000..1000_i32).prop_map(|n| f64::from(n) / 100.0),
            Just(0.5),
            Just(-0.0),
            Just(1.0 / 3.0),
            Just(f64::MAX),
            Just(f64::MIN_POSITIVE / 2.0),
            Just(9_007_199_254_740_993.0),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn what_is_written_is_read(
            points in prop::collection::btree_map(any::<i64>(), (any::<Option<i64>>(), prop::option::of(float()), float()), 1..60),
        ) {
            let present = |is: Vec<bool>| if is.contains(&false) { is } else { Vec::new() };
            let rows: Vec<_> = points.values().collect();
            let ints = PointColumn {
                values: Values::Int(rows.iter().map(|row| row.0.unwrap_or(7)).collect()),
                present: present(rows.iter().map(|row| row.0.is_some()).collect()),
            };
            let floats = PointColumn {
                values: Values::Float(rows.iter().map(|row| row.1.unwrap_or(f64::NAN)).collect()),
                present: present(rows.iter().map(|row| row.1.is_some()).collect()),
            };
            let all = column(Values::Float(rows.iter().map(|row| row.2).collect()));
            round_trip(&Block { times_ns: points.keys().copied().collect(), columns: vec![ints, floats, all] });
        }

        #[test]
        fn bytes_that_are_no_block_are_refused(first in any::<i64>(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            // Whatever it answers, it answers.
            decode(first, &bytes, &KINDS);
            head(first, &bytes);
        }
    }

    #[test]
    fn a_block_that_is_cut_is_none() {
        let times_ns: Vec<i64> = (0..50).map(|n| n * n * 1_000_003).collect();
        let floats = |scale: f64| column(Values::Float(times_ns.iter().map(|n| (*n as f64).sqrt() * scale).collect()));
        let block = Block { columns: vec![column(Values::Int(times_ns.clone())), floats(0.01), floats(1.0 / 3.0)], times_ns };
        let bytes = round_trip(&block);
        let whole = decode(0, &bytes, &KINDS);
        for length in 0..bytes.len() {
            assert_ne!(decode(0, &bytes[..length], &KINDS), whole, "cut at {length}");
        }
    }

    #[test]
    fn regular_points_take_next_to_nothing() {
        let points = 1_024;
        let times_ns: Vec<i64> = (0..points).map(|n| 1_700_000_000_000_000_000 + n * 33_333_333).collect();
        let tick = column(Values::Int((0..points).collect()));
        let battery = column(Values::Float(vec![0.8; 1_024]));
        let interval = column(Values::Float(vec![1.0 / 30.0; 1_024]));
        let bytes = round_trip(&Block { times_ns, columns: vec![tick, battery, interval] }).len();
        assert!(bytes < 100, "{bytes}");
    }

    #[test]
    fn short_decimals_take_two_bytes() {
        let times_ns: Vec<i64> = (0..1_024).collect();
        let values = times_ns.iter().map(|n| (2_000 + n * 7_919 % 1_000) as f64 / 100.0).collect();
        let columns = vec![absent(FieldKind::Int, 1_024), column(Values::Float(values)), absent(FieldKind::Float, 1_024)];
        let bytes = round_trip(&Block { times_ns, columns }).len();
        assert!(bytes < 2_100, "{bytes}");
    }
}
