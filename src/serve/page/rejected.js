// Records that were refused, by reason, with samples; and their replay.

import { dataflows, get, postJson } from './api.js'
import { failure, h, put, rowsTable } from './dom.js'
import { count, many } from './format.js'
import { mayWrite, whyNot } from './session.js'
import { switcher } from './switcher.js'

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
      put(body, reasons(of.name, await get(`/v1/${of.name}/rejected/reasons`), results, update))
    } catch (error) {
      put(body, failure(error))
    }
  }
  await update()
  return { update }
}

const key = ({ input, reason }) => JSON.stringify([input, reason])

function reasons(dataflow, { records, reasons: all }, results, update) {
  const there = new Set(all.map(key))
  const gone = [...results].filter(([of]) => !there.has(of))
  return [
    gone.map(([of, told]) => h('section', { class: 'card' }, h('h3', null, JSON.parse(of)[1]), told)),
    records
      ? h('p', { class: 'muted' }, `${many(records, 'record')}, ${many(all.length, 'reason')}`)
      : h('p', { class: 'card calm' }, 'Nothing was rejected.'),
    all.map((one) => section(dataflow, one, results, update)),
  ]
}

function section(dataflow, one, results, update) {
  const { input, reason, records, samples } = one
  const told = results.get(key(one)) ?? h('div', { class: 'small', 'aria-live': 'polite' })
  const replay = async (event) => {
    event.target.disabled = true
    results.set(key(one), told)
    put(told, 'Reading them again…')
    try {
      const answer = await postJson(`/v1/${dataflow}/rejected/replay`, { reason })
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
      h('div', null, h('h3', null, reason), h('p', { class: 'muted small' }, `${many(records, 'record')} of ${input}`)),
      h(
        'button',
        { type: 'button', disabled: !mayWrite(), title: whyNot() ?? 'reads these records again', onclick: replay },
        mayWrite() ? 'Replay' : 'Replay needs a write token',
      ),
    ),
    rowsTable(
      [['source'], ['line', 'number'], ['record']],
      samples.map((row) =>
        h('tr', null, h('td', null, row.source), h('td', { class: 'number' }, row.line), h('td', null, h('code', null, row.raw ?? ''))),
      ),
      'samples',
    ),
    records > samples.length && h('p', { class: 'muted small' }, `and ${count(records - samples.length)} more`),
    told,
  )
}
