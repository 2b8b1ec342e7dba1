// A chart of a figure, drawn as SVG: the pointer or the arrow keys show exact values, dragging zooms, a click or Enter picks a point.

import { h, put, svg } from './dom.js'
import { exact, moment, tick } from './format.js'
import { extent, range, shapes, valuesAt } from './figure.js'
import { logTicks, nearest, scale, ticks, timeLabel, timeTicks } from './scale.js'

const MARGIN = { top: 12, right: 14, bottom: 26, left: 52 }
/** Fewer pixels are a click and no zoom. */
const DRAG_MIN = 6

export class Chart {
  /** Draws into an element. `on.zoom(range)`, `on.pick(point)`. */
  constructor(place, { height = 280, compact = false, on = {} } = {}) {
    Object.assign(this, { height, compact, on, options: { off: new Set(), stacked: true } })
    this.picture = svg('svg', { class: 'plot', role: 'img' })
    this.tip = h('div', { class: 'tip', hidden: true })
    this.box = h('div', { class: `chart${compact ? ' compact' : ''}`, tabindex: compact ? undefined : 0 }, this.picture, this.tip)
    put(place, this.box)
    new ResizeObserver(() => this.draw()).observe(this.box)
    this.listen()
  }

  /** Shows this figure. Options: `off`, a set of names; `stacked`, `log`, `first`, `zoom`. */
  show(figure, options = {}) {
    this.figure = figure
    Object.assign(this.options, { first: undefined, zoom: undefined }, options)
    this.draw()
  }

  draw() {
    const [width, height] = [this.box.clientWidth, this.height]
    if (!this.figure || !width) return
    this.picture.setAttribute('viewBox', `0 0 ${width} ${height}`)
    this.picture.setAttribute('height', height)
    this.picture.setAttribute(
      'aria-label',
      `${this.figure.title}. ${this.compact ? '' : 'Arrow keys show values, Enter tells why, plus and minus zoom.'}`,
    )
    const margin = this.compact ? { ...MARGIN, left: 40, top: 8, right: 8, bottom: 22 } : MARGIN
    const all = extent(this.figure)
    if (!all) {
      put(this.picture, svg('text', { class: 'empty', x: width / 2, y: height / 2 }, 'nothing to draw yet'))
      this.drawn = undefined
      return
    }
    const zoom = this.options.zoom ?? all
    const isLog = this.options.log && this.figure.isDated
    const drawn = shapes(this.figure, { ...this.options, stacked: this.options.stacked && !isLog })
    const values = range(drawn, zoom, isLog)
    const x = scale(zoom, [margin.left, width - margin.right])
    const y = scale(values, [height - margin.bottom, margin.top], isLog)
    this.drawn = { drawn, x, y, zoom, all, width, height, margin, places: placesOf(drawn, zoom) }
    const clip = `clip-${(Chart.count = (Chart.count ?? 0) + 1)}`
    const [left, right, top, bottom] = [margin.left, width - margin.right, margin.top, height - margin.bottom]
    put(
      this.picture,
      svg(
        'defs',
        null,
        svg('clipPath', { id: clip }, svg('rect', { x: left, y: 0, width: Math.max(right - left, 0), height: bottom + 1 })),
      ),
      this.grid(values, isLog, y, left, right),
      this.axis(zoom, x, bottom, right - left),
      svg(
        'g',
        { 'clip-path': `url(#${clip})` },
        drawn.map((shape) => draw(shape, x, y, this.figure.step, bottom)),
        this.today(x, top, bottom),
      ),
      (this.cursor = svg('g', { class: 'cursor' })),
      (this.selection = svg('rect', { class: 'selection', y: top, height: bottom - top, visibility: 'hidden' })),
    )
    if (this.at !== undefined) this.point(this.at)
  }

  grid(values, isLog, y, left, right) {
    const marks = isLog ? logTicks(...values) : ticks(...values, Math.max(2, Math.round(this.height / 56)), this.figure.counts)
    return svg(
      'g',
      { class: 'rules' },
      marks.map((mark) => [
        svg('line', { x1: left, x2: right, y1: y(mark), y2: y(mark), class: mark === 0 ? 'zero' : undefined }),
        svg('text', { x: left - 8, y: y(mark) + 4, 'text-anchor': 'end' }, tick(mark)),
      ]),
    )
  }

  axis(zoom, x, bottom, width) {
    const text = (at, label, anchor) => svg('text', { x: x(at), y: bottom + 18, 'text-anchor': anchor ?? 'middle' }, label)
    if (!this.figure.isDated) {
      const room = Math.max(3, Math.floor(width / this.figure.categories.length / 7))
      return svg(
        'g',
        { class: 'axis' },
        this.figure.categories.map((name, place) => {
          const label = text(place, name.length > room ? `${name.slice(0, room - 1)}…` : name)
          label.append(svg('title', null, name))
          return label
        }),
      )
    }
    const { marks, unit } = timeTicks(...zoom, Math.max(2, Math.floor(width / 95)))
    const edge = (at) => (x(at) > this.drawn.width - 40 ? 'end' : 'middle')
    return svg(
      'g',
      { class: 'axis' },
      marks.map((mark, place) => [
        svg('line', { x1: x(mark), x2: x(mark), y1: bottom, y2: bottom + 4 }),
        text(mark, timeLabel(mark, unit, place === 0), edge(mark)),
      ]),
    )
  }

  today(x, top, bottom) {
    const { today, step } = this.figure
    if (today === undefined) return undefined
    const at = x(today)
    return svg(
      'g',
      { class: 'today' },
      svg(
        'rect',
        { x: x(today - step / 2), y: top, width: Math.max(x(today + step / 2) - x(today - step / 2), 1), height: bottom - top },
        svg('title', null, 'the day of as-of: it is not over'),
      ),
      svg('line', { x1: at, x2: at, y1: top, y2: bottom }),
    )
  }

  listen() {
    const { box } = this
    const at = (event) => event.clientX - this.picture.getBoundingClientRect().left
    box.addEventListener('pointermove', (event) => {
      if (!this.drawn) return
      if (this.drag) this.dragTo(at(event))
      this.point(this.near(at(event)), event)
    })
    box.addEventListener('pointerleave', () => !this.drag && this.clear())
    if (this.compact) return
    box.addEventListener('pointerdown', (event) => {
      if (event.button !== 0 || !this.drawn) return
      this.drag = { from: at(event), to: at(event) }
      box.setPointerCapture(event.pointerId)
    })
    box.addEventListener('pointerup', (event) => {
      const { drag } = this
      this.drag = undefined
      this.selection?.setAttribute('visibility', 'hidden')
      if (!drag || !this.drawn) return
      if (Math.abs(drag.to - drag.from) < DRAG_MIN) this.pick(event.clientY - this.picture.getBoundingClientRect().top)
      else this.zoom([drag.from, drag.to].sort((a, b) => a - b).map(this.drawn.x.invert))
    })
    box.addEventListener('pointercancel', () => {
      this.drag = undefined
    })
    box.addEventListener('dblclick', () => this.on.zoom?.(undefined))
    box.addEventListener('keydown', (event) => this.key(event))
    box.addEventListener('blur', () => this.clear())
  }

  key(event) {
    const { places } = this.drawn ?? {}
    if (!places?.length) return
    const now = this.at === undefined ? undefined : places.indexOf(this.at)
    const step = event.shiftKey ? 10 : 1
    const moves = { ArrowLeft: (now ?? places.length) - step, ArrowRight: (now ?? -1) + step, Home: 0, End: places.length - 1 }
    if (event.key in moves) this.point(places[Math.min(Math.max(moves[event.key], 0), places.length - 1)])
    else if (event.key === 'Enter' && this.at !== undefined) this.pick()
    else if (event.key === 'Escape' && this.at !== undefined) this.clear()
    else if (event.key === '+' || event.key === '-') this.zoomBy(event.key === '+' ? 0.5 : 2)
    else if (event.key === '0') this.on.zoom?.(undefined)
    else return
    event.preventDefault()
    event.stopPropagation()
  }

  zoomBy(factor) {
    const {
      zoom: [from, until],
      all,
    } = this.drawn
    const middle = this.at ?? (from + until) / 2
    const wanted = [middle - (middle - from) * factor, middle + (until - middle) * factor]
    this.zoom(wanted[0] <= all[0] && wanted[1] >= all[1] ? undefined : wanted)
  }

  zoom(wanted) {
    if (!wanted) return this.on.zoom?.(undefined)
    const { all } = this.drawn
    const { step } = this.figure
    let [from, until] = [Math.max(wanted[0], all[0]), Math.min(wanted[1], all[1])]
    if (until - from < 2 * step) {
      const middle = (from + until) / 2
      ;[from, until] = [middle - step, middle + step]
    }
    return this.on.zoom?.([from, until])
  }

  dragTo(to) {
    this.drag.to = to
    const [left, right] = [Math.min(this.drag.from, to), Math.max(this.drag.from, to)]
    if (right - left < DRAG_MIN) return
    for (const [name, value] of Object.entries({ x: left, width: right - left, visibility: 'visible' }))
      this.selection.setAttribute(name, value)
  }

  near(place) {
    const { places, x } = this.drawn
    const found = nearest(places, x.invert(place))
    return found < 0 ? undefined : places[found]
  }

  clear() {
    this.at = undefined
    this.tip.hidden = true
    if (this.cursor) put(this.cursor)
  }

  /** Shows what stands at a place. */
  point(at) {
    const { drawn, x, y, margin, width, height } = this.drawn ?? {}
    if (at === undefined || !drawn || x(at) < margin.left - 1 || x(at) > width - margin.right + 1) return this.clear()
    this.at = at
    const values = valuesAt(drawn, at)
    put(
      this.cursor,
      svg('line', { x1: x(at), x2: x(at), y1: margin.top, y2: height - margin.bottom }),
      values
        .filter(({ shape }) => shape.kind !== 'band')
        .map(({ shape, y: value }) => svg('circle', { cx: x(at), cy: y(value), r: 3.5, class: `s${shape.place % 8}` })),
    )
    put(this.tip, this.told(at, values))
    this.tip.hidden = false
    const box = this.tip.getBoundingClientRect()
    const left = x(at) + 14 + box.width > width ? x(at) - 14 - box.width : x(at) + 14
    this.tip.style.left = `${Math.max(Math.min(left, width - box.width), 0)}px`
    this.tip.style.top = `${margin.top}px`
    return undefined
  }

  told(at, values) {
    const { figure } = this
    const title = figure.isDated ? moment(at, figure.step === 86400e3) : figure.categories[at]
    const rows = [...values].reverse().filter(({ shape }) => !shape.dashed)
    const first = new Map(values.filter(({ shape }) => shape.dashed).map((value) => [value.shape.name, value.value]))
    const text = ({ shape, value, high }) => (shape.kind === 'band' ? `${exact(value)} – ${exact(high)}` : exact(value))
    const moved = (row) => {
      const was = first.get(row.shape.name)
      if (was === undefined || was === row.value) return undefined
      return h('span', { class: 'was' }, ` was ${exact(was)}`)
    }
    const piled = rows.filter(({ shape }) => shape.kind === 'area')
    const sum = piled.reduce((total, { value }) => total + value, 0)
    return [
      h('div', { class: 'tip-title' }, title, at === figure.today && h('span', { class: 'muted' }, ' · not over')),
      h(
        'table',
        null,
        rows.map((row) =>
          h(
            'tr',
            null,
            h('td', null, h('i', { class: `swatch s${row.shape.place % 8} ${row.shape.kind}` }), row.shape.name),
            h('td', { class: 'number' }, text(row), moved(row)),
          ),
        ),
        piled.length > 1 && h('tr', { class: 'sum' }, h('td', null, 'together'), h('td', { class: 'number' }, exact(sum))),
      ),
    ]
  }

  /** Picks the series that is nearest to a height, or the uppermost one. */
  pick(height) {
    if (this.at === undefined) return
    const all = valuesAt(this.drawn.drawn, this.at).filter(({ shape }) => !shape.dashed && shape.kind !== 'band')
    // What is zero may be no row at all.
    const there = all.filter(({ value }) => value !== 0)
    const values = there.length ? there : all
    const { y } = this.drawn
    const distance = ({ shape, index, y: value }) => {
      if (height === undefined) return 0
      const [top, bottom] = [y(value), shape.low ? y(shape.low[index]) : y(value)]
      return height < top ? top - height : Math.max(height - bottom, 0)
    }
    const [best] =
      values
        .reverse()
        .map((value) => [distance(value), value])
        .sort((a, b) => a[0] - b[0])[0]
        ?.slice(1) ?? []
    if (best) this.on.pick?.({ at: this.at, layer: best.shape.layer, name: best.shape.name, value: best.value })
  }
}

/** All places within a range at which something stands. */
function placesOf(drawn, [from, until]) {
  const places = new Set(drawn.flatMap(({ x }) => x))
  return [...places].filter((at) => at >= from && at <= until).sort((a, b) => a - b)
}

const d = (number) => Math.round(number * 10) / 10

/** A path through points; it breaks where more than a step lies between them. */
function path(x, y, points, gap) {
  let last
  return points
    .map(([at, value]) => {
      const begins = last === undefined || at - last > gap
      last = at
      // A point that stands alone is a dot.
      return `${begins ? 'M' : 'L'}${d(x(at))} ${d(y(value))}${begins ? 'h0' : ''}`
    })
    .join('')
}

function draw(shape, x, y, step, bottom) {
  const { kind, place, low, dashed } = shape
  const points = shape.x.map((at, index) => [at, shape.y[index]])
  const name = `${kind} s${place % 8}${dashed ? ' dashed' : ''}`
  if (kind === 'bars') {
    const width = Math.max((x(step) - x(0)) * 0.78, 1)
    const bars = points.map(([at, value], index) => {
      const [top, foot] = [y(value), y(Math.max(low[index], 0) || 0)]
      return value === low[index] ? '' : `M${d(x(at) - width / 2)} ${d(top)}h${d(width)}V${d(Math.min(foot, bottom))}h${-d(width)}z`
    })
    return svg('path', { class: name, d: bars.join('') })
  }
  if (kind === 'line') {
    const gap = (shape.layer.gap ?? step) * 1.5
    const alone = points.length === 1 && svg('circle', { class: name, cx: x(points[0][0]), cy: y(points[0][1]), r: 3 })
    return [svg('path', { class: name, d: path(x, y, points, gap) }), alone].filter(Boolean)
  }
  if (kind === 'dots') return points.map(([at, value]) => svg('circle', { class: name, cx: d(x(at)), cy: d(y(value)), r: 4 }))
  const back = shape.x.map((at, index) => [at, low[index]]).reverse()
  if (!points.length) return undefined
  const around = [...points, ...back].map(([at, value]) => `${d(x(at))} ${d(y(value))}`).join('L')
  const edge = kind === 'area' ? svg('path', { class: `edge ${name}`, d: path(x, y, points, Infinity) }) : undefined
  return [svg('path', { class: name, d: `M${around}z` }), edge].filter(Boolean)
}
