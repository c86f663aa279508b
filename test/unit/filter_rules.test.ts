/** Rules against packets, one row each: what matches, what just does not. */
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/control/config/index.js';
import { RuleShelf } from '../../src/control/rule_tables.js';
import { Chance } from '../../src/dataplane/filter/chance.js';
import { ProgramShelf } from '../../src/dataplane/filter/programs.js';
import { NO_PARTS } from '../../src/dataplane/filter/rule_parts.js';
import { RuleSet } from '../../src/dataplane/filter/rules.js';
import type { Packet } from '../../src/dataplane/packet/packet.js';
import { CounterBlock, RuleAction, RuleCounter } from '../../src/shared/layout.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import { parsed } from '../support/packets.js';

/** The rules of a config's `rules:` section, in one line of YAML flow style. */
function rulesOf(yaml: string) {
  const { rules } = parseConfig(`interfaces: [{ name: net0 }]\nservices: []\nrules: ${yaml}\n`);
  const counters = new Float64Array(CounterBlock.SIZE);
  const tables = new RuleShelf().build(rules, (name) => rules.findIndex((rule) => rule.name === name));
  const programs = new ProgramShelf().load(tables.programs);
  const rulesOnly = new RuleSet(tables, programs, NO_PARTS, counters, new Chance(1));
  const set = { match: (packet: Packet) => rulesOnly.match(packet, 0), empty: rulesOnly.empty };
  const counted = (n: number) => {
    const at = CounterBlock.rules + n * RuleCounter.SIZE;
    return { packets: counters[at + RuleCounter.packets], bytes: counters[at + RuleCounter.bytes] };
  };
  return { set, counted };
}

const v4 = (o: object = {}) => new PacketBuilder().ethernet().ipv4({ src: '192.0.2.9', dst: '198.51.100.10', ...o });
const v6 = (o: object = {}) =>
  new PacketBuilder().ethernet().ipv6({ src: '2001:db8:1::9', dst: '2001:db8:2::1', ...o });
const udp = (sport = 1000, dport = 53, o: object = {}) => v4(o).udp({ sport, dport }).payload('x').build();
const tcp = (flags: number, o: object = {}) => v4(o).tcp({ sport: 1000, dport: 80, flags }).build();
const arp = new PacketBuilder().ethernet({ type: 0x0806 }).payload(new Uint8Array(28)).build();
const first = v4({ moreFragments: true }).udp({ sport: 1000, dport: 53 }).payload(16).build();
const later = v4({ fragmentOffset: 3, protocol: 17 }).payload(24).build();
const laterTcp = v4({ fragmentOffset: 3, protocol: 6 }).payload(24).build();

type Row = [match: string, yes: Uint8Array[], no: Uint8Array[]];

const rows: Row[] = [
  ['{ protocol: udp }', [udp(), later, first, v6().udp().build()], [tcp(TCP.SYN), arp]],
  ['{ protocol: 47 }', [v4({ protocol: 47 }).payload(8).build()], [udp()]],
  ['{ family: 4 }', [udp(), tcp(0x10), later], [v6().udp().build(), arp]],
  ['{ family: 6 }', [v6().udp().build()], [udp(), arp]],
  ['{ src: 192.0.2.9 }', [udp(), later], [udp(1, 2, { src: '192.0.2.8' }), v6().udp().build()]],
  ['{ src: 192.0.2.8/31 }', [udp(), udp(1, 2, { src: '192.0.2.8' })], [udp(1, 2, { src: '192.0.2.10' })]],
  ['{ dst: 198.51.100.0/24 }', [udp()], [udp(1, 2, { dst: '198.51.101.0' }), udp(1, 2, { dst: '198.51.99.255' })]],
  ['{ src: 0.0.0.0/0 }', [udp(), udp(1, 2, { src: '255.255.255.254' })], [v6().udp().build(), arp]],
  ['{ src: "2001:db8:1::/48" }', [v6().udp().build()], [v6({ src: '2001:db8:2::9' }).udp().build(), udp()]],
  ['{ src: "2001:db8:1::9" }', [v6().udp().build()], [v6({ src: '2001:db8:1::8' }).udp().build()]],
  // The words of ::c000:209 are those of 192.0.2.9 shifted: families must not be mixed up.
  ['{ dst: "c000:209::/32" }', [v6({ dst: 'c000:209::1' }).udp().build()], [udp(1, 2, { dst: '192.0.2.9' })]],
  ['{ dport: 53 }', [udp(), first], [udp(53, 52), later, v4().icmp().build()]],
  ['{ dport: 50-60 }', [udp(1, 50), udp(1, 60), udp()], [udp(1, 49), udp(1, 61)]],
  ['{ sport: 1000 }', [udp(), tcp(TCP.SYN)], [udp(53, 1000), later]],
  ['{ sport: 1-1023 }', [udp(1), udp(1023)], [udp(1024), udp(0), later]],
  ['{ sport: 65535, dport: 65535 }', [udp(65535, 65535)], [udp(65535, 65534), udp(65534, 65535)]],
  ['{ protocol: tcp, tcp_flags: "syn,!ack" }', [tcp(TCP.SYN), tcp(TCP.SYN | TCP.PSH)], [tcp(TCP.SYN | TCP.ACK), tcp(TCP.ACK), udp(), laterTcp]],
  ['{ length: 29 }', [udp()], [v4().udp().build()]],
  ['{ length: 0-28 }', [v4().udp().build()], [udp()]],
  ['{ ttl: 0-4 }', [udp(1, 2, { ttl: 0 }), udp(1, 2, { ttl: 4 }), v6({ hopLimit: 3 }).udp().build()], [udp(1, 2, { ttl: 5 }), arp]],
  ['{ fragment: true }', [first, later], [udp()]],
  ['{ fragment: false }', [udp()], [first, later, arp]],
  ['{ protocol: udp, src: 192.0.2.0/24, dst: 198.51.100.10, sport: 1000, dport: 53, length: 29, ttl: 64, fragment: false }', [udp()], [udp(1001), udp(1000, 54), udp(1000, 53, { ttl: 63 }), udp(1000, 53, { dst: '198.51.100.11' })]],
]; // prettier-ignore

describe('a rule', () => {
  it.each(rows)('%s matches these and not those', (match, yes, no) => {
    const { set, counted } = rulesOf(`[{ name: one, match: ${match}, action: drop }]`);
    yes.forEach((frame, i) => expect(set.match(parsed(frame)), `packet ${i} that it is for`).toBe(RuleAction.drop));
    no.forEach((frame, i) => expect(set.match(parsed(frame)), `packet ${i} that it is not for`).toBe(0));
    expect(counted(0)).toEqual({ packets: yes.length, bytes: yes.reduce((sum, frame) => sum + frame.length, 0) });
  });
});

describe('rules', () => {
  it('are asked in order: the first that decides does, those that count let the search go on', () => {
    const { set, counted } = rulesOf(`[
      { name: all, match: { family: 4 }, action: count },
      { name: friend, match: { src: 192.0.2.9 }, action: pass },
      { name: dns, match: { dport: 53 }, action: drop },
      { name: never, match: { dport: 53 }, action: count } ]`);
    expect(set.match(parsed(udp()))).toBe(RuleAction.pass);
    expect(set.match(parsed(udp(1, 53, { src: '192.0.2.10' })))).toBe(RuleAction.drop);
    expect(set.match(parsed(udp(1, 54, { src: '192.0.2.10' })))).toBe(0);
    expect([0, 1, 2, 3].map((n) => counted(n).packets)).toEqual([3, 1, 1, 0]);
  });

  it('may be none', () => {
    const { set } = rulesOf('[]');
    expect(set.empty).toBe(true);
    expect(set.match(parsed(udp()))).toBe(0);
  });

  it('number 4,096, and the last one counts as exactly as the first', () => {
    const many = Array.from({ length: 4096 }, (_, i) => `{ name: r${i}, match: { dport: ${i + 1} }, action: drop }`);
    const { set, counted } = rulesOf(`[${many.join(', ')}]`);
    for (const port of [1, 2000, 4096, 4096]) expect(set.match(parsed(udp(9, port)))).toBe(RuleAction.drop);
    expect([0, 1999, 4095, 4094].map((n) => counted(n).packets)).toEqual([1, 1, 2, 0]);
  });
});
