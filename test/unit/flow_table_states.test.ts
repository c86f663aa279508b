import { describe, expect, it } from 'vitest';
import { FlowField, FlowState, isProven, startsAnew } from '../../src/dataplane/balance/flow_entry.js';
import { ACK, FIN, RST, SYN, flow, table, tcp } from '../support/flow_packets.js';

const PSH = 8;
const { tcpSyn, tcpEstablished, tcpClosing, tcpPickup, udpSingle, udp, other, otherSingle } = {
  tcpSyn: FlowState.tcpSyn,
  tcpEstablished: FlowState.tcpEstablished,
  tcpClosing: FlowState.tcpClosing,
  tcpPickup: FlowState.tcpPickup,
  udpSingle: FlowState.udpSingle,
  udp: FlowState.udp,
  other: FlowState.other,
  otherSingle: FlowState.otherSingle,
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

  it.each([
    ['UDP', 17, udpSingle, udp],
    ['SCTP', 132, otherSingle, other],
    ['UDP-Lite', 136, otherSingle, other],
  ])('knows %s by whether it sent more than once', (_, protocol, first, then) => {
    const flows = table(32);
    const at = flows.insert(flow(1, { protocol }), 0, 1, 0);
    expect(flows.words[at + FlowField.state]).toBe(first);
    for (let packet = 0; packet < 2; packet++) {
      flows.touch(at, flow(1, { protocol }), 0);
      expect(flows.words[at + FlowField.state]).toBe(then);
    }
  });

  it('counts as proven what is open and sent twice', () => {
    const states = [other, otherSingle, udp, udpSingle, tcpSyn, tcpEstablished, tcpClosing, tcpPickup];
    expect(states.filter(isProven)).toEqual([other, udp, tcpEstablished]);
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
