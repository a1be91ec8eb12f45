// fieldsvc with WatermelonDB 0.28: the schema, the models, and the call of synchronize(). Copy it into the app.
import { Model, Q, appSchema, tableSchema } from '@nozbe/watermelondb'
import { synchronize } from '@nozbe/watermelondb/sync/index.js'

const text = (names) => names.split(' ').map((name) => ({ name, type: 'string', isOptional: true }))
const number = (names) => names.split(' ').map((name) => ({ name, type: 'number', isOptional: true }))

// Lists and objects are JSON in a text. `gone`: why a record is no longer the crew's. `seen`: see edit().
// A column the app does not need may be left out, but rev, gone and seen.
export const schema = appSchema({
  version: 1,
  tables: [
    tableSchema({
      name: 'jobs',
      columns: [
        ...text('number kind status title description access_note contact_phone address site_class territory_id'),
        ...text('customer_id usage_point_id crew_id planned_start window_start window_end due_at completed_at checklist'),
        ...text('hazards notes tags parts_estimate details result attention position evidence gone seen'),
        ...number('priority rev assignment_rev planned_order service_minutes checklist_version'),
      ],
    }),
    tableSchema({
      name: 'customers',
      columns: [
        ...text('number name name_local customer_class importance phone access_note notes address gone seen'),
        ...number('rev'),
      ],
    }),
    tableSchema({
      name: 'usage_points',
      columns: [
        ...text('number customer_id connection_state transformer_area feeder voltage_level meter_asset_no gone'),
        ...number('rev'),
      ],
    }),
    tableSchema({
      name: 'meters',
      columns: [
        ...text('asset_no state usage_point_id installed_at ct_ratio pt_ratio registers gone'),
        ...number('rev digits'),
      ],
    }),
    tableSchema({
      name: 'outcomes', // what became of an operation: its id is that of the operation
      columns: [
        ...text('kind entity entity_id outcome reason note resolution review_id decided_at policy_version'),
        ...text('errors conflicts evidence receipt gone'),
        ...number('job_rev entity_rev'),
      ],
    }),
    tableSchema({
      name: 'operations', // what the crew did: written here, sent, never changed
      columns: [
        ...text('kind entity entity_id occurred_at payload was set depends_on attachments boot_id app_version'),
        ...number('n base_rev assignment_rev mono_ms schema_version'),
      ],
    }),
  ],
})

class Row extends Model {
  get(column) {
    return this._getRaw(column)
  }
}

class Editable extends Row {
  // Change columns, in a database.write(). What was on the screen is kept beside it until it is sent: a pull comes
  // before the push, and after it the record no longer says what the crew had seen.
  edit(values, now = new Date()) {
    if (this.get('gone')) throw new Error(`no longer with this crew: ${this.get('gone')}`)
    const seen = this.syncStatus === 'updated' ? JSON.parse(this.get('seen') || '{}') : {}
    for (const column of Object.keys(values)) {
      seen[column] = { was: this.get(column), rev: this.get('rev'), ...seen[column], at: now.toISOString() }
    }
    return this.update(() => {
      for (const [column, value] of Object.entries(values)) this._setRaw(column, value)
      this._setRaw('seen', JSON.stringify(seen))
    })
  }
}

export class Job extends Editable {
  static table = 'jobs'
}
export class Customer extends Editable {
  static table = 'customers'
}
export class UsagePoint extends Row {
  static table = 'usage_points'
}
export class Meter extends Row {
  static table = 'meters'
}
export class Outcome extends Row {
  static table = 'outcomes'
}
export class Operation extends Row {
  static table = 'operations'
}
export const modelClasses = [Job, Customer, UsagePoint, Meter, Outcome, Operation]

// What may be shown: records that are gone wait, hidden, until what the crew did to them is sent.
export const held = Q.where('gone', null)

// Write down what the crew did, in a database.write(): `act(database, 'job.arrive', 'job', job.id, { payload: {} })`.
export async function act(database, kind, entity, entityId, more = {}, now = new Date()) {
  const operations = database.get('operations')
  const [last] = await operations.query(Q.sortBy('n', Q.desc), Q.take(1)).fetch()
  const columns = { kind, entity, entity_id: entityId, occurred_at: now.toISOString(), schema_version: 1, ...more }
  return operations.create((operation) => {
    operation._setRaw('n', (last ? last.get('n') : 0) + 1) // their order, whatever the clock says
    for (const [column, value] of Object.entries(columns)) {
      operation._setRaw(column, value !== null && typeof value === 'object' ? JSON.stringify(value) : value)
    }
  })
}

// One sync. `server` is like https://sync.example.org, `token` the one the device got when it enrolled.
export function sync(database, server, token, { rows = 150, bytes = 500_000 } = {}) {
  const ask = async (path, query, options = {}) => {
    const url = `${server}/sync/v1/compat/watermelon/${path}?${new URLSearchParams(query)}`
    const answer = await fetch(url, { ...options, headers: { ...options.headers, Authorization: `Bearer ${token}` } })
    if (!answer.ok) {
      const retryAfter = Number(answer.headers.get('Retry-After')) || 0 // seconds
      throw Object.assign(new Error(`${path}: ${answer.status}`), { status: answer.status, retryAfter })
    }
    return answer.json()
  }
  return synchronize({
    database,
    sendCreatedAsUpdated: true,
    pullChanges: async ({ lastPulledAt, schemaVersion, migration }) => {
      const result = await ask('pull', {
        last_pulled_at: lastPulledAt ?? 'null',
        schema_version: schemaVersion,
        migration: JSON.stringify(migration),
      })
      return { ...result, experimentalStrategy: drop(result.reset ? [] : [Q.where('gone', Q.notEq(null))]) }
    },
    pushChanges: async ({ changes, lastPulledAt }) => {
      const rejected = {}
      for (const part of parts(changes, rows, bytes)) {
        const query = { last_pulled_at: lastPulledAt, device_time: new Date().toISOString() }
        const body = JSON.stringify(part)
        const headers = { 'Content-Type': 'application/json' }
        const result = await ask('push', query, { method: 'POST', headers, body }).catch((error) => {
          if (error.status !== 413 || !alone(part)) throw error
          return { experimentalRejectedIds: alone(part) } // a row that nobody can take does not hold up the others
        })
        for (const [table, ids] of Object.entries(result.experimentalRejectedIds)) {
          rejected[table] = [...(rejected[table] ?? []), ...ids]
        }
      }
      return { experimentalRejectedIds: rejected }
    },
  })
}

const PULLED = ['jobs', 'customers', 'usage_points', 'meters', 'outcomes']

// Let WatermelonDB itself drop what is over: it looks in the very transaction that takes over the pull, and only at
// records on which nothing waits to be sent.
function drop(which) {
  const over = () => [Q.where('_status', 'synced'), ...which]
  return {
    default: 'incremental',
    override: Object.fromEntries(PULLED.map((table) => [table, 'replacement'])),
    experimentalQueryRecordsForReplacement: Object.fromEntries(PULLED.map((table) => [table, over])),
  }
}

// WatermelonDB pushes everything at once, a service takes 200 operations or 1 MiB. Of an edited record only what was
// changed has to travel.
function* parts(changes, mostRows, mostBytes) {
  const order = Object.entries(changes).sort(([one]) => (one === 'operations' ? -1 : 1))
  const all = order.flatMap(([table, { created, updated, deleted }]) => [
    ...[...created].sort((one, other) => (one.n ?? 0) - (other.n ?? 0)).map((row) => [table, 'created', row]),
    ...updated.map((row) => [table, 'updated', table === 'operations' ? row : slim(row)]),
    ...deleted.map((id) => [table, 'deleted', id]),
  ])
  let part = {}
  let [count, size] = [0, 0]
  for (const [table, change, row] of all) {
    const length = new TextEncoder().encode(JSON.stringify(row)).length
    if (count && (count === mostRows || size + length > mostBytes)) {
      yield part
      ;[part, count, size] = [{}, 0, 0]
    }
    part[table] ??= { created: [], updated: [], deleted: [] }
    part[table][change].push(row)
    count += 1
    size += length
  }
  if (count) yield part
}

function alone(part) {
  const ids = Object.entries(part).map(([table, { created, updated, deleted }]) => [
    table,
    [...created, ...updated].map((row) => row.id).concat(deleted),
  ])
  return ids.length === 1 && ids[0][1].length === 1 ? Object.fromEntries(ids) : null
}

function slim(row) {
  const names = ['id', '_status', '_changed', 'rev', 'seen', ...row._changed.split(',')]
  return Object.fromEntries(Object.entries(row).filter(([name]) => names.includes(name)))
}
