// What was fed, when, how long it took, and what it changed.

import { dataflows, get } from './api.js'
import { badge, failure, h, put, rowsTable } from './dom.js'
import { count, duration, time } from './format.js'
import { switcher } from './switcher.js'
import { change, link, place } from './url.js'

const STEP = 50

/** The view. */
export async function batches(root, { name }) {
  const all = await dataflows()
  const of = all.find((about) => about.name === name) ?? all[0]
  const body = h('div', { class: 'card' })
  put(
    root,
    h(
      'header',
      { class: 'view-head' },
      h('div', null, h('h1', null, 'Batches'), h('p', { class: 'muted' }, 'What was fed, the last first, and what it changed.')),
    ),
    switcher('batches', all, of),
    body,
  )
  const seen = new Set()
  const update = async (moved) => {
    if (moved && !(of.name in moved)) return
    const limit = Number(place().parameters.get('limit')) || STEP
    try {
      const { batches: rows } = await get(`/v1/${of.name}/batches?limit=${limit}`)
      const isFirst = seen.size === 0
      put(
        body,
        rows.length ? table(of.name, rows, (epoch) => !isFirst && !seen.has(epoch)) : h('p', { class: 'muted' }, 'No batch has come.'),
        rows.length >= limit && h('button', { type: 'button', onclick: () => change({ limit: limit + STEP }, true) }, 'Show more'),
      )
      rows.forEach((row) => seen.add(row.epoch))
    } catch (error) {
      put(body, failure(error))
    }
  }
  await update()
  return { update, change: () => update() }
}

function table(dataflow, rows, isNew) {
  const heads = [
    ['batch', 'number'],
    ['arrived'],
    ['name'],
    ['records', 'number'],
    ['late', 'number'],
    ['rejected', 'number'],
    ['took', 'number'],
    ['changed rows'],
  ]
  const most = Math.max(1, ...rows.map((row) => row.ms ?? 0))
  const took = (ms) => {
    const bar = h('i', { class: 'took-bar', 'aria-hidden': 'true' })
    bar.style.width = `${Math.max(2, Math.round((ms / most) * 40))}px`
    return [bar, duration(ms)]
  }
  const row = (batch) =>
    h(
      'tr',
      { class: isNew(batch.epoch) ? 'new' : undefined },
      h('td', { class: 'number' }, batch.epoch),
      h('td', { class: 'nowrap' }, time(batch.arrived)),
      h(
        'td',
        null,
        batch.name && batch.name !== '-' ? batch.name : h('span', { class: 'muted' }, '–'),
        batch.parts > 1 && h('span', { class: 'muted small nowrap' }, ` ${batch.parts} parts`),
      ),
      h('td', { class: 'number' }, count(batch.accepted)),
      h('td', { class: 'number' }, batch.late ? badge(count(batch.late), 'warn') : '0'),
      h('td', { class: 'number' }, batch.rejected ? badge(count(batch.rejected), 'bad') : '0'),
      h('td', { class: 'number nowrap' }, batch.ms !== null && batch.ms !== undefined ? took(batch.ms) : '–'),
      h('td', { class: 'changed' }, changes(dataflow, batch.changed)),
    )
  return rowsTable(heads, rows.map(row))
}

/** How many rows of each table changed. */
export function changes(dataflow, changed) {
  const rows = Object.entries(changed ?? {}).filter(([, number]) => number > 0)
  if (!rows.length) return h('span', { class: 'muted' }, 'none')
  return rows.map(([name, number]) =>
    h('a', { class: 'chip small', href: link(`dataflow/${dataflow}`, { table: name }) }, `${name} `, h('b', null, count(number))),
  )
}
