// What a client remembers over its own death: a file that is only appended to, one line of JSON at a time.

import { appendFileSync, existsSync, readFileSync } from 'node:fs'

/** The journal of a client that runs, with what an earlier life has written. */
export function openJournal(file) {
  const items = new Map(), answered = new Map()
  const lines = existsSync(file) ? readFileSync(file, 'utf8').split('\n').filter(Boolean) : []
  for (const line of lines) {
    const { item, value, ...entry } = JSON.parse(line)
    if (entry.answered) answered.set(entry.name, entry.answered)
    else if (value === null) items.delete(item)
    else items.set(item, value)
  }
  const write = (line) => appendFileSync(file, `${JSON.stringify(line)}\n`)
  return {
    isAnswered: (name) => answered.has(name),
    answer(name, answer) {
      answered.set(name, answer)
      write({ name, answered: answer })
    },
    /** What `localStorage` is to a page. */
    storage: {
      get length() { return items.size },
      key: (index) => [...items.keys()][index] ?? null,
      getItem: (item) => items.get(item) ?? null,
      setItem(item, value) {
        write({ item, value })
        items.set(item, value)
      },
      removeItem(item) {
        write({ item, value: null })
        items.delete(item)
      },
    },
  }
}
