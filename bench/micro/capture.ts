/** capture/: what a capture costs the packets that it sees, over the whole path: known flows, 64 bytes. */
import { Balancer } from '../../src/dataplane/balance/forward.js';
import { FlowField, FlowTable } from '../../src/dataplane/balance/flow_table.js';
import { CaptureTap } from '../../src/dataplane/capture/tap.js';
import { buildChain } from '../../src/dataplane/filter/build.js';
import { Path } from '../../src/dataplane/poll.js';
import { LoopPort } from '../../src/dataplane/ports/loop.js';
import { MemoryPool } from '../../src/dataplane/ports/memory_pool.js';
import { Snapshot } from '../../src/dataplane/snapshot.js';
import { Verdict } from '../../src/dataplane/verdict.js';
import { CaptureRingReader, makeCaptureRing } from '../../src/shared/capture_ring.js';
import { CapturePoint, type CaptureSpec } from '../../src/shared/capture_spec.js';
import { Code, programOf } from '../../src/shared/cbpf/program.js';
import { CounterBlock } from '../../src/shared/layout.js';
import { FLOW_SECRET, FRAME_BYTES, benchFrames, benchTables } from '../path/fixture.js';
import { BURST, measure, type MicroCase } from './harness.js';

const FLOWS = 4096;
const SLOTS = 65_536;
const FRAMES = benchFrames(FLOWS);
const frames = Array.from({ length: FLOWS }, (_, i) => FRAMES.subarray(i * FRAME_BYTES, (i + 1) * FRAME_BYTES));
const NOW_MS = 1000;

const everything: CaptureSpec = {
  capture: 0,
  serial: 1,
  points: CapturePoint.in,
  ports: 1,
  verdicts: 0,
  reasons: [],
  rules: null,
  services: null,
  program: null,
  oneIn: 0,
  first: 0,
  rate: 0,
  snaplen: 262_144,
};

/** No packet of the bench is TCP: `ip proto 6`. */
const { words } = programOf('ethernet', [
  [Code.LD_B_ABS, 0, 0, 23],
  [Code.JEQ_K, 0, 1, 6],
  [Code.RET_K, 0, 0, 65_535],
  [Code.RET_K, 0, 0, 0],
]);
const tcp = { link: 'ethernet' as const, words: new SharedArrayBuffer(words.byteLength) };
new Int32Array(tcp.words).set(words);

/** A burst through the whole path. Returns records that a burst gives on average, rounded. */
function pathCase(name: string, spec: CaptureSpec | null, recordsA1000: number, shortWay = true): MicroCase {
  const tables = benchTables();
  const counters = new Float64Array(CounterBlock.SIZE);
  const pool = new MemoryPool({ frameCount: FLOWS, chunkSize: 2048 });
  const port = new LoopPort(pool, { frames, chunks: FLOWS, burst: BURST, clock: () => NOW_MS });
  const table = new FlowTable(new Int32Array(SLOTS * FlowField.STRIDE), tables.settings.timeouts);
  const snapshot = new Snapshot(tables);
  const balancer = new Balancer(table, counters, FLOW_SECRET, snapshot);
  const tap = new CaptureTap(pool.memory, 2048, snapshot);
  const chain = buildChain(tables, counters, { worker: 0, nowMs: () => 0 });
  const fail = (error: unknown): never => {
    throw error;
  };
  const path = new Path(pool.memory, 2048, balancer, chain, [false], counters, fail, undefined, tap);
  path.takesShortWay = shortWay;
  const reader = new CaptureRingReader(makeCaptureRing());
  // All flows are known, in their established state.
  for (let i = 0; i < (3 * FLOWS) / BURST; i++) path.pollOnce(port);
  if (spec) tap.configure({ kind: 'capture', version: 1, ring: reader.memory, captures: [spec] });
  let packets = 0;
  let records = 0;
  const ignore = (): void => undefined;
  const body = (): number => {
    packets += path.pollOnce(port);
    records += reader.read(Infinity, ignore);
    return packets < 10_000 ? recordsA1000 : Math.round((records * 1000) / packets);
  };
  return { name, body, expected: recordsA1000 };
}

measure([
  pathCase('nobody captures: the short way', null, 0),
  pathCase('nobody captures: the steps', null, 0, false),
  pathCase('an expression that no packet matches', { ...everything, program: tcp }, 0),
  pathCase('drops only, and there are none', { ...everything, verdicts: 1 << Verdict.Drop }, 0),
  pathCase('1 in 1,000', { ...everything, oneIn: 1000 }, 1),
  pathCase('every packet', everything, 1000),
  pathCase('every packet, in and out', { ...everything, points: CapturePoint.both }, 2000),
]);
