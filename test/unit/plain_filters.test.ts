/** Loops of the short way over rules and sets of hosts: equal to the steps, whatever the tables are like and become. */
import { isDeepStrictEqual } from 'node:util';
import { describe, expect, it } from 'vitest';
import { formatWords } from '../../src/shared/addr.js';
import { Counter } from '../../src/shared/layout.js';
import { Lab } from '../support/lab.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import { random } from '../support/packets.js';
import { countSteps } from '../support/steps.js';

const SERVICES = `
interfaces: [{ name: net0 }]
services:
  - { name: web, vip: 198.51.100.10, port: 80, protocol: tcp, backends: [10.0.0.11, 10.0.0.12] }
  - { name: dns, vip: 198.51.100.10, port: 53, protocol: udp, backends: [10.0.0.21] }
`;

type Next = () => number;
const below = (next: Next, most: number): number => Math.floor(next() * most);

function labs(yaml: string): [short: Lab, steps: Lab] {
  const steps = new Lab(yaml);
  steps.path.takesShortWay = false;
  return [new Lab(yaml), steps];
}

/** From one of so many sources, mid-connection or with a SYN, now and then something that no rule is about. */
function frame(next: Next, sources: number): Uint8Array {
  const host = below(next, sources);
  const src = `${17 + 3 * (host & 63)}.${host >> 6}.0.1`;
  const builder =
    next() < 0.9
      ? new PacketBuilder().ethernet().ipv4({ src, dst: '198.51.100.10' })
      : new PacketBuilder().ethernet().ipv6({ src: `2001:db8::${host + 2}`, dst: '2001:db8::10' });
  if (next() < 0.5) {
    const flags = next() < 0.1 ? TCP.SYN : TCP.ACK;
    builder.tcp({ sport: 1000 + below(next, 4), dport: 80 + below(next, 2), flags });
  } else {
    builder.udp({ sport: 1000 + below(next, 4), dport: 53 + below(next, 2) }).payload(below(next, 40));
  }
  return builder.padTo(64).build();
}

/** Packets of flows that both know: what the short way lets go on by mistake, it sends. */
function knownPackets(next: Next, both: readonly [Lab, Lab]): Uint8Array[] {
  const pool = Array.from({ length: 320 }, () => frame(next, 512));
  for (let time = 0; time < 3; time++) {
    for (let at = 0; at < pool.length; at += 64) for (const lab of both) lab.run(pool.slice(at, at + 64));
  }
  return pool;
}

function compare([short, steps]: readonly [Lab, Lab], frames: readonly Uint8Array[], what: string): void {
  const [one, two] = [short, steps].map((lab) => lab.run([...frames]));
  // toEqual() takes a hundred times as long, and is for the message.
  if (!isDeepStrictEqual(one, two)) expect(one, what).toEqual(two);
  const [mine, theirs] = [short, steps].map((lab) => {
    const counters = lab.counters.slice();
    // What the clock says.
    counters[Counter.sampledNs] = 0;
    return Buffer.from(counters.buffer);
  });
  expect(mine.equals(theirs), what).toBe(true);
}

function rule(next: Next, n: number): string {
  const match = [`protocol: ${next() < 0.5 ? 'tcp' : 'udp'}`];
  const length = 8 + below(next, 25);
  // Spread, so that the look-up of a prefix ends at the root, with a run of some intervals.
  const source = (((17 + 3 * below(next, 64)) << 24) | (below(next, 8) << 16) | 1) & (-1 << (32 - length));
  if (next() < 0.95) match.push(`src: ${formatWords(4, [source, 0, 0, 0])}/${length}`);
  if (next() < 0.2) match.push('dst: 198.51.100.0/24');
  if (next() < 0.5)
    match.push(`dport: ${50 + below(next, 31)}-${70 + below(next, 20)}`.replace(/dport: (\d+)-(\d+)/, rangeOf));
  else match.push(`sport: ${1000 + below(next, 6)}`);
  const action = next() < 0.9 ? 'drop' : 'count';
  return `{ name: r${n}, match: { ${match.join(', ')} }, action: ${action} }`;
}

function rangeOf(_: string, one: string, other: string): string {
  return `dport: ${Math.min(Number(one), Number(other))}-${Math.max(Number(one), Number(other))}`;
}

describe('rules on the short way', () => {
  it('do what the steps do while they change: few, many, more than there was room for, and few again', () => {
    const seed = Number(process.env.SEED ?? Date.now()) | 0;
    const next = random(seed);
    const both = labs(SERVICES);
    const pool = knownPackets(next, both);
    const stepped = countSteps(both[0]);
    let packets = 0;
    for (const [round, count] of [1, 3, 4, 30, 200, 1400, 12, 2, 0, 60].entries()) {
      const rules = Array.from({ length: count }, (_, n) => rule(next, n)).join(', ');
      for (const lab of both) lab.adopt(`${SERVICES}rules: [${rules}]`);
      for (let burst = 0; burst < 6; burst++) {
        const frames = Array.from({ length: 20 + below(next, 44) }, () => pool[below(next, pool.length)]);
        packets += frames.length;
        compare(both, frames, `seed ${seed}, ${count} rules in round ${round}, burst ${burst}`);
      }
    }
    const { rule: dropped } = both[0].drops() as Record<string, number>;
    // A fifth on average, with a standard deviation of 0.036.
    expect(dropped, `seed ${seed}`).toBeGreaterThan(0);
    expect(dropped, `seed ${seed}`).toBeLessThan(0.9 * packets);
    expect(stepped(), `seed ${seed}`).toBeLessThan(0.8 * packets);
  });
});

describe('sets of hosts on the short way', () => {
  const SETS = `${SERVICES}
sets:
  - { name: plain, type: 'hash:ip', drop: src, entries: [192.0.2.1] }
  - { name: timed, type: 'hash:ip', counters: true, timeout: 0, drop: src, entries: [192.0.2.2] }
  - { name: ports, type: 'hash:ip,port', drop: src, entries: ['192.0.2.3,udp:1'] }
  - { name: nets, type: 'hash:net', drop: 'dst', entries: [203.0.113.0/24] }
`;

  it('do what the steps do while entries come, go and run out', () => {
    const seed = Number(process.env.SEED ?? Date.now()) | 0;
    const next = random(seed);
    const both = labs(SETS);
    const pool = knownPackets(next, both);
    const stepped = countSteps(both[0]);
    const address = () => {
      const host = below(next, 512);
      return `${17 + 3 * (host & 63)}.${host >> 6}.0.1`;
    };
    let packets = 0;
    for (let round = 0; round < 60; round++) {
      for (let n = 0; n < 6; n++) {
        const [entry, name, adds, timeout] = [
          address(),
          next() < 0.5 ? 'plain' : 'timed',
          next() < 0.7,
          below(next, 3),
        ];
        for (const lab of both) {
          if (!adds) lab.set(name).del(entry, true);
          else lab.set(name).add(entry, name === 'timed' ? { timeout } : {}, true);
        }
      }
      for (const lab of both) lab.nowMs += 100;
      const frames = Array.from({ length: 20 + below(next, 44) }, () => pool[below(next, pool.length)]);
      packets += frames.length;
      compare(both, frames, `seed ${seed} round ${round}`);
      for (const name of ['plain', 'timed', 'ports', 'nets']) {
        expect(both[0].matches(name), `seed ${seed} round ${round}`).toEqual(both[1].matches(name));
      }
    }
    const [mine, theirs] = both.map((lab) =>
      [...lab.set('timed').list()].map(({ text, counters }) => [text, counters]),
    );
    expect(mine).toEqual(theirs);
    expect(both[0].matches('plain').packets).toBeGreaterThan(0);
    expect(both[0].matches('timed').packets).toBeGreaterThan(0);
    expect(stepped(), `seed ${seed}`).toBeLessThan(0.8 * packets);
  });
});
