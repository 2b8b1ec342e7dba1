// How a number became what it is: the changes of a row, each with its batch, the last first.

import { get, query } from './api.js'
import { badge, failure, h, put, refocus } from './dom.js'
import { cell, duration, instant, many, time } from './format.js'
import { change, place } from './url.js'

let panel
let before
let shown

/** Opens the panel for a row: its dataflow, its table, and a value for each column of the key. */
export function why(dataflow, table, key) {
  change({ why: JSON.stringify([dataflow, table, key]) })
}

const close = () => change({ why: undefined })

/** Shows what the address says: a panel, or none. */
export async function showWhy() {
  const given = place().parameters.get('why')
  if (given === shown) return
  shown = given
  const wasOpen = panel !== undefined
  panel?.remove()
  panel = undefined
  if (!given) {
    // Its row may have been drawn anew meanwhile.
    const row = () => [...document.querySelectorAll('tr[data-key]')].find((one) => one.dataset.key === before?.dataset.key)
    refocus(before?.isConnected ? before : row())
    return
  }
  let [dataflow, table, key] = []
  try {
    ;[dataflow, table, key] = JSON.parse(given)
  } catch {
    /* Somebody wrote it by hand. */
  }
  if (!key) return
  if (!wasOpen) before = document.activeElement
  const body = h('div', { class: 'why-body', 'aria-live': 'polite' }, h('p', { class: 'muted' }, 'Looking…'))
  const button = h('button', { type: 'button', class: 'quiet', 'aria-label': 'Close', onclick: close }, '✕')
  panel = h(
    'aside',
    { class: 'why', role: 'dialog', 'aria-label': 'Why', tabindex: '-1', onkeydown: onKey },
    h('header', null, h('div', null, h('h2', null, 'Why?'), h('p', { class: 'muted small' }, `${dataflow}.${table}`)), button),
    h(
      'dl',
      { class: 'key' },
      Object.entries(key).map(([name, value]) => [h('dt', null, name), h('dd', null, value === '' ? 'none' : value)]),
    ),
    body,
  )
  document.body.append(panel)
  button.focus()
  try {
    const answer = await get(`/v1/${dataflow}/tables/${table}/why${query(key)}`)
    put(body, told(answer, key))
  } catch (error) {
    put(body, failure(error))
    // When the service is back, it is asked again.
    if (error.status === 0 && given === shown) shown = null
  }
}

function onKey(event) {
  if (event.key === 'Escape') close()
  if (event.key !== 'Tab') return
  // The focus stays within.
  const inside = [...panel.querySelectorAll('button, a[href], summary')]
  const [first, last] = [inside[0], inside.at(-1)]
  if (event.shiftKey && document.activeElement === first) last.focus()
  else if (!event.shiftKey && document.activeElement === last) first.focus()
  else return
  event.preventDefault()
}

function told(answer, key) {
  const { changes, changes_from: from } = answer
  const since = from > 0 && h('p', { class: 'muted small' }, `Changes are kept from batch ${from + 1} on.`)
  if (!changes.length)
    return [h('p', null, 'No change of this row is kept: it has been as it is since before that, or it never was there.'), since]
  const moved = changes.length - 1
  const summary = moved ? `It has changed ${many(moved, 'time')} since it was first there.` : 'It came once, and has not changed since.'
  return [
    h('p', null, summary),
    h(
      'ol',
      { class: 'history' },
      changes.map((one) => h('li', null, head(one, key), difference(one, key))),
    ),
    since,
  ]
}

function head({ epoch, arrived, batch, late, records }, key) {
  const lag = behind(arrived, key)
  return h(
    'div',
    { class: 'history-head' },
    h('strong', null, `Batch ${epoch}`),
    ' ',
    late && [badge('late records', 'warn', 'this batch had records that came late'), ' '],
    h('span', { class: 'muted' }, time(arrived)),
    h(
      'div',
      { class: 'small' },
      batch.name && batch.name !== '-' ? `from ${batch.name}` : 'without a name',
      batch.parts > 1 && ` in ${batch.parts} parts`,
      batch.key && h('span', { class: 'muted' }, ` · key ${batch.key}`),
    ),
    typeof records === 'number' && h('div', { class: 'muted small' }, `${many(records, 'record')} of it with this key`),
    lag && h('div', { class: 'muted small' }, lag),
  )
}

/** How long after its day a change arrived, in words. */
function behind(arrived, key) {
  const day = Object.values(key).find((value) => /^\d{4}-\d\d-\d\d/.test(value))
  const [end, at] = [day && instant(day), arrived && Date.parse(arrived.includes('T') ? arrived : `${arrived.replace(' ', 'T')}Z`)]
  if (end === undefined || !(at > end + 86400e3)) return undefined
  return `${duration(at - end - 86400e3)} after that day was over`
}

function difference({ old, new: now }, key) {
  const names = Object.keys(old ?? now).filter((name) => !(name in key))
  const value = (row, name) => (row[name] === null ? 'none' : String(cell(row[name])))
  const row = (name) => {
    const changed = old && now && old[name] !== now[name]
    if (old && now && !changed) return undefined
    return h(
      'tr',
      null,
      h('th', { scope: 'row' }, name),
      h(
        'td',
        null,
        old && h('s', { class: 'old', title: String(old[name]) }, value(old, name)),
        old && now && ' → ',
        now && h('b', { title: String(now[name]) }, value(now, name)),
        now && old && typeof now[name] === 'number' && gain(now[name] - old[name]),
      ),
    )
  }
  return [
    h('p', { class: 'small what' }, old ? (now ? 'It changed:' : 'It went:') : 'It came:'),
    h('table', { class: 'difference' }, names.map(row)),
  ]
}

const gain = (number) => h('span', { class: `gain ${number < 0 ? 'down' : 'up'}` }, `${number < 0 ? '−' : '+'}${cell(Math.abs(number))}`)
