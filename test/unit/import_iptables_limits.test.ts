/** Sets and limits of iptables: what is taken, and what only looks as if it could be. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/control/config/index.js';
import { importIptables } from '../../src/control/import/iptables/index.js';

const directory = mkdtempSync(join(tmpdir(), 'sluice-import-'));
afterAll(() => rmSync(directory, { recursive: true }));

const IPSET = `create bad hash:net family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x1
add bad 203.0.113.0/24
create open hash:ip,port family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x2
add open 198.51.100.1,tcp:80
create marks list:set size 8
`;
const ipsetFile = join(directory, 'ipset.save');
writeFileSync(ipsetFile, IPSET);

function run(lines: readonly string[], { policy = 'ACCEPT', ipset = false } = {}) {
  const text = ['*filter', `:INPUT ${policy} [0:0]`, ...lines.map((line) => `-A INPUT ${line}`), 'COMMIT', ''].join(
    '\n',
  );
  const saved = ipset ? { name: ipsetFile, text: IPSET } : null;
  const { rules, sets, limits, notes, yaml } = importIptables({ name: 'f', text }, null, 'eth0', saved);
  // What comes out is a configuration with all of it.
  const config = parseConfig(yaml, join(directory, 'made.yaml'));
  expect(config.rules).toHaveLength(rules.length);
  expect(config.sets.map(({ name }) => name)).toEqual(sets.map(({ name }) => name));
  expect(config.mitigation.limits).toHaveLength(limits.length);
  const words = notes.map(({ line, kind, message }) => `${line} ${kind}: ${message}`);
  return { rules: rules.map(({ name: _, ...rule }) => rule), sets, limits, notes: words, yaml };
}

describe('-m set', () => {
  it('is the set of a rule, whose type is guessed and told', () => {
    const { rules, sets, notes } = run([
      '-m set --match-set bad src -j DROP',
      '-p tcp -m set --match-set open dst,dst -m set --match-set bad src -j DROP',
    ]);
    expect(rules).toEqual([
      { match: { family: 4, set: { name: 'bad', key: 'src' } }, action: 'drop' },
      {
        match: {
          family: 4,
          protocol: 'tcp',
          set: [
            { name: 'open', key: 'dst,dst' },
            { name: 'bad', key: 'src' },
          ],
        },
        action: 'drop',
      },
    ]);
    expect(sets).toEqual([
      { name: 'bad', type: 'hash:net' },
      { name: 'open', type: 'hash:net,port' },
    ]);
    expect(notes).toEqual([
      expect.stringMatching(/^3 changed: set bad begins empty, and its type is a guess: -A INPUT/),
      expect.stringMatching(/^4 changed: set open begins empty/),
    ]);
  });

  it('has type and entries of what ipset save prints', () => {
    const { rules, sets, notes, yaml } = run(
      [
        '-m set --match-set bad src,dst -j DROP',
        '-m set --match-set open dst,dst -j DROP',
        '-m set --match-set open dst -j DROP',
        '-m set --match-set marks src -j DROP',
        '-m set --match-set other src -j DROP',
      ],
      { ipset: true },
    );
    // Of two directions a set of networks looks at the first.
    expect(rules.map(({ match }) => match.set)).toEqual([
      { name: 'bad', key: 'src' },
      { name: 'open', key: 'dst,dst' },
    ]);
    expect(sets).toEqual([
      { name: 'bad', file: ipsetFile },
      { name: 'open', file: ipsetFile },
    ]);
    expect(parseConfig(yaml, join(directory, 'made.yaml')).sets.map(({ type }) => type)).toEqual([
      'hash:net',
      'hash:ip,port',
    ]);
    expect(notes).toEqual([
      expect.stringMatching(/^5 lost: not understood: set open has two parts, and one is asked for/),
      expect.stringMatching(/^6 lost: not understood: set marks is a list:set, which sluice does not have/),
      expect.stringMatching(/^7 lost: not understood: there is no set other in /),
    ]);
  });

  it.each([
    ['! --match-set bad src', /! --match-set bad src \(no rule asks for packets that are not in a set\)/],
    ['--match-set bad src,dst,src', /\(sets have two parts at most\)/],
    ['--match-set a/b src', /\(a name that sets here cannot have\)/],
    ['--match-set bad src --packets-gt 5', /--packets-gt 5/],
    ['--match-set bad src --return-nomatch', /--return-nomatch/],
  ])('is lost where no rule can say it: %s', (words, note) => {
    const { rules, notes } = run([`-m set ${words} -j DROP`]);
    expect([rules, notes]).toEqual([[], [expect.stringMatching(note)]]);
  });
});

describe('what is within a rate', () => {
  const icmp = '-p icmp -m limit --limit 10/sec --limit-burst 20';
  const byTarget =
    '-p udp -m hashlimit --hashlimit-upto 512kb/s --hashlimit-mode dstip --hashlimit-name b --hashlimit-dstmask 24';
  const limited = (protocol: string, limit: object) => [
    { match: { family: 4, protocol }, action: 'limit', limit },
    { match: { family: 4, protocol }, action: 'pass' },
  ];

  it.each([
    ['the next rule', [`${icmp} -j ACCEPT`, '-p icmp -j DROP'], 'ACCEPT'],
    ['a next rule for all', [`${icmp} -j ACCEPT`, '-j REJECT'], 'ACCEPT'],
    ['the policy', [`${icmp} -j ACCEPT`], 'DROP'],
    ['a rule behind one that only logs', [`${icmp} -j ACCEPT`, '-j LOG', '-p icmp -j DROP'], 'ACCEPT'],
  ])('is let by, and the rest dropped, when %s drops it', (_, lines, policy) => {
    const { rules } = run(lines, { policy });
    expect(rules.slice(0, 2)).toEqual(limited('icmp', { rate: '10/sec', per: [], burst: 20 }));
    expect(rules).toHaveLength(3);
    expect(rules[2].action).toBe('drop');
  });

  it('has the keys of hashlimit, and the burst of limit that is not written', () => {
    expect(run([`${byTarget} -j ACCEPT`, '-p udp -j DROP']).rules.slice(0, 2)).toEqual(
      limited('udp', { rate: '512kb/s', per: ['dst'], dst_mask: 24 }),
    );
    expect(run(['-p udp -m limit --limit 5/min -j ACCEPT', '-p udp -j DROP']).rules[0]).toMatchObject({
      limit: { rate: '5/min', burst: 5 },
    });
  });

  it.each([
    ['nothing drops the rest', [`${icmp} -j ACCEPT`], 'ACCEPT'],
    ['the next rule is about less', [`${icmp} -j ACCEPT`, '-p icmp -s 10.0.0.0/8 -j DROP'], 'DROP'],
    ['the next rule lets by', [`${icmp} -j ACCEPT`, '-p icmp -j ACCEPT'], 'ACCEPT'],
    [
      'the next rule drops by chance',
      [`${icmp} -j ACCEPT`, '-m statistic --mode random --probability 0.5 -j DROP'],
      'DROP',
    ],
    ['what is within is dropped', [`${icmp} -j DROP`], 'DROP'],
    ['it only counts', [icmp], 'DROP'],
    ['there are two limits', [`${byTarget} -m limit --limit 5/s -j ACCEPT`], 'DROP'],
  ])('is lost when %s', (_, lines, policy) => {
    const { rules, notes } = run(lines, { policy });
    expect(rules.filter(({ action }) => action === 'limit')).toEqual([]);
    expect(notes).toContainEqual(expect.stringMatching(/^3 lost: not understood: /));
    // What would then drop more than iptables does only counts.
    const drops = rules.filter(({ action }) => action === 'drop');
    if (lines[0].endsWith('ACCEPT')) expect(drops.every(({ mode }) => mode === 'shadow')).toBe(true);
  });
});

describe('-m connlimit', () => {
  const syn = '-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN';

  it('of all TCP is a limit on connections, with what is different', () => {
    const { rules, limits, notes } = run([
      `${syn} -m connlimit --connlimit-above 20 --connlimit-mask 24 --connlimit-saddr -j DROP`,
      '-p tcp -m connlimit --connlimit-above 1000 --connlimit-daddr -j REJECT --reject-with tcp-reset',
    ]);
    expect(rules).toEqual([]);
    expect(limits).toEqual([
      { name: 'input-1', connections: 20, per: 'src', src_mask: 24 },
      { name: 'input-2', connections: 1000, per: 'dst' },
    ]);
    expect(notes).toEqual([
      expect.stringMatching(/^3 changed: a limit on connections counts the TCP connections to services, of IPv4 and/),
      expect.stringMatching(/^4 changed: (a limit on|REJECT)/),
      expect.stringMatching(/^4 changed: (a limit on|REJECT)/),
    ]);
  });

  it('of what is within it, with the rest dropped, lets by too', () => {
    const { rules, limits } = run([`${syn} -m connlimit --connlimit-upto 5 -j ACCEPT`], { policy: 'DROP' });
    expect(limits).toEqual([{ name: 'input-1', connections: 5, per: 'src' }]);
    expect(rules.map(({ action }) => action)).toEqual(['pass', 'drop']);
  });

  it.each([
    [
      `${syn} --dport 80 -m connlimit --connlimit-above 20 -j DROP`,
      /connlimit with dport \(limits on connections are of all/,
    ],
    ['-m connlimit --connlimit-above 20 -j DROP', /connlimit of other protocols than TCP/],
    ['-p tcp -m connlimit --connlimit-above 0 -j DROP', /--connlimit-above 0/],
    ['-p tcp -m connlimit --connlimit-mask 24 -j DROP', /connlimit without --connlimit-above/],
    ['-p tcp -m connlimit --connlimit-above 5 -j ACCEPT', /a limit with another target than DROP/],
    ['-p tcp -m connlimit --connlimit-above 5 -m hashlimit --hashlimit-above 5/s -j DROP', /two limits/],
  ])('is lost where it means less than all connections: %s', (line, note) => {
    const { rules, limits, notes } = run([line]);
    expect([rules, limits, notes]).toEqual([[], [], [expect.stringMatching(note)]]);
  });
});
