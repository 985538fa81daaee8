// graphile-worker, by its documentation.
//
// Task executors are async functions, in a worker at concurrency two that listens (always) and polls every 2 s beside
// that, its default. The line it logs for each success is switched off (NO_LOG_SUCCESS). Completed jobs are deleted.
//
// free: as it comes, a job is fetched and completed by itself.
// batches: the local queue and the batched completion of its page on performance, with that page's numbers. Up to 500
// jobs are locked ahead, and what a crash interrupts is executed again when its locks run out.
//
// A named queue runs one job at a time, and nothing allows two: a cap of two over several workers does not exist, so
// none is measured.

import { openSync, writeSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

process.env.NO_LOG_SUCCESS = '1'
const { makeWorkerUtils, run } = await import('graphile-worker')

const BATCH = 1000
const connectionString = process.env.DATABASE_URL
const [command, ...args] = process.argv.slice(2)

async function work () {
  const journal = openSync(`${process.env.JOURNAL}/${process.pid}`, 'a')
  const execute = async milliseconds => {
    const begin = process.hrtime.bigint()
    if (milliseconds) await sleep(milliseconds)
    writeSync(journal, `${begin} ${process.hrtime.bigint()}\n`)
  }
  const batches = { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 }
  const runner = await run({
    preset: { worker: { connectionString, concurrentJobs: 2, ...(process.env.SHAPE === 'batches' ? batches : {}) } },
    taskList: { noop: () => execute(0), nap: () => execute(5) },
    parsedCronItems: []
  })
  await runner.promise
}

if (command === 'work') {
  await work()
} else {
  const utils = await makeWorkerUtils({ connectionString })
  if (command === 'install') {
    await utils.migrate()
  } else if (command === 'fill') {
    for (let left = Number(args[1]); left > 0; left -= BATCH) {
      await utils.addJobs(Array.from({ length: Math.min(BATCH, left) }, () => ({ identifier: args[0], payload: {} })))
    }
  } else {
    for await (const _ of createInterface({ input: process.stdin })) {
      const sent = process.hrtime.bigint()
      await utils.addJob('noop', {})
      process.stdout.write(`${sent}\n`)
    }
  }
  await utils.release()
}
