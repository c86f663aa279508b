/** What both engines of `sluice gen` are tested with: loads, and their frames by other code. */
import { readLoad, type GenOptions } from '../../src/cli/commands/gen_options.js';
import type { Load } from '../../src/generator/load.js';
import { parseMac } from '../../src/shared/addr.js';
import { PacketBuilder, TCP } from './packet_builder.js';

const MACS = { src: '02:00:00:00:00:01', dst: '02:00:00:00:00:02' };
const DST = '198.51.100.10';
const DEFAULTS = { interface: 'va', dst: DST, sport: '1024', template: 'udp', flows: '1', size: '64' };

/** A load of one flow of small UDP datagrams, but for these options. */
export function loadOf(engine: 'live' | 'xsk', options: Partial<GenOptions>): Load {
  const plan = readLoad({ ...DEFAULTS, engine, duration: '20s', ...options });
  return { ...plan, sourceMac: parseMac(MACS.src), destinationMac: parseMac(MACS.dst) };
}

/** The frame of that load from one source and port, built by PacketBuilder. */
export function builtFrame(options: Partial<GenOptions>, src: string, sport: number): Uint8Array {
  const { template = 'udp', dst = DST, dport, size = '64', outerSrc, outerDst } = options;
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

const TUNNELS = [
  {},
  { outerSrc: '192.0.2.1', outerDst: '192.0.2.80' },
  { outerSrc: '2001:db8:1::1', outerDst: '2001:db8:1::80' },
];

/** Every template over both families, plain and in tunnels of both. */
export const SHAPES = ['udp', 'tcp-syn', 'tcp-ack', 'icmp'].flatMap((template) =>
  [
    { dst: DST, src: '198.18.0.0/31' },
    { dst: '2001:db8::10', src: '2001:db8:9::ffff:fffe/127' },
  ].flatMap((family) => TUNNELS.map((tunnel) => ({ template, ...family, ...tunnel }))),
);

/** Options of a load of five flows of a shape, and the frames that it sends, in order: addresses, then ports, then again. */
export function tenFrames(shape: (typeof SHAPES)[number]): [options: Partial<GenOptions>, expected: Uint8Array[]] {
  const options = { ...shape, size: '201', flows: '5', sport: '65000' };
  const [low, high] = shape.dst.includes(':')
    ? ['2001:db8:9::ffff:fffe', '2001:db8:9::ffff:ffff']
    : ['198.18.0.0', '198.18.0.1'];
  const flows: [string, number][] = [[low, 65000], [high, 65000], [low, 65001], [high, 65001], [low, 65002]]; // prettier-ignore
  return [options, [...flows, ...flows].map(([src, sport]) => builtFrame(options, src, sport))];
}

/** Frames by source and port of 20 random flows; 2,000 frames are 100 a flow on average, and 40 is six standard deviations below. */
export const RANDOM_FLOWS: Partial<GenOptions> = { random: true, flows: '20', src: '198.18.0.0/29' };

export function countFlows(frames: readonly Uint8Array[]): Map<string, number> {
  const seen = new Map<string, number>();
  for (const frame of frames) {
    const view = new DataView(frame.buffer, frame.byteOffset);
    const key = `${view.getUint8(29)}:${view.getUint16(34)}`;
    seen.set(key, (seen.get(key) ?? 0) + 1);
  }
  return seen;
}

/** Keys of `countFlows` for all of RANDOM_FLOWS, sorted. */
export const RANDOM_KEYS = Array.from({ length: 20 }, (_, i) => `${i % 8}:${1024 + (i >> 3)}`).sort();

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
