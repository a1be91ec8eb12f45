// An app on RxDB, played by a test: commands are JSON lines on standard input, each is answered by a line.
// It uses the documented client as it stands. Between it and the service is a line that can be made bad.
import { copyFileSync } from 'node:fs'
import http from 'node:http'
import { createInterface } from 'node:readline'
import { addRxPlugin, createRxDatabase } from 'rxdb/plugins/core'
import { RxDBDevModePlugin, disableWarnings } from 'rxdb/plugins/dev-mode'
import { getRxStorageMemory } from 'rxdb/plugins/storage-memory'
import { wrappedValidateAjvStorage } from 'rxdb/plugins/validate-ajv'
import { filter, firstValueFrom, timeout } from 'rxjs'

// The copy an app would have: it finds the packages beside it.
const here = new URL('node_modules/.rxdb-client.mjs', import.meta.url)
copyFileSync(new URL('../../docs/sync-protocol/rxdb.mjs', import.meta.url), here)
const { act, edit, replicate, schemas } = await import(here.href)

disableWarnings()
addRxPlugin(RxDBDevModePlugin)

const line = { requests: [], refuse: 0, lose: 0 }
let db, running, service
const errors = []
const conflicts = []

const commands = {
  // A device with its copy and no line yet.
  async open({ url, token }) {
    const storage = wrappedValidateAjvStorage({ storage: getRxStorageMemory() })
    db = await createRxDatabase({ name: 'app', storage, multiInstance: false })
    await db.addCollections(Object.fromEntries(Object.entries(schemas).map(([name, schema]) => [name, { schema }])))
    service = { url: await listen(new URL(url)), token, appVersion: '3.2.0' }
  },
  // Start the replication, as an app does when it starts or the line is back.
  async start({ batchSize }) {
    const options = { retryTime: 50, batchSize, ended: (problem) => errors.push(problem.type ?? 'ended') }
    running = replicate(db, service, options)
    for (const state of running.states) {
      state.error$.subscribe((error) => errors.push(String(error.parameters?.errors?.[0]?.message ?? error.code)))
      state.conflict$.subscribe(({ input }) => conflicts.push(input.realMasterState))
    }
  },
  async stop() {
    await running.stop()
  },
  async in_sync() {
    await running.inSync()
  },
  service(given) {
    Object.assign(service, given)
  },
  async edit({ collection, id, fields, at }) {
    const edited = await edit(await db[collection].findOne(id).exec(true), fields)
    if (at) await edited.incrementalPatch({ edited_at: at })
  },
  async patch({ collection, id, fields }) {
    await (await db[collection].findOne(id).exec(true)).incrementalPatch(fields)
  },
  async insert({ collection, document }) {
    await db[collection].insert(document)
  },
  async remove({ collection, id }) {
    await (await db[collection].findOne(id).exec(true)).incrementalRemove()
  },
  async act({ kind, job, payload }) {
    return (await act(db, kind, job, payload)).op_id
  },
  async ids({ collection }) {
    return (await db[collection].find().exec()).map((document) => document.primary)
  },
  async get({ collection, id }) {
    return (await db[collection].findOne(id).exec())?.toJSON() ?? null
  },
  // Until a document has the members of `where`; null: until it is gone.
  async wait({ collection, id, where, seconds }) {
    const is = (document) =>
      where === null
        ? document === null
        : document !== null &&
          Object.entries(where).every(([name, value]) => JSON.stringify(document[name]) === JSON.stringify(value))
    const found = db[collection].findOne(id).$.pipe(filter(is), timeout(seconds * 1000))
    return (await firstValueFrom(found))?.toJSON() ?? null
  },
  async wait_for_outcome({ of, seconds }) {
    const found = db.outcomes.findOne({ selector: of }).$.pipe(
      filter((document) => document !== null),
      timeout(seconds * 1000),
    )
    return (await firstValueFrom(found)).toJSON()
  },
  // The next `refuse` requests are answered 503; of the next `lose` the answers never arrive.
  bad_line({ refuse = 0, lose = 0, path = '/' }) {
    Object.assign(line, { refuse, lose, path })
  },
  said: () => ({ errors, conflicts, requests: line.requests, left: line.refuse + line.lose }),
}

// A proxy on the loopback.
function listen(far) {
  const server = http.createServer((request, response) => {
    line.requests.push(`${request.method} ${request.url}`)
    const bad = request.url.includes(line.path ?? '/')
    if (bad && line.refuse > 0) {
      line.refuse -= 1
      request.resume()
      response.writeHead(503, { 'Retry-After': '0', 'Content-Type': 'application/problem+json' })
      response.end('{"type":"/problems/unavailable","title":"unavailable","status":503,"detail":"many ask at once"}')
      return
    }
    const options = { host: far.hostname, port: far.port, method: request.method, path: request.url }
    const onward = http.request({ ...options, headers: request.headers }, (answer) => {
      if (bad && line.lose > 0) {
        line.lose -= 1
        answer.resume()
        answer.on('end', () => response.destroy())
        return
      }
      response.writeHead(answer.statusCode, answer.headers)
      answer.pipe(response)
      answer.on('error', () => response.destroy())
    })
    onward.on('error', () => response.destroy())
    response.on('close', () => onward.destroy())
    request.pipe(onward)
  })
  return new Promise((resolve) =>
    server.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${server.address().port}`)),
  )
}

for await (const text of createInterface({ input: process.stdin })) {
  const { do: name, ...given } = JSON.parse(text)
  let answer
  try {
    answer = { result: (await commands[name](given)) ?? null }
  } catch (error) {
    answer = { error: `${error.stack ?? error}` }
  }
  console.log(JSON.stringify(answer))
}
process.exit(0)
