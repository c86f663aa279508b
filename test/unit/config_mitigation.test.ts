import { describe, expect, it } from 'vitest';
import { diffConfig, parseConfig } from '../../src/control/config/index.js';
import type { Config } from '../../src/shared/config.js';
import { problems, ruleProblems } from '../support/config_problems.js';

const parse = (more: string): Config => parseConfig(`interfaces: [eth0]\nhash_key: ours\n${more}`);
const mitigation = (text: string): Config['mitigation'] => parse(`mitigation: {${text}}`).mitigation;
const limitProblems = (fields: string): string[] => problems(`mitigation: {limits: [{name: l, ${fields}}]}`);

describe('allow', () => {
  it('takes prefixes of both families, or one alone', () => {
    const { allow } = parse('allow: [198.51.100.0/24, 2001:db8:5::/48, 192.0.2.1]');
    expect(allow.prefixes.map(({ text, length }) => `${text}/${length}`)).toEqual([
      '198.51.100.0/24',
      '2001:db8:5::/48',
      '192.0.2.1/32',
    ]);
    expect(parse('allow: 192.0.2.0/24').allow.prefixes).toHaveLength(1);
    expect(problems('allow: [example.com]')[0]).toContain('2:9 allow[0]');
  });

  it('takes sets beside them, which must be there', () => {
    const sets = 'sets: [{name: partners, type: hash:net}, {name: hosts, type: hash:ip}]\n';
    const { allow } = parse(`${sets}allow: ['set:partners', 192.0.2.1, 'set: hosts', 'set:partners']`);
    expect(allow.prefixes.map(({ text }) => text)).toEqual(['192.0.2.1']);
    expect(allow.sets).toEqual(['partners', 'hosts']);
    expect(parse(`${sets}allow: set:hosts`).allow.sets).toEqual(['hosts']);
    expect(problems(`${sets}allow: [192.0.2.1, set:partner]`)[0]).toMatch(
      /allow\[1\]: there is no set partner \| Did you mean partners\?/,
    );
    expect(problems('allow: set:partner')[0]).toContain('there is no set partner');
    expect(problems('allow: ["set:", "set:not a name"]')).toHaveLength(2);
  });
});

describe('mitigation', () => {
  it('reads rates with their units', () => {
    const { challenge, fairShare } = mitigation(
      'challenge: {mode: auto, above: 5000, below: 100/second, hold: 1m}, fair_share: {rate: 500mb/s}',
    );
    expect(challenge).toMatchObject({ mode: 'auto', above: 5000, below: 100, hold: 60 });
    expect(fairShare.rate).toEqual({ unit: 'bytes', amount: 500 * 2 ** 20, seconds: 1 });
    expect(mitigation('fair_share: {rate: off}').fairShare.rate).toBeNull();
    for (const above of ['5000/h', '10mb/s', '0', 'fast', '-1', '{}']) {
      expect(problems(`mitigation: {challenge: {above: ${above}}}`)[0], above).toContain('mitigation.challenge.above');
    }
  });

  it('reads limits on rates and on connections', () => {
    const { limits } = mitigation(
      `limits: [{name: a, match: {protocol: udp, dport: 53}, rate: 10/minute, burst: 7, per: [src, dport], src_mask: 24, max: 9},
      {name: b, rate: 1mb/s, burst: 4mb, per: []}, {name: c, connections: 5, per: dst, dst_mask6: 64}]`,
    );
    expect(limits).toEqual([
      {
        name: 'a',
        kind: 'rate',
        match: { protocol: 17, dport: { first: 53, last: 53 } },
        limit: {
          rate: { unit: 'packets', amount: 10, seconds: 60 },
          burst: 7,
          per: ['src', 'dport'],
          srcMask4: 24,
          max: 9,
        },
      },
      {
        name: 'b',
        kind: 'rate',
        match: {},
        limit: { rate: { unit: 'bytes', amount: 2 ** 20, seconds: 1 }, burst: 2 ** 22, per: [] },
      },
      { name: 'c', kind: 'connections', connections: 5, side: 'destination', mask4: 32, mask6: 64, max: 65536 },
    ]);
  });

  it.each([
    ['', 'limits nothing'],
    ['rate: 1/s, connections: 5', 'goes without connections'],
    ['connections: 5, match: {protocol: tcp}', 'goes with rate only'],
    ['connections: 5, burst: 2', 'goes with rate only'],
    ['connections: 5, per: [src, dst]', 'is src or dst for connections'],
    ['connections: 0', 'is not a whole number'],
    ['rate: 2000000/s', 'The fastest is 1000000 packets a second'],
    ['rate: 1mb/s, burst: 1kb', 'With this rate it is at least'],
    ['rate: 1/s, burst: 0', 'A burst has 1 to'],
    ['rate: 1/s, dst_mask: 24', 'per does not have dst'],
    ['rate: 1/s, src_mask: 33', 'is not a whole number from 0 to 32'],
    ['rate: 1/s, match: {protocol: icmp, dport: 5}', 'has no ports'],
    ['rate: 1/s, match: "udp and"', 'syntax error'],
    ['rate: 1/s, wat: 1', 'wat'],
    ['rate: 1/s, match: ', 'match: has no value'],
    ['rate: 1/s, per: ', 'per: has no value'],
    ['rate: 1/s, burst: ', 'burst: has no value'],
  ])('refuses a limit {%s}', (fields, message) => {
    expect(limitProblems(fields === '' ? 'per: [src]' : fields).join('\n')).toContain(message);
  });

  it.each([
    'challenge: ',
    'challenge: {mode: }',
    'tcp_state: {timeouts: }',
    'tcp_state: {timeouts: {open: ~}}',
    'fair_share: {rate: }',
    'fair_share: {prefixes4: }',
  ])('refuses a key without a value: %s', (text) => {
    expect(problems(`mitigation: {${text}}`)).toEqual([expect.stringContaining('has no value')]);
  });

  it('says what comes of leaving a key out', () => {
    expect(problems('mitigation: {challenge: {mode: }}')[0]).toContain('leave the key out for off.');
    expect(problems('mitigation: {challenge: }')[0]).toContain('leave the key out for the default.');
  });

  it('takes lists and maps whose entries are commented out', () => {
    expect(parse('mitigation: {limits: }\nallow:\nsets:\n').mitigation).toEqual(parse('mitigation:\n').mitigation);
  });

  it('refuses what cannot be', () => {
    expect(problems('mitigation: {challenge: {above: 10/s, below: 20/s}}')[0]).toContain('start and stop at once');
    expect(problems('mitigation: {fair_share: {prefixes4: [16, 24]}}')[0]).toContain('longest first');
    expect(problems('mitigation: {limits: [{name: a, rate: 1/s}, {name: a, rate: 2/s}]}')[0]).toContain(
      'another limit of the name a',
    );
    expect(problems('mitigation: {tcp_state: {connections: 1000}}')[0]).toContain('power of two');
  });

  it('warns of stages that stand nowhere, and of cookies that everybody could make', () => {
    const warnings = (text: string): string[] => parseConfig(`interfaces: [a]\nservices: []\n${text}`).warnings.map(({ path }) => path); // prettier-ignore
    expect(warnings('filters: [sanity]\nmitigation: {fair_share: {rate: 1/s}}')).toContain('mitigation');
    expect(warnings('mitigation: {fair_share: {rate: 1/s}}')).not.toContain('mitigation');
    expect(warnings('mitigation: {challenge: {mode: auto}}')).toContain('mitigation.challenge');
    expect(warnings('hash_key: x\nmitigation: {challenge: {mode: auto}}')).not.toContain('mitigation.challenge');
  });
});

describe('rules', () => {
  it('with action limit and challenge are read', () => {
    const [limit, challenge] = parse(
      'rules: [{name: a, match: {}, action: limit, limit: {rate: 5/s, src_mask6: 64}}, {name: b, match: {}, action: challenge}]',
    ).rules;
    expect(limit.limit).toEqual({ rate: { unit: 'packets', amount: 5, seconds: 1 }, per: ['src'], srcMask6: 64 });
    expect(challenge).toEqual({ name: 'b', match: {}, action: 'challenge' });
  });

  it('need a limit for action limit, and for no other', () => {
    const rule = (more: string): string => problems(`rules: [{name: r, match: {}, ${more}}]`)[0];
    expect(rule('action: limit')).toContain('does not say to what');
    expect(rule('action: drop, limit: {rate: 1/s}')).toContain('goes with action limit only');
    expect(rule('action: limit, limit: {rate: 1/s, burst: 2000000}')).toContain('A burst has 1 to');
    expect(rule('action: limit, limit: {per: src}')).toContain('rate');
    expect(ruleProblems('protocol: icmp, dport: 5')).toHaveLength(1);
  });
});

describe('a reload', () => {
  it('takes every change of mitigation, and names it', () => {
    const before = parse('allow: [192.0.2.1]\nmitigation: {limits: [{name: a, rate: 1/s}]}');
    const after = parse(
      'allow: [192.0.2.2]\nmitigation: {challenge: {mode: auto}, tcp_state: {timeouts: {open: 1h}}, fair_share: {rate: 5/s}, limits: [{name: a, rate: 2/s}]}',
    );
    const sets = 'sets: [{name: a, type: hash:ip}]\nallow: ';
    expect(diffConfig(parse(`${sets}192.0.2.1`), parse(`${sets}set:a`)).live).toEqual([
      'allow: set:a added',
      'allow: 192.0.2.1/32 removed',
    ]);
    expect(diffConfig(before, after)).toEqual({
      restart: [],
      live: [
        'allow: 192.0.2.2/32 added',
        'allow: 192.0.2.1/32 removed',
        'mitigation.challenge.mode: off → auto',
        'mitigation.tcp_state.timeouts.open: 10800 → 3600',
        'mitigation.fair_share.rate: none → 5/second',
        'mitigation.limits[a]: changed',
      ],
    });
  });
});
