// Elements, made of names and children. Texts become text nodes: markup in data is never read as markup.

const SVG = 'http://www.w3.org/2000/svg'

function fill(element, given, children) {
  for (const [name, value] of Object.entries(given ?? {})) {
    if (value === undefined || value === null || value === false) continue
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value)
    else if (name === 'class') element.setAttribute('class', value)
    else if (name === 'value' || name === 'checked' || name === 'disabled' || name === 'hidden') element[name] = value
    else element.setAttribute(name, value === true ? '' : String(value))
  }
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue
    element.append(child instanceof Node ? child : String(child))
  }
  return element
}

/** An element of HTML: `h('a', {href: '#'}, 'text')`. Names that begin with `on` are listeners. */
export const h = (name, given, ...children) => fill(document.createElement(name), given, children)

/** An element of SVG. */
export const svg = (name, given, ...children) => fill(document.createElementNS(SVG, name), given, children)

/** Puts these children in place of those that an element has. */
export function put(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false))
  return element
}

/** Gives the focus back to what was drawn anew. The page stays where the reader has scrolled it. */
export const refocus = (element) => element?.focus({ preventScroll: true })

/** A table of rows that are elements, below heads: each a text, and the class of its column. Wider than the page, it scrolls by itself. */
export const rowsTable = (heads, rows, kind) =>
  h(
    'div',
    { class: 'scroll' },
    h(
      'table',
      { class: `rows plain${kind ? ` ${kind}` : ''}` },
      h(
        'thead',
        null,
        h(
          'tr',
          null,
          heads.map(([text, side]) => h('th', { scope: 'col', class: side }, text)),
        ),
      ),
      h('tbody', null, rows),
    ),
  )

/** A word in a coloured frame. */
export const badge = (text, kind, title) => h('span', { class: `badge ${kind}`, title }, text)

/** What is shown where something went wrong. */
export function failure(error) {
  return h(
    'div',
    { class: 'notice bad', role: 'alert' },
    h('strong', null, error.message || String(error)),
    error.hint && h('span', { class: 'muted' }, ` ${error.hint}`),
  )
}
