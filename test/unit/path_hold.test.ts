/** Packets that the policy holds: counted once, filtered once, conserved. */
import { describe, expect, it } from 'vitest';
import type { Packet } from '../../src/dataplane/packet/packet.js';
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
