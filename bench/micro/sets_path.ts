/** What a set that drops costs the packets that it sees, over the whole path: known flows, 64 bytes; on the short way, and on the long one that it took from all. */
import { IpSet } from '../../src/control/sets/index.js';
import { Balancer } from '../../src/dataplane/balance/forward.js';
import { FlowField, FlowTable } from '../../src/dataplane/balance/flow_table.js';
import { buildChain } from '../../src/dataplane/filter/build.js';
import { Path } from '../../src/dataplane/poll.js';
import { LoopPort } from '../../src/dataplane/ports/loop.js';
import { MemoryPool } from '../../src/dataplane/ports/memory_pool.js';
import { Snapshot } from '../../src/dataplane/snapshot.js';
import { formatWords } from '../../src/shared/addr.js';
import { Counter, CounterBlock } from '../../src/shared/layout.js';
import { SetClockWord, type SetTable } from '../../src/shared/sets/index.js';
import { FLOW_SECRET, FRAME_BYTES, benchFrames, benchTables } from '../path/fixture.js';
import { BURST, measure, SMOKE, type MicroCase } from './harness.js';

/** Few, so that the packets stay in the second-level cache: what is compared is instructions. */
const FLOWS = 1024;
const SLOTS = 16_384;
const ENTRIES = SMOKE ? 1000 : 100_000;
const FRAMES = benchFrames(FLOWS);
const frames = Array.from({ length: FLOWS }, (_, i) => FRAMES.subarray(i * FRAME_BYTES, (i + 1) * FRAME_BYTES));
const sources = frames.map((frame) => new DataView(frame.buffer, frame.byteOffset).getInt32(26));

/** Networks of /24 where no flow comes from, and perhaps those where all come from. */
function setTable(holdsSources: boolean): SetTable {
  const set = new IpSet({ name: 'bench', type: 'hash:net', maxelem: 2 * ENTRIES + FLOWS }, { seconds: () => 0 });
  const taken = new Set(sources.map((address) => address >>> 8));
  const settle = set.startBulk();
  for (let i = 0; set.count < ENTRIES; i++) {
    const net = Math.imul(i, 0x9e3779b1) >>> 8;
    if (!taken.has(net)) set.add(`${formatWords(4, [net << 8, 0, 0, 0])}/24`, {}, true);
  }
  if (holdsSources) for (const net of taken) set.add(`${formatWords(4, [net << 8, 0, 0, 0])}/24`, {}, true);
  settle();
  return { name: 'bench', buffers: set.buffers, counters: [null], matches: [new SharedArrayBuffer(16)] };
}

/** One burst. `drops`: whether the set has every source; null: there is no set. */
function pathCase(name: string, drops: boolean | null, shortWay: boolean): MicroCase {
  const setClock = new SharedArrayBuffer(4 * SetClockWord.SIZE);
  const sets = drops === null ? [] : [setTable(drops)];
  const setDrops = sets.map((_, set) => ({ set, sides: 0 }));
  const tables = { ...benchTables(), sets, setDrops, setAllows: [], setClock, ruleStamp: -1 };
  tables.filters = [...tables.filters.filter(({ kind }) => kind !== 'rules'), { kind: 'rules' }];
  const counters = new Float64Array(CounterBlock.SIZE);
  const pool = new MemoryPool({ frameCount: FLOWS, chunkSize: 2048 });
  const port = new LoopPort(pool, { frames, chunks: FLOWS, burst: BURST, clock: () => 1000 });
  const flows = new FlowTable(new Int32Array(SLOTS * FlowField.STRIDE), tables.settings.timeouts);
  const balancer = new Balancer(flows, counters, FLOW_SECRET, new Snapshot(tables));
  const chain = buildChain(tables, counters, { worker: 0, nowMs: () => 0 });
  const fail = (error: unknown): never => {
    throw error;
  };
  const path = new Path(pool.memory, 2048, balancer, chain, [false], counters, fail);
  path.takesShortWay = shortWay;
  for (let i = 0; i < (3 * FLOWS) / BURST; i++) path.pollOnce(port);
  const judged = drops === true ? Counter.drop : Counter.tx;
  const body = (): number => {
    const before = counters[judged];
    path.pollOnce(port);
    return counters[judged] - before;
  };
  return { name, body, expected: BURST };
}

measure([
  pathCase('no set: the short way', null, true),
  pathCase('a set that has none of them: the short way', false, true),
  pathCase('a set that has none of them: the steps', false, false),
  pathCase('a set that has them all: the short way', true, true),
  pathCase('a set that has them all: the steps', true, false),
]);
