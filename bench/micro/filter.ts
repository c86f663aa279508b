/** filter/: the sanity checks, and rules by their number. */
import { RuleSet } from '../../src/dataplane/filter/rules.js';
import { SanityFilter } from '../../src/dataplane/filter/sanity.js';
import type { Packet } from '../../src/dataplane/packet/packet.js';
import { IpProtocol } from '../../src/dataplane/packet/wire.js';
import { CounterBlock, RuleAction } from '../../src/shared/layout.js';
import { BURST, measure, type MicroCase } from './harness.js';
import { parsedBurst } from './packets.js';
import { tablesOf } from './tables.js';

const counters = new Float64Array(CounterBlock.SIZE);
const udp = { family: 4, protocol: IpProtocol.udp, bytes: 64 } as const;

/** All checks, all of them passed. */
function sanityCase(name: string, packets: readonly Packet[]): MicroCase {
  const [spec] = tablesOf('').filters;
  if (spec.kind !== 'sanity') throw new Error('the default chain does not start with the sanity checks');
  const filter = new SanityFilter(spec.checks, spec.protocols);
  const body = (): number => {
    let passed = 0;
    for (let i = 0; i < BURST; i++) if (filter.check(packets[i]) === 0) passed++;
    return passed;
  };
  return { name, body, expected: BURST };
}

/**
 * Rules of which the last matches, so that all are looked at. Half fail at the port, a quarter at the source, a quarter at the
 * protocol.
 */
function rulesCase(count: number): MicroCase {
  const kinds = [
    'protocol: udp, src: 10.1.0.0/16, dport: 9999',
    'protocol: udp, src: 203.0.113.0/24',
    'family: 4, dport: 1000-2000',
    'protocol: tcp, dport: 443',
  ];
  const rules = Array.from({ length: count }, (_, i) => {
    const match = i === count - 1 ? 'protocol: udp, src: 10.1.0.0/16, dport: 443' : kinds[i % kinds.length];
    return `  - { name: rule-${i}, match: { ${match} }, action: drop }`;
  });
  const set = new RuleSet(new Int32Array(tablesOf(`rules:\n${rules.join('\n')}`).rules), counters);
  const packets = parsedBurst(udp);
  const body = (): number => {
    let dropped = 0;
    for (let i = 0; i < BURST; i++) if (set.match(packets[i]) === RuleAction.drop) dropped++;
    return dropped;
  };
  return { name: `rules, the last of ${count} matches`, body, expected: BURST };
}

measure([
  sanityCase('sanity checks, IPv4, UDP', parsedBurst(udp)),
  sanityCase('sanity checks, IPv6, TCP', parsedBurst({ family: 6, protocol: IpProtocol.tcp, bytes: 78 })),
  rulesCase(1),
  rulesCase(10),
  rulesCase(100),
]);
