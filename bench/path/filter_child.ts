/**
 * One trial of the filters in TypeScript, in a process of its own; see filter_cases.ts.
 *
 *   node filter_child.js FIXTURE MILLISECONDS            prints one line of JSON
 *   node filter_child.js FIXTURE --write FILE PACKETS    writes a verdict for each of that many packets, and the bytes of those that leave
 */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { Balancer } from '../../src/dataplane/balance/forward.js';
import { FlowField, FlowTable } from '../../src/dataplane/balance/flow_table.js';
import { buildChain } from '../../src/dataplane/filter/build.js';
import { Packet } from '../../src/dataplane/packet/packet.js';
import { parse } from '../../src/dataplane/packet/parse.js';
import { Path } from '../../src/dataplane/poll.js';
import { LoopPort } from '../../src/dataplane/ports/loop.js';
import { MemoryPool } from '../../src/dataplane/ports/memory_pool.js';
import { Snapshot } from '../../src/dataplane/snapshot.js';
import { Verdict } from '../../src/dataplane/verdict.js';
import { Counter, CounterBlock, MAX_RULES, PortCounter, RuleCounter } from '../../src/shared/layout.js';
import { readFilters } from './filter_fixture.js';
import { FLOW_SECRET, readFixture } from './fixture.js';

const CHUNKS = 4096;
const BURST = 64;
const SLICES = 12;
const START_MS = 1000;

const [, , name, milliseconds, output, packetsWanted] = process.argv;
const { flows, flowSlots, frames } = readFixture(readFileSync(name));
const { whole, tables, matches } = readFilters(name);

const counters = new Float64Array(CounterBlock.SIZE);
const pool = new MemoryPool({ frameCount: CHUNKS, chunkSize: 2048 });
const port = new LoopPort(pool, { frames, chunks: Math.min(CHUNKS, flows), burst: BURST, clock: () => START_MS });
// 48 bytes on: large allocations start 16 bytes into a page, and an entry should be one cache line.
const memory = new ArrayBuffer((flowSlots * FlowField.STRIDE + 16) * 4);
const table = new FlowTable(new Int32Array(memory, 48, flowSlots * FlowField.STRIDE), tables.settings.timeouts);
const balancer = new Balancer(table, counters, FLOW_SECRET, new Snapshot(tables));
const chain = buildChain(tables, counters, { worker: 0, nowMs: () => START_MS });
const path = new Path(pool.memory, 2048, balancer, chain, [false], counters, (error) => {
  throw error;
});
const view = new DataView(pool.memory);
const packets = Array.from({ length: BURST }, () => new Packet(view, 2048));
let found = 0;

/** Reads the headers of a burst, and drops it, as a policy that drops all does. `found` is made of what they say. */
function parseOnce(): void {
  const count = port.exchange();
  const { offset, length, verdict } = port.burst;
  for (let i = 0; i < count; i++) {
    const packet = packets[i];
    packet.place(offset[i], length[i]);
    parse(packet);
  }
  let sum = 0;
  for (let i = 0; i < count; i++) {
    const { malformed, src0, dst0, ports, protocol, l3Length, flags } = packets[i];
    if (malformed === 0) sum = ((sum << 1) | (sum >>> 31)) ^ src0 ^ dst0 ^ ports ^ protocol ^ l3Length ^ flags;
    verdict[i] = Verdict.Drop;
  }
  // Of a sum of packets, which may leave int32, V8 would make floating-point numbers.
  found = (Math.imul(found, 31) + sum) | 0;
}

/** Runs a number of bursts as the worker's loop does, and returns ns of CPU time a packet. */
function run(bursts: number): number {
  const start = process.cpuUsage();
  for (let i = 0; i < bursts; i++) {
    if (whole) path.pollOnce(port);
    else parseOnce();
    balancer.sweep(START_MS);
  }
  const { user, system } = process.cpuUsage(start);
  return ((user + system) * 1000) / (bursts * BURST);
}

function write(file: string, wanted: number): void {
  const out = openSync(file, 'w');
  for (let done = 0; done < wanted; done += BURST) {
    if (whole) path.pollOnce(port);
    else parseOnce();
    const { offset, length, verdict } = port.burst;
    const parts: Uint8Array[] = [];
    for (let i = 0; i < BURST; i++) {
      parts.push(Uint8Array.of(verdict[i]));
      if (verdict[i] === (Verdict.Tx as number)) parts.push(pool.bytes(offset[i], length[i]));
    }
    writeSync(out, Buffer.concat(parts));
  }
  writeSync(out, new Uint8Array(Int32Array.of(found).buffer));
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
  // A burst is settled by the exchange that takes the next one.
  port.exchange();
  let byRules = 0;
  for (let id = 0; id < MAX_RULES; id++)
    byRules += counters[CounterBlock.rules + id * RuleCounter.SIZE + RuleCounter.acted];
  const dropped = port.counters[PortCounter.dropped];
  const sent = port.counters[PortCounter.txPackets];
  const { [Counter.flowHit]: hits } = counters;
  const trial = { ns, best, packets: dropped + sent, dropped, sent, byRules, bySet: matches[0], hits, found };
  process.stdout.write(`${JSON.stringify(trial)}\n`);
}

if (milliseconds === '--write') write(output, Number(packetsWanted));
else measure();
