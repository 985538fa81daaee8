// pg-boss, by its documentation.
//
// One queue for each kind, with `notify`, and LISTEN/NOTIFY switched on, so that it need not poll; without more, a
// worker takes one job every 2 s, so a burst setting is needed for it to go on at once. `burstWhenBatchFull` is the one
// that needs no statistics first; it wants a batch size above one. Completed jobs stay for a week, its default.
//
// free: one worker with a batch of two whose jobs are executed at once.
// batches: two workers (`localConcurrency`) with batches of 100, one job of each at a time; a batch is completed as a
// whole, and what a crash interrupts is executed again as a whole.
// cap: as free in every process, with `groupConcurrency: 2`, all jobs in one group; pg-boss says itself that this limit
// may be exceeded for moments. Who finds the group full looks again after half a second, the least it allows.

import { openSync, writeSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { PgBoss } from 'pg-boss'

const BATCH = 1000
const SHAPES = {
  free: { batchSize: 2 },
  batches: { batchSize: 100, localConcurrency: 2 },
  cap: { batchSize: 2, groupConcurrency: 2, pollingIntervalSeconds: 0.5, notifyPollingIntervalSeconds: 0.5 }
}
const shape = process.env.SHAPE
const group = shape === 'cap' ? { group: { id: 'all' } } : {}
const [command, ...args] = process.argv.slice(2)

const boss = new PgBoss({ connectionString: process.env.DATABASE_URL, useListenNotify: true })
boss.on('error', console.error)
await boss.start()

async function work () {
  const journal = openSync(`${process.env.JOURNAL}/${process.pid}`, 'a')
  const execute = async milliseconds => {
    const begin = process.hrtime.bigint()
    if (milliseconds) await sleep(milliseconds)
    writeSync(journal, `${begin} ${process.hrtime.bigint()}\n`)
  }
  const handler = milliseconds => async jobs => {
    if (shape !== 'batches') return void await Promise.all(jobs.map(() => execute(milliseconds)))
    for (const _ of jobs) await execute(milliseconds)
  }
  await boss.work('noop', { ...SHAPES[shape], burstWhenBatchFull: true }, handler(0))
  await boss.work('nap', { ...SHAPES[shape], burstWhenBatchFull: true }, handler(5))
  await new Promise(resolve => process.once('SIGTERM', resolve))
}

if (command === 'install') {
  await boss.createQueue('noop', { notify: true })
  await boss.createQueue('nap', { notify: true })
} else if (command === 'fill') {
  for (let left = Number(args[1]); left > 0; left -= BATCH) {
    await boss.insert(args[0], Array.from({ length: Math.min(BATCH, left) }, () => ({ data: {}, ...group })))
  }
} else if (command === 'submit') {
  for await (const _ of createInterface({ input: process.stdin })) {
    const sent = process.hrtime.bigint()
    await boss.send('noop', {})
    process.stdout.write(`${sent}\n`)
  }
} else {
  await work()
}
await boss.stop()
