import { describe, expect, it } from 'vitest';
import { FlowField, Lodgers } from '../../src/dataplane/balance/flow_entry.js';
import type { Packet } from '../../src/dataplane/packet/packet.js';
import { ACK, table, tcp } from '../support/flow_packets.js';

const SLOTS = 1 << 14;

/** A packet of flow number n whose home is slot 5, as those of every other n; their second homes differ. */
function atOneHome(n: number): Packet {
  const packet = tcp(n, ACK);
  packet.flowHash = (n << 14) | 5;
  return packet;
}

describe('more flows of one home than it can count away', () => {
  it.each([true, false])('push out each other and nobody else, connections: %s', (connections) => {
    const flows = table(SLOTS);
    const most = Lodgers.WINDOW + Lodgers.MOST_AWAY;
    let evicted = 0;
    for (let n = 0; n < 600; n++) {
      const at = flows.insert(atOneHome(n), n, 1, n);
      if (connections) flows.touch(at, atOneHome(n), n);
      if (flows.evictedBackend >= 0) evicted++;
      expect(flows.find(atOneHome(n)), `flow ${n}`).toBe(at);
    }
    const known = Array.from({ length: 600 }, (_, n) => n).filter((n) => flows.find(atOneHome(n)) >= 0);
    expect(evicted).toBe(600 - most);
    expect(known).toHaveLength(most);
    expect(flows.count).toBe(most);

    for (const n of known) flows.remove(flows.find(atOneHome(n)));
    expect(flows.count).toBe(0);
    for (let at = 0; at < flows.words.length; at += FlowField.STRIDE) {
      expect(flows.words[at + FlowField.lodgers]).toBe(0);
    }
    expect(flows.places.occupied.every((word) => word === 0)).toBe(true);
  });
});
