/**
 * What a packet costs in bpf/flow_cache.bpf.c, IP in IP over IPv4, 64-byte UDP frames, by the number of flows:
 *
 *   node dist-bench/bench/flow_cache.js    some ten seconds
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

const FLOWS = [64, 4096, 16_384, 1_048_576];
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

/** First source of the flows that no packet is of. */
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

/** ns a packet: of a miss in an empty table, of a hit, and of a miss in a table with so many other flows. `held`: flows that the table has room for. */
function measure(path: string, flows: number): { hit: number; miss: number; full: number; held: number } {
  const object = new (native().BpfObject)(path);
  try {
    const keys = drawFlowHashKeys();
    object.setRodata({ flow_mask: flows - 1, ...flowSettings(keys) });
    object.load();
    object.map('flow_backends').update(encodeU32(0), encodeFlowBackend(BACKEND, 0, 1, 0));
    const best = (program: string, ...actions: number[]): number => {
      let least = Infinity;
      for (let round = 0; round < ROUNDS; round++) {
        const { durationNs, retval } = object.testRun(program, { data: FRAME, repeat: REPEAT });
        if (!actions.includes(retval)) throw new Error(`${program} returned ${retval}`);
        least = Math.min(least, durationNs);
      }
      return least;
    };
    const map = object.map('flows4');
    const words = new Int32Array(map.memory());
    const sets = new FlowSets(4, words, new FlowHash(keys));
    const bare = best('sluice_bare', XDP_TX);
    const miss = best('sluice_repeat', XDP_PASS) - bare;
    fill(sets, flows, OTHERS);
    const full = best('sluice_repeat', XDP_PASS) - bare;
    words.fill(0);
    const held = fill(sets, flows, 0x0a000000);
    // The last one may be among those that found no room.
    const hit = best('sluice_repeat', XDP_TX, XDP_PASS) - bare;
    map.close();
    return { hit, miss, full, held };
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
  console.log('flows      hit, ns  miss, ns  miss among as many others, ns  no room');
  for (const flows of FLOWS) {
    const { hit, miss, full, held } = measure(flows > SHIPPED ? large : shipped, flows);
    const columns = [hit.toFixed(0).padStart(7), miss.toFixed(0).padStart(8), full.toFixed(0).padStart(28)];
    const lost = `${((100 * (flows - held)) / flows).toFixed(2)} %`;
    console.log(`${String(flows).padEnd(10)} ${columns.join('  ')}  ${lost.padStart(7)}`);
  }
} finally {
  rmSync(directory, { recursive: true });
}
