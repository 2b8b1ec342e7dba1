// A table: chosen rows, in an order, a page at a time; all of it in the address. What changed flashes once, with its old value beside it.

import { get, query, tables } from './api.js'
import { failure, h, put, refocus } from './dom.js'
import { cell, exact } from './format.js'
import { change, place } from './url.js'
import { why } from './why.js'

const PAGE = 25
/** What stands behind `?` and is no filter. */
const OWN = ['table', 'sort', 'from', 'to', 'page']

const isNumber = (column) => /integers|numbers/.test(column.holds)
const isDated = (column) => /^(days|times)$/.test(column.holds)

/** What the address says of the table: filters are `f.COLUMN`. */
function asked() {
  const { parameters } = place()
  const filters = [...parameters].filter(([name]) => name.startsWith('f.')).map(([name, value]) => [name.slice(2), value])
  const [, sort, from, to, page] = OWN.map((name) => parameters.get(name) ?? undefined)
  return { filters, sort, from, to, page: Math.max(1, Number(page) || 1) }
}

export class TableView {
  constructor(dataflow) {
    this.dataflow = dataflow
    this.bar = h('div', { class: 'filters' })
    this.body = h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'rows' })
    this.foot = h('footer', { class: 'table-foot' })
    this.element = h('div', { class: 'table-view' }, this.bar, this.body, this.foot)
    this.rows = new Map()
  }

  /** Shows a table as the address says. */
  async show(name) {
    let all
    try {
      all = await tables(this.dataflow, true)
    } catch (error) {
      return put(this.body, failure(error))
    }
    const about = all.find((table) => table.name === name)
    if (!about) return put(this.body, failure(new Error(`${this.dataflow} has no table ${name}`)))
    if (this.about?.name !== name) this.rows = new Map()
    this.about = about
    return this.load()
  }

  /** Asks for the rows anew. */
  async load() {
    const { about } = this
    if (!about) return
    const question = asked()
    const text = JSON.stringify([about.name, question])
    const isSame = text === this.text
    this.text = text
    this.showFilters(question)
    try {
      const rows = await get(
        `/v1/${this.dataflow}/tables/${about.name}${query({ ...this.conditions(question), limit: PAGE + 1, offset: (question.page - 1) * PAGE })}`,
      )
      if (this.text !== text) return
      this.showRows(rows, question, isSame)
      this.showFoot(rows, question)
    } catch (error) {
      if (this.text !== text) return
      put(this.body, failure(error))
      put(this.foot)
    }
  }

  /** The newest first, where a table begins with days or times. */
  order(sort) {
    const [first] = this.about.columns
    return sort ?? (isDated(first) ? `-${first.name}` : undefined)
  }

  conditions({ filters, sort, from, to }) {
    const given = {}
    for (const [column, value] of filters) (given[column] ??= []).push(value)
    return { ...given, from, to, order: this.order(sort) }
  }

  showFilters({ filters, from, to }) {
    if (this.bar.contains(document.activeElement) && document.activeElement.matches('input')) return
    const { columns } = this.about
    const dated = columns.find(isDated)
    const date = (name, value, label) =>
      h(
        'label',
        null,
        h('span', null, label),
        h('input', {
          type: 'date',
          value: (value ?? '').slice(0, 10),
          onchange: (event) => change({ [name]: event.target.value, page: undefined }),
        }),
      )
    const select = h(
      'select',
      { 'aria-label': 'column' },
      columns.map((column) => h('option', { value: column.name }, column.name)),
    )
    const value = h('input', { type: 'text', placeholder: 'value', 'aria-label': 'value', autocomplete: 'off' })
    const add = (event) => {
      event.preventDefault()
      const known = filters.filter(([column]) => column === select.value).map(([, given]) => given)
      change({ [`f.${select.value}`]: [...new Set([...known, value.value])], page: undefined })
    }
    const remove = ([column, given]) =>
      change({
        [`f.${column}`]: filters.filter(([name, other]) => name === column && other !== given).map(([, other]) => other),
        page: undefined,
      })
    put(
      this.bar,
      dated && [date('from', from, `${dated.name} from`), date('to', to, 'before')],
      h(
        'form',
        { class: 'add-filter', onsubmit: add },
        select,
        h('span', { class: 'muted' }, '='),
        value,
        h('button', { type: 'submit' }, 'Filter'),
      ),
      filters.map((filter) =>
        h(
          'button',
          { type: 'button', class: 'chip', title: 'remove this filter', onclick: () => remove(filter) },
          `${filter[0]} = ${filter[1] || 'none'} `,
          h('span', { 'aria-hidden': 'true' }, '✕'),
        ),
      ),
    )
  }

  showRows(rows, question, isSame) {
    const { columns } = this.about
    const sort = this.order(question.sort)
    const keys = columns.filter((column) => column.key)
    const key = (row) => JSON.stringify(keys.map((column) => row[column.name]))
    const before = this.rows
    this.rows = new Map(rows.slice(0, PAGE).map((row) => [key(row), row]))
    const focused = document.activeElement?.closest?.('tr')?.dataset.key
    const heads = columns.map((column) => {
      const [up, down] = [sort === column.name, sort === `-${column.name}`]
      const next = up ? `-${column.name}` : column.name
      return h(
        'th',
        { scope: 'col', class: isNumber(column) ? 'number' : undefined, 'aria-sort': up ? 'ascending' : down ? 'descending' : undefined },
        h(
          'button',
          { type: 'button', title: column.about, onclick: () => change({ sort: next, page: undefined }) },
          column.name,
          h('span', { class: 'arrow', 'aria-hidden': 'true' }, up ? '▲' : down ? '▼' : ''),
        ),
      )
    })
    const body = [...this.rows].map(([id, row]) => {
      const old = isSame && keys.length ? before.get(id) : undefined
      const isNew = isSame && keys.length > 0 && before.size > 0 && !old
      return h(
        'tr',
        { class: isNew ? 'new' : undefined, 'data-key': id, ...(keys.length ? this.opens(row, keys) : {}) },
        columns.map((column) => this.cell(row, column, old)),
      )
    })
    put(
      this.body,
      h('table', { class: 'rows' }, h('thead', null, h('tr', null, heads)), h('tbody', null, body)),
      !rows.length && h('p', { class: 'empty-rows muted' }, 'No rows.'),
    )
    if (focused) refocus([...this.body.querySelectorAll('tr')].find((row) => row.dataset.key === focused))
  }

  opens(row, keys) {
    const open = () =>
      why(
        this.dataflow,
        this.about.name,
        Object.fromEntries(keys.map((column) => [column.name, row[column.name] === null ? '' : String(row[column.name])])),
      )
    return {
      tabindex: 0,
      title: 'Why? Click, or press Enter',
      onclick: () => getSelection().isCollapsed && open(),
      onkeydown: (event) => {
        if (event.key === 'Enter') {
          event.preventDefault()
          open()
        }
        const next = { ArrowDown: 'nextElementSibling', ArrowUp: 'previousElementSibling' }[event.key]
        if (!next) return
        event.target[next]?.focus()
        event.preventDefault()
      },
    }
  }

  cell(row, column, old) {
    const value = row[column.name]
    const was = old?.[column.name]
    const changed = old !== undefined && was !== value
    const text = value === null ? h('span', { class: 'muted' }, '–') : String(cell(value))
    const classes = [isNumber(column) && 'number', changed && 'flash'].filter(Boolean).join(' ')
    return h(
      'td',
      { class: classes || undefined, title: typeof value === 'number' && !Number.isInteger(value) ? String(value) : undefined },
      changed && [h('s', { class: 'old' }, was === null ? 'none' : String(cell(was))), ' '],
      text,
    )
  }

  showFoot(rows, question) {
    const { about } = this
    const first = (question.page - 1) * PAGE
    const there = Math.min(rows.length, PAGE)
    const isWhole = !question.filters.length && !question.from && !question.to
    const of = isWhole && about.rows !== null ? ` of ${exact(about.rows)}` : rows.length > PAGE ? ' of more' : ''
    const page = (number, label, is) =>
      h('button', { type: 'button', disabled: !is, onclick: () => change({ page: number > 1 ? number : undefined }) }, label)
    const download = (format, label) =>
      h(
        'a',
        {
          href: `/v1/${this.dataflow}/tables/${about.name}${query({ format, ...this.conditions(question) })}`,
          download: `${about.name}.${format}`,
        },
        label,
      )
    put(
      this.foot,
      h('span', { class: 'muted' }, there ? `${exact(first + 1)}–${exact(first + there)}${of}` : ''),
      h(
        'span',
        { class: 'pages' },
        page(question.page - 1, '← Before', question.page > 1),
        page(question.page + 1, 'Next →', rows.length > PAGE),
      ),
      h(
        'span',
        { class: 'downloads' },
        h('span', { class: 'muted' }, 'Download'),
        download('csv', 'CSV'),
        download('json', 'JSON'),
        download('parquet', 'Parquet'),
      ),
    )
  }
}
