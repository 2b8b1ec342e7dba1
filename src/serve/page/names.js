// Names that are like what was typed.

/** How many letters differ between two texts, up to a limit. */
export function distance(a, b, limit = Infinity) {
  if (Math.abs(a.length - b.length) > limit) return limit + 1
  let row = Array.from({ length: b.length + 1 }, (_, place) => place)
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i]
    for (let j = 1; j <= b.length; j += 1) next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1))
    row = next
    if (Math.min(...row) > limit) return limit + 1
  }
  return row[b.length]
}

/** The sensors whose name or id has this text, or else those whose names come nearest; and whether any has it. */
export function nearestNames(known, text, most) {
  const wanted = text.trim().toLowerCase()
  if (!wanted) return [known.slice(0, most), true]
  const has = known.filter(
    (sensor) => sensor.sensor_name.toLowerCase().includes(wanted) || sensor.sensor_uuid.toLowerCase().startsWith(wanted),
  )
  if (has.length) return [has.slice(0, most), true]
  const limit = Math.max(2, Math.floor(wanted.length / 2))
  const near = known.map((sensor) => [distance(wanted, sensor.sensor_name.toLowerCase(), limit), sensor]).filter(([far]) => far <= limit)
  return [
    near
      .sort((a, b) => a[0] - b[0])
      .slice(0, 5)
      .map(([, sensor]) => sensor),
    false,
  ]
}
