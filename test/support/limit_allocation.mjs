/**
 * What limits allocate per packet, by V8's sampling heap profiler with short-lived objects included. argv: the path of dist/. Prints a JSON object, bytes a packet
 * by case.
 */
import { Session } from 'node:inspector';

const load = (path) => import(`${process.argv[2]}/${path}`);
const { FairShare } = await load('dataplane/mitigate/fair_share.js');
const { HashLimit } = await load('dataplane/mitigate/hash_limit.js');
const { ConnLimit } = await load('dataplane/mitigate/conn_limit.js');
const { SharedBucket } = await load('dataplane/mitigate/shared_bucket.js');
const { Packet } = await load('dataplane/packet/packet.js');
const { allocateFairShare } = await load('shared/limits/fair_share.js');
const { allocateHashLimit } = await load('shared/limits/hash_limit.js');
const { allocateConnLimit } = await load('shared/limits/conn_limit.js');
const { allocateBucket } = await load('shared/limits/shared_bucket.js');

const PACKETS = 400_000;
const packet = new Packet(new DataView(new ArrayBuffer(2048)), 2048);
packet.family = 4;
packet.dst0 = 5;
packet.l3Length = 640;

const packets = { unit: 'packets', amount: 1000, seconds: 1 };
const bytes = { unit: 'bytes', amount: 100_000, seconds: 1 };

function hashLimit(spec, workers) {
  const limit = new HashLimit(allocateHashLimit({ direction: 'upto', mode: 1, ...spec }), 0, workers);
  return (nowMs) => limit.judge(packet, nowMs);
}

function fairShare(spec, workers) {
  const share = new FairShare(allocateFairShare(spec, workers), 0, workers);
  return (nowMs) => share.judge(packet, nowMs);
}

function connLimit() {
  const limit = new ConnLimit(allocateConnLimit({ limit: 5, direction: 'above' }, 2), 0, 2);
  return () => {
    limit.open(packet);
    limit.closed(4, packet.src0, 0, 0, 0);
  };
}

function bucket(rate) {
  const shared = new SharedBucket(allocateBucket({ rate }, 2), 0, 2);
  return (nowMs) => shared.take(333, nowMs);
}

const cases = {
  'hashlimit, packets': hashLimit({ rate: packets }, 2),
  'hashlimit, bytes': hashLimit({ rate: bytes }, 1),
  'hashlimit, rate match': hashLimit({ rate: packets, rateMatch: true }, 1),
  'fair share, packets': fairShare({ rate: packets }, 1),
  'fair share, bytes, two workers': fairShare({ rate: bytes }, 2),
  'fair share, fixed': fairShare({ rate: packets, share: 'fixed' }, 1),
  connlimit: connLimit(),
  'token bucket': bucket(bytes),
};

function run(judge) {
  for (let i = 0; i < PACKETS; i++) {
    packet.src0 = i % 3000;
    packet.ports = i;
    judge(i >> 9);
  }
}

/** What functions of the limits allocated, bytes. */
function total({ callFrame, selfSize, children }) {
  const own = callFrame.url.includes('/mitigate/') ? selfSize : 0;
  return children.reduce((sum, child) => sum + total(child), own);
}

const session = new Session();
session.connect();
const results = {};
for (const [name, judge] of Object.entries(cases)) {
  for (let i = 0; i < 3; i++) run(judge);
  session.post('HeapProfiler.startSampling', {
    samplingInterval: 1024,
    includeObjectsCollectedByMajorGC: true,
    includeObjectsCollectedByMinorGC: true,
  });
  run(judge);
  session.post('HeapProfiler.stopSampling', (error, { profile }) => {
    results[name] = total(profile.head) / PACKETS;
  });
}
process.stdout.write(JSON.stringify(results));
