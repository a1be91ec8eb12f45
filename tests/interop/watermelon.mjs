// A phone with WatermelonDB in memory, told by lines on standard input what to do; each is answered with one line.
import { register } from 'node:module'
import { createInterface } from 'node:readline'

// The documented client lies in docs/, the packages here: what it imports by name is looked for from here.
const hook = `export const resolve = (name, context, next) =>
  next(name, /^([./]|(file|node|data):)/.test(name) ? context : { ...context, parentURL: '${import.meta.url}' })`
register(`data:text/javascript,${encodeURIComponent(hook)}`)
globalThis.indexedDB = {
  open() {
    const request = {}
    queueMicrotask(() => request.onerror({}))
    return request
  },
}
const complaints = []
console.error = (...words) => complaints.push(words.join(' '))
console.log = console.warn = () => {}

const { Database, Q } = await import('@nozbe/watermelondb')
const { default: loki } = await import('@nozbe/watermelondb/adapters/lokijs/index.js')
const fieldsvc = await import('../../docs/sync-protocol/watermelon.mjs')

const adapter = new loki.default({
  schema: fieldsvc.schema,
  useWebWorker: false,
  useIncrementalIndexedDB: false,
  extraLokiOptions: { autosave: false },
})
const database = new Database({ adapter, modelClasses: fieldsvc.modelClasses })

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const say = (told) => process.stdout.write(`> ${JSON.stringify(told)}\n`)
const next = async () => {
  const { value, done } = await lines.next()
  return done ? null : JSON.parse(value)
}
const pause = async (where) => {
  say({ paused: where })
  await next()
}

// The line: how often what is asked of `path` is answered 503, gets no answer, or has its answer lost; where to wait.
let line = {}
const asked = []
const straight = globalThis.fetch
globalThis.fetch = async (url, options) => {
  const path = new URL(url).pathname.split('/').pop()
  asked.push({ path, bytes: options.body?.length ?? 0 })
  if (line.path === path) {
    if (line.busy-- > 0) return new Response('{}', { status: 503, headers: { 'Retry-After': '1' } })
    if (line.dead-- > 0) throw new TypeError('no line')
    if (line.before) await pause(`before ${path}`)
  }
  const answer = await straight(url, options)
  if (line.path === path && line.lost-- > 0) {
    await answer.arrayBuffer()
    throw new TypeError('the answer was lost')
  }
  if (line.path === path && line.during) {
    const reader = answer.body.getReader()
    const pieces = [(await reader.read()).value]
    await pause(`during ${path}`)
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) pieces.push(piece.value)
    return new Response(new Blob(pieces), { status: answer.status })
  }
  return answer
}

let token = process.env.TOKEN
const find = (table, id) => database.get(table).find(id)
const commands = {
  async sync({ line: wanted = {}, ...options }) {
    line = wanted
    try {
      await fieldsvc.sync(database, process.env.SERVER, token, options)
      return { ok: true }
    } catch (error) {
      return { ok: false, error: String(error.message), status: error.status ?? null }
    } finally {
      line = {}
    }
  },
  async rows({ table, shown = false }) {
    const rows = await database.get(table).query(...(shown ? [fieldsvc.held] : [])).fetch()
    return rows.map((row) => row._raw)
  },
  count: ({ table }) => database.get(table).query().fetchCount(),
  edit: ({ table, id, values, at }) =>
    database.write(async () => {
      await (await find(table, id)).edit(values, at ? new Date(at) : new Date())
    }),
  act: ({ kind, entity, id, more }) =>
    database.write(async () => (await fieldsvc.act(database, kind, entity, id, more)).id),
  // What an app must not do, and some will.
  set: ({ table, id, values }) =>
    database.write(async () => {
      const row = await find(table, id)
      await row.update(() => Object.entries(values).forEach(([name, value]) => row._setRaw(name, value)))
    }),
  create: ({ table, values }) =>
    database.write(async () => {
      const put = (row) => Object.entries(values).forEach(([name, value]) => row._setRaw(name, value))
      return (await database.get(table).create(put)).id
    }),
  delete: ({ table, id }) => database.write(async () => (await find(table, id)).markAsDeleted()),
  enrolled: (told) => {
    token = told.token
  },
  complaints: () => complaints.splice(0),
  asked: () => asked.splice(0),
}

say({ ready: true })
for (let told = await next(); told !== null; told = await next()) {
  try {
    say({ answer: (await commands[told.do](told)) ?? null })
  } catch (error) {
    say({ failed: String(error.message) })
  }
}
