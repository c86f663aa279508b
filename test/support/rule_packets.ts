/** Random rules and packets that meet: few addresses, ports and protocols, and every shape of packet that rules and programs see differently. */
import { parsePrefix } from '../../src/shared/addr.js';
import { Bpf, Code, programOf, type Instruction, type Program } from '../../src/shared/cbpf/program.js';
import type { PortRange, Prefix, RuleMatchConfig } from '../../src/shared/config.js';
import type { Random } from './cbpf_programs.js';
import { PacketBuilder } from './packet_builder.js';

export const PORTS = [0, 1, 22, 53, 80, 123, 443, 1023, 1024, 9999, 32768, 65535];
export const HOSTS4 = ['192.0.2.1', '192.0.2.9', '198.51.100.10', '10.0.0.1', '255.255.255.255', '0.0.0.0'];
export const HOSTS6 = ['2001:db8::1', '2001:db8:1::9', '2001:db9::1', 'c000:201::', 'ffff::1', '::1'];
export const PROTOCOLS = [1, 6, 17, 47, 58, 0, 255];

export function pick<T>(random: Random, from: readonly T[]): T {
  return from[random(from.length)];
}

/** A prefix of an IPv4 address given as a number. */
export function prefixOf(family: 4, address: number, length: number): Prefix {
  const text = [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join('.');
  return { ...parsePrefix(`${text}/32`), family, length };
}

function prefix(random: Random, family: 4 | 6): Prefix {
  const text = family === 4 ? pick(random, HOSTS4) : pick(random, HOSTS6);
  const whole = parsePrefix(`${text}/${family === 4 ? 32 : 128}`);
  // Host bits beyond the length are cut when the record is written.
  return { ...whole, length: random(3) === 0 ? whole.length : random(whole.length + 1) };
}

function range(random: Random, values: readonly number[]): PortRange {
  const [a, b] = [pick(random, values), pick(random, values)];
  return random(2) === 0 ? { first: a, last: a } : { first: Math.min(a, b), last: Math.max(a, b) };
}

function maybe<T>(random: Random, make: () => T): T | undefined {
  return random(3) === 0 ? make() : undefined;
}

function oneOrMore<T>(random: Random, make: () => T): T | T[] {
  return random(3) === 0 ? Array.from({ length: 1 + random(3) }, make) : make();
}

/** What a rule of the config may ask for, lists and all; never of two families. */
export function randomMatch(random: Random): RuleMatchConfig {
  const family = pick(random, [4, 4, 6] as const);
  const match: RuleMatchConfig = {
    family: maybe(random, () => family),
    protocol: maybe(random, () => pick(random, PROTOCOLS)),
    src: maybe(random, () => oneOrMore(random, () => prefix(random, family))),
    dst: maybe(random, () => oneOrMore(random, () => prefix(random, family))),
    sport: maybe(random, () => oneOrMore(random, () => range(random, PORTS))),
    dport: maybe(random, () => oneOrMore(random, () => range(random, PORTS))),
    length: random(8) === 0 ? range(random, [20, 40, 60, 80, 1500]) : undefined,
    ttl: random(12) === 0 ? range(random, [1, 64, 255]) : undefined,
    fragment: random(12) === 0 ? random(2) === 0 : undefined,
    tcpFlags: random(12) === 0 ? { mask: 18, value: 2 } : undefined,
  };
  return match;
}

/** One condition: its load and a number to compare with. */
function condition(random: Random, link: Program['link']): Instruction[] {
  const base = link === 'ethernet' ? 14 : 0;
  const port = pick(random, PORTS);
  const v4 = [0xc0000201, 0xc0000209, 0xc633640a, 0x0a000001][random(4)] | 0;
  return pick<Instruction[]>(random, [
    [[Code.LD_H_ABS, 0, 0, 12], [Code.JEQ_K, 0, 200, pick(random, [0x800, 0x86dd, 0x8100, 0x806])]],
    [[Code.LD_B_ABS, 0, 0, base + 9], [Code.JEQ_K, 0, 200, pick(random, PROTOCOLS)]],
    [[Code.LD_B_ABS, 0, 0, base + 6], [Code.JEQ_K, 0, 200, pick(random, [...PROTOCOLS, 0, 44, 60])]],
    [[Code.LD_W_ABS, 0, 0, base + pick(random, [12, 16])], [Code.AND_K, 0, 0, pick(random, [-1, -256, -65536])], [Code.JEQ_K, 0, 200, v4 & -256]],
    [[Code.LD_W_ABS, 0, 0, base + pick(random, [8, 24])], [Code.JEQ_K, 0, 200, 0x20010db8]],
    [[Code.LDX_MSH, 0, 0, base], [Code.LD_H_IND, 0, 0, base + pick(random, [0, 2])], [Bpf.JMP | pick(random, [Bpf.JEQ, Bpf.JGE]), 0, 200, port]],
    [[Code.LD_H_ABS, 0, 0, base + pick(random, [40, 42])], [Bpf.JMP | pick(random, [Bpf.JEQ, Bpf.JGT]), 0, 200, port]],
    [[Code.LD_B_ABS, 0, 0, base], [Code.AND_K, 0, 0, 0xf0], [Code.JEQ_K, 0, 200, pick(random, [0x40, 0x60])]],
  ]); // prettier-ignore
}

/** A program as rules have them: one to three of these all hold, or in another order one of several such lists does. */
export function ruleProgram(random: Random): Program {
  const link = random(4) === 0 ? 'ip' : 'ethernet';
  const alternatives = 1 + random(2);
  const code: Instruction[] = [];
  for (let i = 0; i < alternatives; i++) {
    const part = Array.from({ length: 1 + random(3) }, () => condition(random, link)).flat();
    // Where a condition fails the next alternative begins, behind the return.
    part.forEach(([c, jt, jf, k], at) => code.push([c, jt, jf === 200 ? part.length - at : jf, k]));
    code.push([Code.RET_K, 0, 0, 1]);
  }
  code.push([Code.RET_K, 0, 0, 0]);
  return programOf(link, code);
}

export function transport(random: Random, builder: PacketBuilder, family: 4 | 6): PacketBuilder {
  const ports = { sport: pick(random, PORTS), dport: pick(random, PORTS) };
  const kind = random(8);
  if (kind < 3) return builder.udp(ports).payload(random(40));
  if (kind < 6) return builder.tcp({ ...ports, flags: pick(random, [2, 16, 18, 24]) }).payload(random(40));
  return (family === 4 ? builder.icmp() : builder.icmp6()).payload(random(12));
}

/** A frame of some kind: both families, tags, options, extension headers, fragments, no transport header at all, no IP at all. */
export function randomFrame(random: Random): Uint8Array {
  const builder = new PacketBuilder().ethernet();
  for (let tags = random(6) === 0 ? 1 + random(2) : 0; tags > 0; tags--) builder.vlan(5);
  if (random(15) === 0) return builder.payload(random(60)).build();
  if (random(5) < 3) return ipv4Frame(random, builder);
  return ipv6Frame(random, builder);
}

function ipv4Frame(random: Random, builder: PacketBuilder): Uint8Array {
  const addresses = { src: pick(random, HOSTS4), dst: pick(random, HOSTS4), ttl: pick(random, [1, 64, 255]) };
  switch (random(10)) {
    case 0:
      return builder
        .ipv4({ ...addresses, fragmentOffset: 3, protocol: pick(random, PROTOCOLS) })
        .payload(portBytes(random))
        .build();
    case 1:
      return transport(random, builder.ipv4({ ...addresses, moreFragments: true }), 4).build();
    case 2:
      return transport(random, builder.ipv4({ ...addresses, options: [1, 1, 1, 1] }), 4).build();
    case 3:
      return builder
        .ipv4({ ...addresses, protocol: 47 })
        .payload(portBytes(random).slice(0, random(6)))
        .build();
    default:
      return transport(random, builder.ipv4(addresses), 4).build();
  }
}

function ipv6Frame(random: Random, builder: PacketBuilder): Uint8Array {
  builder.ipv6({ src: pick(random, HOSTS6), dst: pick(random, HOSTS6), hopLimit: pick(random, [1, 64, 255]) });
  switch (random(6)) {
    case 0:
      return transport(random, builder.extension(pick(random, [0, 60])), 6).build();
    case 1:
      return transport(random, builder.fragment({ more: random(2) === 0 }), 6).build();
    case 2:
      return builder.fragment({ offset: 8 }).payload(portBytes(random)).build();
    default:
      return transport(random, builder, 6).build();
  }
}

/** Bytes that look like ports where a program looks for them. */
function portBytes(random: Random): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, pick(random, PORTS));
  view.setUint16(2, pick(random, PORTS));
  return bytes;
}
