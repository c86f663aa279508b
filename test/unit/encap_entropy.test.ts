import { describe, expect, it } from 'vitest';
import { encapsulateSpecial } from '../../src/dataplane/packet/encap_special.js';
import { OuterFlow } from '../../src/dataplane/packet/outer_flow.js';
import { DropReason } from '../../src/dataplane/verdict.js';
import { parsePrefix, parseAddress, prefixContains } from '../../src/shared/addr.js';
import { backendRecord, type BackendSketch } from '../support/backend_record.js';
import { readEncapsulated, type Encapsulated } from '../support/outer_reader.js';
import { PacketBuilder } from '../support/packet_builder.js';
import { bytesOf, parsed, random } from '../support/packets.js';

const frame = new PacketBuilder().ethernet().ipv4().tcp({}).payload('x').build();

const packet = parsed(frame);
const { data, length } = packet;
const records = new Map<BackendSketch, Int32Array>();

/** The outer header of a packet of the flow with this hash. The reader checks the header's checksum. */
function outerOf(sketch: BackendSketch, hash: number): Encapsulated {
  const record = records.get(sketch) ?? backendRecord(sketch);
  records.set(sketch, record);
  // Encapsulation writes in front of the packet, so the same one can be taken again.
  packet.place(data, length);
  const flow = new OuterFlow();
  flow.hash = hash | 0;
  expect(encapsulateSpecial(packet, record, 0, flow, new Int32Array(0), 0, 4)).toBe(DropReason.none);
  return readEncapsulated(bytesOf(packet));
}

/** Hashes of flows: random, and those that a mask or a modulus could trip over. */
function hashes(count: number): number[] {
  const next = random(7);
  return [0, -1, 1, 0x7fffffff, -0x80000000, ...Array.from({ length: count }, () => (next() * 0x100000000) | 0)];
}

describe('outer source of a prefix', () => {
  it.each([
    ['10.0.0.11', '10.1.0.0/16'],
    ['10.0.0.11', '10.0.0.8/29'],
    ['10.0.0.11', '10.0.0.8/30'],
    ['10.0.0.9', '10.0.0.8/30'],
    ['10.0.0.10', '10.0.0.8/30'],
    ['10.0.0.11', '10.0.0.10/31'],
    ['10.0.0.10', '10.0.0.10/31'],
    ['10.0.0.11', '10.0.0.0/8'],
    ['10.0.0.11', '0.0.0.0/0'],
  ])('to %s from %s: a host of the prefix, the same for a flow, never the destination', (address, source) => {
    const prefix = parsePrefix(source);
    const sketch = { address, source };
    const used = new Set<string>();
    for (const hash of hashes(500)) {
      const text = outerOf(sketch, hash).src;
      used.add(text);
      expect(text).not.toBe(address);
      expect(prefixContains(prefix, parseAddress(text)), text).toBe(true);
      if (prefix.length <= 30) {
        const host = parseAddress(text).words[0] & ((2 ** (32 - prefix.length) - 1) | 0);
        expect(host, `${text}: the network's address`).not.toBe(0);
        expect(host, `${text}: the broadcast address`).not.toBe((2 ** (32 - prefix.length) - 1) | 0);
      }
    }
    expect(outerOf(sketch, 4711).src).toBe(outerOf(sketch, 4711).src);
    const hosts = prefix.length === 31 ? 2 : Math.max(2, 2 ** (32 - prefix.length) - 2);
    // In the small prefixes that have the destination in them, every other host turns up.
    if (prefix.length >= 29)
      expect(used.size).toBe(
        prefixContains(prefix, parseAddress(address)) ? hosts - Number(isHost(address, source)) : hosts,
      );
  });

  it.each([
    ['fd00::11', 'fd00:1::/64'],
    ['fd00::11', 'fd00::/32'],
    ['fd00::11', 'fd00::10/126'],
    ['fd00::11', 'fd00::10/127'],
    ['fd00::10', 'fd00::10/127'],
    ['fd00::13', 'fd00::10/126'],
  ])('to %s from %s: a host of the prefix, never the anycast address, never the destination', (address, source) => {
    const prefix = parsePrefix(source);
    const sketch = { address, source };
    for (const hash of hashes(500)) {
      const { src } = outerOf(sketch, hash);
      expect(src).not.toBe(address);
      expect(prefixContains(prefix, parseAddress(src)), src).toBe(true);
      if (prefix.length < 127) expect(src).not.toBe(prefix.text);
    }
  });

  it('stays one address where it is one, for all flows', () => {
    for (const kind of ['ipip', 'gue'] as const) {
      expect(new Set(hashes(100).map((hash) => outerOf({ kind, source: '10.0.0.2' }, hash).src))).toEqual(
        new Set(['10.0.0.2']),
      );
    }
  });
});

/** Chi-square of how the values fall into so many classes, over its degrees of freedom: about 1 when they fall by chance. */
function unevenness(values: number[], classes: number): number {
  const counts = new Array<number>(classes).fill(0);
  for (const value of values) counts[value % classes]++;
  const expected = values.length / classes;
  return counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0) / (classes - 1);
}

describe('entropy of a flow', () => {
  const flows = hashes(6000);

  it.each([
    [
      'source address over IPv4',
      { source: '10.1.0.0/16' },
      (outer: Encapsulated) => parseAddress(outer.src).words[0] & 0xffff,
    ],
    [
      'source address over IPv6',
      { address: 'fd00::11', source: 'fd00:1::/64' },
      (outer: Encapsulated) => parseAddress(outer.src).words[3] >>> 0,
    ],
    [
      'first word of a long IPv6 prefix',
      { address: 'fd00::11', source: 'fd00:1::/64' },
      (outer: Encapsulated) => parseAddress(outer.src).words[2] >>> 0,
    ],
    ['UDP source port', { kind: 'gue' }, (outer: Encapsulated) => outer.udp!.sport & 0x7fff],
    ['flow label', { address: 'fd00::11', source: 'fd00::2', kind: 'gue' }, (outer: Encapsulated) => outer.label],
  ] as [string, BackendSketch, (outer: Encapsulated) => number][])('spreads in the %s', (_name, sketch, value) => {
    const values = flows.map((hash) => value(outerOf(sketch, hash)));
    for (const classes of [2, 7, 16, 61]) {
      expect(unevenness(values, classes), `over ${classes} ways`).toBeLessThan(2.5);
    }
    // The same packet again: the same value.
    expect(flows.slice(0, 50).map((hash) => value(outerOf(sketch, hash)))).toEqual(values.slice(0, 50));
  });

  it('spreads in the source even where hashes differ in one high bit alone', () => {
    const sources = Array.from({ length: 16 }, (_, bit) => outerOf({ source: '10.1.0.0/24' }, 1 << (bit + 16)).src);
    expect(new Set(sources).size).toBeGreaterThan(12);
  });

  it('has a source port of the upper half: never one of a well-known service', () => {
    for (const hash of flows.slice(0, 500)) expect(outerOf({ kind: 'gue' }, hash).udp!.sport).toBeGreaterThan(0x7fff);
  });
});

/** Whether the address is one that the prefix may be host of. */
function isHost(address: string, source: string): boolean {
  const { words, length } = parsePrefix(source);
  const host = parseAddress(address).words[0] - words[0];
  return length === 31 || (host !== 0 && host !== 2 ** (32 - length) - 1);
}
