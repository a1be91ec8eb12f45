// tus-js-client as an app in Node has it: `node tus.mjs <file> [stop-after-bytes]`; SERVER, TOKEN, METADATA (JSON) and,
// to go on where another process stopped, UPLOAD (its address) come by the environment. Prints one line of JSON.
import { createReadStream, statSync } from "node:fs"
import * as tus from "tus-js-client"

const [file, stop] = process.argv.slice(2)
const { SERVER, TOKEN, METADATA, UPLOAD, CHUNK } = process.env
let retried = 0

const upload = new tus.Upload(createReadStream(file), {
  endpoint: `${SERVER}/sync/v1/attachments`,
  uploadUrl: UPLOAD || null,
  headers: { Authorization: `Bearer ${TOKEN}` },
  metadata: JSON.parse(METADATA),
  uploadSize: statSync(file).size,
  chunkSize: Number(CHUNK || 300_000),
  retryDelays: Array(200).fill(100),
  onShouldRetry: (error) => {
    const status = error.originalResponse ? error.originalResponse.getStatus() : 0
    retried += 1
    return status === 0 || status === 409 || status === 423 || status >= 500
  },
  onChunkComplete: async (_, accepted) => {
    if (stop && accepted >= Number(stop)) {
      await upload.abort()
      console.log(JSON.stringify({ stopped: accepted, url: upload.url, retried }))
      process.exit(0)
    }
    if (process.env.TELL) console.log(JSON.stringify({ accepted }))
  },
  onSuccess: () => console.log(JSON.stringify({ done: true, url: upload.url, retried })),
  onError: (error) => {
    console.error(String(error))
    process.exit(1)
  },
})
upload.start()
