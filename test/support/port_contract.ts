import { afterEach, describe, expect, it } from 'vitest';
import type { Port } from '../../src/dataplane/port.js';
import { BurstHeader } from '../../src/dataplane/port.js';
import { Verdict } from '../../src/dataplane/verdict.js';
import { PortCounter } from '../../src/shared/layout.js';
import { seeded } from './capture_bytes.js';
import { holdContract } from './hold_contract.js';
import {
  bytesOf,
  DEADLINE_MS,
  expectAddsUp,
  expectConserved,
  frames,
  ours,
  sentBy,
  take,
  type PortHarness,
} from './port_harness.js';

/**
 * Makes fresh ports with bursts of at most `burst`. `frames[i]` are to arrive at port i, in order; at most 200 of them. The
 * frames are of the local experimental EtherType 0x88b5, broadcast; frames of other origin may arrive as well, and are
 * left at Drop.
 */
export type MakePorts = (frames: Uint8Array[][], burst: number) => PortHarness | Promise<PortHarness>;

const BURST = 16;

/** Placements that no port may send from, given a packet in chunk `start`..`end`. */
const GARBAGE: [name: string, place: (start: number, end: number) => [offset: number, length: number]][] = [
  ['a negative offset', () => [-64, 60]],
  ['the most negative offset', () => [-0x80000000, 60]],
  ['the largest offset', () => [0x7fffffff, 60]],
  ['one byte before the chunk', (start) => [start - 1, 60]],
  ['the next chunk', (_, end) => [end, 60]],
  ['one byte past the chunk', (_, end) => [end - 60, 61]],
  ['the whole memory', () => [0, 0x7fffffff]],
  ['a length of 13', (start) => [start, 13]],
  ['a length of 0', (start) => [start, 0]],
  ['a negative length', (start) => [start, -60]],
  ['the most negative length', (start) => [start, -0x80000000]],
  ['a sum that wraps', (start) => [start + 16, 0x7ffffff8]],
];

/** What every Port must do, whatever is behind it. */
export function portContract(name: string, make: MakePorts): void {
  describe(`${name}: the port contract`, () => {
    let open: PortHarness | null = null;
    const start = async (...arriving: Uint8Array[][]): Promise<PortHarness> => {
      open = await make(arriving, BURST);
      expect(open.ports.map((port) => port.index)).toEqual(open.ports.map((_, index) => index));
      return open;
    };
    afterEach(async () => {
      await open?.close();
      open = null;
    });

    it('hands out every packet once, whole and in order, in bursts of at most the agreed size', async () => {
      const arriving = frames(0, 50);
      const { ports } = await start(arriving, []);
      const seen: Uint8Array[] = [];
      while (seen.length < arriving.length) {
        const slots = await take(ports[0]);
        expect(slots.length).toBeLessThanOrEqual(BURST);
        for (const slot of slots) seen.push(bytesOf(ports[0], slot));
      }
      expect(seen).toEqual(arriving);
    });

    it('gives each packet a frame of its own, within which it lies', async () => {
      const { ports } = await start(frames(0, BURST), []);
      const [port] = ports;
      const slots = await take(port);
      const chunks = slots.map((slot) => Math.floor(port.burst.offset[slot] / port.chunkSize));
      expect(new Set(chunks).size).toBe(slots.length);
      for (const slot of slots) {
        const end = port.burst.offset[slot] + port.burst.length[slot];
        expect(Math.floor((end - 1) / port.chunkSize)).toBe(Math.floor(port.burst.offset[slot] / port.chunkSize));
        expect(end).toBeLessThanOrEqual(port.memory.byteLength);
      }
    });

    it('keeps its arrays, and says in the header what exchange returned and when it was', async () => {
      const { ports } = await start(frames(0, 40), []);
      const [port] = ports;
      const { burst, memory, counters } = port;
      const { header, offset, length, verdict, target } = burst;
      for (const array of [offset, length, verdict, target]) expect(array.length).toBeGreaterThanOrEqual(BURST);
      let last: number | null = null;
      for (let seen = 0; seen < 40;) {
        const count = port.exchange();
        expect(header[BurstHeader.count]).toBe(count);
        const now = header[BurstHeader.nowMs];
        if (last !== null) expect((now - last) | 0).toBeGreaterThanOrEqual(0);
        last = now;
        seen += ours(port, count).length;
        if (count === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      }
      expect(port.burst).toBe(burst);
      for (const [key, array] of Object.entries({ header, offset, length, verdict, target })) {
        expect(burst[key as keyof typeof burst] === array, key).toBe(true);
      }
      expect(port.memory === memory && port.counters === counters).toBe(true);
    });

    it('presets every verdict to Drop, whatever the burst before had', async () => {
      const { ports } = await start(frames(0, 3 * BURST), []);
      const [port] = ports;
      for (let seen = 0; seen < 3 * BURST;) {
        const slots = await take(port);
        for (const slot of slots) expect(port.burst.verdict[slot]).toBe(Verdict.Drop);
        port.burst.verdict.fill(Verdict.Pass);
        seen += slots.length;
      }
    });

    it('drops what nobody judged', async () => {
      const { ports } = await start(frames(0, 5), []);
      for (let seen = 0; seen < 5;) seen += (await take(ports[0])).length;
      ports[0].exchange();
      expect(ports[0].counters[PortCounter.dropped]).toBeGreaterThanOrEqual(5);
      expect(ports[0].counters[PortCounter.txPackets]).toBe(0);
      expectAddsUp(ports);
    });

    it('sends by Tx out of the same port, byte for byte, with what was put in front and cut off', async () => {
      const arriving = frames(0, 4);
      const harness = await start(arriving, []);
      const [port] = harness.ports;
      const memory = new Uint8Array(port.memory);
      const expected: Uint8Array[] = [];
      for (let seen = 0; seen < 4;) {
        for (const slot of await take(port)) {
          const { offset, length, verdict } = port.burst;
          offset[slot] -= 20;
          length[slot] += 20 - 3;
          // A new Ethernet header, of the test's own EtherType, in front of the whole old packet.
          memory.copyWithin(offset[slot], offset[slot] + 20, offset[slot] + 40);
          memory[offset[slot] + 19] = 0xee;
          verdict[slot] = Verdict.Tx;
          expected.push(bytesOf(port, slot));
          seen++;
        }
      }
      port.exchange();
      expect(await sentBy(harness, 0, 4)).toEqual(expected);
      expect(expected.map((frame) => frame.length)).toEqual(arriving.map((frame) => frame.length + 17));
      expect(port.counters[PortCounter.txPackets]).toBe(4);
      expect(port.counters[PortCounter.txBytes]).toBe(expected.reduce((sum, frame) => sum + frame.length, 0));
      expect(await harness.sent(1)).toEqual([]);
    });

    it('sends by Redirect out of the port that the target names', async () => {
      const arriving = frames(0, 6);
      const harness = await start(arriving, []);
      const [port, other] = harness.ports;
      const expected: Uint8Array[][] = [[], []];
      for (let seen = 0; seen < 6;) {
        for (const slot of await take(port)) {
          const target = seen++ % 2;
          port.burst.verdict[slot] = Verdict.Redirect;
          port.burst.target[slot] = target;
          expected[target].push(bytesOf(port, slot));
        }
      }
      port.exchange();
      expect(await sentBy(harness, 0, expected[0].length)).toEqual(expected[0]);
      expect(await sentBy(harness, 1, expected[1].length)).toEqual(expected[1]);
      // Whoever sends it counts it.
      expect(port.counters[PortCounter.txPackets]).toBe(expected[0].length);
      expect(other.counters[PortCounter.txPackets]).toBe(expected[1].length);
      expectAddsUp(harness.ports);
    });

    it.each(GARBAGE)('refuses to send from %s, and keeps the frame', async (_name, place) => {
      const harness = await start(frames(0, 4), []);
      const [port] = harness.ports;
      for (let seen = 0; seen < 4;) {
        for (const slot of await take(port)) {
          const chunk = Math.floor(port.burst.offset[slot] / port.chunkSize) * port.chunkSize;
          const [offset, length] = place(chunk, chunk + port.chunkSize);
          port.burst.offset[slot] = offset;
          port.burst.length[slot] = length;
          port.burst.verdict[slot] = [Verdict.Tx, Verdict.Redirect, Verdict.Pass, Verdict.Drop][seen];
          port.burst.target[slot] = 1;
          seen++;
        }
      }
      port.exchange();
      expect(port.counters[PortCounter.txInvalid]).toBe(2);
      expect(port.counters[PortCounter.passLost]).toBe(1);
      expect(port.counters[PortCounter.passPackets]).toBe(0);
      expect(port.counters[PortCounter.txPackets]).toBe(0);
      expect(await harness.sent(0)).toEqual([]);
      expect(await harness.sent(1)).toEqual([]);
      expectConserved(harness.ports);
      expectAddsUp(harness.ports);
    });

    it.each([2, 15, 16, 64, -1, 0x7fffffff, -0x80000000])('refuses to redirect to port %i', async (target) => {
      const harness = await start(frames(0, 1), []);
      const [port] = harness.ports;
      const [slot] = await take(port);
      port.burst.verdict[slot] = Verdict.Redirect;
      port.burst.target[slot] = target;
      port.exchange();
      expect(port.counters[PortCounter.txInvalid]).toBe(1);
      expectConserved(harness.ports);
      expectAddsUp(harness.ports);
    });

    it.each([Verdict.Aborted, 6, 255, -1, 0x7fffffff, -0x80000000])('drops on verdict %i', async (verdict) => {
      const harness = await start(frames(0, 1), []);
      const [port] = harness.ports;
      const [slot] = await take(port);
      const before = port.counters[PortCounter.dropped];
      port.burst.verdict[slot] = verdict;
      port.exchange();
      expect(port.counters[PortCounter.dropped] - before).toBeGreaterThanOrEqual(1);
      expect(port.counters[PortCounter.txPackets] + port.counters[PortCounter.txInvalid]).toBe(0);
      expectAddsUp(harness.ports);
    });

    it.each([0, 1, 1000, -1])('settles what it gave, also when the policy writes %i into the header', async (count) => {
      const harness = await start(frames(0, 8), []);
      const [port] = harness.ports;
      for (let seen = 0; seen < 8;) {
        seen += (await take(port)).length;
        port.burst.header[BurstHeader.count] = count;
      }
      port.exchange();
      expect(port.counters[PortCounter.dropped]).toBeGreaterThanOrEqual(8);
      expectConserved(harness.ports);
      expectAddsUp(harness.ports);
    });

    it('conserves frames and counts each packet once, after any mixture of verdicts', async () => {
      const total = 200;
      const { ports } = await start(frames(0, total), frames(1, total));
      const random = seeded(7);
      const numbers = [0, 1, 2, 3, 4, 5, -1, 0x7fffffff, -0x80000000];
      const garble = (burst: Port['burst'], slot: number, chunkSize: number): void => {
        burst.verdict[slot] = random(3) === 0 ? numbers[random(numbers.length)] : random(5);
        burst.target[slot] = random(4) === 0 ? numbers[random(numbers.length)] : random(2);
        if (random(3) === 0) burst.offset[slot] += random(2 * chunkSize) - chunkSize;
        if (random(3) === 0) burst.length[slot] += random(2 * chunkSize) - chunkSize;
        if (random(12) === 0) burst.offset[slot] = numbers[random(numbers.length)];
        if (random(12) === 0) burst.length[slot] = numbers[random(numbers.length)];
      };
      const seen = [0, 0];
      const deadline = performance.now() + DEADLINE_MS;
      while (Math.min(...seen) < total && performance.now() < deadline) {
        for (const [number, port] of ports.slice(0, 2).entries()) {
          const count = port.exchange();
          expectConserved(ports);
          expectAddsUp(ports);
          const slots = ours(port, count);
          seen[number] += slots.length;
          for (const slot of slots) garble(port.burst, slot, port.chunkSize);
          if (count === 0) await new Promise((resolve) => setTimeout(resolve, 1));
        }
      }
      expect(seen).toEqual([total, total]);
      for (const port of ports) port.exchange();
      expectConserved(ports);
      expectAddsUp(ports);
      for (const counter of [PortCounter.dropped, PortCounter.txPackets, PortCounter.txInvalid, PortCounter.passLost]) {
        expect(ports[0].counters[counter], `counter ${counter}`).toBeGreaterThan(0);
      }
    });

    it('copies the frame gauges when asked', async () => {
      const { ports } = await start(frames(0, 1), []);
      await take(ports[0]);
      ports[0].refreshCounters();
      const { counters } = ports[0];
      const { free, fill, rx, tx, total, held } = ports[0].counts();
      const gauges = [
        PortCounter.framesFree,
        PortCounter.framesFill,
        PortCounter.framesRx,
        PortCounter.framesTx,
        PortCounter.framesTotal,
        PortCounter.framesHeld,
      ];
      expect(gauges.map((gauge) => counters[gauge])).toEqual([free, fill, rx, tx, total, held]);
      expect(rx).toBeGreaterThanOrEqual(1);
    });

    it('keeps no frame when it closes with packets in hand, and is of no use then', async () => {
      const { ports } = await start(frames(0, 8), frames(1, 1));
      const [slot] = await take(ports[1]);
      ports[1].burst.verdict[slot] = Verdict.Tx;
      ports[1].exchange();
      await take(ports[0]);
      for (const port of ports) {
        port.close();
        port.close();
      }
      // A device may still read what was sent: those frames, and only those, may come back later.
      const { free, fill, rx, tx, total } = ports[0].counts();
      expect({ fill, rx, all: free + tx }).toEqual({ fill: 0, rx: 0, all: total });
      expect(tx).toBeLessThanOrEqual(1);
      expect(() => ports[0].exchange()).toThrow();
    });

    holdContract(start);
  });
}
