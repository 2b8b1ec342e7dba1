// Numbers and times as people read them.

const whole = new Intl.NumberFormat('en-US')
const exactly = new Intl.NumberFormat('en-US', { maximumFractionDigits: 12 })
const short = new Intl.NumberFormat('en-US', { notation: 'compact', maximumFractionDigits: 1 })

/** A number with all its digits. */
export const exact = (number) => (typeof number === 'number' ? exactly.format(number) : String(number))

/** A count in full, and from a million on in short. */
export const count = (number) =>
  number === null || number === undefined ? '–' : number >= 1e6 ? short.format(number) : whole.format(number)

/** A number beside an axis. */
export function tick(number) {
  if (number === 0) return '0'
  const size = Math.abs(number)
  if (size >= 1e4) return short.format(number)
  return size >= 1e-3 ? String(Number(number.toPrecision(6))) : number.toExponential(0)
}

/** A number in a cell: rounded where it has many digits; its title has all of them. */
export function cell(value) {
  if (typeof value !== 'number' || Number.isInteger(value)) return typeof value === 'number' ? String(value) : value
  const size = Math.abs(value)
  return size >= 1e-3 && size < 1e9 ? String(Number(value.toFixed(size >= 100 ? 2 : 4))) : value.toPrecision(4)
}

/** How many, with its noun: `1 row`, `2 rows`. */
export const many = (number, noun) => `${count(number)} ${noun}${number === 1 ? '' : 's'}`

const two = (number) => String(number).padStart(2, '0')

/** A time without what is the same for all: the clock today, otherwise the day too. */
export function time(text) {
  if (!text) return '–'
  const at = new Date(text.includes('T') || text.includes('Z') ? text : `${text.replace(' ', 'T')}Z`)
  if (Number.isNaN(at.getTime())) return text
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`
  return at.toDateString() === new Date().toDateString() ? clock : `${day} ${clock}`
}

/** A length of time in words, from milliseconds. */
export function duration(ms) {
  if (ms < 1000) return `${Math.round(ms * 10) / 10} ms`
  const seconds = ms / 1000
  for (const [size, noun] of [
    [86400, 'day'],
    [3600, 'hour'],
    [60, 'minute'],
  ]) {
    if (seconds >= size) return many(Math.floor(seconds / size), noun)
  }
  return `${Math.round(seconds * 10) / 10} s`
}

const DAY = 86400e3

/** A day or time of data as milliseconds. */
export function instant(text) {
  const at = Date.parse(text.length <= 10 ? `${text}T00:00:00Z` : `${text.replace(' ', 'T').replace(/Z$/, '')}Z`)
  return Number.isNaN(at) ? undefined : at
}

/** Milliseconds as the day or the time of data. */
export function moment(ms, days) {
  const text = new Date(ms).toISOString()
  return days || ms % DAY === 0 ? text.slice(0, 10) : text.slice(0, 19).replace('T', ' ')
}
