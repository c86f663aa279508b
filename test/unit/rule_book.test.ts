import { describe, expect, it } from 'vitest';
import { rulesFromText } from '../../src/control/config/read_rules.js';
import { mergeOrder, type PlacedRules } from '../../src/control/rules/order.js';
import { RuleBook } from '../../src/control/rules/rule_book.js';
import {
  addRules,
  moveRule,
  removeRules,
  resetRules,
  setModes,
  type RuleChanges,
} from '../../src/control/rules/rule_changes.js';
import type { RuleConfig } from '../../src/shared/config.js';

/** Rules by "a b:ttl=10s c:shadow". */
function rules(text: string): RuleConfig[] {
  const lines = text.split(' ').map((word) => {
    const [name, ...more] = word.split(':');
    const keys = more.map((part) => (part === 'shadow' ? ', mode: shadow' : `, ${part.replace('=', ': ')}`));
    return `- {name: ${name}, match: {}, action: drop${keys.join('')}}`;
  });
  return text === '' ? [] : rulesFromText(lines.join('\n'), 'x').rules;
}

/** A book on a clock, and what it says of the rules in force. */
class Bench {
  clockMs = 0;
  readonly book = new RuleBook(() => this.clockMs);
  configured: RuleConfig[] = [];

  constructor(text: string) {
    this.reload(text);
  }

  reload(text: string): string[] {
    this.configured = rules(text);
    return this.book.commit(this.configured);
  }

  change(make: (changes: RuleChanges) => RuleChanges): void {
    this.book.commit(this.configured, make(this.book.changes));
  }

  get order(): string {
    return this.book
      .compose(this.configured)
      .map(({ name, mode }) => (mode === 'shadow' ? `${name}~` : name))
      .join(' ');
  }

  names(): string[] {
    return this.configured.map(({ name }) => name);
  }
}

describe('the order of rules', () => {
  const merge = (configured: string, former: string, placed: Record<string, 'last' | 'here'>): string =>
    mergeOrder(configured.split(' '), former.split(' '), new Map(Object.entries(placed)) as PlacedRules).join(' ');

  it.each([
    ['a b c', 'a x b c', { x: 'here' }, 'a x b c'],
    ['a b c', 'x a b c', { x: 'here' }, 'x a b c'],
    ['a b c', 'a x y b c', { x: 'here', y: 'here' }, 'a x y b c'],
    // The rule before it is gone: behind the one before that.
    ['a c', 'a b x c', { x: 'here' }, 'a x c'],
    ['c', 'a b x c', { x: 'here' }, 'x c'],
    // New rules of the configuration.
    ['n a m b', 'a x b', { x: 'here' }, 'n a x m b'],
    // A rule of the configuration that was moved.
    ['a b c', 'c a b', { c: 'here' }, 'c a b'],
    ['a b c', 'b c a', { a: 'here' }, 'b c a'],
    // Last stays last, those behind it stay behind it.
    ['a b n', 'a b x', { x: 'last' }, 'a b n x'],
    ['a b n', 'a b x y', { x: 'last', y: 'here' }, 'a b n x y'],
  ] as const)('%s after %s is %s', (configured, former, placed, order) => {
    expect(merge(configured, former, placed)).toBe(order);
  });

  it('comes out the same when nothing changes, and never loses or doubles a name', () => {
    let state = 7;
    const random = (limit: number): number => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return (state >>> 8) % limit;
    };
    for (let run = 0; run < 500; run++) {
      const bench = new Bench('a b c d e');
      for (let step = 0; step < 8; step++) {
        const all = bench.order.replaceAll('~', '').split(' ');
        const pick = all[random(all.length)];
        const anchor = all[random(all.length)];
        const place = (['first', 'last', { before: anchor }, { after: anchor }] as const)[random(4)];
        if (random(2) === 0) bench.change((changes) => addRules(changes, rules(`n${step}`), place, false));
        else if (typeof place === 'string' || pick !== anchor)
          bench.change((changes) => moveRule(changes, pick, place));
        const order = bench.order;
        bench.reload('a b c d e');
        expect(bench.order, `run ${run}`).toBe(order);
        expect(new Set(order.split(' ')).size).toBe(order.split(' ').length);
      }
      const kept = bench.order.split(' ').filter((name) => 'acen0n1n2n3n4n5n6n7'.includes(name));
      bench.reload('a c e f');
      const after = bench.order.split(' ');
      expect([...after].sort()).toEqual([...new Set([...kept, 'f'])].sort());
    }
  });
});

describe('changes at run time', () => {
  it('put rules where they are wanted', () => {
    const bench = new Bench('a b c');
    bench.change((changes) => addRules(changes, rules('x y'), { before: 'b' }, false));
    bench.change((changes) => addRules(changes, rules('z'), null, false));
    bench.change((changes) => addRules(changes, rules('f'), 'first', false));
    expect(bench.order).toBe('f a x y b c z');
    bench.change((changes) => moveRule(changes, 'c', { after: 'f' }));
    expect(bench.order).toBe('f c a x y b z');
    expect(bench.book.standing('c')).toMatchObject({ origin: 'config', changed: 'place' });
    expect(bench.book.standing('x')).toMatchObject({ origin: 'runtime', changed: '' });
  });

  it('hold over a reload for what is still there, and are forgotten for the rest', () => {
    const bench = new Bench('a b c');
    bench.change((changes) => removeRules(changes, ['b']));
    bench.change((changes) => setModes(changes, ['c'], 'shadow'));
    expect(bench.order).toBe('a c~');
    bench.reload('a b c d');
    expect(bench.order).toBe('a c~ d');
    expect(bench.book.absent()).toEqual([{ name: 'b', why: 'removed' }]);
    bench.reload('a d');
    bench.reload('a b c d');
    expect(bench.order).toBe('a b c d');
  });

  it('give way to a configuration that has the rule itself', () => {
    const bench = new Bench('a');
    bench.change((changes) => addRules(changes, rules('x:shadow'), 'first', false));
    expect(bench.order).toBe('x~ a');
    expect(bench.reload('a x')).toEqual(['x']);
    expect(bench.order).toBe('a x');
    expect(bench.book.standing('x')).toMatchObject({ origin: 'config', changed: '' });
  });

  it('are no change when the mode is the rule’s own', () => {
    const bench = new Bench('a b:shadow');
    bench.change((changes) => setModes(changes, ['a', 'b'], 'enforce'));
    expect(bench.order).toBe('a b');
    expect(bench.book.standing('a').changed).toBe('');
    expect(bench.book.standing('b').changed).toBe('mode');
    bench.change((changes) => setModes(changes, ['b'], 'shadow'));
    expect(bench.book.standing('b').changed).toBe('');
  });

  it('replace a rule in its place, and a reset brings the configuration’s back', () => {
    const bench = new Bench('a b c');
    expect(() => bench.change((changes) => addRules(changes, rules('b:shadow'), null, false))).toThrow(
      'there is a rule "b" already',
    );
    bench.change((changes) => addRules(changes, rules('b:shadow'), null, true));
    expect(bench.order).toBe('a b~ c');
    expect(bench.book.absent()).toEqual([]);
    bench.reload('a b c d');
    expect(bench.order).toBe('a b~ c d');
    bench.change((changes) => resetRules(changes, ['b'], bench.names()));
    expect(bench.order).toBe('a b c d');
  });

  it('are refused with the name that was meant, and leave nothing behind', () => {
    const bench = new Bench('drop-ntp drop-dns');
    const before = bench.book.changes;
    const refused = (make: (changes: RuleChanges) => RuleChanges, words: string, remedy: string): void => {
      expect(() => make(before)).toThrow(expect.objectContaining({ message: words, remedy }));
    };
    refused((c) => removeRules(c, ['drop-dns', 'drop-npt']), 'there is no rule "drop-npt"', 'Did you mean "drop-ntp"?');
    refused((c) => moveRule(c, 'drop-ntp', { before: 'drop-ntp' }), 'rule "drop-ntp" cannot be put next to itself', '');
    refused(
      (c) => setModes(c, ['zzzzzzzz'], 'shadow'),
      'there is no rule "zzzzzzzz"',
      'sluice rules list has all names.',
    );
    expect(() => addRules(before, rules('n'), { after: 'nobody' }, false)).toThrow('there is no rule "nobody"');
    expect(bench.book.changes).toBe(before);
    expect(bench.order).toBe('drop-ntp drop-dns');
  });
});

describe('time to live', () => {
  it('begins when a rule is first seen, and a reload that says the same does not change it', () => {
    const bench = new Bench('a:ttl=10 b');
    expect(bench.book.nextExpiryMs).toBe(10_000);
    bench.clockMs = 6000;
    bench.reload('b a:ttl=10');
    expect(bench.book.nextExpiryMs).toBe(10_000);
    bench.clockMs = 9999;
    expect(bench.book.expire()).toEqual([]);
    bench.clockMs = 10_000;
    expect(bench.book.expire()).toEqual(['a']);
    expect(bench.order).toBe('b');
    expect(bench.book.absent()).toEqual([{ name: 'a', why: 'expired' }]);
    bench.reload('b a:ttl=10');
    expect(bench.order).toBe('b');
    expect(bench.book.nextExpiryMs).toBe(Infinity);
  });

  it('begins anew for a rule that says something else, or is reset', () => {
    const bench = new Bench('a:ttl=10');
    bench.clockMs = 10_000;
    bench.book.expire();
    bench.reload('a:ttl=20');
    expect([bench.order, bench.book.nextExpiryMs]).toEqual(['a', 30_000]);
    bench.clockMs = 30_000;
    expect(bench.book.expire()).toEqual(['a']);
    bench.change((changes) => resetRules(changes, ['a'], bench.names()));
    expect([bench.order, bench.book.nextExpiryMs]).toEqual(['a', 50_000]);
  });

  it('goes on through moves and modes, and begins anew when the rule is added again', () => {
    const bench = new Bench('a');
    bench.change((changes) => addRules(changes, rules('x:ttl=10'), null, false));
    bench.clockMs = 4000;
    bench.change((changes) => moveRule(changes, 'x', 'first'));
    bench.change((changes) => setModes(changes, ['x'], 'shadow'));
    expect(bench.book.standing('x').expiresAtMs).toBe(10_000);
    bench.change((changes) => addRules(changes, rules('x:ttl=10'), null, true));
    expect(bench.book.standing('x').expiresAtMs).toBe(14_000);
    expect(bench.order).toBe('x a');
    bench.clockMs = 14_000;
    expect(bench.book.expire()).toEqual(['x']);
    expect(bench.order).toBe('a');
    expect(bench.book.changes.added.size).toBe(0);
  });

  it('of a rule that stood in for one of the configuration gives that back', () => {
    const bench = new Bench('a b');
    bench.change((changes) => addRules(changes, rules('a:shadow:ttl=5'), null, true));
    expect(bench.order).toBe('a~ b');
    bench.clockMs = 5000;
    expect(bench.book.expire()).toEqual(['a']);
    expect(bench.order).toBe('a b');
  });
});
