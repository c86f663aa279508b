import { describe, expect, it } from 'vitest';
import { FlowField, FlowState, Lodgers, isProven } from '../../src/dataplane/balance/flow_entry.js';
import type { FlowTable } from '../../src/dataplane/balance/flow_table.js';
import { ACK, table, tcp } from '../support/flow_packets.js';
import { random } from '../support/packets.js';

const SLOTS = 64;
const STATES = [FlowState.udp, FlowState.tcpSyn, FlowState.tcpEstablished, FlowState.tcpClosing, FlowState.udpSingle];

interface Victim {
  at: number;
  kind: 'timed out' | 'unproven' | 'proven';
}

/** Who gives way in the window that starts at `home`, as docs/flow-table.md says it. Of two that are silent for equally long the first. */
function victimIn(flows: FlowTable, home: number, nowMs: number): Victim {
  const mask = flows.words.length - 1;
  const window = Array.from({ length: Lodgers.WINDOW }, (_, i) => (home + i * FlowField.STRIDE) & mask);
  const timedOut = window.find((at) => flows.expired(at, nowMs));
  if (timedOut !== undefined) return { at: timedOut, kind: 'timed out' };
  const unproven = window.filter((at) => !isProven(flows.words[at + FlowField.state]));
  const idle = (at: number): number => (nowMs - flows.words[at + FlowField.lastSeen]) | 0;
  const among = unproven.length > 0 ? unproven : window;
  const at = among.reduce((best, other) => (idle(other) > idle(best) ? other : best));
  return { at, kind: unproven.length > 0 ? 'unproven' : 'proven' };
}

function victim(flows: FlowTable, hash: number, nowMs: number): Victim {
  const first = victimIn(flows, flows.places.home(hash), nowMs);
  if (first.kind !== 'proven') return first;
  const second = victimIn(flows, flows.places.secondHome(hash), nowMs);
  if (second.kind !== 'proven') return second;
  const seen = (at: number): number => flows.words[at + FlowField.lastSeen];
  return ((nowMs - seen(first.at)) | 0) >= ((nowMs - seen(second.at)) | 0) ? first : second;
}

/** Ages of flows, ms: within every timeout; about the shortest, 2 s, and more; up to 23 days, more than weights can say. */
const AGES: Record<string, (next: () => number) => number> = {
  'that are fresh': (next) => Math.floor(next() * 50),
  'of which some timed out': (next) => Math.floor(next() * 12_000),
  'of days': (next) => Math.floor(next() * 2_000_000_000),
};

describe('a full window', () => {
  describe.each([
    ['of all states', STATES],
    ['of connections', [FlowState.udp, FlowState.tcpEstablished]],
    ['of one packet each', [FlowState.tcpSyn, FlowState.udpSingle]],
  ])('%s', (_, states) => {
    it.each(Object.keys(AGES))('with flows %s gives the slot of the one that the rules name', (name) => {
      const seed = Date.now() | 0;
      const next = random(seed);
      for (let round = 0; round < 60; round++) {
        const flows = table(SLOTS);
        if (name === 'of days') {
          flows.setTimeouts({ tcpSyn: 2_000_000, tcpEstablished: 2_000_000, tcpClosing: 1_900_000, udp: 1, other: 1 });
          flows.timeoutMs.fill(2_000_000_000, FlowState.udp, FlowState.udp + 1);
          flows.timeoutMs.fill(2_000_000_000, FlowState.udpSingle, FlowState.udpSingle + 1);
          flows.timeoutsChanged();
        }
        for (let n = 0; flows.count < SLOTS; n++) flows.insert(tcp(n, ACK), n, 1, 0);
        const nowMs = Math.floor((next() - 0.5) * 2 ** 32) | 0;
        for (let at = 0; at < flows.words.length; at += FlowField.STRIDE) {
          flows.words[at + FlowField.state] = states[Math.floor(next() * states.length)];
          flows.words[at + FlowField.lastSeen] = (nowMs - AGES[name](next)) | 0;
        }
        const packet = tcp(100_000 + round, ACK);
        const expected = victim(flows, packet.flowHash, nowMs);
        const backend = flows.words[expected.at + FlowField.backend];
        expect(flows.insert(packet, -7, 1, nowMs), `seed ${seed} round ${round}`).toBe(expected.at);
        expect(flows.evictedBackend).toBe(backend);
        expect(flows.evictedAlive).toBe(expected.kind !== 'timed out');
        expect(flows.count).toBe(SLOTS);
      }
    });
  });
});
