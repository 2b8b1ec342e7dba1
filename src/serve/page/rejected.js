// Records that were refused, by reason, with samples; and their replay.

import { dataflows, get, postJson } from './api.js'
import { failure, h, put, rowsTable } from './dom.js'
import { count, many } from './format.js'
import { kind } from './reasons.js'
import { mayWrite, whyNot } from './session.js'
import { switcher } from './switcher.js'

/** So many records are looked at. */
const LOOKED_MAX = 10000
const SAMPLES_MAX = 3

/** The view. */
export async function rejected(root, { name }) {
  const all = await dataflows()
  const of = all.find((about) => about.name === name) ?? all[0]
  const body = h('div')
  put(
    root,
    h(
      'header',
      { class: 'view-head' },
      h(
        'div',
        null,
        h('h1', null, 'Rejected'),
        h(
          'p',
          { class: 'muted' },
          'Records that could not be read, by reason. After a fix, of the data or of a mapping, they can be read again.',
        ),
      ),
    ),
    switcher('rejected', all, of),
    body,
  )
  const results = new Map()
  const update = async (moved) => {
    if (moved && !(of.name in moved)) return
    try {
      const rows = await get(`/v1/${of.name}/rejected?limit=${LOOKED_MAX}`)
      put(body, reasons(of.name, rows, results, update))
    } catch (error) {
      put(body, failure(error))
    }
  }
  await update()
  return { update }
}

function reasons(dataflow, rows, results, update) {
  if (!rows.length) return h('p', { class: 'card calm' }, 'Nothing was rejected.')
  const groups = new Map()
  for (const row of rows) {
    const key = `${row.input}\n${kind(row.reason)}`
    if (!groups.has(key)) groups.set(key, [])
    groups.get(key).push(row)
  }
  const sorted = [...groups.values()].sort((a, b) => b.length - a.length)
  const of = rows.length >= LOOKED_MAX ? `the first ${count(rows.length)} records` : many(rows.length, 'record')
  return [
    h('p', { class: 'muted' }, `${of}, ${many(sorted.length, 'reason')}`),
    sorted.map((group) => reason(dataflow, group, results, update)),
  ]
}

function reason(dataflow, group, results, update) {
  const { input, reason: first } = group[0]
  // Where they differ in their values alone, all of that kind.
  const text = group.every((row) => row.reason === first) ? first : kind(first)
  const told = results.get(text) ?? h('div', { class: 'small', 'aria-live': 'polite' })
  results.set(text, told)
  const replay = async (event) => {
    event.target.disabled = true
    put(told, 'Reading them again…')
    try {
      const answer = await postJson(`/v1/${dataflow}/rejected/replay`, { reason: text })
      const facts = Object.entries(answer)
        .filter(([, value]) => typeof value === 'number')
        .map(([name, value]) => `${name.replaceAll('_', ' ')}: ${count(value)}`)
      put(told, `Replayed. ${facts.join(', ')}`)
      await update()
    } catch (error) {
      put(told, failure(error))
    }
    event.target.disabled = !mayWrite()
  }
  return h(
    'section',
    { class: 'card reason' },
    h(
      'header',
      { class: 'card-head' },
      h('div', null, h('h3', null, text), h('p', { class: 'muted small' }, `${many(group.length, 'record')} of ${input}`)),
      h(
        'button',
        { type: 'button', disabled: !mayWrite(), title: whyNot() ?? 'reads these records again', onclick: replay },
        mayWrite() ? 'Replay' : 'Replay needs a write token',
      ),
    ),
    rowsTable(
      [['source'], ['line', 'number'], ['record']],
      group
        .slice(0, SAMPLES_MAX)
        .map((row) =>
          h('tr', null, h('td', null, row.source), h('td', { class: 'number' }, row.line), h('td', null, h('code', null, row.raw ?? ''))),
        ),
      'samples',
    ),
    group.length > SAMPLES_MAX && h('p', { class: 'muted small' }, `and ${count(group.length - SAMPLES_MAX)} more`),
    told,
  )
}
