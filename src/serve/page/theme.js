// Light or dark: as the system has it, or as the address says.

import { change, place } from './url.js'

const dark = matchMedia('(prefers-color-scheme: dark)')

/** What is shown now. */
const shown = () => place().parameters.get('theme') ?? (dark.matches ? 'dark' : 'light')

/** Shows it. */
export function applyTheme() {
  document.documentElement.dataset.theme = shown()
}

/** Goes over to the other one. */
export const otherTheme = () => change({ theme: shown() === 'dark' ? 'light' : 'dark' }, true)

dark.addEventListener('change', applyTheme)
