// The change stream: it says when an epoch is whole, so that what is shown can be asked for anew. Where it is cut, that is shown, and it is
// taken up where it broke off.

import { get, parse, query } from './api.js'

const RETRY_MS = [300, 1000, 2000, 4000]
const ALIVE_EVERY_MS = 10000
/** Epochs that follow closely are told of together. */
const TOGETHER_MS = 700

const listeners = new Set()
const states = new Set()
let source
let followed = ''
let last = ''
let failures = 0
let timer
let state = { live: false, since: new Date(), first: true }
let moved = {}
let telling

/** Is told which dataflows have moved on, with their epochs; and with all of them after a cut. */
export function onProgress(listener) {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

/** Is told whether the stream is there, and since when not. */
export function onState(listener) {
  states.add(listener)
  listener(state)
}

function enter(live) {
  if (live === state.live && !state.first) return
  const resumed = live && !state.first
  state = { live, since: live ? undefined : (state.since ?? new Date()), resumed, first: state.first && !live }
  states.forEach((listener) => listener(state))
}

function progress(event) {
  failures = 0
  last = event.lastEventId
  enter(true)
  Object.assign(moved, parse(event.data))
  telling ??= setTimeout(() => {
    const told = moved
    telling = undefined
    moved = {}
    listeners.forEach((listener) => listener(told))
  }, TOGETHER_MS)
}

function open() {
  clearTimeout(timer)
  source?.close()
  if (!followed) return
  source = new EventSource(`/v1/changes${query({ tables: followed, since: last || undefined })}`)
  source.addEventListener('progress', progress)
  source.addEventListener('error', cut)
}

async function cut() {
  source?.close()
  source = undefined
  clearTimeout(timer)
  enter(false)
  const wait = RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]
  failures += 1
  if (failures > 1) {
    // Where the service is there all the same, it may be another one, which knows nothing of our position.
    try {
      const status = await get('/v1/status')
      const known = last.split(',').every((part) => Number(part.split(':')[1]) <= (status.dataflows[part.split(':')[0]]?.epoch ?? -1))
      if (!known) last = ''
    } catch {
      /* It is away. */
    }
  }
  timer = setTimeout(open, wait)
}

/** Follows the dataflows by these tables, one of each. */
export function follow(tables) {
  const text = tables.join(',')
  if (text === followed) return
  followed = text
  last = ''
  open()
}

/** Ends the stream, until something is followed again. */
export function stop() {
  followed = ''
  clearTimeout(timer)
  source?.close()
}

// A connection that died in silence is no event.
setInterval(async () => {
  if (!state.live) return
  try {
    await fetch('/healthz', { signal: AbortSignal.timeout(ALIVE_EVERY_MS / 2) })
  } catch {
    cut()
  }
}, ALIVE_EVERY_MS)
