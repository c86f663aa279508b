import { CounterBlock, RuleAction, RuleCounter, RuleField, RuleMatch } from '../../shared/layout.js';
import { PacketFlag, type Packet } from '../packet/packet.js';
import { IpProtocol } from '../packet/wire.js';

/**
 * Ordered rules: the first that matches decides, `count` rules count and let the search go on. A match compares only the
 * fields that the rule names. Rules with ports or TCP flags match only packets that have them, so no later fragment.
 */
export class RuleSet {
  private readonly rules: Int32Array;
  private readonly end: number;

  constructor(
    rules: Int32Array,
    private readonly counters: Float64Array,
  ) {
    this.rules = rules;
    this.end = RuleField.HEADER + (rules.length > 0 ? rules[0] : 0) * RuleField.STRIDE;
  }

  get empty(): boolean {
    return this.end === RuleField.HEADER;
  }

  /** Action of the rule that decided: RuleAction.drop, RuleAction.pass, or 0 when none did. Counts every rule that matched. */
  match(packet: Packet): number {
    const rules = this.rules;
    for (let at = RuleField.HEADER as number; at < this.end; at += RuleField.STRIDE) {
      if (!matches(rules, at, packet)) continue;
      const counter = CounterBlock.rules + Math.imul(rules[at + RuleField.id], RuleCounter.SIZE);
      this.counters[counter + RuleCounter.packets]++;
      this.counters[counter + RuleCounter.bytes] += packet.dataEnd - packet.data;
      const action = rules[at + RuleField.action];
      if (action !== RuleAction.count) return action;
    }
    return 0;
  }
}

function matches(rules: Int32Array, at: number, packet: Packet): boolean {
  const fields = rules[at + RuleField.fields];
  if ((fields & RuleMatch.family) !== 0 && packet.family !== rules[at + RuleField.family]) return false;
  if ((fields & RuleMatch.protocol) !== 0 && packet.protocol !== rules[at + RuleField.protocol]) return false;
  // A rule on any field of IP says nothing about frames that are not IP.
  if (fields !== 0 && packet.family === 0) return false;
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
  return fields < RuleMatch.tcpFlags || matchesRest(rules, at, packet, fields);
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
