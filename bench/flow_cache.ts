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
import {
  encodeFlowBackend,
  encodeFlowKey,
  encodeFlowValue,
  FLOW_FILTER_WORDS,
} from '../src/control/ebpf/flow_layout.js';
import { encodeU32 } from '../src/control/bpf_layout.js';
import { native, packageRoot } from '../src/native.js';
import { BackendField } from '../src/shared/layout.js';

const XDP_PASS = 2;
const XDP_TX = 3;

const FLOWS = [64, 16_384, 1_048_576];
const REPEAT = 1_000_000;
const ROUNDS = 9;
/** Entries that go into the map with one call. */
const BATCH = 16_384;

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

/** 10.1.0.11 from 10.1.0.1, IP in IP. */
const BACKEND = new Int32Array(BackendField.STRIDE);
BACKEND[BackendField.mtu] = 1500;
BACKEND[BackendField.source0] = 0x0a010001;
BACKEND[BackendField.addr0] = 0x0a01000b;
BACKEND[BackendField.headerSum] = 0x1234;

function compile(directory: string): string {
  const path = join(directory, 'repeat.bpf.o');
  const source = join(packageRoot, 'bench/flow_cache/repeat.bpf.c');
  const machine = execFileSync('uname', ['-m'], { encoding: 'utf8' }).trim();
  const flags = ['-O2', '-g', '-target', 'bpf', '-mcpu=v3', `-I/usr/include/${machine}-linux-gnu`];
  execFileSync('clang', [...flags, '-c', source, '-o', path]);
  return path;
}

/** ns a packet: of a hit, of a miss in the same table, and of one that the filter in front of it knows to be one. */
function measure(path: string, flows: number): { hit: number; miss: number; filtered: number } {
  const object = new (native().BpfObject)(path);
  try {
    object.setRodata({ flow_mask: flows - 1 });
    object.load();
    object.map('flow_backends').update(encodeU32(0), encodeFlowBackend(BACKEND, 0, 1, 0));
    const best = (program: string, action: number): number => {
      let least = Infinity;
      for (let round = 0; round < ROUNDS; round++) {
        const { durationNs, retval } = object.testRun(program, { data: FRAME, repeat: REPEAT });
        if (retval !== action) throw new Error(`${program} returned ${retval}`);
        least = Math.min(least, durationNs);
      }
      return least;
    };
    const bare = best('sluice_bare', XDP_TX);
    const miss = best('sluice_repeat', XDP_PASS) - bare;
    setFilter(object.map('flow_filter'), 0xff);
    const filtered = best('sluice_repeat', XDP_PASS) - bare;
    setFilter(object.map('flow_filter'), 0);
    fill(object.map('flows4'), flows);
    const hit = best('sluice_repeat', XDP_TX) - bare;
    return { hit, miss, filtered };
  } finally {
    object.close();
  }
}

/** All of its bits: ones say that no flow is there, zeros nothing. */
function setFilter(map: { updateBatch(keys: Uint8Array, values: Uint8Array): void }, byte: number): void {
  const keys = Uint32Array.from({ length: 2 * FLOW_FILTER_WORDS }, (_, i) => i);
  map.updateBatch(new Uint8Array(keys.buffer), new Uint8Array(8 * keys.length).fill(byte));
}

function fill(map: { updateBatch(keys: Uint8Array, values: Uint8Array): void }, flows: number): void {
  const seenMs = Number(process.hrtime.bigint() / 1_000_000n);
  const value = encodeFlowValue({
    seenMs,
    backend: 0,
    generation: 1,
    worker: 0,
    sport: 0,
    label: 0,
    host: 0,
  });
  const dst = [0xc633640a | 0];
  for (let first = 0; first < flows; first += BATCH) {
    const count = Math.min(BATCH, flows - first);
    const keys = new Uint8Array(16 * count);
    const values = new Uint8Array(value.length * count);
    for (let i = 0; i < count; i++) {
      const ports = (4000 << 16) | 53;
      keys.set(encodeFlowKey({ family: 4, protocol: 17, src: [(0x0a000000 + first + i) | 0], dst, ports }), 16 * i);
      values.set(value, value.length * i);
    }
    map.updateBatch(keys, values);
  }
}

const directory = mkdtempSync(join(tmpdir(), 'flow-cache-'));
try {
  const path = compile(directory);
  console.log('flows      hit, ns  miss, ns  filtered, ns');
  for (const flows of FLOWS) {
    const { hit, miss, filtered } = measure(path, flows);
    console.log(
      `${String(flows).padEnd(10)} ${hit.toFixed(0).padStart(7)}  ${miss.toFixed(0).padStart(8)}  ${filtered.toFixed(0).padStart(12)}`,
    );
  }
} finally {
  rmSync(directory, { recursive: true });
}
