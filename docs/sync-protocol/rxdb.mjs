// fieldsvc with RxDB 17: the collections, their replication, and how an app writes. Copy it into the app.
import { EventSource } from 'eventsource'
import { replicateRxCollection } from 'rxdb/plugins/replication'
import { Subject } from 'rxjs'

// Members the app does not need may be left out, but the key, rev and edited_at. What the service tells beside them, or
// will tell one day, is not stored (see `stored`).
const collection = (key, names) => ({
  version: 0,
  primaryKey: key,
  type: 'object',
  properties: {
    ...Object.fromEntries(names.split(' ').map((name) => [name, {}])),
    [key]: { type: 'string', maxLength: 80 },
  },
  required: [key],
})

export const schemas = {
  jobs: collection(
    'id',
    'rev number kind status priority title description hazards access_note contact_phone notes tags parts_estimate ' +
      'address site_class territory_id customer_id usage_point_id crew_id assignment_rev planned_start planned_order ' +
      'service_minutes window_start window_end due_at checklist checklist_version details result completed_at ' +
      'attention position edited_at',
  ),
  customers: collection(
    'id',
    'rev number name name_local customer_class importance phone access_note notes address edited_at',
  ),
  usage_points: collection(
    'id',
    'rev number customer_id connection_state transformer_area feeder voltage_level meter_asset_no',
  ),
  meters: collection('id', 'rev asset_no digits state usage_point_id installed_at ct_ratio pt_ratio registers'),
  // What became of an operation or an edit. Of an edit: entity and entity_id say of which record.
  outcomes: collection(
    'op_id',
    'kind entity entity_id outcome reason errors conflicts job_rev entity_rev review_id note resolution decided_at ' +
      'receipt',
  ),
  // What the crew did: added here, sent, never changed.
  operations: collection(
    'op_id',
    'n kind entity entity_id occurred_at base_rev assignment_rev payload depends_on attachments schema_version app_version',
  ),
}

const EDITED = ['jobs', 'customers']
const ROOT = 'compat/rxdb'

// Change fields of a job or a customer, offline or not. When it happened matters where two changed the same field.
export const edit = (document, fields) =>
  document.incrementalPatch({ ...fields, edited_at: new Date().toISOString() })

// Say what the crew did on a job, offline or not. It names the one before it on this job: batches may overtake each
// other. One after the other, so that no two take the same for the one before.
export const act = (db, kind, jobId, payload = {}) =>
  writing(async () => {
    const [last] = await db.operations.find({ selector: { entity_id: jobId }, sort: [{ n: 'desc' }], limit: 1 }).exec()
    const job = await db.jobs.findOne(jobId).exec()
    return db.operations.insert({
      op_id: crypto.randomUUID(),
      n: (last?.n ?? 0) + 1,
      kind,
      entity: 'job',
      entity_id: jobId,
      occurred_at: new Date().toISOString(),
      base_rev: job?.rev,
      assignment_rev: job?.assignment_rev,
      payload,
      depends_on: last ? [last.op_id] : [],
    })
  })

const oneByOne = () => {
  let last = Promise.resolve()
  return (work) => (last = last.catch(() => {}).then(work))
}
const writing = oneByOne()

// Keep all collections of `db` in step with the service: { url, token, appVersion }. `ended(problem)` is called when the
// service will not answer this app any more: 401 (enrol again), 403 (revoked: remove everything), 426 (update the app).
export function replicate(db, service, { ended = () => {}, retryTime = 5000, batchSize = 200 } = {}) {
  const news = new Subject()
  const hello = () => {
    const told = { device_time: new Date().toISOString(), app_version: service.appVersion }
    return call(service, ended, 'hello', told).catch(() => {})
  }
  const greeted = hello()
  const asking = oneByOne() // RxDB would ask for all collections at once, and be told to come later
  const states = Object.keys(schemas).map((name) =>
    replicateRxCollection({
      collection: db[name],
      replicationIdentifier: 'fieldsvc',
      retryTime,
      pull: name === 'operations' ? undefined : pull(db[name], service, ended, news, batchSize, asking, greeted),
      push: [...EDITED, 'operations'].includes(name) ? push(db[name], service, ended) : undefined,
    }),
  )
  // One stream for all collections: it says that there is something, the pulls say what. It is opened anew each time the
  // line is back, and then the service is told what the device's clock says.
  const stream = new EventSource(`${service.url}/sync/v1/stream`, {
    async fetch(url, init) {
      await hello()
      return fetch(url, { ...init, headers: { ...init.headers, Authorization: `Bearer ${service.token}` } })
    },
  })
  stream.addEventListener('resync', () => news.next('RESYNC'))
  return {
    states,
    inSync: () => Promise.all(states.map((state) => state.awaitInSync())),
    async stop() {
      stream.close()
      await Promise.all(states.map((state) => state.cancel()))
    },
  }
}

const pull = (collection, service, ended, news, batchSize, asking, greeted) => ({
  batchSize, // at most what hello tells as pull_rows
  stream$: news.asObservable(),
  async handler(checkpoint, limit) {
    await greeted // what an app that has been updated is told may depend on its version
    const query = new URLSearchParams({ limit, ...(checkpoint && { checkpoint: checkpoint.token }) })
    const page = await asking(() => call(service, ended, `${ROOT}/${collection.name}/pull?${query}`))
    const gone = page.reset ? await noLongerOurs(collection, service, ended) : []
    return { documents: [...page.documents, ...gone].map(stored(collection)), checkpoint: page.checkpoint }
  },
})

// After a reset everything has been told anew; what is held beside it may be gone.
async function noLongerOurs(collection, service, ended) {
  const key = collection.schema.primaryPath
  const held = (await collection.find().exec()).map((document) => document.primary)
  const gone = []
  for (let at = 0; at < held.length; at += 500) {
    const answer = await call(service, ended, `${ROOT}/${collection.name}/gone`, { ids: held.slice(at, at + 500) })
    gone.push(...answer.ids)
  }
  return gone.map((id) => ({ [key]: id, _deleted: true }))
}

const push = (collection, service, ended) => ({
  batchSize: 50, // at most what hello tells as push_ops
  async handler(rows) {
    const now = encodeURIComponent(new Date().toISOString())
    const send = async (some) => {
      try {
        return await call(service, ended, `${ROOT}/${collection.name}/push?device_time=${now}`, some)
      } catch (problem) {
        if (problem.status !== 413 || some.length < 2) throw problem
        const half = some.length >> 1
        return [...(await send(some.slice(0, half))), ...(await send(some.slice(half)))]
      }
    }
    return (await send(rows)).map(stored(collection))
  },
})

// Only the members of the schema: RxDB with a validator refuses others, and a newer service may tell more.
const stored = (collection) => (document) =>
  Object.fromEntries(Object.entries(document).filter(([name]) => name in collection.schema.jsonSchema.properties))

// One request. What fails is thrown, and RxDB tries again after its retryTime.
async function call(service, ended, path, body) {
  const answer = await fetch(`${service.url}/sync/v1/${path}`, {
    method: body ? 'POST' : 'GET',
    headers: { Authorization: `Bearer ${service.token}`, 'Content-Type': 'application/json' },
    body: body && JSON.stringify(body),
  })
  if (answer.ok) return answer.json()
  const problem = await answer.json().catch(() => ({}))
  if ([401, 403, 426].includes(answer.status)) ended(problem)
  const wait = Number(answer.headers.get('Retry-After') ?? 0)
  await new Promise((resolve) => setTimeout(resolve, wait * 1000))
  throw Object.assign(new Error(`${answer.status} ${problem.detail ?? answer.statusText}`), { status: answer.status })
}
