/** Frames of a load as the AF_XDP engine writes them: every byte, against frames by other code. The program of live frames has the same test (test/bpf/generator.test.ts). */
import { describe, expect, it } from 'vitest';
import { readEngine, type GenOptions } from '../../src/cli/commands/gen_options.js';
import { fold, frameTemplate } from '../../src/generator/frame.js';
import type { Load } from '../../src/generator/load.js';
import { FrameWriter } from '../../src/generator/writer.js';
import {
  builtFrame,
  countFlows,
  hex,
  loadOf,
  RANDOM_FLOWS,
  RANDOM_KEYS,
  SHAPES,
  tenFrames,
} from '../support/generated_frames.js';

const CHUNK = 2048;
const HEADROOM = 256;

const load = (options: Partial<GenOptions>): Load => loadOf('xsk', options);

/** The first frames of a load, over three chunks that are used again and again. */
function frames(of: Load, count: number): Uint8Array[] {
  const memory = new ArrayBuffer(3 * CHUNK);
  new Uint8Array(memory).fill(0xaa);
  const writer = new FrameWriter(of, memory, CHUNK);
  return Array.from({ length: count }, (_, i) => {
    const at = (i % 3) * CHUNK + HEADROOM;
    const length = writer.write(at);
    return new Uint8Array(memory, at, length).slice();
  });
}

describe('frames', () => {
  it.each(SHAPES)('of $template to $dst $outerDst: addresses, then ports, then again', (shape) => {
    const [options, expected] = tenFrames(shape);
    expect(frames(load(options), 10).map(hex)).toEqual(expected.map(hex));
  });

  it('of one flow are all alike, also in a chunk that is used again', () => {
    const expected = hex(builtFrame({}, '198.18.0.0', 1024));
    expect(new Set(frames(load({}), 7).map(hex))).toEqual(new Set([expected]));
  });

  it('by chance are of all flows and of no other', () => {
    const sent = frames(load(RANDOM_FLOWS), 2000);
    const seen = countFlows(sent);
    expect([...seen.keys()].sort()).toEqual(RANDOM_KEYS);
    expect(Math.min(...seen.values())).toBeGreaterThan(40);
    for (const frame of sent) {
      const view = new DataView(frame.buffer, frame.byteOffset);
      expect(hex(frame)).toBe(hex(builtFrame({}, `198.18.0.${view.getUint8(29)}`, view.getUint16(34))));
    }
  });

  it('of UDP have 0xffff for a checksum that comes to 0', () => {
    const options = { src: '198.18.0.1', dport: '53' };
    const [{ sum }] = frameTemplate(load(options), 64).checksums;
    const sport = 0xffff - fold(sum + 0xc612 + 0x0001);
    const [frame] = frames(load({ ...options, sport: `${sport}` }), 1);
    expect((frame[40] << 8) | frame[41]).toBe(0xffff);
    expect(hex(frame)).toBe(hex(builtFrame(options, '198.18.0.1', sport)));
  });

  it('mix sizes exactly as their weights say, spread evenly, each whole in whatever chunk it comes to', () => {
    const sizes = frames(load({ size: 'imix', flows: '3' }), 24);
    expect(sizes.map(({ length }) => length).slice(0, 12)).toEqual(sizes.map(({ length }) => length).slice(12));
    const count = (bytes: number): number => sizes.filter(({ length }) => length === bytes).length;
    expect([count(64), count(590), count(1514)]).toEqual([14, 8, 2]);
    expect(sizes.slice(0, 4).map(({ length }) => length)).not.toEqual([64, 64, 64, 64]);
    sizes.forEach((frame, i) => {
      expect(hex(frame)).toBe(hex(builtFrame({ size: `${frame.length}` }, `198.18.0.${i % 3}`, 1024)));
    });
  });

  it('are written whole again where somebody else has written', () => {
    const memory = new ArrayBuffer(CHUNK);
    const writer = new FrameWriter(load({}), memory, CHUNK);
    writer.write(HEADROOM);
    const frame = new Uint8Array(memory, HEADROOM, 64);
    const before = hex(frame);
    frame.fill(0xaa);
    writer.forget(HEADROOM + 30);
    writer.write(HEADROOM);
    expect(hex(frame)).toBe(before);
    expect([...writer.written]).toEqual([2]);
  });
});

describe('the engine', () => {
  it('is named, and has a queue where that can be chosen', () => {
    expect(readEngine({ engine: 'live' })).toEqual({ name: 'live', queue: 0 });
    expect(readEngine({ engine: 'xsk', queue: '3' })).toEqual({ name: 'xsk', queue: 3 });
    expect(() => readEngine({ engine: 'dpdk' })).toThrow('there is no engine "dpdk"');
    expect(() => readEngine({ engine: 'live', queue: '0' })).toThrow('the kernel chooses the queue');
    expect(() => readEngine({ engine: 'xsk', queue: '-1' })).toThrow('--queue "-1" is not understood');
  });
});
