// The change stream: it says when an epoch is whole. Where it is cut, it is taken up where it broke off.

import { get, parse, query } from './api.js'

const RETRY_MS = [300, 1000, 2000, 4000]
const ALIVE_EVERY_MS = 10000
const ANSWER_MS_MAX = 5000

const dataflowOf = (table) => table.split('.')[0]

export class Stream {
  /** `progress(epochs)` is told of the epochs of the dataflows, `live(is)` of whether the stream is there. */
  constructor({ progress, live }) {
    Object.assign(this, { progress, live, followed: '', last: '', failures: 0, isLive: false })
    // A connection that died in silence is no event.
    setInterval(() => this.look(), ALIVE_EVERY_MS)
  }

  /** Follows dataflows by these tables, one of each. Where they are followed by others already, that goes on. */
  follow(tables) {
    const dataflows = (text) => text.split(',').map(dataflowOf).sort().join(',')
    const text = tables.join(',')
    if (dataflows(text) === dataflows(this.followed)) return
    this.followed = text
    this.last = ''
    this.open()
  }

  /** Ends the stream, until something is followed again. */
  stop() {
    this.followed = ''
    this.isLive = false
    clearTimeout(this.timer)
    this.source?.close()
    this.source = undefined
  }

  open() {
    clearTimeout(this.timer)
    this.source?.close()
    if (!this.followed) return
    const source = new EventSource(`/v1/changes${query({ tables: this.followed, since: this.last || undefined })}`)
    this.source = source
    source.addEventListener('progress', (event) => this.moved(event))
    source.addEventListener('error', () => this.cut())
  }

  moved(event) {
    this.failures = 0
    this.last = event.lastEventId
    this.isLive = true
    this.live(true)
    this.progress(parse(event.data))
  }

  async cut() {
    this.source?.close()
    this.source = undefined
    clearTimeout(this.timer)
    this.isLive = false
    this.live(false)
    const wait = RETRY_MS[Math.min(this.failures, RETRY_MS.length - 1)]
    this.failures += 1
    if (this.failures > 1) {
      // Where the service is there all the same, it may be another one, which knows nothing of our position.
      try {
        const { dataflows } = await get('/v1/status', AbortSignal.timeout(ANSWER_MS_MAX))
        const known = this.last.split(',').every((part) => {
          const [name, epoch] = part.split(':')
          return Number(epoch) <= (dataflows[name]?.epoch ?? -1)
        })
        if (!known) this.last = ''
      } catch {
        /* It is away. */
      }
    }
    this.timer = setTimeout(() => this.open(), wait)
  }

  async look() {
    if (!this.isLive) return
    const { source } = this
    try {
      // Before what pages ask for: a crowd of these is no cut.
      await fetch('/healthz', { signal: AbortSignal.timeout(ANSWER_MS_MAX), priority: 'high' })
    } catch {
      if (this.source === source) this.cut()
    }
  }
}
