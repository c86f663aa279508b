/** Sets on the allow list, in the whole data path. */
import { expect, it } from 'vitest';
import { Lab } from '../support/lab.js';
import { PacketBuilder } from '../support/packet_builder.js';

const config = (allow: string, more = '') => `
interfaces: [in0]
services:
  - {name: dns, vip: 198.51.100.10, port: 53, protocol: udp, backends: [10.1.0.1]}
  - {name: dns6, vip: '2001:db8::10', port: 53, protocol: udp, backends: [10.1.0.1]}
sets:
  - {name: bad, type: hash:net, entries: [203.0.113.0/24, '2001:db8:bad::/48'], drop: src}
  - {name: partners, type: hash:net, timeout: 0, counters: true, entries: [203.0.113.0/28, '203.0.113.9 nomatch', '2001:db8:bad:5::/64']}
  - {name: sockets, type: 'hash:ip,port', entries: ['203.0.113.77,udp:5000']}
rules: [{name: all, match: {}, action: drop}]
allow: ${allow}
${more}`;

function udp(src: string, sport = 5000): Uint8Array {
  const builder = new PacketBuilder().ethernet();
  if (src.includes(':')) builder.ipv6({ src, dst: '2001:db8::10' });
  else builder.ipv4({ src, dst: '198.51.100.10' });
  return builder.udp({ sport, dport: 53 }).payload(20).build();
}

/** How many of these get through. */
const passes = (lab: Lab, ...packets: Uint8Array[]): number => lab.run(packets).sent[0].length;

it('lets by whoever is in one of them, whatever sets that drop and rules say; live, with times and exceptions', () => {
  const lab = new Lab(config('[192.0.2.1, "set:partners"]'));
  expect(passes(lab, udp('192.0.2.1'), udp('203.0.113.8'), udp('2001:db8:bad:5::1'))).toBe(3);
  expect(passes(lab, udp('192.0.2.2'), udp('203.0.113.9'), udp('2001:db8:bad:6::1'))).toBe(0);
  expect(lab.drops()).toEqual({ rule: 1, set: 2 });
  lab.set('partners').add('203.0.113.200', { timeout: 2 });
  expect(passes(lab, udp('203.0.113.200'))).toBe(1);
  lab.nowMs += 4000;
  expect(passes(lab, udp('203.0.113.200'))).toBe(0);
  lab.set('partners').del('203.0.113.0/28');
  expect(passes(lab, udp('203.0.113.8'))).toBe(0);
  // Once each: the prefixes come first, and have no counters.
  expect(lab.matches('partners').packets).toBe(3);
  expect(lab.matches('bad').packets).toBe(4);
  expect(lab.violations()).toEqual([]);
});

it('counts each packet of an entry, also in the middle of a flow', () => {
  const lab = new Lab(config('set:partners'));
  for (let i = 0; i < 10; i++) expect(passes(lab, udp('203.0.113.8'))).toBe(1);
  const entry = [...lab.set('partners').list()].find(({ text }) => text === '203.0.113.0/28')!;
  expect(entry.counters).toEqual({ packets: 10, bytes: 480 });
  expect(lab.matches('partners')).toEqual({ packets: 10, bytes: 480 });
});

it('asks a set with ports for address and port of the source', () => {
  const lab = new Lab(config('["set:sockets", "set:partners"]'));
  expect(passes(lab, udp('203.0.113.77'), udp('203.0.113.77', 5001), udp('203.0.113.1', 9))).toBe(2);
  expect(lab.drops()).toEqual({ set: 1 });
});

it('takes a reload that changes which sets are on it', () => {
  const lab = new Lab(config('[]'));
  expect(passes(lab, udp('203.0.113.8'))).toBe(0);
  lab.adopt(config('set:partners'));
  expect(passes(lab, udp('203.0.113.8'))).toBe(1);
  lab.adopt(config('set:sockets'));
  expect(passes(lab, udp('203.0.113.8'))).toBe(0);
});
