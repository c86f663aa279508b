/**
 * A worker thread that uses a limit as a queue's worker does. workerData: {dist, job, worker, workers, barrier, shared, …}. Answers with one number: what
 * it was granted. Threads go in step: `step()` waits until all have come to it.
 */
import { parentPort, workerData } from 'node:worker_threads';

const { dist, job, worker, workers, shared } = workerData;
const { HashLimit } = await import(`${dist}/dataplane/mitigate/hash_limit.js`);
const { ConnLimit } = await import(`${dist}/dataplane/mitigate/conn_limit.js`);
const { SharedBucket } = await import(`${dist}/dataplane/mitigate/shared_bucket.js`);
const { Packet } = await import(`${dist}/dataplane/packet/packet.js`);

const packet = new Packet(new DataView(new ArrayBuffer(2048)), 2048);
packet.family = 4;
packet.dst0 = 7;
packet.l3Length = 100;

/** [threads that have come, round] */
const barrier = new Int32Array(workerData.barrier);

function step() {
  const round = Atomics.load(barrier, 1);
  if (Atomics.add(barrier, 0, 1) === workers - 1) {
    Atomics.store(barrier, 0, 0);
    Atomics.store(barrier, 1, round + 1);
    Atomics.notify(barrier, 1);
    return;
  }
  // Who was quick may be woken by the round before.
  while (Atomics.load(barrier, 1) === round) Atomics.wait(barrier, 1, round);
}

const jobs = {
  /** Each key asks `rounds` times, all at one moment. */
  hashlimit({ keys, rounds }) {
    const limit = new HashLimit(shared, worker, workers);
    let within = 0;
    step();
    for (let round = 0; round < rounds; round++) {
      for (let key = 0; key < keys; key++) {
        packet.src0 = key;
        if (limit.judge(packet, 1000) === 0) within++;
      }
    }
    return within;
  },
  /** New keys all the time, far more than there is room for. */
  churn({ ticks }) {
    const limit = new HashLimit(shared, worker, workers);
    let within = 0;
    for (let ms = 0; ms < ticks; ms++) {
      step();
      for (let i = 0; i < 40; i++) {
        packet.src0 = Math.imul(ms * 40 + i, 0x9e3779b1) ^ worker;
        if (limit.judge(packet, ms) === 0) within++;
      }
    }
    return within;
  },
  /** Opens connections until the limit says no, many times the limit. */
  connlimit({ keys, rounds, close }) {
    const limit = new ConnLimit(shared, worker, workers);
    const open = new Int32Array(keys);
    step();
    let within = 0;
    for (let round = 0; round < rounds; round++) {
      for (let key = 0; key < keys; key++) {
        packet.src0 = key << 8;
        if (limit.open(packet) !== 0) continue;
        within++;
        open[key]++;
      }
    }
    step();
    if (close)
      for (let key = 0; key < keys; key++) for (; open[key] > 0; open[key]--) limit.closed(4, key << 8, 0, 0, 0);
    return within;
  },
  /** Takes `perTick` times a millisecond; from `quietFrom` on, only thread 0 does. */
  bucket({ ticks, perTick, startMs, quietFrom }) {
    const bucket = new SharedBucket(shared, worker, workers);
    let within = 0;
    for (let ms = 0; ms < ticks; ms++) {
      step();
      const takes = ms >= quietFrom && worker > 0 ? 0 : perTick;
      for (let i = 0; i < takes; i++) {
        const length = shared.bytes ? 60 + ((i * 389) % 1440) : 100;
        if (bucket.take(length, (startMs + ms) | 0)) within += shared.bytes ? length : 1;
      }
    }
    return within;
  },
};

parentPort.postMessage(jobs[job](workerData));
