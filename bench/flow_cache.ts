/**
 * What a packet costs in bpf/flow_cache.bpf.c, IP in IP over IPv4, 64-byte UDP frames, by the number of flows:
 *
 *   node dist-bench/bench/flow_cache.js    half a minute
 *
 * By BPF_PROG_TEST_RUN, best of nine, less what the frame's making takes (bench/flow_cache/repeat.bpf.c). Needs root and clang.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { drawFlowHashKeys, FlowHash } from '../src/control/ebpf/flow_hash.js';
import { encodeFlowBackend } from '../src/control/ebpf/flow_layout.js';
import { flowSettings } from '../src/control/manager/flow_cache.js';
import { FlowSets } from '../src/control/manager/flow_sets.js';
import { FlowRecord, FlowSaying } from '../src/shared/flow_ring.js';
import { encodeU32 } from '../src/control/bpf_layout.js';
import { native, packageRoot } from '../src/native.js';
import { BackendField } from '../src/shared/layout.js';

const XDP_PASS = 2;
const XDP_TX = 3;

const FLOWS = [64, 4096, 16_384, 65_536, 262_144, 1_048_576];
/** Of a flood, as many as it has packets. */
const FLOOD = 2 ** 23;
/** Flows that the table is made for as it is shipped; more are measured in one of 1,048,576 sets. */
const SHIPPED = 262_144;
const REPEAT = 1_000_000;
const ROUNDS = 9;

/** UDP from 10.0.0.0:4000 to 198.51.100.10:53, 22 bytes of payload; the program writes the source and the IP checksum. */
const FRAME = Buffer.from(
  '020000000001020000000002' +
    '0800' +
    '45000032000000004011' +
    '0000' +
    '0a000000' +
    'c633640a' +
    '0fa00035001e0000' +
    '00'.repeat(22),
  'hex',
);

/** First source of the flows that packets are of, and of those that none is of. */
const SOURCE = 0x0a000000;
const OTHERS = 0x20000000;

/** 10.1.0.11 from 10.1.0.1, IP in IP. */
const BACKEND = new Int32Array(BackendField.STRIDE);
BACKEND[BackendField.mtu] = 1500;
BACKEND[BackendField.source0] = 0x0a010001;
BACKEND[BackendField.addr0] = 0x0a01000b;
BACKEND[BackendField.headerSum] = 0x1234;

/** `sets`: of the table; 0: as many as it is shipped with. */
function compile(directory: string, sets: number): string {
  const path = join(directory, `repeat_${sets}.bpf.o`);
  const source = join(packageRoot, 'bench/flow_cache/repeat.bpf.c');
  const machine = execFileSync('uname', ['-m'], { encoding: 'utf8' }).trim();
  const flags = ['-O2', '-g', '-target', 'bpf', '-mcpu=v3', `-I/usr/include/${machine}-linux-gnu`];
  if (sets > 0) flags.push(`-DFLOW_SETS4=${sets}`);
  execFileSync('clang', [...flags, '-c', source, '-o', path]);
  return path;
}

interface Costs {
  /** ns a packet: of a hit, ... */
  hit: number;
  /** ... of a miss, where as many flows are in the table as packets are of, none the same; ... */
  miss: number;
  /** ... and of a miss in that table where each packet is of a flow of its own. */
  flood: number;
  /** Flows that the table had room for. */
  held: number;
}

function measure(path: string, flows: number): Costs {
  return {
    ...withTable(path, flows, ({ fill, best }) => {
      fill(OTHERS, flows);
      const miss = best(XDP_PASS);
      fill(SOURCE, flows);
      // The last one may be among those that found no room.
      return { miss, hit: best(XDP_TX, XDP_PASS) };
    }),
    ...withTable(path, FLOOD, ({ fill, best }) => {
      const held = fill(OTHERS, flows);
      return { held, flood: best(XDP_PASS) };
    }),
  };
}

interface Table {
  /** Puts flows in whose sources begin there, and nothing else; returns how many found room. */
  fill(source: number, flows: number): number;
  /** ns a packet above the making of it. `actions`: what the program may answer. */
  best(...actions: number[]): number;
}

/** `flows`: that packets are of. */
function withTable<T>(path: string, flows: number, use: (table: Table) => T): T {
  const object = new (native().BpfObject)(path);
  try {
    const keys = drawFlowHashKeys();
    object.setRodata({ flow_mask: flows - 1, ...flowSettings(keys) });
    object.load();
    object.map('flow_backends').update(encodeU32(0), encodeFlowBackend(BACKEND, 0, 1, 0));
    const maps = ['flows4', 'flow_filter4'].map((name) => object.map(name));
    const [words, filter] = maps.map((map) => new Int32Array(map.memory()));
    const sets = new FlowSets(4, words, filter, new FlowHash(keys));
    const time = (program: string, ...actions: number[]): number => {
      let least = Infinity;
      for (let round = 0; round < ROUNDS; round++) {
        const { durationNs, retval } = object.testRun(program, { data: FRAME, repeat: REPEAT });
        if (!actions.includes(retval)) throw new Error(`${program} returned ${retval}`);
        least = Math.min(least, durationNs);
      }
      return least;
    };
    const result = use({
      fill: (source, count) => {
        words.fill(0);
        filter.fill(0);
        return fill(sets, count, source);
      },
      best: (...actions) => time('sluice_repeat', ...actions) - time('sluice_bare', XDP_TX),
    });
    for (const map of maps) map.close();
    return result;
  } finally {
    object.close();
  }
}

/** Puts flows in whose sources begin there; returns how many found room. */
function fill(sets: FlowSets, flows: number, source: number): number {
  const nowMs = Number(process.hrtime.bigint() / 1_000_000n);
  const record = new Int32Array(FlowRecord.STRIDE);
  record[FlowRecord.what] = (FlowSaying.offer << 16) | 0x0411;
  record[FlowRecord.dst0] = 0xc633640a | 0;
  record[FlowRecord.ports] = (4000 << 16) | 53;
  let held = 0;
  for (let i = 0; i < flows; i++) {
    record[FlowRecord.src0] = source + i;
    const place = sets.announce(record, 0, nowMs, () => true);
    if (place >= 0 && sets.enforce(place, 0, 1, nowMs)) held++;
  }
  return held;
}

const directory = mkdtempSync(join(tmpdir(), 'flow-cache-'));
try {
  const [shipped, large] = [0, 2 ** 20].map((sets) => compile(directory, sets));
  console.log('flows      hit, ns  miss, ns  miss in a flood, ns  no room');
  for (const flows of FLOWS) {
    const { hit, miss, flood, held } = measure(flows > SHIPPED ? large : shipped, flows);
    const columns = [hit.toFixed(0).padStart(7), miss.toFixed(0).padStart(8), flood.toFixed(0).padStart(19)];
    const lost = `${((100 * (flows - held)) / flows).toFixed(2)} %`;
    console.log(`${String(flows).padEnd(10)} ${columns.join('  ')}  ${lost.padStart(7)}`);
  }
} finally {
  rmSync(directory, { recursive: true });
}
