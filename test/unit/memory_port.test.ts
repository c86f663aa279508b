import { describe, expect, it } from 'vitest';
import { BurstHeader } from '../../src/dataplane/port.js';
import { MemoryPool } from '../../src/dataplane/ports/memory_pool.js';
import { MemoryPort } from '../../src/dataplane/ports/memory.js';
import { Verdict } from '../../src/dataplane/verdict.js';
import { PortCounter } from '../../src/shared/layout.js';
import { pattern } from '../support/capture_bytes.js';
import { portContract } from '../support/port_contract.js';

portContract('memory', (frames, burst) => {
  const pool = new MemoryPool({ frameCount: 256, chunkSize: 2048 });
  const ports = frames.map((_, index) => new MemoryPort(pool, { index, burst }));
  frames.forEach((arriving, index) => arriving.forEach((frame) => ports[index].inject(frame)));
  return { ports, sent: (port) => ports[port].sent, close: () => ports.forEach((port) => port.close()) };
});

describe('MemoryPool', () => {
  it('is made of the memory that it is given', () => {
    const memory = new ArrayBuffer(8 * 2048 + 5);
    const pool = new MemoryPool({ frameCount: 8, chunkSize: 2048, memory });
    expect(pool.memory).toBe(memory);
    expect(pool.counts()).toEqual({ free: 8, fill: 0, rx: 0, tx: 0, held: 0, total: 8 });
  });

  it.each([
    [{ frameCount: 0, chunkSize: 2048 }, /frameCount 0/],
    [{ frameCount: 1.5, chunkSize: 2048 }, /frameCount 1.5/],
    [{ frameCount: 1, chunkSize: 2000 }, /chunkSize 2000 is not a power of two/],
    [{ frameCount: 1, chunkSize: 64 }, /chunkSize 64/],
    [{ frameCount: 1 << 20, chunkSize: 2048 }, /more than 2 GiB/],
    [{ frameCount: 2, chunkSize: 2048, memory: new ArrayBuffer(4095) }, /4095 bytes of memory for 4096/],
  ])('refuses %o', (options, message) => {
    expect(() => new MemoryPool(options)).toThrow(message);
  });

  it('hands out each chunk once and notices one that comes back twice or is none', () => {
    const pool = new MemoryPool({ frameCount: 4, chunkSize: 128 });
    const chunks = [pool.take(), pool.take(), pool.take(), pool.take()];
    expect(chunks).toEqual([0, 128, 256, 384]);
    expect(pool.take()).toBe(-1);
    pool.give(256);
    expect(() => pool.give(256)).toThrow('frame 2 of 4 was given back and is not in use');
    for (const bad of [-128, 512, 64]) expect(() => pool.give(bad)).toThrow(/is not in use/);
    expect(pool.counts().free).toBe(1);
  });

  it('has each port number once', () => {
    const pool = new MemoryPool({ frameCount: 4, chunkSize: 2048 });
    const port = new MemoryPort(pool, { index: 3, name: 'first' });
    expect(() => new MemoryPort(pool, { index: 3 })).toThrow('port number 3 of this pool is taken by first');
    port.close();
    new MemoryPort(pool, { index: 3 }).close();
  });
});

describe('MemoryPort', () => {
  const make = (options = {}, frameCount = 64) => {
    const pool = new MemoryPool({ frameCount, chunkSize: 2048 });
    return new MemoryPort(pool, options);
  };

  it('copies what is injected, at the headroom, and does not look at the original again', () => {
    const port = make({ headroom: 128 });
    const frame = pattern(60);
    port.inject(frame);
    frame.fill(0);
    expect(port.exchange()).toBe(1);
    expect(port.burst.offset[0] % 2048).toBe(128);
    expect(new Uint8Array(port.memory, port.burst.offset[0], 60)).toEqual(pattern(60));
  });

  it('gives passed packets to the host, as the policy left them, and dropped ones when asked for', () => {
    const port = make({ keepDropped: true });
    for (const seed of [1, 2, 3]) port.inject(pattern(60, seed));
    port.exchange();
    port.burst.verdict[0] = Verdict.Pass;
    port.burst.length[0] = 50;
    port.burst.verdict[2] = Verdict.Drop;
    port.burst.offset[2] = -1;
    port.exchange();
    expect(port.passed).toEqual([pattern(60, 1).subarray(0, 50)]);
    expect(port.dropped).toEqual([pattern(60, 2), new Uint8Array(0)]);
    expect(port.counters[PortCounter.passPackets]).toBe(1);
    expect(port.counters[PortCounter.dropped]).toBe(2);
  });

  it('loses passed packets when there is no host', () => {
    const port = make({ hostPath: false });
    port.inject(pattern(60));
    port.exchange();
    port.burst.verdict[0] = Verdict.Pass;
    port.exchange();
    expect(port.passed).toEqual([]);
    expect(port.counters[PortCounter.passLost]).toBe(1);
  });

  it('lets frames wait until one is free, and loses none', () => {
    const port = make({ burst: 8 }, 3);
    for (let i = 0; i < 7; i++) port.inject(pattern(60, i));
    const seen: number[] = [];
    for (let count = port.exchange(); count > 0; count = port.exchange()) seen.push(count);
    expect(seen).toEqual([3, 3, 1]);
    expect(port.counters[PortCounter.kernelFillEmpty]).toBe(2);
    expect(port.waiting).toBe(0);
  });

  it('has sent frames under way until the next exchange, or until they are completed', () => {
    const port = make({ burst: 2, txSize: 3 }, 8);
    port.completing = false;
    for (let i = 0; i < 6; i++) port.inject(pattern(60, i));
    const sendAll = () => port.burst.verdict.fill(Verdict.Tx, 0, port.exchange());
    sendAll();
    sendAll();
    expect(port.counts()).toMatchObject({ free: 4, rx: 2, tx: 2 });
    sendAll();
    expect(port.counts()).toMatchObject({ free: 3, rx: 2, tx: 3 });
    expect(port.counters[PortCounter.txFull]).toBe(1);
    port.completing = true;
    port.exchange();
    expect(port.counters[PortCounter.completions]).toBe(3);
    expect(port.counts()).toMatchObject({ rx: 0, tx: 2 });
    port.exchange();
    expect(port.counts()).toMatchObject({ free: 8, tx: 0 });
    expect(port.sent).toHaveLength(5);
  });

  it('refuses a frame that no chunk can hold and counts it as the kernel does', () => {
    const port = make({ headroom: 256 });
    expect(port.inject(pattern(1792))).toBe(true);
    expect(port.inject(pattern(1793))).toBe(false);
    expect(port.counters[PortCounter.kernelRxDropped]).toBe(1);
    expect(port.exchange()).toBe(1);
  });

  it('takes frames shorter than an Ethernet header, for parsers to refuse', () => {
    const port = make();
    port.inject(new Uint8Array(0));
    port.inject(pattern(13));
    expect(port.exchange()).toBe(2);
    expect([...port.burst.length.subarray(0, 2)]).toEqual([0, 13]);
  });

  it('gives every frame back when it closes, also those that were never completed', () => {
    const pool = new MemoryPool({ frameCount: 8, chunkSize: 2048 });
    const port = new MemoryPort(pool, { burst: 2 });
    port.completing = false;
    for (let i = 0; i < 4; i++) port.inject(pattern(60, i));
    port.burst.verdict.fill(Verdict.Tx, 0, port.exchange());
    port.exchange();
    expect(pool.counts()).toMatchObject({ free: 4, rx: 2, tx: 2 });
    port.close();
    expect(pool.counts()).toEqual({ free: 8, fill: 0, rx: 0, tx: 0, held: 0, total: 8 });
    expect(() => port.exchange()).toThrow('port mem0 is closed');
  });

  it('wraps its clock to int32', () => {
    const port = make({ clock: () => 0x80000000 + 5.7 });
    port.exchange();
    expect(port.burst.header[BurstHeader.nowMs]).toBe(-0x80000000 + 5);
  });

  it.each([
    [{ index: 16 }, /port number 16/],
    [{ index: -1 }, /port number -1/],
    [{ burst: 0 }, /burst 0/],
    [{ burst: 1025 }, /burst 1025/],
    [{ headroom: 2040 }, /headroom 2040/],
  ])('refuses %o', (options, message) => {
    expect(() => make(options)).toThrow(message);
  });
});
