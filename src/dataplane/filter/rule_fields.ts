import { RuleField, RuleMatch } from '../../shared/layout.js';
import { PacketFlag, type Packet } from '../packet/packet.js';
import { IpProtocol } from '../packet/wire.js';

const REST = RuleMatch.tcpFlags | RuleMatch.length | RuleMatch.ttl | RuleMatch.fragment;

/** Whether the packet has what the record's own fields ask for. */
export function matchesFields(rules: Int32Array, at: number, packet: Packet): boolean {
  const fields = rules[at + RuleField.fields];
  if ((fields & RuleMatch.family) !== 0 && packet.family !== rules[at + RuleField.family]) return false;
  if ((fields & RuleMatch.protocol) !== 0 && packet.protocol !== rules[at + RuleField.protocol]) return false;
  // A rule on any field of IP says nothing about frames that are not IP.
  if ((fields & RuleMatch.ip) !== 0 && packet.family === 0) return false;
  if ((fields & RuleMatch.dport) !== 0) {
    const port = packet.ports & 0xffff;
    if (port < rules[at + RuleField.dportFirst] || port > rules[at + RuleField.dportLast]) return false;
  }
  if ((fields & RuleMatch.sport) !== 0) {
    const port = packet.ports >>> 16;
    if (port < rules[at + RuleField.sportFirst] || port > rules[at + RuleField.sportLast]) return false;
  }
  if ((fields & (RuleMatch.sport | RuleMatch.dport)) !== 0 && (packet.flags & PacketFlag.hasPorts) === 0) return false;
  if ((fields & RuleMatch.src) !== 0 && !inSource(rules, at, packet)) return false;
  if ((fields & RuleMatch.dst) !== 0 && !inDestination(rules, at, packet)) return false;
  return (fields & REST) === 0 || matchesRest(rules, at, packet, fields);
}

function matchesRest(rules: Int32Array, at: number, packet: Packet, fields: number): boolean {
  if ((fields & RuleMatch.tcpFlags) !== 0) {
    if (packet.protocol !== IpProtocol.tcp || packet.l4 === 0) return false;
    if ((packet.tcpFlags & rules[at + RuleField.tcpMask]) !== rules[at + RuleField.tcpValue]) return false;
  }
  if ((fields & RuleMatch.length) !== 0) {
    const length = packet.l3Length;
    if (length < rules[at + RuleField.lengthFirst] || length > rules[at + RuleField.lengthLast]) return false;
  }
  if ((fields & RuleMatch.ttl) !== 0) {
    if (packet.ttl < rules[at + RuleField.ttlFirst] || packet.ttl > rules[at + RuleField.ttlLast]) return false;
  }
  if ((fields & RuleMatch.fragment) !== 0) {
    const wanted = rules[at + RuleField.fragment] !== 0;
    if (((packet.flags & PacketFlag.fragment) !== 0) !== wanted) return false;
  }
  return true;
}

/** src and dst always come with the family bit set, so the high words of an IPv4 packet are zero on both sides. */
function inSource(rules: Int32Array, at: number, packet: Packet): boolean {
  return (
    ((packet.src0 ^ rules[at + RuleField.src0]) & rules[at + RuleField.srcMask0]) === 0 &&
    ((packet.src1 ^ rules[at + RuleField.src1]) & rules[at + RuleField.srcMask1]) === 0 &&
    ((packet.src2 ^ rules[at + RuleField.src2]) & rules[at + RuleField.srcMask2]) === 0 &&
    ((packet.src3 ^ rules[at + RuleField.src3]) & rules[at + RuleField.srcMask3]) === 0
  );
}

function inDestination(rules: Int32Array, at: number, packet: Packet): boolean {
  return (
    ((packet.dst0 ^ rules[at + RuleField.dst0]) & rules[at + RuleField.dstMask0]) === 0 &&
    ((packet.dst1 ^ rules[at + RuleField.dst1]) & rules[at + RuleField.dstMask1]) === 0 &&
    ((packet.dst2 ^ rules[at + RuleField.dst2]) & rules[at + RuleField.dstMask2]) === 0 &&
    ((packet.dst3 ^ rules[at + RuleField.dst3]) & rules[at + RuleField.dstMask3]) === 0
  );
}
