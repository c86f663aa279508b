import { beforeEach, describe, expect, it } from 'vitest';
import { parsePrefix } from '../../src/shared/addr.js';
import type { RuleConfig } from '../../src/shared/config.js';
import { RuleAction, RuleField, RuleMatch } from '../../src/shared/layout.js';
import { renewPublisher, build, codeOf } from '../support/publishing.js';

beforeEach(renewPublisher);

describe('publisher', () => {
  describe('rules', () => {
    const ruleWords = (rules: RuleConfig[]): Int32Array => new Int32Array(build([], {}, { rules }).rules);
    const F = RuleField.HEADER;

    it('are written in order, each under its own stable number', () => {
      ruleWords([
        { name: 'one', match: {}, action: 'count' },
        { name: 'two', match: {}, action: 'drop' },
      ]);
      const words = ruleWords([
        { name: 'three', match: {}, action: 'pass' },
        { name: 'two', match: {}, action: 'drop' },
      ]);
      expect(words[0]).toBe(2);
      expect([words[F + RuleField.id], words[F + RuleField.action]]).toEqual([2, RuleAction.pass]);
      const second = F + RuleField.STRIDE;
      expect([words[second + RuleField.id], words[second + RuleField.action]]).toEqual([1, RuleAction.drop]);
      expect(words[second + RuleField.fields]).toBe(0);
    });

    it('write every field', () => {
      const words = ruleWords([
        {
          name: 'all',
          action: 'drop',
          match: {
            protocol: 6,
            src: parsePrefix('2001:db8:aaaa:bbb8::/61'),
            dst: parsePrefix('2001:db8::1'),
            sport: { first: 1, last: 2 },
            dport: { first: 3, last: 4 },
            tcpFlags: { mask: 0x17, value: 0x02 },
            length: { first: 40, last: 60 },
            ttl: { first: 5, last: 6 },
            fragment: true,
          },
        },
      ]);
      expect([...words.subarray(F)]).toEqual([
        ...[1023, RuleAction.drop, 0, 6, 6],
        ...[0x20010db8, 0xaaaabbb8 | 0, 0, 0, -1, -8, 0, 0],
        ...[0x20010db8, 0, 0, 1, -1, -1, -1, -1],
        ...[1, 2, 3, 4, 0x17, 0x02, 40, 60, 5, 6, 1],
        // flags, threshold; program, sets, limit, sample; spare
        ...[0, 0, -1, 0, 0, -1, -1],
        ...[0, 0, 0, 0, 0, 0, 0, 0, 0],
      ]);
    });

    it.each([
      ['0.0.0.0/0', 0, 0],
      ['128.0.0.0/1', 0x80000000 | 0, 0x80000000 | 0],
      ['10.0.0.0/8', 0x0a000000, 0xff000000 | 0],
      ['192.0.2.1', 0xc0000201 | 0, -1],
    ])('write prefix %s with its mask and its family', (text, word, mask) => {
      const words = ruleWords([{ name: 'r', match: { dst: parsePrefix(text) }, action: 'drop' }]);
      expect(words[F + RuleField.fields]).toBe(RuleMatch.dst | RuleMatch.family);
      expect(words[F + RuleField.family]).toBe(4);
      expect([words[F + RuleField.dst0], words[F + RuleField.dstMask0]]).toEqual([word, mask]);
      expect([...words.subarray(F + RuleField.dstMask1, F + RuleField.dstMask3 + 1)]).toEqual([0, 0, 0]);
    });

    it('tell whole datagrams from fragments', () => {
      const words = ruleWords([{ name: 'r', match: { fragment: false }, action: 'drop' }]);
      expect([words[F + RuleField.fields], words[F + RuleField.fragment]]).toEqual([RuleMatch.fragment, 0]);
    });

    it('of two families at once are refused', () => {
      const match = { family: 4 as const, src: parsePrefix('2001:db8::/32') };
      expect(codeOf(() => ruleWords([{ name: 'both', match, action: 'drop' }]))).toContain(
        'rule both asks for IPv4 and IPv6',
      );
    });
  });
});
