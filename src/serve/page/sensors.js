// Sensors: the incidents of all, newest first; and one of them with its values, what was expected, and its anomalies. This view alone names
// a dataflow and its tables: it is about what they mean.

import { dataflows, get, query } from './api.js'
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
const POINTS_MAX = 50000
/** A line has no more points than these: of more, the least and the greatest of each stretch. */
const DRAWN_MAX = 3000
const HOUR = 3600e3

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

  function showFound() {
    const [found, isExact] = nearestNames(known, search.value, LISTED)
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
      !search.value &&
        known.length > found.length &&
        h('p', { class: 'muted small' }, `${count(known.length)} sensors: type to find others`),
    )
  }

  const one = name ? new One(detail, name) : undefined
  const update = async (moved) => {
    if (moved && !(OF in moved)) return
    try {
      known = await table(SUMMARY, { limit: KNOWN_MAX, order: '-incidents' })
      showFound()
      await (one ? one.load() : incidents(detail))
    } catch (error) {
      put(detail, failure(error))
    }
  }
  await update()
  return { update, change: () => one?.show() }
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

let points

/** Whether the service hands out points. */
function handsOutPoints() {
  points ??= get('/openapi.json').then(({ paths }) => '/v1/{dataflow}/points/{measurement}' in paths)
  return points
}

/** One sensor. */
class One {
  constructor(root, id) {
    Object.assign(this, { root, id })
    this.place = h('div', { class: 'chart-place' })
    this.note = h('p', { class: 'muted small' })
    this.reset = h('button', { type: 'button', class: 'switch on', hidden: true, onclick: () => zoomTo('sensor', undefined) }, 'Reset zoom')
  }

  async load() {
    const { id } = this
    const of = { sensor_uuid: id }
    const [[summary], anomalies, found, segments] = await Promise.all([
      table(SUMMARY, of),
      table(ANOMALIES, { ...of, limit: 5000 }),
      table(INCIDENTS, { ...of, order: '-start_time', limit: 200 }),
      table(SEGMENTS, { ...of, limit: 5000 }),
    ])
    if (!summary) return put(this.root, h('p', { class: 'card' }, `There is no sensor ${id}.`))
    const points = await this.points()
    this.figure = drawn(summary, segments, anomalies, points)
    if (!this.chart) {
      put(
        this.root,
        h('section', { class: 'card' }, (this.head = h('header', { class: 'card-head' })), legend(), this.place, this.note),
        (this.more = h('section', { class: 'card' })),
      )
      this.chart = new Chart(this.place, {
        height: 340,
        on: { zoom: (range) => zoomTo('sensor', range), pick: (point) => this.pick(point, anomalies) },
      })
    }
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
        h('h2', null, summary.sensor_name || id),
        summary.sensor_name && summary.sensor_name !== id && h('p', { class: 'muted small' }, id),
      ),
      this.reset,
      h(
        'dl',
        { class: 'facts' },
        facts.map(([name, value]) => h('div', null, h('dt', null, name), h('dd', null, value))),
      ),
    )
    put(
      this.more,
      h('h3', null, 'Incidents, newest first'),
      found.length ? incidentTable(found, false) : h('p', { class: 'muted' }, 'None.'),
    )
    this.show()
    return undefined
  }

  show() {
    if (!this.chart || !this.figure) return
    const { zoom } = chartState('sensor')
    this.reset.hidden = !zoom
    this.chart.show(this.figure, { stacked: false, zoom })
  }

  /** What it measured, from the store of points; nothing where that can't be asked. */
  async points() {
    if (!(await handsOutPoints())) {
      this.note.textContent = 'Single values are in the store of points: retally query --points.'
      return []
    }
    try {
      const rows = await get(`/v1/${OF}/points/${MEASUREMENT}${query({ sensor_uuid: this.id, limit: POINTS_MAX })}`)
      this.note.textContent = ''
      return thinned(
        (Array.isArray(rows) ? rows : (rows.points ?? []))
          .map((row) => [instant(String(row.time ?? row.timestamp)), row.value ?? row.fields?.value])
          .filter(([at, value]) => at !== undefined && typeof value === 'number'),
      )
    } catch (error) {
      this.note.textContent = error.message
      return []
    }
  }

  pick({ at }, anomalies) {
    const row = anomalies.find((one) => instant(clock(one.timestamp)) === at)
    if (row)
      why(OF, ANOMALIES, { sensor_name: row.sensor_name, sensor_uuid: row.sensor_uuid, timestamp: row.timestamp, value: String(row.value) })
  }
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

/** Of many points, the least and the greatest of each stretch of time. */
function thinned(points) {
  if (points.length <= DRAWN_MAX) return points
  const size = Math.ceil((points.length * 2) / DRAWN_MAX)
  const kept = []
  for (let from = 0; from < points.length; from += size) {
    const part = points.slice(from, from + size)
    const [least, greatest] = [part.reduce((a, b) => (b[1] < a[1] ? b : a)), part.reduce((a, b) => (b[1] > a[1] ? b : a))]
    kept.push(...(least === greatest ? [least] : [least, greatest].sort((a, b) => a[0] - b[0])))
  }
  return kept
}

function drawn(summary, segments, anomalies, points) {
  const [band, line] = [
    { x: [], low: [], high: [] },
    { x: [], y: [] },
  ]
  for (const segment of segments) {
    const [from, until] = [instant(clock(segment.start_time)), instant(clock(segment.end_time))]
    const end = segment.intercept + (segment.slope_per_hour * (until - from)) / HOUR
    for (const [at, value] of [
      [from, segment.intercept],
      [until, end],
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
    layer('line', 'values', 0, { x: points.map(([at]) => at), y: points.map(([, value]) => value) }, 6 * HOUR),
    layer('dots', 'anomaly', 7, { x: anomalies.map((row) => instant(clock(row.timestamp))), y: anomalies.map((row) => row.value) }),
  ].filter((one) => one.series[0].x.length)
  return {
    layers,
    isDated: true,
    names: ['values', '', 'expected', '', '', '', '', 'anomaly'],
    categories: [],
    counts: false,
    title: `Sensor ${summary.sensor_name || summary.sensor_uuid}`,
    step: HOUR,
  }
}
