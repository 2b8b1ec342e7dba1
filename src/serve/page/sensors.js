// Sensors: the incidents of all, newest first; and one of them with its values, what was expected, and its anomalies. This view alone names
// a dataflow and its tables: it is about what they mean.

import { dataflows, get, query, tables } from './api.js'
import { Chart } from './chart.js'
import { badge, failure, h, put, rowsTable } from './dom.js'
import { cell, count, instant, many } from './format.js'
import { nearestNames } from './names.js'
import { change, link, place } from './url.js'
import { why } from './why.js'
import { zoomTo, chartState } from './chartcard.js'

const OF = 'sensors'
const [SUMMARY, ANOMALIES, INCIDENTS, SEGMENTS] = ['sensor_summary', 'sensor_anomalies', 'sensor_incidents', 'sensor_segments']
const MEASUREMENT = 'measurements'
/** So many sensors are known by name. */
const KNOWN_MAX = 5000
const LISTED = 12
const INCIDENTS_SHOWN = 30
/** A line has so many points: of more, the least and the greatest of each stretch. */
const THINNED = 3000
/** So many anomalies are drawn, and so many segments. */
const DRAWN_MAX = 5000
const HOUR = 3600e3
/** Others are looked for when nothing was typed for so long. */
const TYPED_MS = 200

const table = (name, asked) => get(`/v1/${OF}/tables/${name}${query(asked)}`)

/** Whether there are sensors. */
export const hasSensors = (all) => all.some((about) => about.name === OF && about.tables.some((one) => one.name === SUMMARY))

/** The view. */
export async function sensors(root, { name }) {
  if (!hasSensors(await dataflows())) {
    put(root, h('h1', null, 'Sensors'), h('p', { class: 'muted' }, 'The dataflow sensors is not served.'))
    return {}
  }
  let known = []
  let sensorCount = 0
  /** What was found besides those that are known. */
  let others = []
  let typing
  const [list, detail] = [h('div', { class: 'found' }), h('div')]
  const search = h('input', {
    type: 'search',
    placeholder: 'Name or id',
    'aria-label': 'Search a sensor by name or id',
    value: place().parameters.get('q') ?? '',
    autocomplete: 'off',
    oninput: () => {
      change({ q: search.value }, true)
      showFound()
      clearTimeout(typing)
      typing = setTimeout(findOthers, TYPED_MS)
    },
    onkeydown: (event) => event.key === 'Enter' && list.querySelector('a')?.click(),
  })
  put(
    root,
    h(
      'header',
      { class: 'view-head' },
      h(
        'div',
        null,
        h('h1', null, 'Sensors'),
        h('p', { class: 'muted' }, 'What they measured, what was expected, and where the two part.'),
      ),
    ),
    h('div', { class: 'sensors' }, h('section', { class: 'card search' }, search, list), detail),
  )

  const text = () => search.value.trim()

  /** Where not all sensors are known, the service is asked for those that were typed. */
  async function findOthers() {
    const wanted = text()
    others = []
    if (wanted && known.length < sensorCount) {
      const found = await lookedUp(wanted, () => wanted === text())
      if (wanted !== text()) return
      const ids = new Set(known.map((sensor) => sensor.sensor_uuid))
      others = found.filter((sensor) => !ids.has(sensor.sensor_uuid) && ids.add(sensor.sensor_uuid))
    }
    showFound()
  }

  function showFound() {
    const [found, isExact] = nearestNames([...others, ...known], search.value, LISTED)
    put(
      list,
      search.value &&
        !isExact &&
        h('p', { class: 'muted small' }, found.length ? 'No sensor has this in its name. The nearest:' : 'No sensor comes near to that.'),
      h(
        'ul',
        null,
        found.map((sensor) =>
          h(
            'li',
            null,
            h(
              'a',
              {
                href: link(`sensors/${sensor.sensor_uuid}`, { q: search.value }),
                'aria-current': sensor.sensor_uuid === name ? 'true' : undefined,
              },
              sensor.sensor_name || sensor.sensor_uuid,
              h(
                'span',
                { class: 'right' },
                sensor.incidents > 0 ? badge(many(sensor.incidents, 'incident'), 'warn') : h('span', { class: 'muted small' }, 'calm'),
              ),
            ),
          ),
        ),
      ),
      !search.value && sensorCount > found.length && h('p', { class: 'muted small' }, `${count(sensorCount)} sensors: type to find others`),
    )
  }

  const one = name ? new One(detail, name) : undefined
  const update = async (moved) => {
    if (moved && !(OF in moved)) return
    try {
      const [rows, all] = await Promise.all([table(SUMMARY, { limit: KNOWN_MAX, order: '-incidents' }), tables(OF, true)])
      known = rows
      sensorCount = all.find((about) => about.name === SUMMARY).rows
      await Promise.all([moved ? showFound() : findOthers(), one ? one.load() : incidents(detail)])
    } catch (error) {
      put(detail, failure(error))
    }
  }
  await update()
  return { update, change: () => one?.change() }
}

/** The sensors whose id or name is a text, and those whose names begin with it; nothing where that is not wanted any more. */
async function lookedUp(text, isWanted) {
  const about = (await tables(OF)).find((one) => one.name === SUMMARY)
  const id = about.columns.find((column) => column.name === 'sensor_uuid')
  const isId = id.holds !== 'UUIDs' || /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)
  const [byId, byName] = await Promise.all([
    isId ? table(SUMMARY, { sensor_uuid: text, limit: LISTED }) : [],
    table(SUMMARY, { sensor_name: text, limit: LISTED }),
  ])
  // Names are in order, so halving finds where those begin.
  let [low, high] = [0, about.rows]
  while (low < high && isWanted()) {
    const middle = Math.floor((low + high) / 2)
    const [one] = await table(SUMMARY, { order: 'sensor_name', offset: middle, limit: 1 })
    if (one && one.sensor_name < text) low = middle + 1
    else high = middle
  }
  if (!isWanted()) return []
  const from = await table(SUMMARY, { order: 'sensor_name', offset: low, limit: LISTED })
  return [...byId, ...byName, ...from.filter((one) => one.sensor_name.startsWith(text))]
}

const KIND = { point: 'one value', level_shift: 'level shift', collective: 'several together', flatline: 'flat line', gap: 'gap' }

/** The incidents of all sensors. */
async function incidents(root) {
  const rows = await table(INCIDENTS, { order: '-start_time', limit: INCIDENTS_SHOWN })
  put(
    root,
    h(
      'section',
      { class: 'card' },
      h('h2', null, 'Incidents, newest first'),
      rows.length ? incidentTable(rows, true) : h('p', { class: 'muted' }, 'None.'),
    ),
  )
}

function incidentTable(rows, named) {
  const open = (row) => why(OF, INCIDENTS, { sensor_name: row.sensor_name, sensor_uuid: row.sensor_uuid, start_time: row.start_time })
  const strength = (row) => {
    const bar = h('i', { class: 'took-bar warn', 'aria-hidden': 'true' })
    bar.style.width = `${Math.min(60, Math.round(Math.log2(1 + row.peak_score) * 8))}px`
    return [bar, cell(row.peak_score)]
  }
  const heads = [named && ['sensor'], ['began'], ['ended'], ['kind'], ['anomalies', 'number'], ['strongest', 'number'], ['']]
  return rowsTable(
    heads.filter(Boolean),
    rows.map((row) =>
      h(
        'tr',
        null,
        named && h('td', null, h('a', { href: link(`sensors/${row.sensor_uuid}`) }, row.sensor_name || row.sensor_uuid)),
        h('td', { class: 'nowrap' }, clock(row.start_time)),
        h('td', { class: 'nowrap' }, clock(row.end_time)),
        h('td', null, KIND[row.kind] ?? row.kind),
        h('td', { class: 'number' }, count(row.anomalies)),
        h('td', { class: 'number nowrap' }, strength(row)),
        h('td', null, h('button', { type: 'button', class: 'quiet small', onclick: () => open(row) }, 'Why?')),
      ),
    ),
  )
}

const clock = (text) =>
  String(text)
    .replace('T', ' ')
    .replace(/(:\d\d)(\.\d+)?Z?$/, '$1')

/** One sensor. */
class One {
  constructor(root, id) {
    Object.assign(this, { root, id })
    this.place = h('div', { class: 'chart-place' })
    this.note = h('p', { class: 'muted small' })
    this.reset = h('button', { type: 'button', class: 'switch on', hidden: true, onclick: () => zoomTo('sensor', undefined) }, 'Reset zoom')
    this.head = h('header', { class: 'card-head' })
    this.more = h('section', { class: 'card' })
    this.card = h('section', { class: 'card' }, this.head, legend(), this.place, this.note)
    this.chart = new Chart(this.place, {
      height: 340,
      on: { zoom: (range) => zoomTo('sensor', range), pick: (point) => this.pick(point) },
    })
  }

  async load() {
    const { id } = this
    const { zoom } = chartState('sensor')
    const mine = (this.loading = { zoom: String(zoom) })
    const of = { sensor_uuid: id }
    const [summary] = await table(SUMMARY, of)
    // A batch that had nothing of this sensor leaves it as it is drawn.
    const text = JSON.stringify([summary, zoom])
    if (mine !== this.loading || (text === this.text && this.card.isConnected)) return
    if (!summary) {
      put(this.root, h('p', { class: 'card' }, `There is no sensor ${id}.`))
      return
    }
    const [from, to] = zoom ? wider(zoom) : []
    const [anomalies, found, segments, points] = await Promise.all([
      table(ANOMALIES, { ...of, from, to, order: '-timestamp', limit: DRAWN_MAX + 1 }),
      table(INCIDENTS, { ...of, order: '-start_time', limit: 200 }),
      // One that began before a range may reach into it.
      table(SEGMENTS, { ...of, to, order: '-start_time', limit: DRAWN_MAX + 1 }),
      this.points({ from, to }),
    ])
    if (mine !== this.loading) return
    const notes = [points.note, left(anomalies, 'anomalies'), left(segments, 'segments', zoom && zoom[0])]
    put(this.note, notes.filter(Boolean).join(' '))
    this.anomalies = anomalies.slice(0, DRAWN_MAX).reverse()
    this.figure = drawn(summary, segments.slice(0, DRAWN_MAX).reverse(), this.anomalies, points.values, zoom)
    if (!this.card.isConnected) put(this.root, this.card, this.more)
    this.showFacts(summary)
    this.text = points.note ? undefined : text
    put(
      this.more,
      h('h3', null, 'Incidents, newest first'),
      found.length ? incidentTable(found, false) : h('p', { class: 'muted' }, 'None.'),
    )
    this.show()
  }

  showFacts(summary) {
    const facts = [
      ['measurements', count(summary.measurements)],
      ['least', cell(summary.minimum)],
      ['mean', cell(summary.mean)],
      ['greatest', cell(summary.maximum)],
      ['anomalies', count(summary.anomalies)],
    ]
    put(
      this.head,
      h(
        'div',
        null,
        h('h2', null, summary.sensor_name || this.id),
        summary.sensor_name && summary.sensor_name !== this.id && h('p', { class: 'muted small' }, this.id),
      ),
      this.reset,
      h(
        'dl',
        { class: 'facts' },
        facts.map(([name, value]) => h('div', null, h('dt', null, name), h('dd', null, value))),
      ),
    )
  }

  show() {
    if (!this.figure) return
    const { zoom } = chartState('sensor')
    this.reset.hidden = !zoom
    this.chart.show(this.figure, { stacked: false, zoom })
  }

  /** The address has changed: another range has other details. */
  async change() {
    this.show()
    if (this.loading?.zoom === String(chartState('sensor').zoom)) return
    try {
      await this.load()
    } catch (error) {
      put(this.note, error.message)
    }
  }

  /** What it measured, from the store of points; and a note, where that can't be asked. */
  async points(range) {
    try {
      const { points } = await get(`/v1/${OF}/points/${MEASUREMENT}${query({ sensor_uuid: this.id, thinned: THINNED, ...range })}`)
      return { values: points.map(({ time, fields }) => [instant(time), fields.value]) }
    } catch (error) {
      return { values: [], note: `${error.message}.` }
    }
  }

  pick({ at }) {
    const row = this.anomalies.find((one) => instant(one.timestamp) === at)
    if (row)
      why(OF, ANOMALIES, { sensor_name: row.sensor_name, sensor_uuid: row.sensor_uuid, timestamp: row.timestamp, value: String(row.value) })
  }
}

/** A range and a little on both sides, so that lines go on to the edges. */
function wider([from, until]) {
  const edge = (until - from) / 10
  return [from - edge, until + edge].map((at) => new Date(at).toISOString())
}

/** What is said where not all are drawn. Rows are the newest first. */
function left(rows, noun, from = -Infinity) {
  if (rows.length <= DRAWN_MAX || instant(rows.at(-1).start_time ?? rows.at(-1).timestamp) < from) return undefined
  return `Only the newest ${count(DRAWN_MAX)} ${noun} of this range are drawn: zoom in to see the others.`
}

const legend = () =>
  h(
    'div',
    { class: 'legend' },
    [
      ['values', 's0', 'line'],
      ['expected, within three deviations', 's2', 'band'],
      ['anomalies', 's7', 'dots'],
    ].map(([name, colour, kind]) => h('span', { class: 'entry' }, h('i', { class: `swatch ${colour} ${kind}` }), name)),
  )

function drawn(summary, segments, anomalies, points, zoom) {
  const all = [instant(summary.first_time), instant(summary.last_time)]
  const [from, until] = zoom ?? all
  // Thinned points are further apart than measured ones.
  const gap = Math.max(6 * HOUR, (4 * (until - from)) / THINNED)
  const [band, line] = [
    { x: [], low: [], high: [] },
    { x: [], y: [] },
  ]
  for (const segment of segments) {
    const [start, end] = [instant(segment.start_time), instant(segment.end_time)]
    for (const [at, value] of [
      [start, segment.intercept],
      [end, segment.intercept + (segment.slope_per_hour * (end - start)) / HOUR],
    ]) {
      band.x.push(at)
      band.low.push(value - 3 * segment.sigma)
      band.high.push(value + 3 * segment.sigma)
      line.x.push(at)
      line.y.push(value)
    }
  }
  const layer = (kind, name, colour, series, gap) => ({ kind, columns: ['value'], gap, series: [{ place: colour, name, ...series }] })
  const layers = [
    layer('band', 'expected', 2, { x: band.x, y: band.low, highs: band.high }),
    layer('line', 'line through them', 2, line, Infinity),
    layer('line', 'values', 0, { x: points.map(([at]) => at), y: points.map(([, value]) => value) }, gap),
    layer('dots', 'anomaly', 7, { x: anomalies.map((row) => instant(row.timestamp)), y: anomalies.map((row) => row.value) }),
  ].filter((one) => one.series[0].x.length)
  return {
    layers,
    isDated: true,
    names: ['values', '', 'expected', '', '', '', '', 'anomaly'],
    categories: [],
    counts: false,
    title: `Sensor ${summary.sensor_name || summary.sensor_uuid}`,
    step: HOUR,
    extent: all[0] < all[1] ? all : undefined,
  }
}
