/** Which condition of a rule a packet does not meet. Asked of the very functions that the rules ask, one condition at a time. */
import type { LoadedProgram } from '../../dataplane/filter/programs.js';
import { matchesFields } from '../../dataplane/filter/rule_fields.js';
import type { PacketSet } from '../../dataplane/filter/rule_parts.js';
import { PacketFlag, type Packet } from '../../dataplane/packet/packet.js';
import { formatPrefix, formatWords, type Words } from '../../shared/addr.js';
import type { RuleConfig } from '../../shared/config.js';
import { RuleField, RuleMatch } from '../../shared/layout.js';
import { protocolName } from '../config/protocols.js';
import type { ConditionResult } from './document.js';
import { tcpFlagsText } from './headers.js';

/** What records refer to. */
export interface RecordParts {
  records: Int32Array;
  /** Tables.ruleSets. */
  runs: Int32Array;
  programs: readonly LoadedProgram[];
  sets: readonly PacketSet[];
}

/** Conditions in the order in which they are compared. */
const FIELDS: readonly [bit: RuleMatch, name: string][] = [
  [RuleMatch.family, 'family'],
  [RuleMatch.protocol, 'protocol'],
  [RuleMatch.dport, 'dport'],
  [RuleMatch.sport, 'sport'],
  [RuleMatch.src, 'src'],
  [RuleMatch.dst, 'dst'],
  [RuleMatch.tcpFlags, 'tcp_flags'],
  [RuleMatch.length, 'length'],
  [RuleMatch.ttl, 'ttl'],
  [RuleMatch.fragment, 'fragment'],
];

/** The conditions of the record at `at`, up to the first that does not hold. `rule`: of the config, for the text of what is not in the record. */
export function conditionsOf(parts: RecordParts, at: number, packet: Packet, rule: RuleConfig): ConditionResult[] {
  const { records } = parts;
  const fields = records[at + RuleField.fields];
  const one = records.slice(at, at + RuleField.STRIDE);
  const results: ConditionResult[] = [];
  for (const [bit, name] of FIELDS) {
    if ((fields & bit) === 0) continue;
    one[RuleField.fields] = bit;
    const holds = matchesFields(one, 0, packet);
    results.push({ field: name, holds, packet: packetValue(bit, packet), rule: ruleValue(bit, one) });
    if (!holds) return results;
  }
  if ((fields & RuleMatch.sets) !== 0) {
    const start = records[at + RuleField.setStart];
    for (let i = 0; i < records[at + RuleField.setCount]; i++) {
      const run = start + (i << 1);
      const holds = parts.sets[parts.runs[run]].has(packet, parts.runs[run + 1]);
      const { name, key } = rule.match.sets?.[i] ?? { name: String(parts.runs[run]), key: '' };
      results.push({ field: 'set', holds, packet: addresses(packet), rule: `${name} ${key}`.trim() });
      if (!holds) return results;
    }
  }
  if ((fields & RuleMatch.program) !== 0) {
    const { kind, text } = rule.match.program ?? { kind: 'bytecode', text: '' };
    const answer = runProgram(parts.programs[records[at + RuleField.program]], packet);
    results.push({ field: kind, holds: answer !== 0, packet: `returns ${answer >>> 0}`, rule: text });
  }
  return results;
}

/** As RuleSet.programMatches; the number that the program returns. */
function runProgram({ match, wantsFrame }: LoadedProgram, packet: Packet): number {
  if (wantsFrame) return match(packet.view, packet.data, packet.length, packet.length);
  return packet.family === 0 ? 0 : match(packet.view, packet.l3, packet.l3Length, packet.l3Length);
}

function packetValue(bit: RuleMatch, packet: Packet): string {
  if (packet.family === 0) return 'not IP';
  const hasPorts = (packet.flags & PacketFlag.hasPorts) !== 0;
  switch (bit) {
    case RuleMatch.family:
      return String(packet.family);
    case RuleMatch.protocol:
      return protocolName(packet.protocol);
    case RuleMatch.dport:
      return hasPorts ? String(packet.destinationPort) : 'no ports';
    case RuleMatch.sport:
      return hasPorts ? String(packet.sourcePort) : 'no ports';
    case RuleMatch.src:
      return sourceOf(packet);
    case RuleMatch.dst:
      return destinationOf(packet);
    case RuleMatch.tcpFlags:
      return packet.l4 === 0 || packet.protocol !== 6 ? 'no TCP header' : tcpFlagsText(packet.tcpFlags);
    case RuleMatch.length:
      return String(packet.l3Length);
    case RuleMatch.ttl:
      return String(packet.ttl);
    default:
      return String(packet.isFragment);
  }
}

function ruleValue(bit: RuleMatch, record: Int32Array): string {
  const range = (first: RuleField): string => {
    const [from, to] = [record[first], record[first + 1]];
    return from === to ? String(from) : `${from}-${to}`;
  };
  switch (bit) {
    case RuleMatch.family:
      return String(record[RuleField.family]);
    case RuleMatch.protocol:
      return protocolName(record[RuleField.protocol]);
    case RuleMatch.dport:
      return range(RuleField.dportFirst);
    case RuleMatch.sport:
      return range(RuleField.sportFirst);
    case RuleMatch.src:
      return prefixText(record, RuleField.src0, RuleField.srcMask0);
    case RuleMatch.dst:
      return prefixText(record, RuleField.dst0, RuleField.dstMask0);
    case RuleMatch.tcpFlags: {
      const value = record[RuleField.tcpValue];
      return `${tcpFlagsText(value)} of ${tcpFlagsText(record[RuleField.tcpMask])}`;
    }
    case RuleMatch.length:
      return range(RuleField.lengthFirst);
    case RuleMatch.ttl:
      return range(RuleField.ttlFirst);
    default:
      return String(record[RuleField.fragment] !== 0);
  }
}

function prefixText(record: Int32Array, address: RuleField, mask: RuleField): string {
  const family = record[RuleField.family] === 4 ? 4 : 6;
  let length = 0;
  for (let i = 0; i < (family === 4 ? 1 : 4); i++) length += Math.clz32(~record[mask + i]);
  const words = [...record.subarray(address, address + 4)] as unknown as Words;
  return formatPrefix({ family, words, length, text: formatWords(family, words) });
}

export function sourceOf({ family, src0, src1, src2, src3 }: Packet): string {
  return family === 0 ? 'not IP' : formatWords(family === 4 ? 4 : 6, [src0, src1, src2, src3]);
}

export function destinationOf({ family, dst0, dst1, dst2, dst3 }: Packet): string {
  return family === 0 ? 'not IP' : formatWords(family === 4 ? 4 : 6, [dst0, dst1, dst2, dst3]);
}

function addresses(packet: Packet): string {
  return `${sourceOf(packet)} > ${destinationOf(packet)}`;
}
