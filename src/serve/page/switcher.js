// The dataflows, to choose one of.

import { h } from './dom.js'
import { link } from './url.js'

/** Links to a view of each dataflow. */
export const switcher = (view, all, of) =>
  h(
    'nav',
    { class: 'tabs', 'aria-label': 'Dataflow' },
    all.map((about) =>
      h('a', { class: 'tab', href: link(`${view}/${about.name}`), 'aria-current': about === of ? 'true' : undefined }, about.name),
    ),
  )
