import { describe, expect, it } from 'vitest';
import { FlowField, FlowState, firstState, isProven, startsAnew } from '../../src/dataplane/balance/flow_entry.js';
import { PacketFlag } from '../../src/dataplane/packet/packet.js';
import { ACK, FIN, RST, SYN, flow, table, tcp } from '../support/flow_packets.js';

const PSH = 8;
const { tcpSyn, tcpEstablished, tcpClosing, tcpPickup, udpSingle, udp, other } = {
  tcpSyn: FlowState.tcpSyn,
  tcpEstablished: FlowState.tcpEstablished,
  tcpClosing: FlowState.tcpClosing,
  tcpPickup: FlowState.tcpPickup,
  udpSingle: FlowState.udpSingle,
  udp: FlowState.udp,
  other: FlowState.other,
};

/** States of a flow after each of the client's packets. */
function statesOf(...packets: number[]): FlowState[] {
  const flows = table(32);
  const at = flows.insert(tcp(1, packets[0]), 0, 1, 0);
  const states = [flows.words[at + FlowField.state]];
  for (const flags of packets.slice(1)) {
    flows.touch(at, tcp(1, flags), 0);
    states.push(flows.words[at + FlowField.state]);
  }
  return states;
}

describe('state of a flow, from the client’s packets alone', () => {
  it.each([
    ['handshake and data', [SYN, ACK, ACK | PSH], [tcpSyn, tcpEstablished, tcpEstablished]],
    ['a SYN sent again', [SYN, SYN, SYN, ACK], [tcpSyn, tcpSyn, tcpSyn, tcpEstablished]],
    ['closed, the last ACKs after it', [SYN, ACK, FIN | ACK, ACK], [tcpSyn, tcpEstablished, tcpClosing, tcpClosing]],
    ['data after a half-close', [SYN, ACK, FIN | ACK, ACK | PSH], [tcpSyn, tcpEstablished, tcpClosing, tcpClosing]],
    ['a FIN sent again', [SYN, ACK, FIN | ACK, FIN | ACK], [tcpSyn, tcpEstablished, tcpClosing, tcpClosing]],
    ['reset', [SYN, ACK, RST], [tcpSyn, tcpEstablished, tcpClosing]],
    ['reset while half-open', [SYN, RST, ACK], [tcpSyn, tcpClosing, tcpClosing]],
    ['keep-alives', [SYN, ACK, ACK, ACK], [tcpSyn, tcpEstablished, tcpEstablished, tcpEstablished]],
    ['picked up in its middle', [ACK | PSH, ACK], [tcpPickup, tcpEstablished]],
    ['picked up at its end', [FIN | ACK, ACK], [tcpClosing, tcpClosing]],
    ['picked up, then begun anew', [ACK, SYN, ACK], [tcpPickup, tcpSyn, tcpEstablished]],
    ['a SYN into an open connection', [SYN, ACK, SYN, ACK], [tcpSyn, tcpEstablished, tcpEstablished, tcpEstablished]],
  ])('%s', (_, packets, states) => {
    expect(statesOf(...packets)).toEqual(states);
  });

  it('knows UDP by whether it sent more than once, and protocols without ports not at all', () => {
    const flows = table(32);
    const at = flows.insert(flow(1), 0, 1, 0);
    expect(flows.words[at + FlowField.state]).toBe(udpSingle);
    flows.touch(at, flow(1), 0);
    flows.touch(at, flow(1), 0);
    expect(flows.words[at + FlowField.state]).toBe(udp);
    expect(firstState(flow(1, { protocol: 132, flags: PacketFlag.hasPorts }))).toBe(udpSingle);
    expect(firstState(flow(1, { protocol: 47 }))).toBe(other);
  });

  it('counts as proven what is open and sent twice', () => {
    const states = [other, udp, tcpSyn, tcpEstablished, tcpClosing, udpSingle, tcpPickup];
    expect(states.filter(isProven)).toEqual([udp, tcpEstablished]);
  });

  it.each([
    ['a SYN on a closed connection', tcpClosing, SYN, false, true],
    ['a SYN with other flags on one', tcpClosing, SYN | 0x40 | 0x80, false, true],
    ['an ACK on a closed connection', tcpClosing, ACK, false, false],
    ['a SYN-ACK on a closed connection', tcpClosing, SYN | ACK, false, false],
    ['a SYN on an open connection', tcpEstablished, SYN, false, false],
    ['a SYN on an open connection of a draining backend', tcpEstablished, SYN, true, true],
    ['a SYN on one picked up, of a draining backend', tcpPickup, SYN, true, true],
    ['a SYN sent again, of a draining backend', tcpSyn, SYN, true, false],
    ['data to a draining backend', tcpEstablished, ACK, true, false],
  ])('%s: another connection?', (_, state, flags, draining, expected) => {
    expect(startsAnew(state, flags, draining)).toBe(expected);
  });
});
