/**
 * One trial of the TypeScript path, in a process of its own.
 *
 *   node child.js FIXTURE MILLISECONDS            prints one line of JSON
 *   node child.js FIXTURE --write FILE PACKETS    writes that many packets as they leave
 */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { Balancer } from '../../src/dataplane/balance/forward.js';
import { FlowField, FlowTable } from '../../src/dataplane/balance/flow_table.js';
import { buildChain } from '../../src/dataplane/filter/build.js';
import { Path } from '../../src/dataplane/poll.js';
import { LoopPort } from '../../src/dataplane/ports/loop.js';
import { MemoryPool } from '../../src/dataplane/ports/memory_pool.js';
import { Snapshot } from '../../src/dataplane/snapshot.js';
import { Counter, CounterBlock } from '../../src/shared/layout.js';
import { FLOW_SECRET, benchTables, readFixture } from './fixture.js';

const CHUNKS = 4096;
const BURST = 64;
const SLICES = 12;
const START_MS = 1000;

const [, , name, milliseconds, output, packets] = process.argv;
const { flows, flowSlots, way, clockStepMs, frames } = readFixture(readFileSync(name));

const tables = benchTables(way);
let nowMs = START_MS;
const clock = (): number => (nowMs = (nowMs + clockStepMs) | 0);
const counters = new Float64Array(CounterBlock.SIZE);
const pool = new MemoryPool({ frameCount: CHUNKS, chunkSize: 2048 });
const port = new LoopPort(pool, { frames, chunks: Math.min(CHUNKS, flows), burst: BURST, clock });
// 48 bytes on: large allocations start 16 bytes into a page, and an entry should be one cache line.
const memory = new ArrayBuffer((flowSlots * FlowField.STRIDE + 16) * 4);
const table = new FlowTable(new Int32Array(memory, 48, flowSlots * FlowField.STRIDE), tables.settings.timeouts);
const snapshot = new Snapshot(tables);
const balancer = new Balancer(table, counters, FLOW_SECRET, snapshot);
const chain = buildChain(tables, counters, { worker: 0, nowMs: () => 0 });
const path = new Path(pool.memory, 2048, balancer, chain, [false], counters, (error) => {
  throw error;
});

/** Runs a number of bursts as the worker's loop does, and returns ns of CPU time a packet. */
function run(bursts: number): number {
  const start = process.cpuUsage();
  for (let i = 0; i < bursts; i++) {
    path.pollOnce(port);
    // The sweeper's clock stands still also where the path's does not.
    balancer.sweep(START_MS);
  }
  const { user, system } = process.cpuUsage(start);
  return ((user + system) * 1000) / (bursts * BURST);
}

/**
 * What leaves. A flow's second packet may go another way than its first: known by now, where that was new. A burst is
 * settled by the exchange that takes the next one.
 */
function write(file: string, wanted: number): void {
  const out = openSync(file, 'w');
  port.capture = [];
  for (let done = 0; done <= wanted; done += BURST) {
    path.pollOnce(port);
    if (port.capture.length > 0) writeSync(out, Buffer.concat(port.capture));
    port.capture.length = 0;
  }
  closeSync(out);
}

function measure(): void {
  run(Math.ceil(flows / BURST));
  // Once to have it compiled, once to see what it costs.
  run(2000);
  const perBurst = run(2000) * BURST;
  const bursts = Math.max(100, Math.round((Number(milliseconds) * 1e6) / SLICES / perBurst));
  run(bursts);
  const slices = Array.from({ length: SLICES }, () => run(bursts)).sort((a, b) => a - b);
  const [best, ns] = [slices[0], slices[SLICES >> 1]];
  const { [Counter.flowHit]: hits, [Counter.flowMiss]: misses, [Counter.flowEvict]: evictions } = counters;
  process.stdout.write(`${JSON.stringify({ ns, best, hits, misses, flows: table.count, evictions })}\n`);
}

if (milliseconds === '--write') write(output, Number(packets));
else measure();
