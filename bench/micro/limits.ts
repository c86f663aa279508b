/** mitigate/: hashlimit, connlimit, the shared token bucket and fair share, at 1 k, 100 k and 1 M keys. */
import { Worker } from 'node:worker_threads';
import { ConnLimit } from '../../src/dataplane/mitigate/conn_limit.js';
import { FairShare } from '../../src/dataplane/mitigate/fair_share.js';
import { HashLimit } from '../../src/dataplane/mitigate/hash_limit.js';
import { LimitVerdict } from '../../src/dataplane/mitigate/limit_verdict.js';
import { SharedBucket } from '../../src/dataplane/mitigate/shared_bucket.js';
import { IpProtocol } from '../../src/dataplane/packet/wire.js';
import { allocateConnLimit } from '../../src/shared/limits/conn_limit.js';
import { allocateFairShare } from '../../src/shared/limits/fair_share.js';
import { allocateHashLimit, HashLimitMode } from '../../src/shared/limits/hash_limit.js';
import { allocateBucket } from '../../src/shared/limits/shared_bucket.js';
import { BURST, measure, SMOKE, type MicroCase } from './harness.js';
import { parsedBurst } from './packets.js';

const KEYS = SMOKE ? [1000] : [1000, 100_000, 1_000_000];
const FAST = { unit: 'packets', amount: 1_000_000, seconds: 1 } as const;

const packets = parsedBurst({ family: 4, protocol: IpProtocol.udp, bytes: 64 });

/** The source of packet `n`, one of `keys`, in no order that a cache likes. */
function source(n: number, keys: number): number {
  return (Math.imul(n, 0x9e3779b1) >>> 0) % keys;
}

/** Packets of known keys. `nowMs` goes on by 1 in 16 bursts, about a million packets a second. */
function hashLimitCase(keys: number, workers: number): MicroCase {
  const spec = {
    rate: FAST,
    burst: 1_000_000,
    direction: 'upto',
    mode: HashLimitMode.srcip,
    htableExpireMs: 1e8,
  } as const;
  const limit = new HashLimit(allocateHashLimit({ ...spec, htableMax: Math.max(keys, 8192) }), 0, workers);
  const packet = packets[0];
  for (let n = 0; n < keys; n++) {
    packet.src0 = n;
    limit.judge(packet, 0);
  }
  let at = 0;
  let bursts = 0;
  const body = (): number => {
    const nowMs = bursts++ >> 4;
    let within = 0;
    for (let i = 0; i < BURST; i++, at = (at + 1) | 0) {
      packets[i].src0 = source(at, keys);
      if (limit.judge(packets[i], nowMs) === LimitVerdict.within) within++;
    }
    return within;
  };
  const locks = workers > 1 ? ', locked' : '';
  return { name: `hashlimit, ${keys} sources${locks}`, body, expected: BURST };
}

/** A flood of new keys meets a full table. */
function fullCase(): MicroCase {
  const spec = { rate: FAST, direction: 'upto', mode: HashLimitMode.srcip, htableExpireMs: 1e8 } as const;
  const limit = new HashLimit(allocateHashLimit({ ...spec, htableSize: 65536, htableMax: 65536 }), 0, 2);
  const packet = packets[0];
  for (let n = 0; n < 65536; n++) {
    packet.src0 = n;
    limit.judge(packet, 0);
  }
  let at = 65536;
  const body = (): number => {
    let dropped = 0;
    for (let i = 0; i < BURST; i++) {
      at = (at + 1) & 0x3fffffff;
      packets[i].src0 = at | 65536;
      if (limit.judge(packets[i], 0) === LimitVerdict.hotDrop) dropped++;
    }
    return dropped;
  };
  return { name: 'hashlimit, new sources, full table, locked', body, expected: BURST };
}

/** One connection opens and closes. */
function connLimitCase(keys: number, workers: number): MicroCase {
  const limit = new ConnLimit(allocateConnLimit({ limit: 100, direction: 'above', max: keys }, workers), 0, workers);
  const packet = packets[0];
  for (let n = 0; n < keys; n++) {
    packet.src0 = n;
    limit.open(packet);
  }
  let at = 0;
  const body = (): number => {
    let within = 0;
    for (let i = 0; i < BURST; i++, at = (at + 1) | 0) {
      packets[i].src0 = source(at, keys);
      if (limit.open(packets[i]) === LimitVerdict.within) within++;
      limit.closed(4, packets[i].src0, 0, 0, 0);
    }
    return within;
  };
  const locks = workers > 1 ? ', locked' : '';
  return { name: `connlimit, open and close, ${keys} sources${locks}`, body, expected: BURST };
}

function bucketCase(name: string, workers: number, bucket: SharedBucket): MicroCase {
  let bursts = 0;
  const body = (): number => {
    const nowMs = (bursts++ >> 4) & 0x3fffffff;
    for (let i = 0; i < BURST; i++) bucket.take(100, nowMs);
    return workers;
  };
  return { name, body, expected: workers };
}

/** Another thread that takes from the same bucket all the time. */
function rival(shared: ReturnType<typeof allocateBucket>): Worker {
  const module = new URL('../../src/dataplane/mitigate/shared_bucket.js', import.meta.url).href;
  const code = `
    const { workerData, parentPort } = require('node:worker_threads');
    import(workerData.module).then(({ SharedBucket }) => {
      const bucket = new SharedBucket(workerData.shared, 1, 2);
      for (let n = 0; ; n++) bucket.take(100, (n >> 10) & 0x3fffffff);
    });`;
  return new Worker(code, { eval: true, workerData: { module, shared } });
}

function fairShareCase(sources: number, family: 4 | 6): MicroCase {
  const share = new FairShare(allocateFairShare({ rate: { ...FAST, amount: 1e9 } }, 1), 0, 1);
  const burst = parsedBurst({ family, protocol: IpProtocol.udp, bytes: 78 });
  let at = 0;
  let bursts = 0;
  const body = (): number => {
    const nowMs = (bursts++ >> 4) & 0x3fffffff;
    let within = 0;
    for (let i = 0; i < BURST; i++, at = (at + 1) | 0) {
      burst[i].src0 = source(at, sources);
      if (share.judge(burst[i], nowMs) === LimitVerdict.within) within++;
    }
    return within;
  };
  return { name: `fair share, IPv${family}, ${sources} sources`, body, expected: BURST };
}

measure([
  ...KEYS.map((keys) => hashLimitCase(keys, 1)),
  ...KEYS.map((keys) => hashLimitCase(keys, 2)),
  fullCase(),
  ...KEYS.map((keys) => connLimitCase(keys, 1)),
  ...KEYS.map((keys) => connLimitCase(keys, 2)),
  ...KEYS.map((keys) => fairShareCase(keys, 4)),
  fairShareCase(KEYS[KEYS.length - 1], 6),
  bucketCase('token bucket, 1 worker', 1, new SharedBucket(allocateBucket({ rate: FAST }, 1), 0, 1)),
]);

const contended = allocateBucket({ rate: FAST }, 2);
const other = rival(contended);
other.once('online', () => {
  measure([bucketCase('token bucket, 2 workers at once', 2, new SharedBucket(contended, 0, 2))]);
  void other.terminate();
});
