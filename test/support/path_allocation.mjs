/**
 * What the path allocates per burst of 64 packets, by V8's sampling heap profiler with short-lived objects included. argv: the path of dist/. Prints a JSON object, by
 * case: bytes a burst, and what became of the packets.
 */
import { Session } from 'node:inspector';

const load = (path) => import(`${process.argv[2]}/${path}`);
const { balancingTables, filterTables, FIRST_RULE_PORT } = await load('bench/tables.js');
const { Balancer } = await load('dataplane/balance/forward.js');
const { FlowField, FlowTable } = await load('dataplane/balance/flow_table.js');
const { buildChain } = await load('dataplane/filter/build.js');
const { Path } = await load('dataplane/poll.js');
const { LoopPort } = await load('dataplane/ports/loop.js');
const { MemoryPool } = await load('dataplane/ports/memory_pool.js');
const { Snapshot } = await load('dataplane/snapshot.js');
const { FrameWriter } = await load('generator/writer.js');
const { parseAddress, parseMac, parsePrefix } = await load('shared/addr.js');
const { Counter, CounterBlock } = await load('shared/layout.js');

const BURSTS = 10_000;
const CHUNK = 2048;
const SLOTS = 4096;
const mac = parseMac('02:00:00:00:00:01');
const vip = parseAddress('198.51.100.10');

function framesOf(flows, destinationPort) {
  const writer = new FrameWriter(
    {
      interface: 'd0',
      template: 'udp',
      sourceMac: mac,
      destinationMac: mac,
      source: parsePrefix('198.18.0.0/15'),
      destination: vip,
      sourcePort: 1024,
      destinationPort,
      tunnel: null,
      flows,
      pick: 'cycle',
      sizes: [{ bytes: 64, weight: 1 }],
      packetsPerSecond: 0,
      packets: 0,
      durationMs: 0,
      cpu: null,
    },
    new ArrayBuffer(CHUNK * flows),
    CHUNK,
  );
  return Array.from({ length: flows }, (_, i) => {
    const length = writer.write(i * CHUNK);
    return new Uint8Array(writer.bytes.buffer, i * CHUNK, length).slice();
  });
}

function pathOver(tables, frames) {
  const counters = new Float64Array(CounterBlock.SIZE);
  let nowMs = 1000;
  let turns = 0;
  const clock = () => (nowMs = (nowMs + ((turns = (turns + 1) | 0) & 63 ? 0 : 1)) | 0);
  const pool = new MemoryPool({ frameCount: 4096, chunkSize: CHUNK });
  const port = new LoopPort(pool, { frames, chunks: Math.min(4096, frames.length), burst: 64, clock });
  const table = new FlowTable(new Int32Array(SLOTS * FlowField.STRIDE), tables.settings.timeouts);
  const balancer = new Balancer(table, counters, [1, 2, 3, 4], new Snapshot(tables));
  const chain = buildChain(tables, counters, { worker: 0, nowMs: () => nowMs });
  const fail = (error) => {
    throw error;
  };
  const path = new Path(pool.memory, CHUNK, balancer, chain, [false], counters, fail);
  const run = (bursts) => {
    for (let i = 0; i < bursts; i++) {
      path.pollOnce(port);
      balancer.sweep(nowMs);
    }
  };
  return { run, counters };
}

const service = { vip, port: 9, backends: 16, destinationMac: mac };
const balanced = () => balancingTables(service, ['d0', 'd1'], mac);
const cases = {
  'flows known': pathOver(balanced(), framesOf(256, 9)),
  'flows new, table full': pathOver(balanced(), framesOf(16 * SLOTS, 9)),
  'last of 100 rules drops': pathOver(filterTables(100, ['d0']), framesOf(256, FIRST_RULE_PORT + 99)),
  'no rule matches': pathOver(filterTables(100, ['d0']), framesOf(256, 9)),
};

const sum = ({ selfSize, children }) => children.reduce((total, child) => total + sum(child), selfSize);
/** What functions of ours allocated, bytes. */
const own = ({ callFrame, selfSize, children }) =>
  children.reduce((total, child) => total + own(child), /\/(dataplane|shared)\//.test(callFrame.url) ? selfSize : 0);

const session = new Session();
session.connect();
const results = {};
for (const [name, { run, counters }] of Object.entries(cases)) {
  for (let i = 0; i < 3; i++) run(BURSTS);
  const before = Float64Array.from(counters);
  session.post('HeapProfiler.startSampling', {
    samplingInterval: 1024,
    includeObjectsCollectedByMajorGC: true,
    includeObjectsCollectedByMinorGC: true,
  });
  run(BURSTS);
  session.post('HeapProfiler.stopSampling', (error, { profile }) => {
    const of = (counter) => counters[counter] - before[counter];
    results[name] = {
      bytes: own(profile.head) / BURSTS,
      all: sum(profile.head) / BURSTS,
      packets: of(Counter.rx) / BURSTS,
      hits: of(Counter.flowHit) / of(Counter.rx),
      dropped: of(Counter.drop) / of(Counter.rx),
    };
  });
}
process.stdout.write(JSON.stringify(results));
