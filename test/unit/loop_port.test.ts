import { describe, expect, it } from 'vitest';
import { BurstHeader } from '../../src/dataplane/port.js';
import { LoopPort, type LoopPortOptions } from '../../src/dataplane/ports/loop.js';
import { MemoryPool } from '../../src/dataplane/ports/memory_pool.js';
import { MemoryPort } from '../../src/dataplane/ports/memory.js';
import { Verdict } from '../../src/dataplane/verdict.js';
import { PortCounter } from '../../src/shared/layout.js';
import { pattern } from '../support/capture_bytes.js';

const frames = (count: number, length = 64): Uint8Array[] =>
  Array.from({ length: count }, (_, i) => pattern(length + (i % 3), i));

function open(options: Partial<LoopPortOptions> & { frames: Uint8Array[] }, frameCount = 32, chunkSize = 2048) {
  const pool = new MemoryPool({ frameCount, chunkSize });
  return { pool, port: new LoopPort(pool, { burst: 4, ...options }) };
}

function packet(port: LoopPort, slot: number): Uint8Array {
  return new Uint8Array(port.memory, port.burst.offset[slot], port.burst.length[slot]).slice();
}

/** What encapsulation does: 34 bytes of header in front of the IP header, over the old Ethernet header. */
function encapsulate(port: LoopPort, slot: number, vlanBytes = 0): void {
  const inner = port.burst.offset[slot] + 14 + vlanBytes;
  const start = inner - 34;
  new Uint8Array(port.memory, start, 34).fill(0xee);
  port.burst.length[slot] = port.burst.offset[slot] + port.burst.length[slot] - start;
  port.burst.offset[slot] = start;
  port.burst.verdict[slot] = Verdict.Tx;
}

describe('LoopPort', () => {
  it.each([
    ['a frame for each packet', { frames: frames(7) }],
    ['fewer frames than packets', { frames: frames(7), chunks: 5 }],
    ['two VLAN tags', { frames: frames(7), restoreBytes: 32 }],
    ['little headroom', { frames: frames(7), headroom: 20 }],
  ] as [string, Partial<LoopPortOptions> & { frames: Uint8Array[] }][])(
    'receives its packets in turn, whole again after encapsulation: %s',
    (_name, options) => {
      const { port } = open(options);
      const vlan = options.restoreBytes === 32 ? 8 : 0;
      for (let number = 0; number < 40;) {
        expect(port.exchange()).toBe(4);
        expect(port.burst.header[BurstHeader.count]).toBe(4);
        for (let slot = 0; slot < 4; slot++) {
          expect(packet(port, slot)).toEqual(options.frames[number++ % 7]);
          expect(port.burst.verdict[slot]).toBe(Verdict.Drop);
          encapsulate(port, slot, vlan);
        }
      }
    },
  );

  it('restores the bytes that it says, in whole 16s, and no others', () => {
    const original = frames(4);
    const { port } = open({ frames: original, restoreBytes: 17 });
    port.exchange();
    new Uint8Array(port.memory, port.burst.offset[0], 64).fill(0);
    port.exchange();
    expect(packet(port, 0).subarray(0, 32)).toEqual(original[0].subarray(0, 32));
    expect(packet(port, 0).subarray(32, 64)).toEqual(new Uint8Array(32));
  });

  it('counts each fate as the other ports do', () => {
    const { port, pool } = open({ frames: frames(12), burst: 12 });
    const other = new MemoryPort(pool, { index: 1 });
    port.exchange();
    const { offset, length, verdict, target } = port.burst;
    const sentBytes = length[0];
    const redirectedBytes = length[1];
    verdict.set([
      Verdict.Tx,
      Verdict.Redirect,
      Verdict.Pass,
      Verdict.Drop,
      Verdict.Aborted,
      99,
      -1,
      Verdict.Redirect,
      Verdict.Tx,
      Verdict.Tx,
      Verdict.Tx,
      Verdict.Pass,
    ]);
    target[1] = 1;
    target[7] = 5;
    offset[8] -= 2048;
    length[9] = 13;
    length[10] = 2048;
    offset[11] = -1;
    port.exchange();
    expect(port.counters[PortCounter.rxPackets]).toBe(24);
    expect(port.counters[PortCounter.txPackets]).toBe(1);
    expect(port.counters[PortCounter.txBytes]).toBe(sentBytes);
    expect(other.counters[PortCounter.txPackets]).toBe(1);
    expect(other.counters[PortCounter.txBytes]).toBe(redirectedBytes);
    expect(port.counters[PortCounter.passPackets]).toBe(1);
    expect(port.counters[PortCounter.passLost]).toBe(1);
    expect(port.counters[PortCounter.dropped]).toBe(4);
    expect(port.counters[PortCounter.txInvalid]).toBe(4);
  });

  it('collects what is sent when asked to', () => {
    const original = frames(4);
    const { port } = open({ frames: original });
    port.capture = [];
    port.exchange();
    port.burst.verdict.set([Verdict.Tx, Verdict.Drop, Verdict.Redirect, Verdict.Tx]);
    port.burst.target[2] = 0;
    port.burst.length[3] = 5;
    port.exchange();
    expect(port.capture).toEqual([original[0], original[2]]);
    port.capture = null;
    port.burst.verdict.fill(Verdict.Tx);
    port.exchange();
  });

  it('holds its frames as ready to receive, and gives them back when it closes', () => {
    const { port, pool } = open({ frames: frames(10) });
    expect(pool.counts()).toEqual({ free: 22, fill: 10, rx: 0, tx: 0, held: 0, total: 32 });
    port.exchange();
    expect(pool.counts()).toEqual({ free: 22, fill: 6, rx: 4, tx: 0, held: 0, total: 32 });
    port.refreshCounters();
    expect(port.counters[PortCounter.framesFill]).toBe(6);
    port.close();
    port.close();
    expect(pool.counts()).toEqual({ free: 32, fill: 0, rx: 0, tx: 0, held: 0, total: 32 });
    expect(() => port.exchange()).toThrow('port loop0 is closed');
  });

  it('takes over and frees what other ports redirect to it', () => {
    const { port, pool } = open({ frames: frames(4) });
    const other = new MemoryPort(pool, { index: 1 });
    other.inject(pattern(60));
    other.exchange();
    other.burst.verdict[0] = Verdict.Redirect;
    other.burst.target[0] = 0;
    other.exchange();
    expect(port.counters[PortCounter.txPackets]).toBe(1);
    expect(pool.counts()).toMatchObject({ free: 28, fill: 4 });
  });

  it.each([
    [{ frames: [] }, /at least one packet/],
    [{ frames: frames(3) }, /3 frames for 3 packets in bursts of 4/],
    [{ frames: frames(8), chunks: 9 }, /9 frames for 8 packets/],
    [{ frames: frames(8), restoreBytes: -16 }, /-16 bytes to restore/],
    [{ frames: frames(8), restoreBytes: 2000 }, /2000 bytes to restore/],
    [{ frames: frames(8), headroom: 254 }, /headroom 254/],
    [{ frames: [...frames(4), pattern(1793)] }, /a packet of 1793 bytes/],
  ])('refuses %o', (options, message) => {
    expect(() => open(options)).toThrow(message);
  });

  it('says when the pool has too few frames, and leaves it as it was', () => {
    const pool = new MemoryPool({ frameCount: 6, chunkSize: 2048 });
    expect(() => new LoopPort(pool, { frames: frames(8), burst: 4, chunks: 8 })).toThrow(/8 frames .* 6/);
    expect(pool.counts().free).toBe(6);
  });
});
