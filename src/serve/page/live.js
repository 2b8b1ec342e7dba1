// What the change stream says, for this page: that an epoch is whole, so that what is shown can be asked for anew; and that it is cut.

import { Stream } from './stream.js'

/** After something was told, what follows so closely is told of together. */
const TOGETHER_MS = 700

const listeners = new Set()
const states = new Set()
const ends = new Set()
let followed = []
let state = { live: false, since: new Date(), first: true }
/** The last epochs that were told of. */
let known = {}
let moved = {}
let telling

/** Is told which dataflows have moved on, with their epochs. */
export const onProgress = (listener) => listeners.add(listener)

/** Is told that the stream has ended, because nobody is logged in. */
export const onEnd = (listener) => ends.add(listener)

/** Is told whether the stream is there, and since when not. */
export function onState(listener) {
  states.add(listener)
  listener(state)
}

function live(is) {
  if (is === state.live && !state.first) return
  const resumed = is && !state.first
  state = { live: is, since: is ? undefined : (state.since ?? new Date()), resumed, first: false }
  states.forEach((listener) => listener(state))
}

function progress(epochs) {
  for (const [name, epoch] of Object.entries(epochs)) if (known[name] !== epoch) moved[name] = epoch
  Object.assign(known, moved)
  if (telling !== undefined || !Object.keys(moved).length) return
  // A page that nobody sees waits, so that the one that is seen asks first.
  if (document.hidden) gather()
  else tell()
}

function tell() {
  const told = moved
  moved = {}
  gather()
  listeners.forEach((listener) => listener(told))
}

function gather() {
  telling = setTimeout(() => {
    telling = undefined
    if (Object.keys(moved).length) tell()
  }, TOGETHER_MS)
}

/** A stream that this page has for itself. */
const ownStream = () => new Stream({ progress, live })

/** The stream that all pages of this browser share. Where that can't be, `instead` is called. */
function sharedStream(instead) {
  const worker = new SharedWorker('/page/shared.js', { type: 'module' })
  const { port } = worker
  worker.addEventListener('error', () => instead(ownStream))
  port.addEventListener('message', ({ data }) => {
    if (data.ended) ends.forEach((listener) => listener())
    else if ('live' in data) live(data.live)
    else progress(data.moved)
  })
  // The worker is gone.
  port.addEventListener('close', () => instead(anyStream))
  port.start()
  addEventListener('pagehide', () => port.postMessage({}))
  addEventListener('pageshow', ({ persisted }) => persisted && followed.length && port.postMessage({ follow: followed }))
  return { follow: (tables) => port.postMessage({ follow: tables }), stop: () => port.postMessage({ stop: true }) }
}

function replace(make) {
  live(false)
  stream = make()
  if (followed.length) stream.follow(followed)
}

function anyStream() {
  try {
    return sharedStream(replace)
  } catch {
    return ownStream()
  }
}

let stream = anyStream()

/** Follows the dataflows by these tables, one of each; what is shown is of these epochs. */
export function follow(tables, epochs) {
  known = { ...epochs }
  followed = tables
  stream.follow(tables)
}

/** Ends the stream, until something is followed again. */
export function stop() {
  followed = []
  stream.stop()
}
