// One dataflow: its charts, and below them its tables.

import { dataflows } from './api.js'
import { ChartCard } from './chartcard.js'
import { failure, h, put, refocus } from './dom.js'
import { count, moment } from './format.js'
import { TableView } from './table.js'
import { tables } from './api.js'
import { change, link, place } from './url.js'
import { why } from './why.js'

/** The view. */
export async function dataflow(root, { name }) {
  const about = (await dataflows()).find((other) => other.name === name)
  if (!about) {
    put(root, failure(new Error(`${name} is not served`)))
    return {}
  }
  const pick = (point) => picked(about, point)
  const cards = about.charts.map((chart) => new ChartCard(name, chart, { pick }))
  const table = new TableView(name)
  const tabs = h('nav', { class: 'tabs', 'aria-label': 'Tables' })
  const meaning = h('p', { class: 'muted' })
  put(
    root,
    h(
      'header',
      { class: 'view-head' },
      h('div', null, h('h1', null, name), h('p', { class: 'muted' }, about.about)),
      h(
        'nav',
        { class: 'links', 'aria-label': 'More' },
        h('a', { href: link(`batches/${name}`) }, 'Batches'),
        h('a', { href: link(`rejected/${name}`) }, 'Rejected'),
        h('a', { href: link(`feed/${name}`) }, 'Feed'),
      ),
    ),
    h(
      'div',
      { class: 'charts' },
      cards.map((card) => card.element),
    ),
    h('section', { class: 'card', id: 'tables' }, h('h2', null, 'Tables'), tabs, meaning, table.element),
  )
  const showTabs = async () => {
    const wanted = place().parameters.get('table') ?? about.tables[0]?.name
    const all = await tables(name)
    const focused = tabs.contains(document.activeElement) && document.activeElement.dataset.table
    put(
      tabs,
      all.map((one) =>
        h(
          'button',
          {
            type: 'button',
            class: 'tab',
            'data-table': one.name,
            'aria-current': one.name === wanted ? 'true' : undefined,
            onclick: () => change({ table: one.name, ...without() }),
          },
          one.name,
          h('span', { class: 'muted' }, ` ${count(one.rows)}`),
        ),
      ),
    )
    if (focused) refocus([...tabs.children].find((tab) => tab.dataset.table === focused))
    put(meaning, all.find((one) => one.name === wanted)?.about)
  }
  let address
  const showTable = async () => {
    const wanted = place().parameters.get('table') ?? about.tables[0]?.name
    address = wanted
    await table.show(wanted)
    await showTabs()
  }
  await Promise.all([...cards.map((card) => card.load()), showTable()])
  return {
    update: (moved) => (!moved || name in moved) && Promise.all([...cards.map((card) => card.load()), showTable()]),
    change: () => {
      cards.forEach((card) => card.show())
      const wanted = place().parameters.get('table') ?? about.tables[0]?.name
      return wanted === address ? table.load() : showTable()
    },
  }
}

/** Parameters of a table that do not hold for another one. */
function without() {
  const gone = { sort: undefined, from: undefined, to: undefined, page: undefined }
  for (const name of place().parameters.keys()) if (name.startsWith('f.')) gone[name] = undefined
  return gone
}

/** A point was picked: why it is what it is, or where it is made of many rows, these. */
async function picked(about, { at, layer, name }) {
  const all = await tables(about.name)
  const table = all.find((one) => one.name === layer.table)
  if (!table) return
  const keys = table.columns.filter((column) => column.key).map((column) => column.name)
  const isCount = layer.columns.length === 0
  const value = isCount ? undefined : moment(at, true)
  const wanted = [layer.x, layer.by].filter(Boolean)
  if (!isCount && keys.length === wanted.length && keys.every((key) => wanted.includes(key))) {
    why(about.name, table.name, Object.fromEntries(keys.map((key) => [key, key === layer.x ? value : name])))
    return
  }
  const day = isCount ? {} : { from: value, to: moment(at + 86400e3, true) }
  change({ ...without(), table: table.name, ...day, ...(layer.by ? { [`f.${layer.by}`]: name } : {}) })
  document.querySelector('#tables')?.scrollIntoView({ behavior: 'smooth' })
}
