// One stream for all pages of a browser, which has few connections to a service: this runs beside the pages, as a shared worker. A page
// says again and again what it follows, and is answered.

import { whenUnknown } from './api.js'
import { Stream } from './stream.js'

/** A page that says nothing for so long is gone, or asleep: when it wakes, it says something. */
const SILENT_MS_MAX = 180000

/** The pages that follow, and when each of them said so. */
const ports = new Map()
let state = {}

function tell(message) {
  const since = Date.now() - SILENT_MS_MAX
  ports.forEach((heard, port) => (heard < since ? leave(port) : port.postMessage(message)))
}

const stream = new Stream({
  progress(moved) {
    state.moved = moved
    tell({ moved })
  },
  live(live) {
    state.live = live
    tell({ live })
  },
})

function stop() {
  stream.stop()
  ports.clear()
  state = {}
}

/** Nobody is logged in: all pages ask anew who is there. */
function end() {
  tell({ ended: true })
  stop()
}

function leave(port) {
  ports.delete(port)
  if (!ports.size) stop()
}

function hear(port, message) {
  if (message.follow) {
    ports.set(port, Date.now())
    stream.follow(message.follow)
    port.postMessage(state)
    return
  }
  leave(port)
  if (message.stop) end()
}

whenUnknown(end)
addEventListener('connect', ({ ports: [port] }) => {
  port.addEventListener('message', ({ data }) => hear(port, data))
  port.start()
})
