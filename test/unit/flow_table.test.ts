import { describe, expect, it } from 'vitest';
import { FlowField } from '../../src/dataplane/balance/flow_entry.js';
import { FlowHash } from '../../src/dataplane/balance/hash.js';
import { ACK, FIN, SYN, expectSound, flow, hash, table, tcp } from '../support/flow_packets.js';
import { random } from '../support/packets.js';

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

  it.each([32, 64, 256])('agrees with a Map over random inserts, removals, expiry and sweeps: %d slots', (slots) => {
    const seed = Date.now() | 0;
    const next = random(seed);
    const flows = table(slots);
    const model = new Map<number, number>();
    let now = 0x7fffff00 | 0; // crosses the wrap of the int32 clock
    for (let step = 0; step < 25_000; step++) {
      now = (now + Math.floor(next() * 40)) | 0;
      const n = Math.floor(next() * slots * 1.2);
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
      if (step % 250 === 0) expectSound(flows);
    }
    expectSound(flows);
  });

  it('ages each state by its own time', () => {
    const flows = table(64);
    const at = flows.insert(tcp(5, SYN), 1, 1, 0);
    expect([flows.expired(at, 5000), flows.expired(at, 5001)]).toEqual([false, true]);
    flows.touch(at, tcp(5, ACK), 1000);
    expect([flows.expired(at, 101_000), flows.expired(at, 101_001)]).toEqual([false, true]);
    flows.touch(at, tcp(5, FIN | ACK), 2000);
    expect([flows.expired(at, 4000), flows.expired(at, 4001)]).toEqual([false, true]);
    flows.touch(at, tcp(5, ACK), 3000);
    expect(flows.expired(at, 5001), 'an ACK after the FIN does not re-open it').toBe(true);
    const udp = flows.insert(flow(6), 1, 1, 0);
    expect([flows.expired(udp, 30_000), flows.expired(udp, 30_001)]).toEqual([false, true]);
    const other = flows.insert(flow(7, { protocol: 47, ports: 0 }), 1, 1, 0);
    expect([flows.expired(other, 10_000), flows.expired(other, 10_001)]).toEqual([false, true]);
  });

  it('takes new timeouts for the flows that are there', () => {
    const flows = table(64);
    const at = flows.insert(flow(1), 1, 1, 0);
    flows.setTimeouts({ tcpSyn: 1, tcpEstablished: 1, tcpClosing: 1, udp: 1, other: 1 });
    expect([flows.expired(at, 1000), flows.expired(at, 1001)]).toEqual([false, true]);
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
    expect(
      flows.words.every((word, i) => i % 16 === FlowField.hash || i % 16 !== FlowField.lodgers || word === 0),
      'a home that still counts a flow',
    ).toBe(true);
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
