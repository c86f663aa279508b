/** What `npm run bench` measures on: the same for everyone, valid, and as many flows as it says. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  FLOW_SECRET,
  FRAME_BYTES,
  HEADER_WORDS,
  MAGIC,
  benchFrames,
  benchTables,
  outerBytes,
  readFixture,
  writeFixture,
} from '../../bench/path/fixture.js';
import { PATH_CASES, packetsToCompare, wayCases } from '../../bench/path/cases.js';
import { FlowHash } from '../../src/dataplane/balance/hash.js';
import { SanityFilter } from '../../src/dataplane/filter/sanity.js';
import { Packet, PacketFlag } from '../../src/dataplane/packet/packet.js';
import { outerOverhead } from '../../src/dataplane/packet/encap_size.js';
import { parse } from '../../src/dataplane/packet/parse.js';
import { Snapshot } from '../../src/dataplane/snapshot.js';
import { BackendField, BackendFlag } from '../../src/shared/layout.js';
import { internetChecksum } from '../support/packet_builder.js';

const FLOWS = 5000;
const SLOTS = 65_536;

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-fixture-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

function written(name: string, flows: number): Buffer {
  const path = join(directory, name);
  writeFixture(path, { flows, flowSlots: SLOTS });
  return readFileSync(path);
}

/** Each frame as a parsed packet, one object for all of them. */
function* packets(frames: Uint8Array): Generator<Packet> {
  // parse() reads within data..dataEnd, wherever that is in memory; a power of two stands in for the chunk.
  const packet = new Packet(new DataView(frames.buffer), 2048);
  for (let at = 0; at < frames.length; at += FRAME_BYTES) {
    packet.place(at, FRAME_BYTES);
    parse(packet);
    yield packet;
  }
}

describe('the fixture file', () => {
  it('is the same bytes every time', () => {
    const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
    const first = digest(written('a', FLOWS));
    expect(digest(written('b', FLOWS))).toBe(first);
    expect(digest(written('c', FLOWS + 64))).not.toBe(first);
  });

  it('has header, tables and frames where the header says', () => {
    const file = written('layout', FLOWS);
    const words = new Int32Array(file.buffer, file.byteOffset, file.length >> 2);
    const tables = benchTables();
    expect([...words.subarray(0, 4)]).toEqual([MAGIC, FLOWS, FRAME_BYTES, SLOTS]);
    expect([...words.subarray(4, 8)]).toEqual([...tables.settings.hashKey].map((word) => word | 0));
    expect([...words.subarray(8, 12)]).toEqual(FLOW_SECRET.map((word) => word | 0));
    let at = HEADER_WORDS;
    const parts = [tables.serviceKeys, tables.services, tables.backendList, tables.backends];
    for (const [i, part] of parts.entries()) {
      const expected = new Int32Array(part);
      expect(words[12 + i]).toBe(expected.length);
      expect(words.subarray(at, at + expected.length)).toEqual(expected);
      at += expected.length;
    }
    const ring = new Uint16Array(tables.rings[0]);
    expect(words[16]).toBe(ring.length);
    expect(new Uint16Array(file.buffer, file.byteOffset + at * 4, ring.length)).toEqual(ring);
    const framesAt = file.length - FLOWS * FRAME_BYTES;
    expect(framesAt).toBe((at + ((ring.length + 1) >> 1)) * 4);
    expect(file.subarray(framesAt).equals(benchFrames(FLOWS))).toBe(true);
  });

  it('is read back as it was written, whatever way its packets go', () => {
    const path = join(directory, 'ways');
    const [first, last] = [wayCases(true)[0], wayCases(true).at(-1)!];
    expect(last.way).toEqual({ inner: 6, outer: 6, kind: 'gue', flowTable: false });
    for (const { way } of [first, last]) {
      writeFixture(path, { flows: 128, flowSlots: SLOTS, way, clockStepMs: 3 });
      const { frames, ...rest } = readFixture(readFileSync(path));
      expect(rest).toEqual({ flows: 128, flowSlots: SLOTS, way, clockStepMs: 3 });
      expect(Buffer.concat(frames).equals(benchFrames(128, way.inner))).toBe(true);
    }
    expect(() => readFixture(Buffer.alloc(4 * HEADER_WORDS))).toThrow('no fixture');
  });

  it('sends every flow to a backend that takes it', () => {
    const snapshot = new Snapshot(benchTables());
    const used = new Set<number>();
    for (const { dst0, src0, ports, protocol } of packets(benchFrames(FLOWS))) {
      expect(snapshot.serviceTable.find4(dst0, protocol, ports & 0xffff)).toBe(0);
      const ring = snapshot.rings[0];
      const hash = snapshot.ringHash.ipv4(src0, dst0, ports, protocol) >>> 0;
      used.add(snapshot.backendList[ring[hash % ring.length]]);
    }
    expect(used.size).toBe(16);
    for (const backend of used) {
      const flags = snapshot.backends[backend * BackendField.STRIDE + BackendField.flags];
      expect(flags & (BackendFlag.active | BackendFlag.resolved)).toBe(BackendFlag.active | BackendFlag.resolved);
    }
  });
});

describe('the ways', () => {
  it('are all families, encapsulations and findings, each once', () => {
    const names = wayCases(false).map(({ name }) => name);
    expect(new Set(names).size).toBe(24);
    expect(names).toContain('IPv4, IPIP over IPv4, hit');
    expect(names).toContain('IPv6, GUE over IPv6, miss');
  });

  it('miss by more flows than slots, compared beyond the point where the table is full', () => {
    for (const smoke of [false, true]) {
      for (const each of wayCases(smoke).filter(({ finding }) => finding === 'miss')) {
        expect(each.clockStepMs).toBeGreaterThan(0);
        expect(packetsToCompare(each)).toBeGreaterThanOrEqual(4 * each.flowSlots);
      }
    }
  });

  it.each([
    [4, 4, 'ipip', 20],
    [6, 6, 'ipip', 40],
    [6, 4, 'gue', 28],
    [4, 6, 'gue', 48],
  ] as const)('of IPv%i over IPv%i by %s puts %i bytes in front, as its tables say', (inner, outer, kind, bytes) => {
    const way = { inner, outer, kind, flowTable: true };
    expect(outerBytes(way)).toBe(bytes);
    const { backends } = new Snapshot(benchTables(way));
    expect(outerOverhead(backends, 0, 0)).toBe(bytes);
  });
});

describe('the frames', () => {
  it('are well-formed IPv4 with UDP, their lengths and checksums right', () => {
    const [spec] = benchTables().filters;
    if (spec.kind !== 'sanity') throw new Error('the default chain starts with the sanity checks');
    const sanity = new SanityFilter(spec.checks, spec.protocols);
    const frames = benchFrames(FLOWS);
    let seen = 0;
    for (const packet of packets(frames)) {
      expect(packet.malformed).toBe(0);
      expect([packet.family, packet.vlanTags, packet.protocol]).toEqual([4, 0, 17]);
      expect(packet.flags & ~PacketFlag.dontFragment).toBe(PacketFlag.hasPorts);
      expect(packet.l3Length).toBe(FRAME_BYTES - 14);
      expect(internetChecksum(frames.subarray(packet.l3, packet.l4))).toBe(0);
      // UDP over IPv4 without a checksum (RFC 768): nothing on the path reads it.
      expect(packet.view.getUint16(packet.l4 + 6)).toBe(0);
      expect(packet.view.getUint16(packet.l4 + 4)).toBe(FRAME_BYTES - 34);
      expect(sanity.check(packet)).toBe(0);
      seen++;
    }
    expect(seen).toBe(FLOWS);
  });

  it('are well-formed IPv6 with UDP too, of as many flows', () => {
    const [spec] = benchTables().filters;
    if (spec.kind !== 'sanity') throw new Error('the default chain starts with the sanity checks');
    const sanity = new SanityFilter(spec.checks, spec.protocols);
    const tuples = new Set<string>();
    for (const packet of packets(benchFrames(FLOWS, 6))) {
      expect([packet.malformed, packet.family, packet.protocol, packet.flags]).toEqual([0, 6, 17, PacketFlag.hasPorts]);
      expect(packet.l3Length).toBe(FRAME_BYTES - 14);
      expect(sanity.check(packet)).toBe(0);
      tuples.add(`${packet.src3} ${packet.ports}`);
    }
    expect(tuples.size).toBe(FLOWS);
  });

  it('are of distinct flows, also a million', () => {
    const flows = Math.max(...PATH_CASES.map((each) => each.flows));
    expect(flows).toBe(1_000_000);
    const tuples = new Set<number>();
    for (const { src0, dst0, ports, protocol } of packets(benchFrames(flows))) {
      if (dst0 !== (0xc633640a | 0) || protocol !== 17 || (ports & 0xffff) !== 443) throw new Error('another service');
      tuples.add((src0 >>> 0) * 65_536 + (ports >>> 16));
    }
    expect(tuples.size).toBe(flows);
  });

  it('have hashes that spread over the flow table, neighbours too', () => {
    const hash = new FlowHash(FLOW_SECRET);
    const slots = new Set<number>();
    let adjacent = 0;
    let before = 0;
    for (const { src0, dst0, ports, protocol } of packets(benchFrames(FLOWS))) {
      const slot = hash.ipv4(src0, dst0, ports, protocol) & (SLOTS - 1);
      slots.add(slot);
      if (Math.abs(slot - before) < 4) adjacent++;
      before = slot;
    }
    // Balls into bins: m (1 - (1 - 1/m)^n) = 4815 of 5000 expected, with a standard deviation of about 13.
    expect(slots.size).toBeGreaterThan(4740);
    expect(adjacent).toBeLessThan(20);
  });
});
