/** Frames of a load as the AF_XDP engine writes them: every byte, against frames by other code. The program of live frames has the same test (test/bpf/generator.test.ts). */
import { describe, expect, it } from 'vitest';
import { readEngine, readLoad, type GenOptions } from '../../src/cli/commands/gen_options.js';
import { fold, frameTemplate } from '../../src/generator/frame.js';
import type { Load } from '../../src/generator/load.js';
import { FrameWriter } from '../../src/generator/writer.js';
import { parseMac } from '../../src/shared/addr.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';

const MACS = { src: '02:00:00:00:00:01', dst: '02:00:00:00:00:02' };
const DEFAULTS = { interface: 'va', dst: '198.51.100.10', sport: '1024', template: 'udp', flows: '1', size: '64', engine: 'xsk' }; // prettier-ignore
const CHUNK = 2048;
const HEADROOM = 256;

function load(options: Partial<GenOptions>): Load {
  const plan = readLoad({ ...DEFAULTS, duration: '20s', ...options });
  return { ...plan, sourceMac: parseMac(MACS.src), destinationMac: parseMac(MACS.dst) };
}

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

/** The same frame by other code. */
function built(options: Partial<GenOptions>, src: string, sport: number): Uint8Array {
  const { template = 'udp', dst = DEFAULTS.dst, dport, size = '64', outerSrc, outerDst } = options;
  const builder = new PacketBuilder().ethernet(MACS);
  if (outerSrc && outerDst) {
    if (outerDst.includes(':')) builder.ipv6({ src: outerSrc, dst: outerDst });
    else builder.ipv4({ src: outerSrc, dst: outerDst, dontFragment: true });
  }
  const v6 = dst.includes(':');
  if (v6) builder.ipv6({ src, dst });
  else builder.ipv4({ src, dst, dontFragment: true });
  if (template === 'udp') builder.udp({ sport, dport: Number(dport ?? 9) });
  else if (template === 'icmp') builder[v6 ? 'icmp6' : 'icmp']({ rest: sport * 65536 });
  else {
    const syn = template === 'tcp-syn';
    const options = syn ? [2, 4, ...(v6 ? [0x05, 0xa0] : [0x05, 0xb4])] : [];
    const flags = syn ? TCP.SYN : TCP.ACK;
    builder.tcp({ sport, dport: Number(dport ?? 80), seq: 1, ack: syn ? 0 : 1, flags, options });
  }
  return builder.payload(new Uint8Array(Number(size) - builder.build().length)).build();
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

describe('frames', () => {
  const tunnels = [
    {},
    { outerSrc: '192.0.2.1', outerDst: '192.0.2.80' },
    { outerSrc: '2001:db8:1::1', outerDst: '2001:db8:1::80' },
  ];
  const shapes = ['udp', 'tcp-syn', 'tcp-ack', 'icmp'].flatMap((template) =>
    [
      { dst: '198.51.100.10', src: '198.18.0.0/31' },
      { dst: '2001:db8::10', src: '2001:db8:9::ffff:fffe/127' },
    ].flatMap((family) => tunnels.map((tunnel) => ({ template, ...family, ...tunnel }))),
  );

  it.each(shapes)('of $template to $dst $outerDst: addresses, then ports, then again', (shape) => {
    const options = { ...shape, size: '201', flows: '5', sport: '65000' };
    const [low, high] = shape.dst.includes(':')
      ? ['2001:db8:9::ffff:fffe', '2001:db8:9::ffff:ffff']
      : ['198.18.0.0', '198.18.0.1'];
    const flows: [string, number][] = [[low, 65000], [high, 65000], [low, 65001], [high, 65001], [low, 65002]]; // prettier-ignore
    const expected = [...flows, ...flows].map(([src, sport]) => hex(built(options, src, sport)));
    expect(frames(load(options), 10).map(hex)).toEqual(expected);
  });

  it('of one flow are all alike, also in a chunk that is used again', () => {
    const expected = hex(built({}, '198.18.0.0', 1024));
    expect(new Set(frames(load({}), 7).map(hex))).toEqual(new Set([expected]));
  });

  it('by chance are of all flows and of no other', () => {
    const seen = new Map<string, number>();
    for (const frame of frames(load({ random: true, flows: '20', src: '198.18.0.0/29' }), 2000)) {
      const view = new DataView(frame.buffer, frame.byteOffset);
      const key = `${view.getUint8(29)}:${view.getUint16(34)}`;
      seen.set(key, (seen.get(key) ?? 0) + 1);
      expect(hex(frame)).toBe(hex(built({}, `198.18.0.${view.getUint8(29)}`, view.getUint16(34))));
    }
    expect([...seen.keys()].sort()).toEqual(Array.from({ length: 20 }, (_, i) => `${i % 8}:${1024 + (i >> 3)}`).sort());
    // 100 each on average; 40 is six standard deviations below.
    expect(Math.min(...seen.values())).toBeGreaterThan(40);
  });

  it('of UDP have 0xffff for a checksum that comes to 0', () => {
    const options = { src: '198.18.0.1', dport: '53' };
    const [{ sum }] = frameTemplate(load(options), 64).checksums;
    const sport = 0xffff - fold(sum + 0xc612 + 0x0001);
    const [frame] = frames(load({ ...options, sport: `${sport}` }), 1);
    expect((frame[40] << 8) | frame[41]).toBe(0xffff);
    expect(hex(frame)).toBe(hex(built(options, '198.18.0.1', sport)));
  });

  it('mix sizes exactly as their weights say, spread evenly, each whole in whatever chunk it comes to', () => {
    const sizes = frames(load({ size: 'imix', flows: '3' }), 24);
    expect(sizes.map(({ length }) => length).slice(0, 12)).toEqual(sizes.map(({ length }) => length).slice(12));
    const count = (bytes: number): number => sizes.filter(({ length }) => length === bytes).length;
    expect([count(64), count(590), count(1514)]).toEqual([14, 8, 2]);
    expect(sizes.slice(0, 4).map(({ length }) => length)).not.toEqual([64, 64, 64, 64]);
    sizes.forEach((frame, i) => {
      expect(hex(frame)).toBe(hex(built({ size: `${frame.length}` }, `198.18.0.${i % 3}`, 1024)));
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
