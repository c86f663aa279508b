import { describe, expect, it } from 'vitest';
import { copyFrame } from '../../src/dataplane/capture/copy_frame.js';
import { FirstPackets } from '../../src/dataplane/capture/first_packets.js';
import { Sampling } from '../../src/dataplane/capture/sampling.js';
import { WallClock } from '../../src/dataplane/capture/wall_clock.js';
import {
  CaptureRecord,
  CaptureRingReader,
  CaptureRingWriter,
  makeCaptureRing,
  RecordKind,
} from '../../src/shared/capture_ring.js';
import { random } from '../support/packets.js';

/** Writes a record with `length` bytes of `fill`; false when there is no room. */
function write(writer: CaptureRingWriter, length: number, fill: number): boolean {
  const at = writer.reserve(length);
  if (at < 0) return false;
  writer.words[at + CaptureRecord.kind] = RecordKind.in;
  writer.words[at + CaptureRecord.length] = length;
  writer.words[at + CaptureRecord.packet] = fill;
  new Uint8Array(writer.memory).fill(fill & 255, (at + CaptureRecord.SIZE) * 4, (at + CaptureRecord.SIZE) * 4 + length);
  return true;
}

function check(reader: CaptureRingReader, at: number): [length: number, packet: number] {
  const length = reader.words[at + CaptureRecord.length];
  const packet = reader.words[at + CaptureRecord.packet];
  const start = (at + CaptureRecord.SIZE) * 4;
  expect(reader.bytes.subarray(start, start + length).every((byte) => byte === (packet & 255))).toBe(true);
  return [length, packet];
}

describe('the ring', () => {
  it('gives every record once, whole and in order, whatever the sizes and the turns', () => {
    const memory = makeCaptureRing(8192);
    const [writer, reader] = [new CaptureRingWriter(memory), new CaptureRingReader(memory)];
    const draw = random(3);
    const written: [number, number][] = [];
    const read: [number, number][] = [];
    let refused = 0;
    for (let i = 0; i < 20_000; i++) {
      const length = Math.floor(draw() * draw() * 2000);
      if (write(writer, length, i)) written.push([length, i]);
      else refused++;
      if (draw() < 0.4) writer.publish();
      if (draw() < 0.3) reader.read(Math.floor(draw() * 6), (at) => read.push(check(reader, at)));
    }
    writer.publish();
    reader.read(Infinity, (at) => read.push(check(reader, at)));
    expect(read).toEqual(written);
    expect(refused).toBeGreaterThan(100);
    expect(written.length).toBeGreaterThan(5000);
  });

  it('shows nothing before it is published, and holds nothing back after it was read', () => {
    const memory = makeCaptureRing(4096);
    const [writer, reader] = [new CaptureRingWriter(memory), new CaptureRingReader(memory)];
    for (let round = 0; round < 50; round++) {
      let records = 0;
      while (write(writer, 100, records)) records++;
      expect(reader.read(Infinity, () => undefined)).toBe(0);
      writer.publish();
      expect(reader.read(Infinity, () => undefined)).toBe(records);
      expect(records).toBeGreaterThan(20);
    }
  });

  it('is taken over by another writer where the last one published', () => {
    const memory = makeCaptureRing(4096);
    const first = new CaptureRingWriter(memory);
    write(first, 10, 1);
    first.publish();
    const second = new CaptureRingWriter(memory);
    write(second, 20, 2);
    second.publish();
    const reader = new CaptureRingReader(memory);
    const read: unknown[] = [];
    reader.read(Infinity, (at) => read.push(check(reader, at)));
    expect(read).toEqual([
      [10, 1],
      [20, 2],
    ]);
  });

  it('goes on when what visits a record throws', () => {
    const memory = makeCaptureRing(4096);
    const [writer, reader] = [new CaptureRingWriter(memory), new CaptureRingReader(memory)];
    for (let i = 0; i < 3; i++) write(writer, 10, i);
    writer.publish();
    const visit = () => {
      throw new Error('visited');
    };
    expect(() => reader.read(9, visit)).toThrow('visited');
    const read: unknown[] = [];
    reader.read(9, (at) => read.push(check(reader, at)[1]));
    expect(read).toEqual([1, 2]);
  });
});

it.each([0, 1, 2, 3])(
  'a frame is copied byte for byte from offset %i, and nothing of its neighbours counts',
  (shift) => {
    const memory = new ArrayBuffer(4096);
    const bytes = new Uint8Array(memory);
    for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 7 + (i >> 8)) & 255;
    for (let length = 0; length < 70; length++) {
      const target = new Int32Array(64).fill(-1);
      copyFrame(new DataView(memory), new Int32Array(memory), 256 + shift, length, target, 3);
      const copied = new Uint8Array(target.buffer, 12, length);
      expect(copied).toEqual(bytes.slice(256 + shift, 256 + shift + length));
      expect(target.subarray(0, 3).every((word) => word === -1)).toBe(true);
      expect(target.subarray(3 + Math.ceil(length / 4)).every((word) => word === -1)).toBe(true);
    }
  },
);

describe('sampling', () => {
  it('picks exactly one of every N in a row, not always at the same place', () => {
    for (const oneIn of [1, 2, 10, 1000]) {
      const sampling = new Sampling(oneIn, 0, 5);
      const places = new Set<number>();
      for (let row = 0; row < 50; row++) {
        const picks = Array.from({ length: oneIn }, () => sampling.judge(0, 0));
        expect(picks.filter(Boolean)).toHaveLength(1);
        places.add(picks.indexOf(true));
      }
      expect(places.size).toBeGreaterThanOrEqual(Math.min(oneIn, 8));
    }
  });

  it('picks the first of each flow, and one in N of the others', () => {
    const sampling = new Sampling(100, 3, 5);
    let picked = 0;
    for (let i = 0; i < 50; i++) for (let j = 0; j < 203; j++) if (sampling.judge(i * 7919, 0)) picked++;
    expect(picked).toBe(50 * 3 + (50 * 200) / 100);
  });
});

describe('first packets', () => {
  it('are the first of each flow, for as many flows as there is room', () => {
    const first = new FirstPackets(1024);
    const admitted = new Map<number, number>();
    const draw = random(1);
    const hashes = Array.from({ length: 300 }, () => (draw() * 2 ** 32) | 0);
    for (let round = 0; round < 10; round++) {
      for (const hash of hashes) if (first.admit(hash, 4, round)) admitted.set(hash, (admitted.get(hash) ?? 0) + 1);
    }
    // Four flows to a bucket: of 300 in 1,024 a few find theirs full.
    const exact = [...admitted.values()].filter((count) => count === 4).length;
    expect(exact).toBeGreaterThan(270);
    expect(admitted.size).toBe(new Set(hashes).size);
  });

  it('a flow begins anew after a minute of quiet, over the wrap of the clock too', () => {
    const first = new FirstPackets(64);
    const begin = 0x7fffff00;
    expect([first.admit(9, 1, begin), first.admit(9, 1, (begin + 59_999) | 0)]).toEqual([true, false]);
    expect(first.admit(9, 1, (begin + 2 * 59_999) | 0)).toBe(false);
    expect(first.admit(9, 1, (begin + 2 * 59_999 + 60_000) | 0)).toBe(true);
  });

  it('the flow that was quiet for longest gives way', () => {
    const first = new FirstPackets(4);
    for (let hash = 1; hash <= 4; hash++) expect(first.admit(hash << 20, 1, hash)).toBe(true);
    expect(first.admit(5 << 20, 1, 9)).toBe(true);
    expect(first.admit(2 << 20, 1, 10)).toBe(false);
    expect(first.admit(1 << 20, 1, 11)).toBe(true);
  });
});

it("the wall clock is the system's, in seconds and nanoseconds", () => {
  const clock = new WallClock();
  for (let i = 0; i < 1000; i++) {
    const before = Date.now();
    clock.read();
    const after = Date.now();
    const ms = (clock.seconds >>> 0) * 1000 + clock.nanoseconds / 1e6;
    expect(ms).toBeGreaterThan(before - 50);
    expect(ms).toBeLessThan(after + 50);
    expect(clock.nanoseconds).toBeGreaterThanOrEqual(0);
    expect(clock.nanoseconds).toBeLessThan(1e9);
  }
});
