// What a chart draws: from the numbers of its layers to shapes, with series on top of one another where that is asked for.

import { instant } from './format.js'

const DAY = 86400e3

/**
 * A figure of the numbers that the service gives: layers of series with places on the horizontal axis (milliseconds, or the places of
 * categories) and values.
 */
export function figure(numbers) {
  const isDated = numbers.categories.length === 0
  const layers = numbers.layers.map((layer) => ({
    ...layer,
    series: layer.series.map(({ place, days, values, highs }) => ({
      place,
      name: numbers.names[place],
      x: isDated ? days.map(instant) : days.map(Number),
      y: values,
      highs,
    })),
  }))
  return {
    layers,
    isDated,
    names: numbers.names,
    categories: numbers.categories,
    counts: numbers.counts,
    yLabel: numbers.y_label,
    title: numbers.title,
    today: numbers.today ? instant(numbers.today) : undefined,
    step: isDated ? DAY : 1,
  }
}

/** Whether its series can stand on top of one another. */
export const canStack = (numbers) => numbers.layers.some((layer) => ['area', 'bars'].includes(layer.kind) && layer.series.length > 1)

/** Whether it shows what has been, of which the first values are known. */
export const hasFirst = (numbers) => numbers.categories.length === 0 && numbers.layers.every((layer) => layer.kind !== 'band')

/** Whether a logarithm makes sense: there are values, and none is below zero. */
export const canLog = (numbers) =>
  numbers.categories.length === 0 &&
  numbers.layers.every((layer) => layer.series.every((series) => series.values.every((value) => value >= 0)))

/**
 * The shapes of a figure: each series of each layer with the places, and from which value to which it goes there. Series in `off` are left
 * out. `first` is the figure of the first values: its series become dashed lines.
 */
export function shapes(of, { off, stacked, first }) {
  const drawn = layerShapes(of, off, stacked)
  if (!first) return drawn
  const dashed = layerShapes(first, off, stacked).map((shape) => ({ ...shape, kind: 'line', dashed: true, low: undefined }))
  return [...drawn, ...dashed]
}

function layerShapes(of, off, stacked) {
  const drawn = []
  const standing = new Map()
  for (const layer of of.layers) {
    // Bars stand on the ground, whatever else is drawn.
    const base = layer.kind === 'bars' ? new Map() : standing
    const there = layer.series.filter((series) => !off.has(series.name))
    const days = layer.kind === 'area' && stacked ? allDays(there) : undefined
    for (const series of there) drawn.push(shape(layer, series, base, stacked, days))
  }
  return drawn
}

/** The days of all these series, in order: one without a row counts as zero. */
function allDays(series) {
  const first = Math.min(...series.map(({ x }) => x[0] ?? Infinity))
  const last = Math.max(...series.map(({ x }) => x.at(-1) ?? -Infinity))
  const days = []
  for (let day = first; day <= last; day += DAY) days.push(day)
  return days
}

function shape(layer, series, base, stacked, days) {
  const about = { kind: layer.kind, place: series.place, name: series.name, layer, own: series.y }
  if (layer.kind === 'line' || layer.kind === 'band')
    return { ...about, x: series.x, y: layer.kind === 'band' ? series.highs : series.y, low: layer.kind === 'band' ? series.y : undefined }
  if (!stacked) {
    // Side by side they would hide one another.
    const kind = layer.kind === 'area' ? 'line' : layer.kind
    return { ...about, kind, x: series.x, y: series.y, low: kind === 'bars' ? series.y.map(() => 0) : undefined }
  }
  const x = days ?? series.x
  const values = days ? filled(series, days) : series.y
  const low = x.map((at) => base.get(at) ?? 0)
  const y = values.map((value, index) => low[index] + value)
  x.forEach((at, index) => base.set(at, y[index]))
  return { ...about, x, y, low, own: values }
}

function filled(series, days) {
  const known = new Map(series.x.map((at, index) => [at, series.y[index]]))
  return days.map((day) => known.get(day) ?? 0)
}

/** From where to where the horizontal axis goes. */
export function extent(of) {
  if (of.extent) return of.extent
  let [low, high] = [Infinity, -Infinity]
  for (const { x } of of.layers.flatMap((layer) => layer.series)) {
    if (x.length) [low, high] = [Math.min(low, x[0]), Math.max(high, x.at(-1))]
  }
  if (low > high) return undefined
  const edge = of.layers.some((layer) => layer.kind === 'bars') || low === high ? of.step / 2 : 0
  return [low - edge, high + edge]
}

/** From where to where the vertical axis goes, of what is seen between two places. */
export function range(drawn, [from, until], isLog) {
  let [low, high, stands] = [Infinity, -Infinity, false]
  for (const { x, y, low: bottom, kind } of drawn) {
    stands ||= kind === 'area' || kind === 'bars'
    x.forEach((at, index) => {
      if (at < from || at > until) return
      for (const value of [y[index], bottom?.[index] ?? y[index]]) {
        if (isLog && !(value > 0)) continue
        low = Math.min(low, value)
        high = Math.max(high, value)
      }
    })
  }
  if (low > high) return isLog ? [1, 10] : [0, 1]
  if (isLog) return [low / 1.1, high * 1.2]
  // From zero on, unless lines alone run far from it.
  if (stands || !(low > 0.6 * high || high < 0.6 * low)) [low, high] = [Math.min(low, 0), Math.max(high, 0)]
  const room = (high - low || Math.abs(high) || 1) * 0.06
  return [low < 0 || low > 0 ? low - room : low, high > 0 ? high + room : high]
}

/** What stands at a place: the nearest one at which there is anything, and each series' value there. */
export function valuesAt(drawn, at) {
  return drawn
    .map((shape) => {
      const index = shape.x.indexOf(at)
      return index < 0
        ? undefined
        : { shape, index, value: shape.own[index], y: shape.y[index], high: shape.layer.kind === 'band' ? shape.y[index] : undefined }
    })
    .filter(Boolean)
}
