/** Writes the rule table, as `RuleField` in layout.ts says. */
import { SluiceError } from '../errors.js';
import { maskWords } from '../shared/addr.js';
import type { PortRange, Prefix, RuleConfig } from '../shared/config.js';
import { RuleAction, RuleField, RuleMatch } from '../shared/layout.js';

const ACTIONS = { drop: RuleAction.drop, pass: RuleAction.pass, count: RuleAction.count } as const;

/**
 * @param numberOf number of a rule by its name
 * @throws SluiceError SLUICE_CONFIG for a rule that no packet can match: prefixes of two families, or not of the family asked for
 */
export function buildRules(rules: readonly RuleConfig[], numberOf: (rule: string) => number): Int32Array {
  const words = new Int32Array(RuleField.HEADER + rules.length * RuleField.STRIDE);
  words[0] = rules.length;
  rules.forEach((rule, i) => {
    const at = RuleField.HEADER + i * RuleField.STRIDE;
    words[at + RuleField.action] = ACTIONS[rule.action];
    words[at + RuleField.id] = numberOf(rule.name);
    writeMatch(words, at, rule);
  });
  return words;
}

function writeMatch(words: Int32Array, at: number, rule: RuleConfig): void {
  const { protocol, src, dst, sport, dport, tcpFlags, length, ttl, fragment } = rule.match;
  let fields = 0;
  // IPv4 in word 0 looks like the start of an IPv6 address, so a prefix says nothing without its family.
  const family = familyOf(rule);
  if (family !== undefined) {
    fields |= RuleMatch.family;
    words[at + RuleField.family] = family;
  }
  if (protocol !== undefined) {
    fields |= RuleMatch.protocol;
    words[at + RuleField.protocol] = protocol;
  }
  if (src) {
    fields |= RuleMatch.src;
    writePrefix(words, at + RuleField.src0, at + RuleField.srcMask0, src);
  }
  if (dst) {
    fields |= RuleMatch.dst;
    writePrefix(words, at + RuleField.dst0, at + RuleField.dstMask0, dst);
  }
  if (tcpFlags) {
    fields |= RuleMatch.tcpFlags;
    words[at + RuleField.tcpMask] = tcpFlags.mask;
    words[at + RuleField.tcpValue] = tcpFlags.value;
  }
  if (fragment !== undefined) {
    fields |= RuleMatch.fragment;
    words[at + RuleField.fragment] = fragment ? 1 : 0;
  }
  const range = (bit: RuleMatch, first: number, value: PortRange | undefined): void => {
    if (!value) return;
    fields |= bit;
    words[at + first] = value.first;
    words[at + first + 1] = value.last;
  };
  range(RuleMatch.sport, RuleField.sportFirst, sport);
  range(RuleMatch.dport, RuleField.dportFirst, dport);
  range(RuleMatch.length, RuleField.lengthFirst, length);
  range(RuleMatch.ttl, RuleField.ttlFirst, ttl);
  words[at + RuleField.fields] = fields;
}

function familyOf({ name, match }: RuleConfig): 4 | 6 | undefined {
  const families = [match.family, match.src?.family, match.dst?.family].filter((family) => family !== undefined);
  if (families.some((family) => family !== families[0])) {
    throw new SluiceError(
      'SLUICE_CONFIG',
      `rule ${name} asks for IPv4 and IPv6 at once: no packet is both`,
      'Write one rule for each family.',
    );
  }
  return families[0];
}

function writePrefix(words: Int32Array, at: number, maskAt: number, prefix: Prefix): void {
  const masks = maskWords(prefix.length);
  words.set(masks, maskAt);
  words.set(
    prefix.words.map((word, i) => word & masks[i]),
    at,
  );
}
