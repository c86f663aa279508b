import { describe, expect, it } from 'vitest';
import { FlowField, FlowTable } from '../../src/dataplane/balance/flow_table.js';
import { FlowHash } from '../../src/dataplane/balance/hash.js';
import { Packet } from '../../src/dataplane/packet/packet.js';
import { random } from '../support/packets.js';

const TIMEOUTS = { tcpSyn: 5, tcpEstablished: 100, tcpClosing: 2, udp: 30, other: 10 };
const table = (slots: number) => new FlowTable(new Int32Array(slots * FlowField.STRIDE), TIMEOUTS);
const hash = new FlowHash([1, 2, 3, 4]);
const SYN = 2;
const ACK = 16;
const FIN = 1;

/** A parsed packet of flow number n, without bytes. */
function flow(n: number, fields: Partial<Packet> = {}): Packet {
  const packet = new Packet(new DataView(new ArrayBuffer(64)), 2048);
  Object.assign(packet, { family: 4, protocol: 17, src0: n | 0, dst0: 0x0a000001, ports: (n * 65537) | 0 }, fields);
  packet.flowHash =
    packet.family === 4
      ? hash.ipv4(packet.src0, packet.dst0, packet.ports, packet.protocol)
      : hash.ipv6(
          packet.src0,
          packet.src1,
          packet.src2,
          packet.src3,
          packet.dst0,
          packet.dst1,
          packet.dst2,
          packet.dst3,
          packet.ports,
          packet.protocol,
        );
  return packet;
}

describe('flow table', () => {
  it('finds what was inserted, and nothing that differs in one field', () => {
    const flows = table(1024);
    flows.insert(flow(1), 7, 1, 0);
    expect(flows.words[flows.find(flow(1)) + FlowField.backend]).toBe(7);
    for (const other of [{ src0: 2 }, { dst0: 3 }, { ports: 4 }, { protocol: 6 }, { family: 6 }]) {
      const packet = flow(1, other);
      packet.flowHash = flow(1).flowHash;
      expect(flows.find(packet), JSON.stringify(other)).toBe(-1);
    }
  });

  it('keeps IPv6 flows apart by every word of both addresses', () => {
    const flows = table(1024);
    const base = { family: 6, src0: 1, src1: 2, src2: 3, src3: 4, dst0: 5, dst1: 6, dst2: 7, dst3: 8 };
    flows.insert(flow(0, base), 3, 1, 0);
    expect(flows.find(flow(0, base))).toBeGreaterThanOrEqual(0);
    for (const word of Object.keys(base).slice(1)) {
      const packet = flow(0, { ...base, [word]: 99 });
      packet.flowHash = flow(0, base).flowHash;
      expect(flows.find(packet), word).toBe(-1);
    }
  });

  it('agrees with a Map over random inserts, removals, expiry and sweeps, at any load', () => {
    const seed = Date.now() | 0;
    const next = random(seed);
    const flows = table(256);
    const model = new Map<number, number>();
    let now = 0x7fffff00 | 0; // crosses the wrap of the int32 clock
    for (let step = 0; step < 40_000; step++) {
      now = (now + Math.floor(next() * 40)) | 0;
      const n = Math.floor(next() * 300);
      const packet = flow(n);
      const at = flows.find(packet);
      const live = at >= 0 && !flows.expired(at, now);
      if (model.has(n) && !live) model.delete(n); // evicted or timed out
      if (live) {
        expect(flows.words[at + FlowField.backend], `seed ${seed} step ${step}`).toBe(model.get(n));
        if (next() < 0.2) {
          flows.remove(at);
          model.delete(n);
        } else {
          flows.touch(at, packet, now);
        }
      } else {
        if (at >= 0) flows.remove(at);
        const backend = Math.floor(next() * 50);
        flows.insert(packet, backend, 1, now);
        model.set(n, backend);
        expect(flows.words[flows.find(packet) + FlowField.backend]).toBe(backend);
      }
      if (next() < 0.05) flows.sweep(now, () => undefined);
    }
    let used = 0;
    for (let at = 0; at < flows.words.length; at += FlowField.STRIDE)
      if (flows.words[at + FlowField.state] !== 0) used++;
    expect(flows.count, `seed ${seed}`).toBe(used);
  });

  it('follows the client side of a TCP connection, and ages each state by its own time', () => {
    const flows = table(64);
    const tcp = (tcpFlags: number) => {
      const packet = flow(5, { protocol: 6, l4: 34 });
      packet.view.setUint8(34 + 13, tcpFlags);
      return packet;
    };
    const at = flows.insert(tcp(SYN), 1, 1, 0);
    expect([flows.expired(at, 5000), flows.expired(at, 5001)]).toEqual([false, true]);
    flows.touch(at, tcp(ACK), 1000);
    expect([flows.expired(at, 101_000), flows.expired(at, 101_001)]).toEqual([false, true]);
    flows.touch(at, tcp(FIN | ACK), 2000);
    expect([flows.expired(at, 4000), flows.expired(at, 4001)]).toEqual([false, true]);
    flows.touch(at, tcp(ACK), 3000);
    expect(flows.expired(at, 5001), 'an ACK after the FIN does not re-open it').toBe(true);
  });

  it('gives up the flow that was silent longest when a neighbourhood is full of live ones', () => {
    const flows = table(32);
    for (let n = 0; n < 32; n++) flows.insert(flow(n), n, 1, n * 10);
    expect(flows.count).toBe(32);
    flows.touch(flows.find(flow(0)), flow(0), 500);
    flows.insert(flow(100), 100, 1, 600);
    expect([flows.evictedBackend, flows.evictedAlive]).toEqual([1, true]);
    expect([flows.find(flow(1)), flows.count]).toEqual([-1, 32]);
    expect(flows.find(flow(0))).toBeGreaterThanOrEqual(0);
  });

  it('takes a timed-out slot before a live one', () => {
    const flows = table(32);
    for (let n = 0; n < 32; n++) flows.insert(flow(n, n === 9 ? { protocol: 1, ports: 0 } : {}), n, 1, 0);
    flows.insert(flow(100), 100, 1, 15_000); // "other" ages in 10 s, UDP in 30 s
    expect([flows.evictedBackend, flows.evictedAlive]).toEqual([9, false]);
  });

  it('loses no live flow at half load, and few at full load', () => {
    const slots = 1 << 14;
    for (const [load, worst] of [
      [0.5, 0],
      [0.8, 0.01],
      [1, 0.1],
    ]) {
      const flows = table(slots);
      let evicted = 0;
      for (let n = 0; n < slots * load; n++) {
        flows.insert(flow(n), n & 7, 1, n >> 8);
        if (flows.evictedAlive) evicted++;
      }
      expect(evicted / (slots * load), `load ${load}`).toBeLessThanOrEqual(worst);
    }
  });

  it('sweeps everything that timed out, tells whose it was, and leaves an empty table behind', () => {
    const flows = table(4096);
    for (let n = 0; n < 2000; n++) flows.insert(flow(n), n % 3, 1, 0);
    const by = [0, 0, 0];
    let forgotten = 0;
    expect(flows.sweep(1, () => undefined)).toBe(0);
    expect(
      flows.sweep(1, () => undefined),
      'the same millisecond',
    ).toBe(0);
    for (let now = 40_000; now < 48_300; now += 100) forgotten += flows.sweep(now, (backend) => by[backend]++);
    expect([forgotten, flows.count]).toEqual([2000, 0]);
    expect(by).toEqual([667, 667, 666]);
    // With nothing left to time out it still clears what look-ups walk over; that needs a live flow.
    flows.insert(flow(5), 0, 1, 49_000);
    for (let now = 49_000; now < 60_000; now += 500) flows.sweep(now, () => undefined);
    const left = Array.from({ length: 4096 }, (_, i) => flows.words[i * FlowField.STRIDE]).filter((kind) => kind !== 0);
    expect(left.length, 'slots that look-ups still walk over').toBe(1);
  });

  it('refuses a size that is no power of two', () => {
    expect(() => table(1000)).toThrow(/power of two/);
    expect(() => table(16)).toThrow(/at least 32/);
  });
});

describe('flow hash', () => {
  it('spreads sequential addresses and ports evenly', () => {
    const buckets = new Int32Array(1024);
    const count = 1 << 17;
    for (let n = 0; n < count; n++)
      buckets[hash.ipv4(0x0a000000 + (n >> 6), 0x0a000001, ((n & 63) << 16) | 80, 6) & 1023]++;
    const mean = count / 1024;
    const worst = Math.max(...Array.from(buckets, (b) => Math.abs(b - mean)));
    expect(worst).toBeLessThan(6 * Math.sqrt(mean));
  });

  it('changes half of its bits for each input bit that flips', () => {
    const next = random(42);
    for (let bit = 0; bit < 64; bit++) {
      let changed = 0;
      const rounds = 400;
      for (let i = 0; i < rounds; i++) {
        const src = (next() * 2 ** 32) | 0;
        const ports = (next() * 2 ** 32) | 0;
        const a = hash.ipv4(src, 7, ports, 6);
        const b = bit < 32 ? hash.ipv4(src ^ (1 << bit), 7, ports, 6) : hash.ipv4(src, 7, ports ^ (1 << (bit - 32)), 6);
        for (let x = a ^ b; x !== 0; x &= x - 1) changed++;
      }
      expect(changed / rounds, `bit ${bit}`).toBeGreaterThan(13);
      expect(changed / rounds, `bit ${bit}`).toBeLessThan(19);
    }
  });

  it('under another key, packets that collided no longer do', () => {
    const other = new FlowHash([9, 9, 9, 9]);
    const seen = new Map<number, number>();
    let pairs = 0;
    let still = 0;
    for (let n = 0; n < 300_000; n++) {
      const h = hash.ipv4(n, 1, n << 16, 6) & 0xfffff;
      const before = seen.get(h);
      if (before !== undefined) {
        pairs++;
        if ((other.ipv4(n, 1, n << 16, 6) & 0xfffff) === (other.ipv4(before, 1, before << 16, 6) & 0xfffff)) still++;
      }
      seen.set(h, n);
    }
    expect(pairs).toBeGreaterThan(10_000);
    expect(still).toBeLessThan(20);
  });
});
