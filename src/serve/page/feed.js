// A file is dropped: what is understood of it, then feeding it, and what that changed.

import { dataflows, post, query } from './api.js'
import { badge, failure, h, put, rowsTable } from './dom.js'
import { changes } from './batches.js'
import { count, many } from './format.js'
import { mayWrite, whyNot } from './session.js'

/** Of a larger plain file, so much is looked at. */
const LOOKED_BYTES = 4 << 20
const KINDS = {
  csv: 'text/csv',
  tsv: 'text/csv',
  txt: 'text/csv',
  json: 'application/json',
  jsonl: 'application/x-ndjson',
  ndjson: 'application/x-ndjson',
  parquet: 'application/vnd.apache.parquet',
}
const PACKINGS = { gz: 'gzip', zst: 'zstd' }

/** What a file is, by its name; nothing where that does not say it. */
export function kindOf(name) {
  const parts = name.toLowerCase().split('.')
  const packing = PACKINGS[parts.at(-1)]
  const kind = KINDS[parts.at(packing ? -2 : -1)]
  return kind && { 'content-type': kind, ...(packing ? { 'content-encoding': packing } : {}) }
}

/** The view. */
export async function feed(root, { name }) {
  const all = await dataflows()
  let [file, key] = [undefined, undefined]
  const [report, result] = [h('div', { 'aria-live': 'polite' }), h('div', { 'aria-live': 'polite' })]
  const of = h(
    'select',
    {
      id: 'of',
      onchange: () => {
        showInputs()
        check()
      },
    },
    all.map((about) => h('option', { value: about.name }, about.name)),
  )
  const input = h('select', { id: 'input', onchange: () => check() })
  const retract = h('input', { type: 'checkbox', id: 'retract' })
  const button = h(
    'button',
    { type: 'button', class: 'primary', disabled: true, onclick: () => send() },
    mayWrite() ? 'Feed it' : 'Feeding needs a write token',
  )
  const chooser = h('input', { type: 'file', id: 'file', class: 'hidden-file', onchange: () => take(chooser.files[0]) })
  const chosen = h('strong', null, 'Drop a file here')
  const drop = h(
    'label',
    { class: 'drop', for: 'file' },
    chooser,
    chosen,
    h('span', { class: 'muted' }, 'or choose one: CSV, JSON, JSON lines or Parquet, also packed with gzip or zstd'),
  )
  if (all.some((about) => about.name === name)) of.value = name

  const declared = () => all.find((about) => about.name === of.value)?.inputs.find((one) => one.name === input.value)
  function showInputs() {
    const about = all.find((one) => one.name === of.value)
    put(
      input,
      about.inputs.map((one) => h('option', { value: one.name, title: one.about }, one.name)),
    )
  }

  function take(given) {
    if (!given) return
    file = given
    key = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`
    put(chosen, `${given.name} (${count(given.size)} bytes)`)
    put(result)
    check()
  }

  async function check() {
    if (!file) return
    button.disabled = true
    const kind = kindOf(file.name)
    if (!kind) {
      put(report, failure(new Error('its name does not say what it is: .csv, .json, .jsonl or .parquet, with .gz or .zst behind it')))
      return
    }
    if (!mayWrite()) {
      put(report, h('p', { class: 'notice warn' }, 'This token may only read: looking at a file and feeding it need a write token.'))
      return
    }
    put(report, h('p', { class: 'muted' }, 'Looking at it…'))
    const isPlain = !kind['content-encoding'] && !kind['content-type'].includes('parquet')
    try {
      const part = isPlain && file.size > LOOKED_BYTES ? await whole(file.slice(0, LOOKED_BYTES)) : file
      const answer = await post(`/v1/${of.value}/${input.value}/check${query({ name: file.name })}`, part, kind)
      put(
        report,
        answer.files.map((one) => told(one, declared())),
        answer.notes.map((note) => h('p', { class: 'muted' }, note)),
      )
      button.disabled = !mayWrite()
    } catch (error) {
      put(report, failure(error))
      button.disabled = !mayWrite() || error.status === 400
    }
  }

  async function send() {
    button.disabled = true
    put(result, h('p', { class: 'muted' }, 'Feeding it…'))
    try {
      const path = `/v1/${of.value}/${input.value}${query({ name: file.name, retract: retract.checked ? 'true' : undefined })}`
      const answer = await post(path, file, {
        ...kindOf(file.name),
        'idempotency-key': `page-${key}-${of.value}-${input.value}-${retract.checked}`,
      })
      put(
        result,
        h(
          'section',
          { class: 'card fed' },
          h('h2', null, `Batch ${answer.epoch}`, answer.duplicate && badge('fed before', 'warn')),
          h(
            'p',
            null,
            `${many(answer.accepted, 'record')} ${retract.checked ? 'taken back' : 'accepted'}, `,
            `${count(answer.late)} late, ${count(answer.rejected)} rejected, in ${answer.ms} ms.`,
          ),
          h('p', null, 'It changed: ', changes(of.value, answer.changed)),
        ),
      )
    } catch (error) {
      put(result, failure(error))
    }
    button.disabled = !mayWrite()
  }

  drop.addEventListener('dragover', (event) => {
    event.preventDefault()
    drop.classList.add('over')
  })
  drop.addEventListener('dragleave', () => drop.classList.remove('over'))
  drop.addEventListener('drop', (event) => {
    event.preventDefault()
    drop.classList.remove('over')
    take(event.dataTransfer.files[0])
  })
  showInputs()
  put(
    root,
    h(
      'header',
      { class: 'view-head' },
      h(
        'div',
        null,
        h('h1', null, 'Feed'),
        h('p', { class: 'muted' }, 'Look at a file before it counts, feed it, and see what it changed.'),
      ),
    ),
    h(
      'section',
      { class: 'card feed' },
      drop,
      h(
        'div',
        { class: 'row' },
        h('label', { for: 'of' }, 'Dataflow'),
        of,
        h('label', { for: 'input' }, 'Input'),
        input,
        h('label', { class: 'check' }, retract, ' take these records back'),
        button,
        !mayWrite() && badge(whyNot(), 'warn'),
      ),
    ),
    result,
    report,
  )
  return {}
}

/** A part of a file without the line that it cuts. */
async function whole(part) {
  const text = await part.text()
  return text.slice(0, text.lastIndexOf('\n') + 1)
}

function told(seen, input) {
  if (seen.datasets !== null)
    return h('section', { class: 'card' }, h('p', null, `${many(seen.datasets, 'dataset')}, which are read as a whole.`))
  const all = seen.accepted + seen.refused
  return h(
    'section',
    { class: 'card checked' },
    h(
      'header',
      { class: 'card-head' },
      h('div', null, h('h2', null, 'What is understood of it'), h('p', { class: 'muted' }, seen.format)),
      h(
        'div',
        null,
        badge(`${count(seen.accepted)} can be read`, seen.accepted ? 'ok' : 'bad'),
        ' ',
        seen.refused > 0 && badge(`${count(seen.refused)} are refused`, 'bad'),
      ),
    ),
    h(
      'p',
      { class: 'muted small' },
      `Of ${seen.more ? 'the first ' : ''}${many(all, 'record')}.`,
      seen.zone && ` Times without an offset are read in ${seen.zone}.`,
    ),
    rowsTable(
      seen.fields.map(([field]) => [field]),
      [
        h(
          'tr',
          { class: 'origin' },
          seen.fields.map(([, origin]) => h('td', { class: 'muted small' }, origin)),
        ),
        seen.samples.map((row) =>
          h(
            'tr',
            null,
            row.map((value) => h('td', null, value)),
          ),
        ),
      ],
    ),
    seen.reasons.length > 0 &&
      h(
        'ul',
        { class: 'reasons' },
        seen.reasons
          .slice(0, 10)
          .map(({ reason, records, line }) => h('li', null, h('b', null, many(records, 'record')), ` from line ${line} on: ${reason}`)),
      ),
    input && h('p', { class: 'muted small' }, `${input.name}: ${input.about}`),
  )
}
