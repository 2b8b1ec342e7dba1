// What the change stream says, for this page: that an epoch is whole, so that what is shown can be asked for anew; and that it is cut.

import { Stream } from './stream.js'

/** After something was told, what follows so closely is told of together; on a page that nobody sees, with less haste. */
const TOGETHER_MS = 125
const UNSEEN_MS = 1000
/** How often the shared stream is asked whether it is there. */
const ASK_EVERY_MS = 5000

const listeners = new Set()
const states = new Set()
const ends = new Set()
let followed = []
let state = begun()
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

function begun() {
  return { live: false, since: new Date(), first: true }
}

function enter(next) {
  state = next
  states.forEach((listener) => listener(state))
}

function live(is) {
  if (is === state.live && !state.first) return
  const resumed = is && !state.first
  enter({ live: is, since: is ? undefined : (state.since ?? new Date()), resumed, first: false })
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
  telling = setTimeout(
    () => {
      telling = undefined
      if (Object.keys(moved).length) tell()
    },
    document.hidden ? UNSEEN_MS : TOGETHER_MS,
  )
}

/** A stream that this page has for itself. */
const ownStream = () => new Stream({ progress, live })

/** The stream that all pages of this browser share. Where that can't be, or is no more, `instead` is called with another one. */
function sharedStream(instead) {
  const worker = new SharedWorker('/page/shared.js', { type: 'module' })
  const { port } = worker
  let [hasSpoken, answered] = [false, true]
  const ask = () => port.postMessage({ follow: followed })
  const timer = setInterval(() => {
    if (!followed.length) return
    if (answered) {
      answered = false
      ask()
      return
    }
    // The worker is gone, or never was.
    clearInterval(timer)
    live(false)
    instead(hasSpoken ? anyStream : ownStream)
  }, ASK_EVERY_MS)
  worker.addEventListener('error', () => {
    clearInterval(timer)
    instead(ownStream)
  })
  port.addEventListener('message', ({ data }) => {
    hasSpoken = true
    answered = true
    if (data.ended) ends.forEach((listener) => listener())
    if (data.live !== undefined && followed.length) live(data.live)
    if (data.moved) progress(data.moved)
  })
  port.start()
  addEventListener('pagehide', () => port.postMessage({}))
  return { follow: ask, stop: () => port.postMessage({ stop: true }) }
}

function anyStream() {
  const instead = (make) => {
    stream = make()
    if (followed.length) stream.follow(followed)
  }
  try {
    return sharedStream(instead)
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
  enter(begun())
}
