import { expect, it } from 'vitest';
import { BurstHeader, type Port } from '../../src/dataplane/port.js';
import { Verdict } from '../../src/dataplane/verdict.js';
import { PortCounter } from '../../src/shared/layout.js';
import { seeded } from './capture_bytes.js';
import { bytesOf, expectAddsUp, expectConserved, frames, sentBy, take, type PortHarness } from './port_harness.js';

/** A held packet: where it was. */
interface Place {
  offset: number;
  length: number;
}

/** Takes at least `count` of the port's packets, and holds them. */
async function hold(port: Port, count: number): Promise<Place[]> {
  const places: Place[] = [];
  while (places.length < count) {
    for (const slot of await take(port)) {
      port.burst.verdict[slot] = Verdict.Hold;
      places.push({ offset: port.burst.offset[slot], length: port.burst.length[slot] });
    }
  }
  port.exchange();
  return places;
}

/** What every Port must do with Verdict.Hold. */
export function holdContract(start: (...arriving: Uint8Array[][]) => Promise<PortHarness>): void {
  it('keeps held frames, and hands them out again in the order in which they are resumed', async () => {
    const arriving = frames(0, 6);
    const harness = await start(arriving, []);
    const [port] = harness.ports;
    const received = port.counters[PortCounter.rxPackets];
    const places = await hold(port, 6);
    expect(port.counts().held).toBe(6);
    expectAddsUp(harness.ports);
    for (let i = 0; i < 3; i++) port.exchange();
    for (const at of [4, 0, 5, 1]) expect(port.resume(places[at].offset, places[at].length)).toBe(true);
    expect(port.counts().held).toBe(2);
    expectConserved(harness.ports);
    expectAddsUp(harness.ports);

    expect(port.exchange()).toBeGreaterThanOrEqual(4);
    expect(port.burst.header[BurstHeader.resumed]).toBe(4);
    expect([0, 1, 2, 3].map((slot) => bytesOf(port, slot))).toEqual([4, 0, 5, 1].map((at) => arriving[at]));
    for (let slot = 0; slot < 4; slot++) {
      expect(port.burst.verdict[slot]).toBe(Verdict.Drop);
      port.burst.verdict[slot] = Verdict.Tx;
    }
    port.exchange();
    expect(port.burst.header[BurstHeader.resumed]).toBe(0);
    expect(await sentBy(harness, 0, 4)).toEqual([4, 0, 5, 1].map((at) => arriving[at]));
    expect(port.counters[PortCounter.rxPackets] - received).toBeGreaterThanOrEqual(6);
    expect(port.counts().held).toBe(2);
    expectConserved(harness.ports);
    expectAddsUp(harness.ports);
  });

  it('resumes a packet at the place that it is told', async () => {
    const arriving = frames(0, 1);
    const { ports } = await start(arriving, []);
    const [{ offset, length }] = await hold(ports[0], 1);
    expect(ports[0].resume(offset + 14, length - 20)).toBe(true);
    ports[0].exchange();
    expect(bytesOf(ports[0], 0)).toEqual(arriving[0].subarray(14, length - 6));
  });

  it('hands out more resumed packets than a burst holds in several bursts', async () => {
    const arriving = frames(0, 40);
    const { ports } = await start(arriving, []);
    const [port] = ports;
    const places = await hold(port, 40);
    for (const { offset, length } of places) expect(port.resume(offset, length)).toBe(true);
    const seen: Uint8Array[] = [];
    for (let left = 40; left > 0;) {
      const count = port.exchange();
      const resumed = port.burst.header[BurstHeader.resumed];
      expect(resumed).toBe(Math.min(left, port.burst.offset.length));
      expect(count).toBeGreaterThanOrEqual(resumed);
      for (let slot = 0; slot < resumed; slot++) seen.push(bytesOf(port, slot));
      left -= resumed;
      expectAddsUp(ports);
    }
    expect(seen).toEqual(arriving);
    port.exchange();
    expectConserved(ports);
    expectAddsUp(ports);
  });

  it('can hold a packet again and again', async () => {
    const arriving = frames(0, 1);
    const { ports } = await start(arriving, []);
    const [port] = ports;
    const [{ offset, length }] = await hold(port, 1);
    for (let i = 0; i < 5; i++) {
      expect(port.resume(offset, length)).toBe(true);
      port.exchange();
      expect(bytesOf(port, 0)).toEqual(arriving[0]);
      port.burst.verdict[0] = Verdict.Hold;
      port.exchange();
      expect(port.counts().held).toBe(1);
    }
    expectAddsUp(ports);
  });

  it('resumes and releases packets in hand that are to be held', async () => {
    const arriving = frames(0, 4);
    const { ports } = await start(arriving, []);
    const [port] = ports;
    const { offset, length, verdict } = port.burst;
    const dropped = port.counters[PortCounter.dropped];
    const expected: Uint8Array[] = [];
    const resumed: Uint8Array[] = [];
    const collect = (): void => {
      for (let slot = 0; slot < port.burst.header[BurstHeader.resumed]; slot++) resumed.push(bytesOf(port, slot));
    };
    let others = 0;
    for (let seen = 0; seen < 4;) {
      const slots = await take(port);
      collect();
      for (const slot of slots) {
        const kind = seen++;
        if (kind === 3) {
          // It is to be dropped, so nobody holds it.
          expect(port.resume(offset[slot], length[slot])).toBe(false);
          expect(port.release(offset[slot])).toBe(false);
          others++;
          continue;
        }
        verdict[slot] = Verdict.Hold;
        if (kind === 0) {
          expect(port.resume(offset[slot] + 4, length[slot] - 4)).toBe(true);
          expect(port.resume(offset[slot], length[slot])).toBe(false);
          expect(port.release(offset[slot])).toBe(false);
          expected.push(arriving[0].subarray(4));
        } else if (kind === 1) {
          expect(port.release(offset[slot])).toBe(true);
          expect(port.resume(offset[slot], length[slot])).toBe(false);
          others++;
        }
      }
    }
    for (let i = 0; i < 3; i++) {
      port.exchange();
      collect();
    }
    expect(resumed).toEqual(expected);
    expect(port.counts().held).toBe(1);
    expect(port.counters[PortCounter.dropped] - dropped).toBeGreaterThanOrEqual(others);
    expectConserved(ports);
    expectAddsUp(ports);
  });

  it('does not resume what was judged anew after it was to be resumed', async () => {
    const { ports } = await start(frames(0, 1), []);
    const [port] = ports;
    const [slot] = await take(port);
    port.burst.verdict[slot] = Verdict.Hold;
    expect(port.resume(port.burst.offset[slot], port.burst.length[slot])).toBe(true);
    port.burst.verdict[slot] = Verdict.Drop;
    port.exchange();
    expect(port.burst.header[BurstHeader.resumed]).toBe(0);
    expect(port.counts().held).toBe(0);
    expectConserved(ports);
    expectAddsUp(ports);
  });

  it('releases a held frame as dropped', async () => {
    const { ports } = await start(frames(0, 3), []);
    const [port] = ports;
    const places = await hold(port, 3);
    const dropped = port.counters[PortCounter.dropped];
    expect(port.release(places[1].offset + 5)).toBe(true);
    expect(port.release(places[1].offset)).toBe(false);
    expect(port.resume(places[1].offset, 60)).toBe(false);
    expect(port.counters[PortCounter.dropped] - dropped).toBe(1);
    expect(port.counts().held).toBe(2);
    expectConserved(ports);
    expectAddsUp(ports);
  });

  it('gives nobody a frame that is not held, and none twice', async () => {
    const { ports } = await start(frames(0, 4), frames(1, 1));
    const [port, other] = ports;
    const [{ offset, length }] = await hold(port, 4);
    const [foreign] = await take(other);
    const inHand = other.burst.offset[foreign];
    const before = port.counts();
    const end = port.memory.byteLength;
    for (const garbage of [inHand, -1, -port.chunkSize, end, end - 1, 0x7fffffff, -0x80000000]) {
      expect(port.resume(garbage, 14), `resume ${garbage}`).toBe(false);
      expect(port.release(garbage), `release ${garbage}`).toBe(false);
    }
    // Held, but not by this port.
    expect(other.resume(offset, length)).toBe(false);
    expect(other.release(offset)).toBe(false);
    const chunk = offset - (offset % port.chunkSize);
    for (const [at, bytes] of [
      [offset, -1],
      [offset, -0x80000000],
      [offset, 0x7fffffff],
      [chunk + 1, port.chunkSize],
      [chunk + port.chunkSize - 14, 15],
    ]) {
      expect(port.resume(at, bytes), `${at}, ${bytes}`).toBe(false);
    }
    expect(port.counts()).toEqual(before);
    expect(port.resume(offset, length)).toBe(true);
    expect(port.resume(offset, length)).toBe(false);
    expect(port.release(offset)).toBe(false);
    port.exchange();
    expect(port.burst.header[BurstHeader.resumed]).toBe(1);
    expect(port.resume(offset, length)).toBe(false);
    expectConserved(ports);
    expectAddsUp(ports);
  });

  it('conserves frames while packets are held, resumed and released at random', async () => {
    const total = 200;
    const { ports } = await start(frames(0, total), frames(1, total));
    const random = seeded(11);
    const held: (Place & { port: Port })[] = [];
    const seen = [0, 0];
    const deadline = performance.now() + 5000;
    while (Math.min(...seen) < total && performance.now() < deadline) {
      for (const [number, port] of ports.slice(0, 2).entries()) {
        const count = port.exchange();
        const resumed = port.burst.header[BurstHeader.resumed];
        seen[number] += count - resumed;
        for (let slot = 0; slot < count; slot++) {
          const verdict = [Verdict.Drop, Verdict.Hold, Verdict.Hold, Verdict.Tx, Verdict.Pass][random(5)];
          port.burst.verdict[slot] = verdict;
          const { offset, length } = port.burst;
          if (verdict === Verdict.Hold) held.push({ port, offset: offset[slot], length: length[slot] });
        }
        for (let i = random(held.length + 1); i > 0; i--) {
          const at = random(held.length);
          const { port: holder, offset, length } = held[at];
          if (random(3) === 0 ? holder.release(offset) : holder.resume(offset, length)) held.splice(at, 1);
        }
        expectConserved(ports);
        expectAddsUp(ports);
        if (count === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      }
    }
    for (const port of ports.slice(0, 2)) expect(port.counters[PortCounter.rxPackets]).toBeGreaterThanOrEqual(total);
    for (const { port, offset } of held) port.release(offset);
    for (const port of ports) port.exchange();
    for (const port of ports) port.exchange();
    expectConserved(ports);
    expectAddsUp(ports);
  });

  it('keeps no held frame when it closes', async () => {
    const { ports } = await start(frames(0, 8), []);
    const [port] = ports;
    const places = await hold(port, 8);
    port.resume(places[0].offset, places[0].length);
    for (const each of ports) each.close();
    const { free, tx, total } = port.counts();
    expect(free + tx).toBe(total);
    expect(tx).toBe(0);
    expect(() => port.resume(places[1].offset, 60)).toThrow();
    expect(() => port.release(places[1].offset)).toThrow();
  });
}
