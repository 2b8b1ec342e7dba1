// A chart with its title, its legend and its switches, whose state is in the address: `off.CHART`, `log.CHART`, `flat.CHART`,
// `first.CHART`, `zoom.CHART`.

import { get } from './api.js'
import { Chart } from './chart.js'
import { failure, h, put, refocus } from './dom.js'
import { canLog, canStack, figure, hasFirst } from './figure.js'
import { exact, instant, moment } from './format.js'
import { change, place } from './url.js'

/** What a chart's part of the address says. */
export function chartState(name) {
  const { parameters } = place()
  const flag = (kind) => parameters.get(`${kind}.${name}`) === '1'
  const [from, until] = (parameters.get(`zoom.${name}`) ?? '')
    .split('..')
    .map((text) => (text ? instant(text.replace('T', ' ')) : undefined))
  return {
    off: new Set(parameters.getAll(`off.${name}`)),
    log: flag('log'),
    stacked: !flag('flat'),
    first: flag('first'),
    zoom: from !== undefined && until > from ? [from, until] : undefined,
  }
}

const written = (at) => moment(Math.round(at / 1000) * 1000).replace(' ', 'T')

/** Changes the range that a chart shows. */
export const zoomTo = (name, range) => change({ [`zoom.${name}`]: range && range.map(written).join('..') })

export class ChartCard {
  /** A card for a chart of a dataflow. `pick(point)` is called for a point that is picked. */
  constructor(dataflow, about, { pick } = {}) {
    Object.assign(this, { dataflow, about })
    this.legend = h('div', { class: 'legend' })
    this.switches = h('div', { class: 'switches' })
    this.body = h('div', { class: 'chart-place' })
    this.note = h('p', { class: 'muted small', hidden: true })
    this.element = h(
      'section',
      { class: 'card chart-card', 'aria-label': about.title },
      h('header', { class: 'card-head' }, h('div', null, h('h3', null, about.title), h('p', { class: 'muted small unit' }, about.y_label))),
      h('div', { class: 'chart-bar' }, this.legend, this.switches),
      this.body,
      this.note,
    )
    this.chart = new Chart(this.body, { height: 300, on: { zoom: (range) => zoomTo(about.name, range), pick } })
  }

  /** Asks for the numbers anew. */
  async load() {
    const state = chartState(this.about.name)
    const path = `/v1/${this.dataflow}/charts/${this.about.name}.json${state.first ? '?first=true' : ''}`
    try {
      const numbers = await get(path)
      // In the place of a failure.
      if (!this.numbers) put(this.body, this.chart.box)
      this.numbers = numbers
      this.show()
    } catch (error) {
      if (!this.numbers) put(this.body, failure(error))
    }
  }

  /** Shows what the address says. */
  show() {
    const {
      numbers,
      about: { name },
    } = this
    if (!numbers) return undefined
    const state = chartState(name)
    if (state.first && !numbers.first) return this.load()
    this.chart.show(figure(numbers), { ...state, first: state.first ? figure(numbers.first) : undefined })
    this.showLegend(numbers, state)
    this.showSwitches(numbers, state)
    this.note.hidden = !state.first
    if (state.first) this.note.textContent = moved(numbers)
    return undefined
  }

  showLegend(numbers, { off }) {
    const { name } = this.about
    const there = new Map()
    for (const layer of numbers.layers) for (const series of layer.series) if (!there.has(series.place)) there.set(series.place, layer.kind)
    const toggle = (series) => {
      const next = new Set(off)
      if (!next.delete(series)) next.add(series)
      change({ [`off.${name}`]: [...next] }, true)
    }
    const entries = [...there]
      .sort(([a], [b]) => a - b)
      .map(([index, kind]) => {
        const series = numbers.names[index]
        return h(
          'button',
          {
            class: 'entry',
            type: 'button',
            'aria-pressed': String(!off.has(series)),
            title: 'show or hide',
            onclick: () => toggle(series),
          },
          h('i', { class: `swatch s${index % 8} ${kind}` }),
          series,
        )
      })
    keepFocus(this.legend, entries.length > 1 ? entries : [])
  }

  showSwitches(numbers, state) {
    const { name } = this.about
    const flag = (kind, is, label, title) =>
      h(
        'button',
        {
          type: 'button',
          class: 'switch',
          'aria-pressed': String(is),
          title,
          onclick: () => change({ [`${kind}.${name}`]: kind === 'flat' ? is : !is }, true),
        },
        label,
      )
    keepFocus(
      this.switches,
      [
        state.zoom && h('button', { type: 'button', class: 'switch on', onclick: () => zoomTo(name, undefined) }, 'Reset zoom'),
        canStack(numbers) && !state.log && flag('flat', state.stacked, 'Stacked', 'series on top of one another'),
        canLog(numbers) && flag('log', state.log, 'Log', 'a logarithmic axis'),
        hasFirst(numbers) && flag('first', state.first, 'First values', 'what each day had when it was over, before late events moved it'),
      ].filter(Boolean),
    )
  }
}

/** Replaces children, and leaves the focus on the one that stands where it was. */
function keepFocus(element, children) {
  const at = [...element.children].indexOf(document.activeElement)
  const label = at >= 0 && document.activeElement.textContent
  put(element, children)
  if (at >= 0) refocus([...element.children].find((child) => child.textContent === label) ?? element.children[at])
}

/** How far numbers have moved since they were first known, in a sentence. */
export function moved(numbers) {
  const add = (of) => {
    const days = new Map()
    for (const layer of of.layers)
      for (const series of layer.series) {
        series.days.forEach((day, index) => days.set(`${series.place} ${day}`, [day, series.values[index]]))
      }
    return days
  }
  const [now, first] = [add(numbers), add(numbers.first)]
  const changes = []
  for (const key of new Set([...now.keys(), ...first.keys()])) {
    const [day] = now.get(key) ?? first.get(key)
    const difference = (now.get(key)?.[1] ?? 0) - (first.get(key)?.[1] ?? 0)
    if (Math.abs(difference) > 1e-9) changes.push([day, numbers.names[Number(key.split(' ')[0])], difference])
  }
  if (!changes.length) return 'Dashed: the first values. No day has moved since it was over.'
  const days = new Set(changes.map(([day]) => day)).size
  const [day, series, difference] = changes.sort((a, b) => Math.abs(b[2]) - Math.abs(a[2]))[0]
  const sign = difference > 0 ? '+' : '−'
  return `Dashed: the first values. ${days === 1 ? '1 day has moved since it was over' : `${days} days have moved since they were over`}, the most ${day} (${series}): ${sign}${exact(Math.abs(difference))}.`
}
