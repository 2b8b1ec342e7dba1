// What the service is asked for. Whole numbers that a float can't hold stay texts, so that no id loses a digit.

/** Why something was refused, as the service says it. */
export class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `the service answers with ${status}`)
    Object.assign(this, { status, code: error?.code, hint: error?.hint })
  }
}

const reviver = (_, value, context) =>
  typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value) && context?.source ? context.source : value

/** Reads JSON. */
export const parse = (text) => JSON.parse(text, reviver)

const unknown = new Set()

/** Calls this when the service wants to know who asks. */
export const whenUnknown = (listener) => unknown.add(listener)

async function ask(path, options) {
  let response
  let text
  try {
    response = await fetch(path, options)
    text = await response.text()
  } catch (error) {
    if (error.name === 'AbortError') throw error
    throw new Refused(0, { code: 'away', message: 'the service does not answer', hint: 'it may be starting again' })
  }
  if (response.ok) return text
  let error
  try {
    error = parse(text).error
  } catch {
    /* It is not from the service. */
  }
  if (response.status === 401 && !path.startsWith('/v1/login')) unknown.forEach((listener) => listener())
  throw new Refused(response.status, error)
}

/** What is at a path, from JSON. */
export async function get(path, signal) {
  return parse(await ask(path, { signal }))
}

/** Sends something, and returns the answer. */
export async function post(path, body, headers = {}) {
  const text = await ask(path, { method: 'POST', body, headers })
  return text ? parse(text) : {}
}

export const postJson = (path, value) => post(path, JSON.stringify(value), { 'content-type': 'application/json' })

/** Names and values as what stands behind `?`; a list is a name that is given more than once. */
export function query(given) {
  const parameters = new URLSearchParams()
  for (const [name, value] of Object.entries(given)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null) parameters.append(name, one)
    }
  }
  const text = parameters.toString()
  return text && `?${text}`
}

let served

/** What is served: asked once. */
export function dataflows() {
  served ??= get('/v1/dataflows').then(
    (answer) => answer.dataflows,
    (error) => {
      served = undefined
      throw error
    },
  )
  return served
}

const columns = new Map()

/** The tables of a dataflow with their columns. Numbers of rows are those of now where `fresh`. */
export function tables(dataflow, fresh) {
  if (fresh || !columns.has(dataflow)) {
    const asked = get(`/v1/${dataflow}/tables`).then((answer) => answer.tables)
    asked.catch(() => columns.delete(dataflow))
    columns.set(dataflow, asked)
  }
  return columns.get(dataflow)
}
