import { describe, expect, it } from 'vitest';
import { BurstHeader } from '../../src/dataplane/port.js';
import { MemoryPool } from '../../src/dataplane/ports/memory_pool.js';
import { PcapPort, type PcapPortOptions } from '../../src/dataplane/ports/pcap.js';
import { Verdict } from '../../src/dataplane/verdict.js';
import { readCapture, type Capture } from '../../src/pcap/capture.js';
import { PcapngWriter } from '../../src/pcap/pcapng_writer.js';
import { PortCounter } from '../../src/shared/layout.js';
import { classicFile, join, pattern, Section } from '../support/capture_bytes.js';
import { portContract } from '../support/port_contract.js';

/** A capture of frames, one each 10 µs. */
function captureOf(frames: Uint8Array[]): Capture {
  const packets = frames.map((data, i) => ({ seconds: 1_700_000_000, fraction: i * 10, data }));
  return readCapture(classicFile({ little: true, nanoseconds: false }, packets));
}

/** A capture of 60-byte frames at these ms of capture time. */
function captureAt(...timesMs: number[]): Capture {
  const packets = timesMs.map((ms, i) => ({
    seconds: 1_700_000_000 + Math.floor(ms / 1000),
    fraction: Math.round((ms % 1000) * 1000),
    data: pattern(60, i),
  }));
  return readCapture(classicFile({ little: true, nanoseconds: false }, packets));
}

portContract('pcap', (frames, burst) => {
  const pool = new MemoryPool({ frameCount: 256, chunkSize: 2048 });
  const writer = new PcapngWriter('memory');
  const ports = frames.map((arriving, index) => new PcapPort(pool, captureOf(arriving), { index, burst, writer }));
  return {
    ports,
    sent: (port) =>
      [...readCapture(writer.bytes())].filter((p) => p.flags === 2 && p.interfaceId === port).map((p) => p.data),
    close: () => ports.forEach((port) => port.close()),
  };
});

/** A port over a capture, with its writer. */
function open(capture: Capture, options: PcapPortOptions = {}, frameCount = 64) {
  const pool = new MemoryPool({ frameCount, chunkSize: 2048 });
  const writer = new PcapngWriter('memory');
  const port = new PcapPort(pool, capture, { writer, ...options });
  return { pool, port, writer, written: () => [...readCapture(writer.bytes())] };
}

/** Runs a port to its end with one verdict by packet number, and returns the bursts as [clock, packets]. */
function run(port: PcapPort, judge: (slot: number, number: number) => void = () => {}): [number, number][] {
  const bursts: [number, number][] = [];
  let number = 0;
  for (let count = port.exchange(); count > 0; count = port.exchange()) {
    bursts.push([port.burst.header[BurstHeader.nowMs], count]);
    for (let slot = 0; slot < count; slot++) judge(slot, number++);
  }
  return bursts;
}

describe('PcapPort', () => {
  it('has the capture’s clock from 0, and ends a burst where the next millisecond begins', () => {
    const { port } = open(captureAt(0, 0.2, 0.9, 1, 5, 5.5, 60_000));
    expect(run(port)).toEqual([
      [0, 3],
      [1, 1],
      [5, 2],
      [60_000, 1],
    ]);
    expect(port.done).toBe(true);
    expect(port.exchange()).toBe(0);
    expect(port.burst.header[BurstHeader.nowMs]).toBe(60_000);
  });

  it('hands out one packet a burst in lockstep, at the same times', () => {
    const { port } = open(captureAt(0, 0.2, 1, 1.1), { lockstep: true });
    expect(run(port)).toEqual([
      [0, 1],
      [0, 1],
      [1, 1],
      [1, 1],
    ]);
  });

  it('is done when the last packet is settled, not when it is handed out', () => {
    const { port } = open(captureAt(0));
    port.exchange();
    expect(port.done).toBe(false);
    port.exchange();
    expect(port.done).toBe(true);
  });

  it('never turns its clock back', () => {
    const { port } = open(captureAt(10, 5, 30, 0));
    expect(run(port)).toEqual([
      [0, 2],
      [20, 2],
    ]);
  });

  it('starts its clock where it is told, so that captures taken together share one', () => {
    const { port } = open(captureAt(250), { startNs: 1_700_000_000_000_000_000n });
    expect(run(port)).toEqual([[250, 1]]);
  });

  it('wraps its clock after 2^31 ms', () => {
    const { port } = open(captureAt(0, 2 ** 31 + 3));
    expect(run(port)).toEqual([
      [0, 1],
      [-(2 ** 31) + 3, 1],
    ]);
  });

  it('takes a packet without a time as coming with the one before it', () => {
    const section = new Section(true);
    const file = join(
      section.header(),
      section.interface(),
      section.simple(pattern(60, 1)),
      section.enhanced(0, 5_000_000n, pattern(60, 2)),
      section.enhanced(0, 5_007_000n, pattern(60, 3)),
      section.simple(pattern(60, 4)),
    );
    const { port, written } = open(readCapture(file), { outputs: ['drop'] });
    expect(run(port)).toEqual([
      [0, 2],
      [7, 2],
    ]);
    expect(written().map((packet) => packet.timestampNs)).toEqual([0n, 5_000_000_000n, 5_007_000_000n, 5_007_000_000n]);
  });

  it('writes what leaves, with verdict, direction, interface, time and the policy’s own words', () => {
    const pool = new MemoryPool({ frameCount: 64, chunkSize: 2048 });
    const writer = new PcapngWriter('memory');
    const port = new PcapPort(pool, captureAt(0, 1, 2, 3, 4, 5), {
      writer,
      name: 'in',
      outputs: ['tx', 'redirect', 'pass', 'drop'],
    });
    const other = new PcapPort(pool, captureAt(), { index: 1, name: 'out', writer });
    port.annotate = (slot) => (port.burst.verdict[slot] === Verdict.Drop ? 'reason=rule' : '');
    const verdicts = [Verdict.Tx, Verdict.Redirect, Verdict.Pass, Verdict.Drop, Verdict.Aborted, 9];
    run(port, (slot, number) => {
      const { offset, length, verdict, target } = port.burst;
      verdict[slot] = verdicts[number];
      target[slot] = 1;
      offset[slot] += 4;
      length[slot] -= 4;
    });
    const capture = readCapture(writer.bytes());
    expect(capture.interfaces.map((iface) => iface.name)).toEqual(['in', 'out']);
    expect([...capture].map((p) => [p.comment, p.flags, p.interfaceId])).toEqual([
      ['verdict=tx', 2, 0],
      ['verdict=redirect', 2, 1],
      ['verdict=pass', 1, 0],
      ['verdict=drop reason=rule', 1, 0],
      ['verdict=aborted', 1, 0],
      ['verdict=9', 1, 0],
    ]);
    for (const [i, packet] of [...capture].entries()) {
      expect(packet.timestampNs).toBe(1_700_000_000_000_000_000n + BigInt(i) * 1_000_000n);
      // What leaves is as the policy left it; what is dropped, as it came in.
      expect(packet.data).toEqual(i < 3 ? pattern(60, i).subarray(4) : pattern(60, i));
    }
    expect(other.counters[PortCounter.txPackets]).toBe(1);
  });

  it('says why a packet did not get where its verdict wanted it', () => {
    const { port, written } = open(captureAt(0, 1, 2, 3, 3.1), { hostPath: false, txSize: 1, outputs: ['drop'] });
    run(port, (slot, number) => {
      const { offset, verdict, target } = port.burst;
      verdict[slot] = [Verdict.Tx, Verdict.Redirect, Verdict.Pass, Verdict.Tx, Verdict.Tx][number];
      target[slot] = 12;
      if (number === 0) offset[slot] = -1;
    });
    expect(written().map((packet) => packet.comment)).toEqual([
      'verdict=tx lost=invalid',
      'verdict=redirect lost=invalid',
      'verdict=pass lost=no-host',
      'verdict=tx lost=tx-full',
    ]);
  });

  it.each([
    [['tx'], ['verdict=tx']],
    [['redirect'], ['verdict=redirect']],
    [['pass'], ['verdict=pass']],
    [['drop'], ['verdict=drop']],
    [[], []],
    [undefined, ['verdict=tx', 'verdict=redirect', 'verdict=pass']],
  ] as [PcapPortOptions['outputs'], string[]][])('writes only the chosen outputs: %o', (outputs, comments) => {
    const { port, written } = open(captureAt(0, 0, 0, 0), { outputs });
    run(port, (slot, number) => {
      port.burst.verdict[slot] = [Verdict.Tx, Verdict.Redirect, Verdict.Pass, Verdict.Drop][number];
    });
    expect(written().map((packet) => packet.comment)).toEqual(comments);
  });

  it('writes the same bytes for the same input, in whatever bursts', () => {
    const capture = captureAt(0, 0.1, 0.2, 7, 7.5, 9, 2000);
    const output = (options: PcapPortOptions) => {
      const { port, writer } = open(capture, { outputs: ['tx', 'drop'], ...options });
      run(port, (slot, number) => {
        if (number % 3 !== 0) port.burst.verdict[slot] = Verdict.Tx;
      });
      return writer.bytes().slice();
    };
    const first = output({});
    expect(output({})).toEqual(first);
    expect(output({ lockstep: true })).toEqual(first);
    expect(output({ burst: 2 })).toEqual(first);
    expect(readCapture(first).length).toBe(7);
  });

  it('counts a packet that no frame can hold and goes on behind it', () => {
    const { port } = open(captureOf([pattern(60), pattern(1793), pattern(1792)]));
    expect(run(port).map(([, count]) => count)).toEqual([2]);
    expect(port.counters[PortCounter.kernelRxDropped]).toBe(1);
    expect(port.counters[PortCounter.rxPackets]).toBe(2);
  });

  it('keeps a cut packet’s original length when it is dropped', () => {
    const file = classicFile({ little: true, nanoseconds: true }, [
      { seconds: 1, fraction: 0, data: pattern(60), original: 1500 },
    ]);
    const { port, written } = open(readCapture(file), { outputs: ['drop'] });
    run(port);
    expect(written()[0]).toMatchObject({ originalLength: 1500, data: pattern(60) });
  });

  it('waits with its clock while no frame is free, and loses nothing', () => {
    const { port, pool } = open(captureAt(0, 1, 2), {}, 4);
    const held = [pool.take(), pool.take(), pool.take(), pool.take()];
    expect(port.exchange()).toBe(0);
    expect(port.done).toBe(false);
    held.forEach((chunk) => pool.give(chunk));
    expect(run(port)).toEqual([
      [0, 1],
      [1, 1],
      [2, 1],
    ]);
  });

  it('keeps its books when the policy’s words throw', () => {
    const { port, pool } = open(captureAt(0, 0, 0), { outputs: ['drop'] });
    port.annotate = (slot) => {
      if (slot === 1) throw new Error('no words');
      return '';
    };
    port.exchange();
    expect(() => port.exchange()).toThrow('no words');
    expect(pool.counts()).toMatchObject({ free: 63, rx: 1 });
    expect(port.exchange()).toBe(0);
    port.close();
    expect(pool.counts().free).toBe(64);
  });
});
