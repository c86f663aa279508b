import { RuleField, RuleMatch } from '../shared/layout.js';
import { matchesFields } from './filter/rule_fields.js';
import type { RuleSet } from './filter/rules.js';
import type { Packet } from './packet/packet.js';
import { TcpFlag } from './packet/wire.js';

/** With more rules than this nobody goes through all of them: 1,024 take some 30 µs. */
const MOST_RULES = 1024;

/** What a rule asks for beside the five-tuple. */
const REST = RuleMatch.tcpFlags | RuleMatch.length | RuleMatch.ttl | RuleMatch.fragment;
const NOT_PLAIN = TcpFlag.syn | TcpFlag.fin | TcpFlag.rst | TcpFlag.urg;

/** Which flows rules are about. Asked once for each offer, so it may take its time. */
export class FlowRules {
  /** Of the rules one after the other: what plain packets can have of it. */
  private readonly records: Int32Array[] | null;

  constructor(private readonly rules: RuleSet) {
    const { words } = rules;
    const count = (words.length - RuleField.HEADER) / RuleField.STRIDE;
    if (count > MOST_RULES) {
      this.records = null;
      return;
    }
    this.records = [];
    for (let at = RuleField.HEADER as number; at < words.length; at += RuleField.STRIDE) {
      if (!matchesPlain(words, at)) continue;
      const record = words.slice(at, at + RuleField.STRIDE);
      record[RuleField.fields] &= ~REST;
      this.records.push(record);
    }
  }

  /** Whether some rule may match plain packets (PlainHeaders) of a flow. `packet`: one of it whose headers are where those of plain packets are. */
  mayMatch(packet: Packet): boolean {
    const { index } = this.rules;
    if (index !== null && !touches(index, packet)) return false;
    return this.records === null || this.records.some((record) => matchesFields(record, 0, packet));
  }
}

function touches(
  index: NonNullable<RuleSet['index']>,
  { family, protocol, src0, dst0, ports, view, l3 }: Packet,
): boolean {
  return family === 4 ? index.touches4(protocol, src0, dst0, ports) : index.touches6(view, l3);
}

/** Whether a record may match packets that are no fragments, and if they are TCP have ACK and none of NOT_PLAIN. */
function matchesPlain(words: Int32Array, at: number): boolean {
  const fields = words[at + RuleField.fields];
  if ((fields & RuleMatch.fragment) !== 0 && words[at + RuleField.fragment] !== 0) return false;
  if ((fields & RuleMatch.tcpFlags) === 0) return true;
  const mask = words[at + RuleField.tcpMask];
  const value = words[at + RuleField.tcpValue];
  return (value & NOT_PLAIN) === 0 && ((mask & TcpFlag.ack) === 0 || (value & TcpFlag.ack) !== 0);
}
