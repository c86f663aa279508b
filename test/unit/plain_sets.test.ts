/** The short way where sets drop and where sets are on the allow list: it asks them itself, and counts what the steps count. */
import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { describe, expect, it } from 'vitest';
import { Lab } from '../support/lab.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import { random } from '../support/packets.js';
import { countSteps } from '../support/steps.js';

const SERVICES = `
interfaces: [{ name: net0 }]
services:
  - { name: web, vip: 198.51.100.10, port: 80, protocol: tcp, backends: [10.0.0.11, 10.0.0.12] }
  - { name: dns, vip: 198.51.100.10, port: 53, protocol: udp, backends: [10.0.0.21] }
  - { name: web6, vip: '2001:db8::10', port: 80, protocol: tcp, backends: [10.0.0.11, 'fd00::12'] }
  - { name: dns6, vip: '2001:db8::10', port: 53, protocol: udp, backends: [10.0.0.21] }
`;

const SETS = `
sets:
  - name: nets
    type: hash:net
    counters: true
    timeout: 0
    drop: src
    entries: [192.0.2.8/29, 192.0.2.12 nomatch, 192.0.2.64/26 timeout 2, '2001:db8:1::8/125', '2001:db8:1::c nomatch']
  - { name: hosts, type: 'hash:ip', drop: src, entries: [192.0.2.200, '2001:db8:1::c8'] }
  - { name: ports, type: 'hash:ip,port', counters: true, drop: 'src,dst', entries: ['192.0.2.2,udp:53', '2001:db8:1::2,tcp:80'] }
  - { name: targets, type: 'hash:ip,port', drop: dst, entries: ['198.51.100.10,tcp:81', '2001:db8::10,udp:54'] }
  - { name: partners, type: 'hash:net', counters: true, entries: [192.0.2.10, 192.0.2.201, '2001:db8:1::a', '192.0.2.14 nomatch'] }
`;
const NAMES = ['nets', 'hosts', 'ports', 'targets', 'partners'];

const FULL = `${SERVICES}${SETS}
allow: [192.0.2.11, '2001:db8:1::b', 'set:partners']
rules:
  - { name: amplification, match: { protocol: udp, sport: 123 }, action: drop }
  - { name: known, match: { dport: 81, protocol: tcp, set: { name: targets, key: dst } }, action: count }
`;

const HOSTS = [1, 2, 8, 9, 10, 11, 12, 14, 70, 100, 200, 201];

const ipv4 = (host: number) => new PacketBuilder().ethernet().ipv4({ src: `192.0.2.${host}`, dst: '198.51.100.10' });
const ipv6 = (host: number) =>
  new PacketBuilder().ethernet().ipv6({ src: `2001:db8:1::${host.toString(16)}`, dst: '2001:db8::10' });

function frame(next: () => number): Uint8Array {
  const pick = (...of: number[]) => of[Math.floor(next() * of.length)];
  const builder = next() < 0.6 ? ipv4(pick(...HOSTS)) : ipv6(pick(...HOSTS));
  if (next() < 0.5) {
    const flags = pick(TCP.SYN, TCP.ACK, TCP.ACK, TCP.ACK, TCP.ACK, TCP.ACK);
    builder.tcp({ sport: pick(1000, 1001), dport: pick(80, 80, 81), flags });
  } else {
    builder.udp({ sport: pick(123, 1000, 1001), dport: pick(53, 53, 54) }).payload(pick(0, 40, 600));
  }
  return builder.padTo(64).build();
}

/** Everything that is counted: the block as a digest, matches of sets, and their entries' counters. */
function counts(lab: Lab) {
  const sets = lab.config.sets.map(({ name }) => ({
    name,
    matches: lab.matches(name),
    entries: [...lab.set(name).list()].map(({ text, counters }) => [text, counters]).sort(),
  }));
  const block = new Uint8Array(lab.counters.buffer, lab.counters.byteOffset, lab.counters.byteLength);
  return { sets, drops: lab.drops(), block: createHash('sha1').update(block).digest('hex') };
}

function pair(yaml: string): [short: Lab, steps: Lab] {
  const steps = new Lab(yaml);
  steps.path.takesShortWay = false;
  return [new Lab(yaml), steps];
}

describe('the short way beside sets', () => {
  it('does what the steps do, and counts what they count, while sets change', () => {
    const seed = Date.now() | 0;
    const next = random(seed);
    const labs = pair(FULL);
    const [short, steps] = labs;
    const stepped = countSteps(short);
    let packets = 0;
    for (let round = 0; round < 150; round++) {
      const host = HOSTS[Math.floor(next() * HOSTS.length)];
      const [name, adds] = [NAMES[Math.floor(next() * 2)], next() < 0.5];
      for (const lab of labs) {
        if (adds) lab.set(name).add(`192.0.2.${host}`, {}, true);
        else lab.set(name).del(`192.0.2.${host}`, true);
        lab.nowMs += 20;
      }
      const frames = Array.from({ length: 1 + Math.floor(next() * 15) }, () => frame(next));
      packets += frames.length;
      const [one, two] = labs.map((lab) => lab.run(frames));
      // toEqual() takes a hundred times as long, and is for the message.
      if (!isDeepStrictEqual(one, two)) expect(one, `seed ${seed} round ${round}`).toEqual(two);
      const [mine, theirs] = labs.map(counts);
      if (!isDeepStrictEqual(mine, theirs)) expect(mine, `seed ${seed} round ${round}`).toEqual(theirs);
    }
    for (const name of NAMES) expect(short.matches(name).packets, name).toBeGreaterThan(0);
    expect(short.violations()).toEqual([]);
    expect(steps.violations()).toEqual([]);
    expect(stepped()).toBeLessThan(0.9 * packets);
  });

  const ack = (from: typeof ipv4, host: number) => from(host).tcp({ sport: 2000, dport: 80, flags: TCP.ACK }).build();

  it.each([
    ['no set', FULL, 1, 0],
    ['a set that drops', FULL, 9, 0],
    ['a prefix of the allow list', FULL, 11, 0],
    ['an exception of a set', FULL, 12, 5],
    ['a set of the allow list, which counts', FULL, 10, 5],
  ])('of a source in %s', (_, yaml, host, expected) => {
    for (const from of [ipv4, ipv6]) {
      const [short, steps] = pair(yaml);
      // The first two packets of a flow take the steps.
      for (const lab of [short, steps]) for (let i = 0; i < 3; i++) lab.run([ack(from, host)]);
      const stepped = countSteps(short);
      const frames = Array.from({ length: 5 }, () => ack(from, host));
      expect(short.run(frames)).toEqual(steps.run(frames));
      expect(counts(short)).toEqual(counts(steps));
      expect(stepped()).toBe(expected);
    }
  });

  it('drops a flow in the middle as soon as its source is in a set, and lets it go on when it is out', () => {
    const [short] = pair(FULL);
    for (let i = 0; i < 3; i++) short.run([ack(ipv4, 1)]);
    const stepped = countSteps(short);
    short.set('hosts').add('192.0.2.1');
    expect(short.run([ack(ipv4, 1)]).dropped).toHaveLength(1);
    expect(short.drops()).toEqual({ set: 1 });
    short.set('hosts').del('192.0.2.1');
    expect(short.run([ack(ipv4, 1)]).sent[0]).toHaveLength(1);
    expect(stepped()).toBe(0);
  });

  it('asks sets that drop only where the filters have the rules', () => {
    const [short, steps] = pair(`${SERVICES}${SETS}allow: ['set:partners']\nfilters: [sanity]`);
    const frames = Array.from({ length: 5 }, () => ack(ipv4, 9)).concat(ack(ipv4, 10));
    for (const lab of [short, steps]) for (let i = 0; i < 3; i++) expect(lab.run(frames).sent[0]).toHaveLength(6);
    expect(counts(short)).toEqual(counts(steps));
    const stepped = countSteps(short);
    short.run(frames);
    expect(stepped()).toBe(1);
  });

  it('judges a packet in a tunnel by what is inside', () => {
    const [short, steps] = pair(`${FULL}decapsulate: { addresses: [198.51.100.99], from: [192.0.2.0/24] }`);
    // The outer source is in a set, the inner one is not.
    const inner = new PacketBuilder().ipv4({ src: '192.0.2.1', dst: '198.51.100.10' }).tcp({ sport: 5, dport: 80, flags: TCP.ACK }); // prettier-ignore
    const tunnel = new PacketBuilder()
      .ethernet()
      .ipv4({ src: '192.0.2.9', dst: '198.51.100.99' })
      .udp({ sport: 4000, dport: 6080 })
      .payload(inner.build())
      .build();
    for (const lab of [short, steps]) expect(lab.run([tunnel, tunnel]).sent[0]).toHaveLength(2);
    expect(counts(short)).toEqual(counts(steps));
    // What is not for us is dropped all the same.
    for (const lab of [short, steps]) expect(lab.run([ack(ipv4, 9)]).dropped).toHaveLength(1);
    expect(counts(short)).toEqual(counts(steps));
  });
});
