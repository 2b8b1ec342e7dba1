// The page: its frame, which view is shown, and what happens when something arrives.

import { Refused, dataflows, get, whenUnknown } from './api.js'
import { batches } from './batches.js'
import { dataflow } from './dataflow.js'
import { failure, h, put } from './dom.js'
import { feed } from './feed.js'
import { time } from './format.js'
import { follow, onEnd, onProgress, onState, stop } from './live.js'
import { overview } from './overview.js'
import { rejected } from './rejected.js'
import { hasSensors, sensors } from './sensors.js'
import { hasTokens, loadSession, login, logout } from './session.js'
import { applyTheme, otherTheme } from './theme.js'
import { link, listen, place } from './url.js'
import { showWhy } from './why.js'

const VIEWS = { overview, dataflow, sensors, rejected, feed, batches }
const app = document.querySelector('#app')
const main = document.querySelector('#main')
const nav = h('nav', { class: 'nav', 'aria-label': 'Views' })
const state = h('div', { class: 'state', role: 'status' })
const banner = h('div', { class: 'banner', role: 'alert', hidden: true })
const trouble = h('div')
const tools = h('div', { class: 'tools' })

let view = {}
let shown
let showing = 0
let making = false

function frame() {
  put(
    tools,
    h('button', { type: 'button', class: 'quiet', title: 'light or dark', 'aria-label': 'Light or dark', onclick: otherTheme }, '◐'),
    hasTokens() && h('button', { type: 'button', class: 'quiet small', onclick: logout }, 'Log out'),
  )
  put(
    app,
    h(
      'header',
      { class: 'top' },
      h('a', { class: 'brand', href: link('overview') }, h('img', { src: '/page/icon.svg', alt: '', width: 24, height: 24 }), 'retally'),
      nav,
      state,
      tools,
    ),
    banner,
    trouble,
    main,
  )
}

/** What was refused and no view shows stands above it. That nobody answers, or asks who is there, is seen without. */
function complain(error) {
  if (!(error instanceof Refused)) throw error
  if (error.status !== 0 && error.status !== 401) put(trouble, failure(error))
}

async function showNav() {
  const { view: now, name } = place()
  const all = await dataflows()
  const entry = (path, label, is) => h('a', { href: link(path), 'aria-current': is ? 'page' : undefined }, label)
  put(
    nav,
    entry('overview', 'Overview', now === 'overview'),
    h(
      'span',
      { class: 'group' },
      all.map((about) => entry(`dataflow/${about.name}`, about.name, now === 'dataflow' && name === about.name)),
    ),
    h(
      'span',
      { class: 'group' },
      hasSensors(all) && entry('sensors', 'Sensors', now === 'sensors'),
      [
        ['rejected', 'Rejected'],
        ['feed', 'Feed'],
        ['batches', 'Batches'],
      ].map(([path, label]) => entry(path, label, now === path)),
    ),
  )
  // On a phone there is no room for all of them.
  const current = nav.querySelector('[aria-current]')
  if (current) nav.scrollLeft = Math.max(0, current.offsetLeft + current.offsetWidth - nav.offsetLeft - nav.clientWidth)
}

/** Shows what the address says: another view, or the same one changed. */
async function show() {
  applyTheme()
  const now = place()
  const text = `${now.view}/${now.names.join('/')}`
  put(trouble)
  showWhy()
  if (text === shown) {
    try {
      await showNav()
      await view.change?.()
    } catch (error) {
      complain(error)
    }
    return
  }
  shown = text
  const { hash } = location
  showing += 1
  const mine = showing
  view.leave?.()
  view = {}
  making = true
  try {
    await showNav()
    const root = h('div', { class: 'view', 'data-view': now.view })
    document.title = `${now.name || now.view} · retally`
    put(main, root)
    scrollTo(0, 0)
    const made = await (VIEWS[now.view] ?? missing)(root, now)
    if (mine === showing) view = made
    else made.leave?.()
  } catch (error) {
    if (mine !== showing) return
    if (error.status !== 401) put(main, failure(error))
    shown = undefined
  } finally {
    if (mine === showing) {
      making = false
      // Somebody may have gone on before there was a view to tell.
      if (location.hash !== hash) await show()
      next()
    }
  }
}

async function missing(root) {
  put(root, failure(new Error('there is no such view')), h('p', null, h('a', { href: link('overview') }, 'Overview')))
  return {}
}

/** One table of each dataflow, the smallest, is followed: its progress says that there is something new. */
const smallest = (of) =>
  Object.entries(of).flatMap(([name, { tables }]) => {
    const [table] = Object.entries(tables ?? {}).sort((a, b) => a[1] - b[1])
    return table ? [`${name}.${table[0]}`] : []
  })

let updating = false
/** What has moved while a view was busy; nothing stands for all. */
let waiting = []

/** Shows what is new; while a view is being made or does that, what comes next waits. */
async function update(moved) {
  if (making || updating) {
    waiting.push(moved)
    return
  }
  updating = true
  try {
    await view.update?.(moved)
    put(trouble)
  } catch (error) {
    complain(error)
  } finally {
    updating = false
  }
  next()
}

function next() {
  if (making || updating || !waiting.length) return
  const all = waiting.includes(undefined) ? undefined : Object.assign({}, ...waiting)
  waiting = []
  update(all)
}

function showState({ live, since, resumed, first }) {
  const word = live ? 'Live' : first ? 'Connecting' : 'Cut off'
  put(state, h('i', { class: `dot ${live ? 'ok' : first ? '' : 'bad'}` }), word)
  banner.hidden = live || first
  if (!live && !first) put(banner, `Cut off since ${time(since.toISOString())}. What is shown may be old; trying again…`)
  if (resumed) show().then(() => update(undefined))
}

async function begin() {
  applyTheme()
  let session
  try {
    session = await loadSession()
  } catch (error) {
    put(main, failure(error))
    setTimeout(begin, 2000)
    return
  }
  if (!session.access) {
    shown = undefined
    view.leave?.()
    view = {}
    stop()
    put(app, main)
    login(main, begin)
    return
  }
  frame()
  let status
  try {
    status = await get('/v1/status')
  } catch (error) {
    put(main, failure(error))
    setTimeout(begin, 2000)
    return
  }
  // What is shown is at least of these epochs.
  const epochs = Object.fromEntries(Object.entries(status.dataflows).map(([name, { epoch }]) => [name, epoch]))
  await show()
  follow(smallest(status.dataflows), epochs)
}

let asking = false
function askWho() {
  // The session has ended.
  if (asking) return
  asking = true
  setTimeout(() => {
    asking = false
    begin()
  })
}
whenUnknown(askWho)
onEnd(askWho)
// What a click asked for, say.
addEventListener('unhandledrejection', (event) => {
  if (!(event.reason instanceof Refused)) return
  event.preventDefault()
  complain(event.reason)
})
onState(showState)
onProgress(update)
listen(show)
begin()
