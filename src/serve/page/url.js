// What the page shows is in its address, so a link is a dashboard: `#/VIEW/NAME?PARAMETERS`.

const listeners = new Set()

/** What somebody wrote by hand may be no address. */
const decoded = (text) => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** What the address says: the view, what stands behind it, and parameters. */
export function place() {
  const [path, parameters = ''] = location.hash.replace(/^#\/?/, '').split('?')
  const [view = '', ...names] = path.split('/').map(decoded)
  return { view: view || 'overview', name: names[0] ?? '', names, parameters: new URLSearchParams(parameters) }
}

/** The address of a view. The theme stays. */
export function link(path, parameters = {}) {
  const theme = place().parameters.get('theme')
  const given = new URLSearchParams()
  for (const [name, value] of Object.entries({ ...parameters, ...(theme ? { theme } : {}) })) {
    if (value !== undefined && value !== null && value !== '') given.set(name, value)
  }
  const text = given.toString()
  return `#/${path.split('/').map(encodeURIComponent).join('/')}${text && `?${text}`}`
}

/** Changes parameters of this view; those without a value go. Without `keep`, going back leads here. */
export function change(parameters, keep) {
  const { names, view, parameters: now } = place()
  for (const [name, value] of Object.entries(parameters)) {
    now.delete(name)
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null && one !== '' && one !== false) now.append(name, one === true ? '1' : one)
    }
  }
  const text = now.toString()
  const hash = `#/${[view, ...names].map(encodeURIComponent).join('/')}${text && `?${text}`}`
  if (hash === location.hash) return
  history[keep ? 'replaceState' : 'pushState'](null, '', hash)
  tell()
}

/** Is told when the address changes. */
export const listen = (listener) => listeners.add(listener)

function tell() {
  listeners.forEach((listener) => listener(place()))
}

addEventListener('hashchange', tell)
addEventListener('popstate', tell)
