import { CounterBlock, RuleAction, RuleCounter, RuleField, RuleMatch } from '../shared/layout.js';
import { Heading } from './plain_heading.js';

/** A rule's record as the short way compares it: what a rule does not ask for is a mask of 0, or all ports. */
export const enum PlainRule {
  STRIDE = 24,
  /** Protocol as in a Heading, and which bits of that it is about. */
  head = 0,
  headMask = 1,
  sportFirst = 2,
  sportLast = 3,
  dportFirst = 4,
  dportLast = 5,
  /** Where the rule's counters are. */
  counter = 6,
  /** 1: it drops, always and in earnest, by what is here. 0: the steps know what it does. */
  drops = 7,
  /** Four words each. */
  src = 8,
  srcMask = 12,
  dst = 16,
  dstMask = 20,
}

/** What a rule may ask for, to be judged here. */
const PLAIN_FIELDS =
  RuleMatch.family | RuleMatch.protocol | RuleMatch.src | RuleMatch.dst | RuleMatch.sport | RuleMatch.dport;

/** Writes the records of `words`, `count` of them, into `to`. `dropsAtOnce`: false has all of them left to the steps. */
export function writePlainRules(words: Int32Array, count: number, dropsAtOnce: boolean, to: Int32Array): void {
  for (let record = 0; record < count; record++) {
    const from = RuleField.HEADER + record * RuleField.STRIDE;
    writeOne(words.subarray(from, from + RuleField.STRIDE), to.subarray(record * PlainRule.STRIDE), dropsAtOnce);
  }
}

function writeOne(rule: Int32Array, to: Int32Array, dropsAtOnce: boolean): void {
  const fields = rule[RuleField.fields];
  const asks = (field: RuleMatch): boolean => (fields & field) !== 0;
  to.fill(0, 0, PlainRule.STRIDE);
  if (asks(RuleMatch.protocol)) {
    to[PlainRule.head] = rule[RuleField.protocol] << Heading.PROTOCOL_SHIFT;
    to[PlainRule.headMask] = Heading.PROTOCOL_MASK << Heading.PROTOCOL_SHIFT;
  }
  if (asks(RuleMatch.family)) {
    if (rule[RuleField.family] === 6) to[PlainRule.head] |= Heading.ipv6;
    to[PlainRule.headMask] |= Heading.ipv6;
  }
  to[PlainRule.sportFirst] = asks(RuleMatch.sport) ? rule[RuleField.sportFirst] : 0;
  to[PlainRule.sportLast] = asks(RuleMatch.sport) ? rule[RuleField.sportLast] : 0xffff;
  to[PlainRule.dportFirst] = asks(RuleMatch.dport) ? rule[RuleField.dportFirst] : 0;
  to[PlainRule.dportLast] = asks(RuleMatch.dport) ? rule[RuleField.dportLast] : 0xffff;
  to[PlainRule.counter] = CounterBlock.rules + rule[RuleField.id] * RuleCounter.SIZE;
  to[PlainRule.drops] = dropsAtOnce && isPlain(rule) ? 1 : 0;
  if (asks(RuleMatch.src)) to.set(rule.subarray(RuleField.src0, RuleField.dst0), PlainRule.src);
  if (asks(RuleMatch.dst)) to.set(rule.subarray(RuleField.dst0, RuleField.sportFirst), PlainRule.dst);
}

/** Whether a record drops, always and in earnest, by what is in headers of plain packets. */
function isPlain(rule: Int32Array): boolean {
  const fields = rule[RuleField.fields];
  return (
    (fields & ~PLAIN_FIELDS) === 0 &&
    // A Heading has no room for others, which no plain packet has.
    ((fields & RuleMatch.protocol) === 0 || rule[RuleField.protocol] <= Heading.PROTOCOL_MASK) &&
    rule[RuleField.action] === RuleAction.drop &&
    rule[RuleField.flags] === 0 &&
    rule[RuleField.threshold] === 0
  );
}
