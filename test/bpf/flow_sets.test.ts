/** The sets of flows from both sides: the program finds what user space has put in, where and while that is written; and the memory that they share. */
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { describe, expect, it, onTestFinished } from 'vitest';
import { drawFlowHashKeys, FlowHash } from '../../src/control/ebpf/flow_hash.js';
import { encodeFlowBackend, FLOW_BACKENDS, FLOW_PROGRAM, FLOW_WAYS } from '../../src/control/ebpf/flow_layout.js';
import { FlowCache as Cache } from '../../src/control/manager/flow_cache.js';
import { FlowSets } from '../../src/control/manager/flow_sets.js';
import { flowSettings } from '../../src/control/manager/flow_cache.js';
import { native, bpfObjectPath, type MapOptions } from '../../src/native.js';
import { BackendField, EncapKind } from '../../src/shared/layout.js';
import { randomSource, XDP } from '../support/bpf.js';
import { compileBpf } from '../support/bpf_child.js';
import { encodeU32 } from '../../src/control/bpf_layout.js';
import { FlowCache, nowMs, recordOf, tupleOf } from '../support/flow_cache.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import { parsed } from '../support/packets.js';

const DIST = new URL('../../dist', import.meta.url).href;
const ARRAY = 2;
const MMAPABLE = 1024;

const next = randomSource(7);
const random = (below: number): number => (next() >>> 0) % below;
const half = (): string => random(65536).toString(16);

/** A packet of a flow that nobody had before. */
function frameOf(family: 4 | 6, flags: number | null = null): Uint8Array {
  const builder = new PacketBuilder().ethernet();
  if (family === 4) builder.ipv4({ src: `20.${random(256)}.${random(256)}.${random(256)}`, dst: '198.51.100.10' });
  else builder.ipv6({ src: `2001:db8:${half()}:${half()}:${half()}::${half()}`, dst: `2001:db8:${half()}::10` });
  if (flags === null) builder.udp({ sport: 1024 + random(60000), dport: 53 });
  else builder.tcp({ sport: 1024 + random(60000), dport: 80, flags });
  return builder.payload(30).build();
}

const record = (frame: Uint8Array): Int32Array => recordOf(tupleOf(parsed(frame)));
const OUTER = { sport: 0, label: 0, host: 0 };

/** One backend, by IP in IP. */
function backendOf(kind: EncapKind = EncapKind.ipip, addr = 0x0a01000b): Int32Array {
  const backend = new Int32Array(BackendField.STRIDE);
  backend[BackendField.mtu] = 1500;
  backend[BackendField.encap] = kind;
  backend[BackendField.addr0] = addr;
  return backend;
}

function open(): FlowCache {
  const cache = new FlowCache();
  cache.setBackend(0, encodeFlowBackend(backendOf(), 0, 1, 0));
  return cache;
}

/** Frames whose flows are of one set. */
function crowd(sets: FlowSets, family: 4 | 6, count: number, flags: number | null = null): Uint8Array[] {
  const first = frameOf(family, flags);
  const frames = [first];
  const set = sets.setOf(record(first));
  const ports = family === 4 ? 34 : 54;
  // Any source and port: some 2^18 tries a flow.
  const frame = Uint8Array.from(first);
  const view = new DataView(frame.buffer);
  const tuple = tupleOf(parsed(frame));
  for (let n = 0; frames.length < count; n++) {
    const sport = 1024 + (n % 60000);
    const dport = 53 + Math.floor(n / 60000);
    const one = recordOf({ ...tuple, ports: (sport << 16) | dport });
    if (sets.setOf(one) !== set || ((sport << 16) | dport) === tuple.ports) continue;
    view.setUint16(ports, sport);
    view.setUint16(ports + 2, dport);
    frames.push(Uint8Array.from(frame));
  }
  return frames;
}

describe.each([4, 6] as const)('IPv%i', (family) => {
  it('the program looks for a flow where user space puts it, whatever the keys', () => {
    for (let draw = 0; draw < 8; draw++) {
      using cache = open();
      const frames = Array.from({ length: 250 }, () => frameOf(family));
      for (const frame of frames) {
        expect(cache.run(frame).retval).toBe(XDP.PASS);
        cache.install(tupleOf(parsed(frame)), 0, OUTER);
      }
      for (const frame of frames) expect(cache.run(frame).retval).toBe(XDP.TX);
      expect(cache.run(frameOf(family)).retval).toBe(XDP.PASS);
    }
  });

  it('the program finds each place of a set, behind void ones too, and none behind an empty one', () => {
    using cache = open();
    const sets = cache.flows[family];
    const frames = crowd(sets, family, FLOW_WAYS + 1, TCP.ACK);
    for (const frame of frames.slice(0, FLOW_WAYS)) cache.install(tupleOf(parsed(frame)), 0, OUTER);
    const served = (): boolean[] => frames.map((frame) => cache.run(frame).retval === XDP.TX);
    expect(served()).toEqual([true, true, true, true, false]);
    // All of them are in use.
    expect(sets.announce(record(frames[4]), 0, nowMs(), () => true)).toBe(-1);
    // A RST to the second; a word of the worker about the first.
    const reset = Uint8Array.from(frames[1]);
    reset[14 + (family === 4 ? 20 : 40) + 13] = TCP.RST;
    expect(cache.run(reset).retval).toBe(XDP.PASS);
    sets.void(sets.find(record(frames[0])));
    expect(served()).toEqual([false, false, true, true, false]);
    expect([sets.find(record(frames[1])), cache.stats().ended]).toEqual([-1, 1]);
    sets.trim(sets.setOf(record(frames[0])));
    expect(served()).toEqual([false, false, true, true, false]);
    cache.install(tupleOf(parsed(frames[4])), 0, OUTER);
    expect(served()).toEqual([false, false, true, true, true]);
    for (const frame of frames.slice(2)) sets.void(sets.find(record(frame)));
    sets.trim(sets.setOf(record(frames[0])));
    expect(served()).toEqual([false, false, false, false, false]);
    cache.install(tupleOf(parsed(frames[3])), 0, OUTER);
    expect(served()).toEqual([false, false, false, true, false]);
  });

  it('the program asks the filter first, each of its two parts, and finds what is there among hundreds that come and go', () => {
    using cache = open();
    const sets = cache.flows[family];
    const map = cache.object.map(`flow_filter${family}`);
    onTestFinished(() => map.close());
    const filter = new Int32Array(map.memory());
    const frames = Array.from({ length: 900 }, () => frameOf(family));
    const served = (): boolean[] => frames.map((frame) => cache.run(frame).retval === XDP.TX);
    for (const frame of frames) cache.install(tupleOf(parsed(frame)), 0, OUTER);
    expect(served().every(Boolean)).toBe(true);
    for (const [i, frame] of frames.entries()) {
      if (i % 3 === 0) sets.void(sets.find(record(frame)));
      if (i % 2 === 0) sets.trim(sets.setOf(record(frame)));
    }
    expect(served()).toEqual(frames.map((_, i) => i % 3 !== 0));
    // 64 bits for 512 sets in front, then 64 for eight.
    const top = (sets.sets / 512) * 2;
    for (const [from, to] of [
      [0, top],
      [top, filter.length],
    ]) {
      const part = filter.slice(from, to);
      filter.fill(0, from, to);
      expect(served().some(Boolean)).toBe(false);
      filter.set(part, from);
      expect(served()).toEqual(frames.map((_, i) => i % 3 !== 0));
    }
  });

  it('an announced flow is not served, and not put in force after a SYN, FIN or RST', () => {
    using cache = open();
    const sets = cache.flows[family];
    for (const flags of [TCP.SYN, TCP.FIN | TCP.ACK, TCP.RST]) {
      const frame = frameOf(family, TCP.ACK);
      const place = sets.announce(record(frame), 0, nowMs(), () => true);
      expect(cache.run(frame).retval).toBe(XDP.PASS);
      const end = Uint8Array.from(frame);
      end[14 + (family === 4 ? 20 : 40) + 13] = flags;
      expect(cache.run(end).retval).toBe(XDP.PASS);
      expect(sets.enforce(place, 0, 1, nowMs())).toBe(false);
      expect(cache.run(frame).retval).toBe(XDP.PASS);
    }
    expect(cache.stats()).toEqual({ stale: 3, ended: 3 });
  });
});

/** Else what a writer does between two reads of the program would be seen once in days. */
const SLOW = `
static __attribute__((always_inline)) inline void wait(void)
{
	for (int i = 0; i < 40; i++)
		bpf_ktime_get_ns();
}
#define READ_ONCE(x) ({ wait(); *(const volatile typeof(x) *)&(x); })
#define LICENSE FLOW_LICENSE
#include "${fileURLToPath(new URL('../../bpf/flow_cache.bpf.c', import.meta.url))}"
#undef LICENSE
`;

describe('while a set is written', () => {
  it.each([
    ['the program', 0, false],
    ['one that waits a microsecond before it reads a word', 0, true],
    ['the same, where loads may be reordered', 1, true],
  ])(
    'every packet that is served has the bytes of a decision that was complete: %s',
    async (_, loads_reorder, isSlow) => {
      const keys = drawFlowHashKeys();
      const object = new (native().BpfObject)(isSlow ? compileBpf('slow', SLOW) : bpfObjectPath('flow_cache'));
      onTestFinished(() => object.close());
      object.setRodata({ ...flowSettings(keys), loads_reorder });
      object.load();
      // Each with an address of its own; a decision's port is of flow and backend.
      for (let n = 0; n < FLOW_BACKENDS; n++) {
        const record = encodeFlowBackend(backendOf(EncapKind.gueVariant1, 0x0a010000 + n), 0, n + 1, 0);
        object.map('flow_backends').update(encodeU32(n), record);
      }
      const [map, filter] = ['flows4', 'flow_filter4'].map((name) => object.map(name));
      onTestFinished(() => [map, filter].forEach((one) => one.close()));
      const sets = new FlowSets(4, new Int32Array(map.memory()), new Int32Array(filter.memory()), new FlowHash(keys));
      const frames = crowd(sets, 4, FLOW_WAYS + 2);
      const sports = Uint16Array.from({ length: frames.length * FLOW_BACKENDS }, () => random(65536));
      const state = new Int32Array(new SharedArrayBuffer(8));
      const worker = new Worker(new URL('../support/flow_writer.mjs', import.meta.url), {
        workerData: {
          dist: DIST,
          map: map.fd,
          filter: filter.fd,
          keys,
          flows: frames.map(record),
          backends: FLOW_BACKENDS,
          sports,
          state: state.buffer,
        },
      });
      const ended = new Promise<void>((resolve, reject) => worker.once('exit', () => resolve()).once('error', reject));
      await new Promise<void>((resolve) => worker.once('online', () => resolve()));
      let served = 0;
      let handedOn = 0;
      const bad: unknown[] = [];
      const enough = (): boolean => served > 100 && handedOn > 1000 && Atomics.load(state, 1) > 10_000;
      const began = performance.now();
      // 1.5 s; where the processors are busy, as long as it takes to do so much.
      for (let ms = 0; (ms < 1500 || (ms < 15_000 && !enough())) && bad.length === 0; ms = performance.now() - began) {
        for (const [flow, data] of frames.entries()) {
          const { retval, data: out } = object.testRun(FLOW_PROGRAM, { data });
          if (retval !== XDP.TX) {
            handedOn++;
            continue;
          }
          served++;
          const view = new DataView(out.buffer, out.byteOffset, out.byteLength);
          const backend = view.getUint32(30) - 0x0a010000;
          const sport = view.getUint16(34);
          if (sport !== sports[flow * FLOW_BACKENDS + backend]) bad.push([flow, backend, sport]);
        }
      }
      Atomics.store(state, 0, 1);
      await ended;
      console.log(`${served} served, ${handedOn} handed on, ${state[1]} decisions`);
      expect(bad).toEqual([]);
      expect(served).toBeGreaterThan(100);
      expect(handedOn).toBeGreaterThan(1000);
      expect(state[1]).toBeGreaterThan(10_000);
    },
  );
});

describe('memory of a map', () => {
  const array = (options: Partial<MapOptions> = {}) => {
    const map = native().createMap({
      type: ARRAY,
      name: 'memory',
      keySize: 4,
      valueSize: 12,
      maxEntries: 3,
      flags: MMAPABLE,
      ...options,
    });
    onTestFinished(() => map.close());
    return map;
  };

  it('is that of its values, each on a boundary of eight bytes, and nothing more', () => {
    const map = array();
    const words = new Int32Array(map.memory());
    expect(words.length).toBe((3 * 16) / 4);
    map.update(encodeU32(2), new Uint8Array(Int32Array.of(7, 8, 9).buffer));
    expect([...words]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 7, 8, 9, 0]);
    words[5] = -2;
    expect(new Int32Array(map.lookup(encodeU32(1))!.buffer)[1]).toBe(-2);
    expect(map.memory()).toBe(words.buffer);
    // More than a page, and not a whole number of them.
    expect(array({ valueSize: 8, maxEntries: 1000 }).memory().byteLength).toBe(8000);
  });

  it('is the same for another descriptor of the map, and outlives this one', () => {
    const map = array();
    const other = native().mapByFd(map.fd);
    onTestFinished(() => other.close());
    expect(other).toMatchObject({ name: 'memory', type: ARRAY, keySize: 4, valueSize: 12, maxEntries: 3 });
    expect(other.fd).not.toBe(map.fd);
    const [words, others] = [new Int32Array(map.memory()), new Int32Array(other.memory())];
    words[0] = 5;
    expect(others[0]).toBe(5);
    map.close();
    expect([words.length, others[0]]).toEqual([0, 5]);
    others[0] = 6;
    expect(other.lookup(encodeU32(0))![0]).toBe(6);
  });

  it('is detached by close, and gone for good then', () => {
    const map = array();
    const words = new Int32Array(map.memory());
    map.close();
    expect([words.length, words[0]]).toEqual([0, undefined]);
    expect(() => map.memory()).toThrow(/closed/);
    map.close();
    // Of an object that is closed it stays, until the map is.
    const cache = new Cache({ tcpMs: 1000, udpMs: 1000 });
    const flows = cache.object.map('flows6');
    const memory = flows.memory();
    cache.close();
    expect(memory.byteLength).toBeGreaterThan(1 << 20);
    expect(new Int32Array(memory)[0]).toBe(0);
    flows.close();
    expect(memory.byteLength).toBe(0);
  });

  it.each([
    ['a hash', { type: 1, flags: 0 }],
    ['an array that was not made for it', { flags: 0 }],
    ['a per-CPU array', { type: 6, flags: 0 }],
  ])('is not to be had of %s', (_, options) => {
    expect(() => array(options).memory()).toThrow(
      expect.objectContaining({
        code: 'EINVAL',
        syscall: 'mmap',
        remedy: expect.stringMatching(/BPF_F_MMAPABLE/) as string,
      }),
    );
  });

  it('is asked for with a descriptor of a map, and no other', () => {
    expect(() => native().mapByFd(0)).toThrow(expect.objectContaining({ syscall: 'bpf' }));
    expect(() => native().mapByFd(9999)).toThrow(expect.objectContaining({ code: 'EBADF' }));
    for (const wrong of [-1, 0.5, NaN]) expect(() => native().mapByFd(wrong)).toThrow(RangeError);
    const object = new (native().BpfObject)(bpfObjectPath('pass'));
    onTestFinished(() => object.close());
    object.load();
    expect(() => native().mapByFd(object.programFd('sluice_pass'))).toThrow(
      expect.objectContaining({ code: 'EINVAL' }),
    );
  });
});
