// Axes: from values to places, and where marks stand.

const STEPS = [1, 2, 2.5, 5, 10]
const SECOND = 1000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

/** Round numbers from `low` to `high`, about as many as wanted. */
export function ticks(low, high, wanted, whole) {
  if (!(high > low)) return [low]
  const rough = (high - low) / wanted
  const power = 10 ** Math.floor(Math.log10(rough))
  let step = power * STEPS.find((factor) => factor * power >= rough * 0.999)
  if (whole) step = Math.max(1, Math.round(step))
  const marks = []
  for (let number = Math.ceil(low / step - 1e-9); number * step <= high + step * 1e-9; number += 1) {
    marks.push(Number((number * step).toPrecision(12)))
  }
  return marks
}

/** Powers of ten from `low` to `high`, with 2 and 5 between them where these are few. */
export function logTicks(low, high) {
  const marks = []
  const powers = Math.log10(high / low)
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const factor of powers > 3 ? [1] : [1, 2, 5]) {
      const mark = Number((factor * 10 ** power).toPrecision(3))
      if (mark >= low * 0.999 && mark <= high * 1.001) marks.push(mark)
    }
  }
  return marks
}

const months = (count) => ({ months: count })
const LENGTHS = [
  SECOND,
  5 * SECOND,
  15 * SECOND,
  MINUTE,
  5 * MINUTE,
  15 * MINUTE,
  HOUR,
  3 * HOUR,
  6 * HOUR,
  12 * HOUR,
  DAY,
  2 * DAY,
  7 * DAY,
  months(1),
  months(3),
  months(6),
  months(12),
  months(24),
  months(60),
  months(120),
]

/** Times from `low` to `high`, in milliseconds of UTC, and how fine they are: `year`, `month`, `day` or `clock`. */
export function timeTicks(low, high, wanted) {
  const length = (step) => (step.months ? step.months * 30.4 * DAY : step)
  const step = LENGTHS.find((candidate) => (high - low) / length(candidate) <= wanted) ?? months(240)
  const marks = []
  if (step.months) {
    const first = new Date(low)
    let month = Math.floor((first.getUTCFullYear() * 12 + first.getUTCMonth()) / step.months) * step.months
    for (; marks.length < 100; month += step.months) {
      const at = Date.UTC(Math.floor(month / 12), month % 12, 1)
      if (at > high) break
      if (at >= low) marks.push(at)
    }
    return { marks, unit: step.months >= 12 ? 'year' : 'month' }
  }
  // Weeks begin on Mondays: 1970-01-05 was one.
  const origin = step === 7 * DAY ? 4 * DAY : 0
  for (let at = Math.ceil((low - origin) / step) * step + origin; at <= high; at += step) marks.push(at)
  return { marks, unit: step >= DAY ? 'day' : 'clock' }
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

/** What stands at a mark of time. */
export function timeLabel(at, unit, isFirst) {
  const date = new Date(at)
  const [year, month, day] = [date.getUTCFullYear(), MONTHS[date.getUTCMonth()], date.getUTCDate()]
  if (unit === 'year') return String(year)
  if (unit === 'month') return isFirst || date.getUTCMonth() === 0 ? `${month} ${year}` : month
  if (unit === 'day') return isFirst || (date.getUTCMonth() === 0 && day <= 7) ? `${day} ${month} ${year}` : `${day} ${month}`
  const clock = date.toISOString().slice(11, at % MINUTE === 0 ? 16 : 19)
  return isFirst || clock === '00:00' ? `${day} ${month} ${clock}` : clock
}

/** From values to places. */
export function scale([low, high], [from, until], isLog) {
  const value = isLog ? (number) => Math.log10(Math.max(number, low)) : (number) => number
  const [a, b] = [value(low), value(high)]
  const width = b - a || 1
  const map = (number) => from + ((value(number) - a) / width) * (until - from)
  map.invert = (place) => {
    const found = a + ((place - from) / (until - from || 1)) * width
    return isLog ? 10 ** found : found
  }
  return map
}

/** The place of the number that is nearest in a list in order; -1 where it is empty. */
export function nearest(sorted, wanted) {
  let [low, high] = [0, sorted.length - 1]
  while (low < high) {
    const middle = (low + high) >> 1
    if (sorted[middle] < wanted) low = middle + 1
    else high = middle
  }
  if (low > 0 && Math.abs(sorted[low - 1] - wanted) <= Math.abs(sorted[low] - wanted)) return low - 1
  return sorted.length ? low : -1
}
