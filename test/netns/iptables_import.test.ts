/** What a real iptables-save and ipset save print of sets and limits, as rules: options may be written otherwise than they were given. */
import { writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { parseConfig } from '../../src/control/config/index.js';
import { importIptables } from '../../src/control/import/iptables/index.js';
import { testPlayground } from '../support/netns.js';

const SYN = '-p tcp --syn';

it('sets and limits of a kernel’s tables come out as rules, sets and limits', () => {
  const playground = testPlayground();
  const node = playground.namespace('tables');
  const ipset = (...words: string[]): string => node.exec('ipset', ...words);
  ipset('create', 'bad', 'hash:net');
  ipset('add', 'bad', '203.0.113.0/24');
  ipset('create', 'open', 'hash:ip,port');
  ipset('add', 'open', '198.51.100.1,tcp:80');
  const iptables = (line: string): string => node.exec('iptables', ...line.split(' '));
  iptables('-P INPUT DROP');
  for (const rule of [
    '-m set --match-set bad src -j DROP',
    '-p tcp -m set --match-set open dst,dst -j ACCEPT',
    '-p udp --dport 53 -m hashlimit --hashlimit-above 100/s --hashlimit-burst 20 --hashlimit-mode srcip,dstport --hashlimit-srcmask 24 --hashlimit-name a --hashlimit-htable-size 1024 --hashlimit-htable-max 4096 --hashlimit-htable-expire 30000 -j DROP',
    '-p udp -m hashlimit --hashlimit-upto 512kb/s --hashlimit-burst 1mb --hashlimit-mode dstip --hashlimit-name b -j ACCEPT',
    '-p udp -j DROP',
    `${SYN} -m connlimit --connlimit-above 20 --connlimit-mask 24 -j REJECT --reject-with tcp-reset`,
    '-p icmp -m limit --limit 10/s -j ACCEPT',
    '-p icmp -j DROP',
    '-m set ! --match-set bad src -j ACCEPT',
    '-p esp -m limit --limit 1/min --limit-burst 7 -j LOG',
  ]) {
    iptables(`-A INPUT ${rule}`);
  }
  const file = playground.path('sets.save');
  writeFileSync(file, ipset('save'));
  const made = importIptables({ name: 'f', text: node.exec('iptables-save') }, null, 'eth0', {
    name: file,
    text: ipset('save'),
  });

  const drop = { action: 'drop' };
  expect(made.rules.map(({ name: _, ...rule }) => rule)).toEqual([
    { match: { family: 4, set: { name: 'bad', key: 'src' } }, ...drop },
    { match: { family: 4, protocol: 'tcp', set: { name: 'open', key: 'dst,dst' } }, action: 'pass' },
    {
      match: { family: 4, protocol: 'udp', dport: 53 },
      action: 'limit',
      limit: { rate: '100/sec', burst: 20, per: ['src', 'dport'], src_mask: 24, max: 4096 },
    },
    { match: { family: 4, protocol: 'udp' }, action: 'limit', limit: { rate: '512kb/s', burst: '1mb', per: ['dst'] } },
    { match: { family: 4, protocol: 'udp' }, action: 'pass' },
    { match: { family: 4, protocol: 'udp' }, ...drop },
    { match: { family: 4, protocol: 'icmp' }, action: 'limit', limit: { rate: '10/sec', burst: 5, per: [] } },
    { match: { family: 4, protocol: 'icmp' }, action: 'pass' },
    { match: { family: 4, protocol: 'icmp' }, ...drop },
    // Behind a rule that lets by and is lost.
    { match: { family: 4 }, ...drop, mode: 'shadow' },
  ]);
  expect(made.limits).toEqual([{ name: 'input-6', connections: 20, per: 'src', src_mask: 24 }]);
  const lost = made.notes.filter(({ kind }) => kind === 'lost').map(({ message }) => message);
  expect(lost).toEqual([
    expect.stringMatching(/! --match-set bad src \(no rule asks/),
    expect.stringMatching(/the target LOG is not understood/),
  ]);
  const config = parseConfig(made.yaml, playground.path('made.yaml'));
  expect(config.sets.map(({ name, type }) => [name, type])).toEqual([
    ['bad', 'hash:net'],
    ['open', 'hash:ip,port'],
  ]);
});
