// One stream for all pages of a browser, which has few connections to a service: this runs beside the pages, as a shared worker.

import { whenUnknown } from './api.js'
import { Stream } from './stream.js'

/** The pages that follow. */
const ports = new Set()
let isLive
let epochs

const tell = (message) => ports.forEach((port) => port.postMessage(message))

const stream = new Stream({
  progress(moved) {
    epochs = moved
    tell({ moved })
  },
  live(is) {
    isLive = is
    tell({ live: is })
  },
})

/** The pages ask anew who is there: nobody is, any more. */
function end() {
  if (stream.followed) tell({ ended: true })
  ports.clear()
  stream.stop()
  isLive = undefined
}

function leave(port) {
  ports.delete(port)
  if (!ports.size) {
    stream.stop()
    isLive = undefined
  }
}

function hear(port, { follow, stop }) {
  if (stop) {
    ports.delete(port)
    end()
  } else if (follow) {
    ports.add(port)
    stream.follow(follow)
    if (isLive !== undefined) port.postMessage({ live: isLive })
    if (isLive) port.postMessage({ moved: epochs })
  } else leave(port)
}

whenUnknown(end)
addEventListener('connect', ({ ports: [port] }) => {
  port.addEventListener('message', (event) => hear(port, event.data))
  // A page that is gone may have said nothing.
  port.addEventListener('close', () => leave(port))
  port.start()
})
