// All dataflows at a glance, and where their tables go.

import { dataflows, get } from './api.js'
import { Chart } from './chart.js'
import { badge, failure, h, put, refocus } from './dom.js'
import { figure } from './figure.js'
import { count, duration, many, time } from './format.js'
import { link } from './url.js'

/** How often the status is asked for: sinks and sources move on between epochs. */
const STATUS_EVERY_MS = 3000

/** The view. */
export async function overview(root) {
  const cards = new Map()
  const [grid, service, further] = [h('div', { class: 'grid' }), h('p', { class: 'muted' }), h('div')]
  put(root, h('header', { class: 'view-head' }, h('div', null, h('h1', null, 'Overview'), service)), grid, further)
  const all = await dataflows()
  for (const about of all) {
    const card = new Card(about)
    cards.set(about.name, card)
    grid.append(card.element)
  }
  let told
  const showStatus = async () => {
    try {
      const status = await get('/v1/status')
      put(
        service,
        `${status.phase}, up for ${duration(status.uptime_s * 1000)}, ${many(status.workers, 'worker')}, version ${status.version}`,
      )
      if (status.error) service.append(' ', badge(status.error, 'bad'))
      // What is as it was is not drawn anew: somebody may be about to copy it.
      const text = JSON.stringify([status.dataflows, status.sinks, status.sources, status.folders])
      if (text === told) return
      told = text
      cards.forEach((card, name) => card.showStatus(status.dataflows[name] ?? {}, status))
      put(further, places(status))
    } catch (error) {
      told = undefined
      put(further, failure(error))
    }
  }
  const update = (moved) =>
    Promise.all([showStatus(), ...[...cards].filter(([name]) => !moved || name in moved).map(([, card]) => card.load())])
  await update()
  let asking = false
  const timer = setInterval(async () => {
    if (document.hidden || asking) return
    asking = true
    await showStatus()
    asking = false
  }, STATUS_EVERY_MS)
  return { update, leave: () => clearInterval(timer) }
}

class Card {
  constructor(about) {
    const chart = about.charts[0]
    Object.assign(this, { name: about.name, of: chart })
    this.sizes = h('ul', { class: 'sizes small muted' })
    this.facts = h('dl', { class: 'facts' })
    this.last = h('p', { class: 'small last-batch' })
    this.lags = h('p', { class: 'small muted' })
    const place = h('div', { class: 'chart-place' })
    this.element = h(
      'article',
      { class: 'card overview-card' },
      h(
        'header',
        { class: 'card-head' },
        h(
          'div',
          null,
          h('h2', null, h('a', { href: link(`dataflow/${about.name}`), class: 'stretched' }, about.name)),
          h('p', { class: 'muted small' }, about.about),
        ),
      ),
      chart ? [h('p', { class: 'small unit muted' }, chart.title), place] : this.sizes,
      this.facts,
      this.last,
      this.lags,
    )
    if (chart) this.chart = new Chart(place, { height: 150, compact: true })
  }

  async load() {
    const [batches, numbers] = await Promise.all([
      get(`/v1/${this.name}/batches?limit=1`).catch(() => undefined),
      this.of && get(`/v1/${this.name}/charts/${this.of.name}.json`).catch(() => undefined),
    ])
    if (numbers) {
      this.chart.show(figure(numbers))
      this.asOf = numbers.today ?? lastDay(numbers)
      this.showFacts()
    }
    const [batch] = batches?.batches ?? []
    put(
      this.last,
      batch
        ? [h('b', null, `Batch ${batch.epoch}`), ` ${time(batch.arrived)}: `, effect(batch.changed)]
        : h('span', { class: 'muted' }, 'No batch has come.'),
    )
  }

  showStatus(about, { sinks, sources }) {
    this.about = about
    const sizes = Object.entries(about.tables ?? {}).map(([name, rows]) =>
      h('li', null, h('b', null, count(rows)), name.slice(name.indexOf('_') + 1).replaceAll('_', ' ')),
    )
    put(this.sizes, sizes)
    this.showFacts()
    const of = sinks.map((sink) => [sink.place, sink.dataflows?.[this.name]]).filter(([, lag]) => lag?.behind > 0)
    const from = sources.filter((source) => source.input.startsWith(`${this.name}.`))
    put(
      this.lags,
      from.filter((source) => !source.connected).map((source) => `${source.source} is not connected. `),
      from.filter((source) => source.lag > 0).map((source) => `${source.source} is ${many(source.lag, 'message')} behind. `),
      of.map(([to, lag]) => `${to} is ${count(lag.behind)} ${lag.behind === 1 ? 'batch' : 'batches'} behind. `),
    )
  }

  showFacts() {
    const { about } = this
    if (!about) return
    const fact = (name, value, kind) => h('div', null, h('dt', null, name), h('dd', { class: kind }, value))
    const hadFocus = this.facts.contains(document.activeElement)
    const rejected = about.rejected > 0 ? h('a', { href: link(`rejected/${this.name}`) }, count(about.rejected)) : count(about.rejected)
    put(
      this.facts,
      fact('records', count(about.records)),
      fact('late', count(about.late), about.late > 0 && 'warn'),
      fact('rejected', rejected, about.rejected > 0 && 'bad'),
      fact('as of', this.asOf ?? (about.as_of ? time(about.as_of) : '–')),
    )
    if (hadFocus) refocus(this.facts.querySelector('a'))
  }
}

function lastDay(numbers) {
  if (numbers.categories.length) return undefined
  const days = numbers.layers.flatMap((layer) => layer.series.map((series) => series.days.at(-1))).filter(Boolean)
  return days.sort().at(-1)
}

/** What a batch changed, in words. */
function effect(changed) {
  const rows = Object.entries(changed ?? {}).filter(([, number]) => number > 0)
  if (!rows.length) return 'it changed nothing'
  const sum = rows.reduce((total, [, number]) => total + number, 0)
  const [name, most] = rows.sort((a, b) => b[1] - a[1])[0]
  return h(
    'span',
    { title: rows.map(([table, number]) => `${table}: ${number}`).join('\n') },
    `${many(sum, 'row')} in ${many(rows.length, 'table')}`,
    rows.length > 1 ? `, most in ${name} (${count(most)})` : ` (${name})`,
  )
}

function places({ sinks, sources, folders: watched }) {
  const folders = watched.filter(Boolean)
  if (!sinks.length && !sources.length && !folders.length) return undefined
  const behind = (number) => (number > 0 ? badge(`${count(number)} behind`, 'warn') : badge('there', 'ok'))
  const reached = (sink) =>
    Object.entries(sink.dataflows ?? {}).map(([name, lag]) =>
      h('span', { class: 'lag' }, `${name}: batch ${lag.reached ?? '–'} `, behind(lag.behind)),
    )
  const taken = (source) => [
    h('span', { class: 'lag' }, many(source.messages, 'message'), source.unreadable > 0 && `, ${count(source.unreadable)} unreadable`),
    source.waiting > 0 && h('span', { class: 'lag' }, `${count(source.waiting)} waiting`),
    source.removed > 0 && h('span', { class: 'lag' }, badge(`${count(source.removed)} removed before they were read`, 'bad')),
    !source.connected ? badge('not connected', 'bad') : source.lag === null ? badge('connected', 'ok') : behind(source.lag),
  ]
  const row = (name, of, state, error) =>
    h('tr', null, h('td', null, name), h('td', null, of), h('td', null, state), h('td', null, error && badge(error, 'bad')))
  return h(
    'section',
    { class: 'card' },
    h('h2', null, 'Sources and sinks'),
    h(
      'div',
      { class: 'scroll' },
      h(
        'table',
        { class: 'rows plain' },
        h(
          'tbody',
          null,
          sources.map((source) => row(source.source, `source of ${source.input}`, taken(source), source.error)),
          folders.map((folder) =>
            row(
              folder.folder,
              'watched folder',
              [many(folder.files, 'file'), folder.refused > 0 && `, ${count(folder.refused)} refused`],
              folder.error,
            ),
          ),
          sinks.map((sink) => row(sink.place, 'sink', reached(sink), sink.error)),
        ),
      ),
    ),
  )
}
