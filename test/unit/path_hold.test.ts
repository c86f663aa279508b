/** Packets that the policy holds: counted once, filtered once, conserved. */
import { describe, expect, it } from 'vitest';
import { FragmentFate, FragmentTable } from '../../src/dataplane/balance/fragments.js';
import { PacketFlag, type Packet } from '../../src/dataplane/packet/packet.js';
import { Verdict } from '../../src/dataplane/verdict.js';
import { Counter } from '../../src/shared/layout.js';
import { Lab } from '../support/lab.js';
import { PacketBuilder } from '../support/packet_builder.js';

const CONFIG = `
interfaces: [eth0, eth1]
rules:
  - {name: seen, action: count, match: {protocol: udp}}
services:
  - name: web
    vip: 192.0.2.1
    port: 53
    protocol: udp
    backends: [10.1.0.1]
`;

const frame = (sport: number, length = 20) =>
  new PacketBuilder()
    .ethernet()
    .ipv4({ src: '198.51.100.1', dst: '192.0.2.1' })
    .udp({ sport, dport: 53 })
    .payload(length)
    .build();

/** Holds what comes from ports below 1000, until told to stop. */
function holding(lab: Lab): { places: { offset: number; length: number }[]; stop(): void } {
  const places: { offset: number; length: number }[] = [];
  const balance = lab.balancer.balance.bind(lab.balancer);
  let holds = true;
  lab.balancer.balance = (packet: Packet, nowMs: number) => {
    if (!holds || packet.sourcePort >= 1000) return balance(packet, nowMs);
    places.push({ offset: packet.data, length: packet.length });
    return Verdict.Hold;
  };
  return { places, stop: () => (holds = false) };
}

describe('the path with held packets', () => {
  it('counts and filters a packet once, however often it is held', () => {
    const lab = new Lab(CONFIG);
    const policy = holding(lab);
    const first = lab.run([frame(1), frame(2), frame(2000)]);
    expect(first.sent.flat()).toHaveLength(1);
    expect(lab.total(Counter.framesHeld)).toBe(2);
    expect(lab.total(Counter.rx)).toBe(3);
    const bytes = lab.total(Counter.rxBytes);
    expect(lab.violations()).toEqual([]);

    // Held once more, then let go.
    for (const { offset, length } of policy.places.splice(0)) expect(lab.ports[0].resume(offset, length)).toBe(true);
    expect(lab.run([]).sent.flat()).toEqual([]);
    expect(lab.total(Counter.framesHeld)).toBe(2);
    policy.stop();
    for (const { offset, length } of policy.places.reverse()) expect(lab.ports[0].resume(offset, length)).toBe(true);
    const last = lab.run([frame(3000)]);
    const ports = last.sent.flat().map((sent) => new DataView(sent.buffer).getUint16(14 + 20 + 20));
    expect(ports).toEqual([2, 1, 3000]);
    expect(lab.total(Counter.framesHeld)).toBe(0);
    expect(lab.total(Counter.rx)).toBe(4);
    expect(lab.total(Counter.tx)).toBe(4);
    expect(lab.total(Counter.rxBytes)).toBe(bytes + frame(3000).length);
    expect(lab.rule('seen').packets).toBe(4);
    expect(lab.violations()).toEqual([]);
  });
});

/** The path with a fragment table in front of the balancer: first fragments are sent back, the others follow them. */
function following(lab: Lab): FragmentTable {
  const settings = { policy: 'follow', outOfOrder: 'hold', slots: 64, timeout: 2, held: 16 } as const;
  const table = new FragmentTable(settings, lab.balancer.flowHash, lab.counters);
  for (const port of lab.ports) table.attach(port);
  lab.balancer.balance = (packet: Packet, nowMs: number) => {
    if ((packet.flags & PacketFlag.laterFragment) === 0) {
      table.decide(packet, 5, 1, nowMs);
      return Verdict.Tx;
    }
    const fate = table.follow(packet, nowMs);
    return fate === FragmentFate.hold ? Verdict.Hold : fate === 5 ? Verdict.Tx : Verdict.Drop;
  };
  return table;
}

function pieces(id: number, count: number): Uint8Array[] {
  return Array.from({ length: count }, (_, i) => {
    const ip = { src: '198.51.100.1', dst: '192.0.2.1', id, protocol: 17, moreFragments: i < count - 1 };
    const builder = new PacketBuilder().ethernet().ipv4({ ...ip, fragmentOffset: i * 8 });
    return (i === 0 ? builder.udp({ length: count * 64 }).payload(56) : builder.payload(64)).build();
  });
}

describe('the path with fragments', () => {
  it('lets those of one burst that come before their first go behind it, in the order in which they came', () => {
    const lab = new Lab(CONFIG);
    following(lab);
    const [a, b, c, d] = pieces(9, 4);
    const { sent } = lab.run([c, b, a, d]);
    expect(sent[0]).toEqual([a, d, c, b]);
    expect([lab.total(Counter.framesHeld), lab.total(Counter.fragmentsHeld), lab.total(Counter.rx)]).toEqual([0, 2, 4]);
    expect(lab.violations()).toEqual([]);
  });

  it('lets them wait over bursts, and on another port than the first comes by', () => {
    const lab = new Lab(CONFIG);
    following(lab);
    const [a, b, c] = pieces(9, 3);
    expect(lab.run([c, b]).sent.flat()).toEqual([]);
    expect(lab.total(Counter.framesHeld)).toBe(2);
    expect(lab.violations()).toEqual([]);
    expect(lab.run([a], 1).sent).toEqual([[], [a]]);
    // They come out of the port that has them, with its next burst.
    expect(lab.run([], 0).sent).toEqual([[c, b], []]);
    expect(lab.violations()).toEqual([]);
  });

  it('drops what waits too long, or is one too many, also of the burst in hand', () => {
    const lab = new Lab(CONFIG);
    const table = following(lab);
    const orphans = Array.from({ length: 40 }, (_, i) => pieces(i, 2)[1]);
    lab.run(orphans);
    expect(table.heldFrames).toBe(16);
    expect([lab.total(Counter.framesHeld), lab.ports[0].counts().held]).toEqual([16, 16]);
    expect(lab.drops()).toEqual({ fragment_timeout: 24 });
    expect(lab.violations()).toEqual([]);
    table.sweep(lab.nowMs + 2001);
    expect(lab.drops()).toEqual({ fragment_timeout: 40 });
    expect(lab.ports[0].counts()).toMatchObject({ held: 0, free: 512 });
    expect(lab.violations()).toEqual([]);
  });
});
