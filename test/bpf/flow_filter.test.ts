/** The filter in front of the kernel's tables of flows: what is put there is found, whatever was missed before; what has left is not looked for. */
import { expect, it } from 'vitest';
import { encodeU32 } from '../../src/control/bpf_layout.js';
import {
  encodeFlowBackend,
  encodeFlowKey,
  encodeFlowValue,
  FLOW_FILTER_WORDS,
  FLOW_KEY_BYTES,
  FLOW_PROGRAM,
  FLOW_VALUE_BYTES,
  type FlowTuple,
} from '../../src/control/ebpf/flow_layout.js';
import { FlowCache } from '../../src/control/manager/flow_cache.js';
import { BackendField } from '../../src/shared/layout.js';
import { randomSource, XDP } from '../support/bpf.js';
import { nowMs, tupleOf } from '../support/flow_cache.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import { parsed } from '../support/packets.js';

const next = randomSource(7);
const random = (below: number): number => (next() >>> 0) % below;
const half = (): string => random(65536).toString(16);

/** A packet of a flow that nobody had before. */
function frameOf(family: 4 | 6, flags: number | null = null, sport = 1024 + random(60000)): Uint8Array {
  const builder = new PacketBuilder().ethernet();
  if (family === 4) builder.ipv4({ src: `20.${random(256)}.${random(256)}.${random(256)}`, dst: '198.51.100.10' });
  else builder.ipv6({ src: `2001:db8:${half()}:${half()}:${half()}::${half()}`, dst: '2001:db8::10' });
  if (flags === null) builder.udp({ sport, dport: 53 });
  else builder.tcp({ sport, dport: 80, flags });
  return builder.payload(30).build();
}

interface Flow {
  tuple: FlowTuple;
  frame: Uint8Array;
}

const flowOf = (frame: Uint8Array): Flow => ({ tuple: tupleOf(parsed(frame)), frame });

/** A cache with one backend, out of the interface that packets come in by. */
function open(): FlowCache {
  const cache = new FlowCache({ tcpMs: 60_000, udpMs: 60_000 });
  const backend = new Int32Array(BackendField.STRIDE);
  backend[BackendField.mtu] = 1500;
  cache.setBackend(0, encodeFlowBackend(backend, 0, 1, 0));
  return cache;
}

function put(cache: FlowCache, { tuple }: Flow): void {
  const value = encodeFlowValue({ seenMs: nowMs(), backend: 0, generation: 1, worker: 0, sport: 0, label: 0, host: 0 });
  cache.put(tuple.family, encodeFlowKey(tuple), value);
}

const run = (cache: FlowCache, frame: Uint8Array): number => cache.object.testRun(FLOW_PROGRAM, { data: frame }).retval;

/** Reads all keys, as FlowWalk does. */
function round(cache: FlowCache, family: 4 | 6): number {
  const keys = new Uint8Array(512 * FLOW_KEY_BYTES[family]);
  const values = new Uint8Array(512 * FLOW_VALUE_BYTES);
  let seen = 0;
  for (let from: number | null = null; ;) {
    const { count, next: after } = cache.read(family, keys, values, from);
    seen += count;
    if (after === null) return seen;
    from = after;
  }
}

/** Bits of a family that say that no flow is there. */
function absent(cache: FlowCache, family: 4 | 6): number {
  const map = cache.object.map('flow_filter');
  let bits = 0;
  for (let word = 0; word < FLOW_FILTER_WORDS; word++) {
    const value = map.lookup(encodeU32((family === 4 ? 0 : FLOW_FILTER_WORDS) + word))!;
    for (const byte of value) for (let bit = 0; bit < 8; bit++) bits += (byte >> bit) & 1;
  }
  return bits;
}

it.each([4, 6] as const)(
  'is as large as the program thinks, and says at first that nothing is there (IPv%i)',
  (family) => {
    const cache = open();
    try {
      expect(cache.object.map('flow_filter')).toMatchObject({ valueSize: 8, maxEntries: 2 * FLOW_FILTER_WORDS });
      expect(absent(cache, family)).toBe(64 * FLOW_FILTER_WORDS);
    } finally {
      cache.close();
    }
  },
);

it.each([4, 6] as const)('has every flow that was put in, right behind packets of others (IPv%i)', (family) => {
  const cache = open();
  try {
    const flows = Array.from({ length: 300 }, () => flowOf(frameOf(family)));
    for (const [i, flow] of flows.entries()) {
      expect(run(cache, flow.frame), 'before').toBe(XDP.PASS);
      put(cache, flow);
      // Behind a miss the filter is asked, behind a hit it is not.
      expect(run(cache, flow.frame), `flow ${i}, behind a miss`).toBe(XDP.TX);
      expect(run(cache, flow.frame), `flow ${i}, behind a hit`).toBe(XDP.TX);
    }
    for (const flow of flows) {
      expect(run(cache, frameOf(family)), 'a stranger').toBe(XDP.PASS);
      expect(run(cache, flow.frame), 'behind a stranger').toBe(XDP.TX);
    }
  } finally {
    cache.close();
  }
});

it.each([4, 6] as const)('forgets flows that have left once a round is over, and no others (IPv%i)', (family) => {
  const cache = open();
  try {
    const [staying, leaving] = [0, 1].map(() => Array.from({ length: 700 }, () => flowOf(frameOf(family))));
    for (const flow of [...staying, ...leaving]) put(cache, flow);
    const full = absent(cache, family);
    expect(round(cache, family)).toBe(1400);
    expect(absent(cache, family)).toBe(full);

    // In the middle of a round one comes, and it breaks off; the next one is whole.
    const keys = new Uint8Array(512 * FLOW_KEY_BYTES[family]);
    expect(cache.read(family, keys, new Uint8Array(512 * FLOW_VALUE_BYTES), null).next).not.toBeNull();
    const late = flowOf(frameOf(family));
    put(cache, late);
    for (const { tuple } of leaving) cache.remove(family, encodeFlowKey(tuple));
    expect(round(cache, family)).toBe(701);
    expect(absent(cache, family)).toBeGreaterThan(full + 600);
    for (const { frame } of [...staying, late]) {
      expect(run(cache, frameOf(family))).toBe(XDP.PASS);
      expect(run(cache, frame)).toBe(XDP.TX);
    }

    for (const { tuple } of [...staying, late]) cache.remove(family, encodeFlowKey(tuple));
    round(cache, family);
    expect(absent(cache, family)).toBe(64 * FLOW_FILTER_WORDS);
  } finally {
    cache.close();
  }
});

it('keeps a flow that comes while a round is under way, wherever the round is', () => {
  const cache = open();
  try {
    for (let i = 0; i < 2000; i++) put(cache, flowOf(frameOf(4)));
    const keys = new Uint8Array(64 * FLOW_KEY_BYTES[4]);
    const values = new Uint8Array(64 * FLOW_VALUE_BYTES);
    const came: Flow[] = [];
    for (let from: number | null = null; ;) {
      const { next: after } = cache.read(4, keys, values, from);
      came.push(flowOf(frameOf(4)));
      put(cache, came.at(-1)!);
      if (after === null) break;
      from = after;
    }
    expect(came.length).toBeGreaterThan(20);
    for (const { frame } of came) {
      run(cache, frameOf(4));
      expect(run(cache, frame)).toBe(XDP.TX);
    }
  } finally {
    cache.close();
  }
});

it.each([4, 6] as const)('lets a SYN, FIN or RST end its flow, behind a hit and behind a miss (IPv%i)', (family) => {
  const cache = open();
  try {
    for (const flags of [TCP.SYN, TCP.FIN | TCP.ACK, TCP.RST]) {
      for (const behindMiss of [true, false]) {
        const flow = flowOf(frameOf(family, TCP.ACK));
        put(cache, flow);
        expect(run(cache, flow.frame)).toBe(XDP.TX);
        if (behindMiss) expect(run(cache, frameOf(family))).toBe(XDP.PASS);
        const end = Uint8Array.from(flow.frame);
        end[14 + (family === 4 ? 20 : 40) + 13] = flags;
        const before = cache.stats().ended;
        expect(run(cache, end)).toBe(XDP.PASS);
        expect(cache.stats().ended - before).toBe(1);
        expect(run(cache, flow.frame)).toBe(XDP.PASS);
      }
    }
    // Of flows that never were there, nothing is deleted.
    const { ended } = cache.stats();
    for (let i = 0; i < 50; i++) expect(run(cache, frameOf(family, TCP.SYN))).toBe(XDP.PASS);
    expect(cache.stats().ended).toBe(ended);
  } finally {
    cache.close();
  }
});
