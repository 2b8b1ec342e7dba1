// Reasons of refused records, as the service counts them: without the values that stand in them.

/** A reason without texts in quotes, times (but for one that is an example), and places in a line. */
export function kind(reason) {
  const words = []
  for (const word of reason.replace(/"(?:[^"\\]|\\.)*"?/g, '"…"').split(' ')) {
    const before = words.at(-1)
    if (before !== undefined && before !== 'like' && /^\d{4}-/.test(word)) words.push('…')
    else if (before === '(column') words.push('…)')
    else words.push(word)
  }
  return words.join(' ')
}
