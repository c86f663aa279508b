/** filter/: the sanity checks, and rules by their number, with the index and without. */
import { parseConfig } from '../../src/control/config/index.js';
import { RuleShelf } from '../../src/control/rule_tables.js';
import { Chance } from '../../src/dataplane/filter/chance.js';
import { ProgramShelf } from '../../src/dataplane/filter/programs.js';
import { NO_PARTS } from '../../src/dataplane/filter/rule_parts.js';
import { INDEX_LEAST, RuleSet } from '../../src/dataplane/filter/rules.js';
import { SanityFilter } from '../../src/dataplane/filter/sanity.js';
import type { Packet } from '../../src/dataplane/packet/packet.js';
import { IpProtocol } from '../../src/dataplane/packet/wire.js';
import { Code, programOf, type Program } from '../../src/shared/cbpf/program.js';
import type { RuleConfig } from '../../src/shared/config.js';
import { CounterBlock, RuleAction } from '../../src/shared/layout.js';
import { BURST, measure, SMOKE, type MicroCase } from './harness.js';
import { parsedBurst } from './packets.js';
import { tablesOf } from './tables.js';

/** 4,000 expressions one by one take a second a burst. */
const COUNTS = SMOKE ? [1, 10, 100] : [1, 10, 100, 1000, 4000];

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

/** What rules in front of the last ask for: half fail at the port, a quarter at the source, a quarter at the protocol. */
const others = [
  (i: number) => `protocol: udp, src: 10.1.0.0/16, dport: ${10_000 + i}`,
  (i: number) => `protocol: udp, src: 203.${i >> 8}.${i & 255}.0/24`,
  (i: number) => `family: 4, dport: ${10_000 + i}-${20_000 + i}`,
  (i: number) => `protocol: tcp, dport: ${i + 1}`,
];

function structured(count: number, matching: boolean): readonly RuleConfig[] {
  const rules = Array.from({ length: count }, (_, i) => {
    const match = i === count - 1 && matching ? 'protocol: udp, src: 10.1.0.0/16, dport: 443' : others[i % 4](i);
    return `  - { name: rule-${i}, match: { ${match} }, action: drop }`;
  });
  return parseConfig(`interfaces: [{ name: net0 }]\nservices: []\nrules:\n${rules.join('\n')}`).rules;
}

/** As libpcap compiles `ip and udp and src net NET/16 and dst port PORT`. */
function expression(net: number, port: number): Program {
  return programOf('ethernet', [
    [Code.LD_H_ABS, 0, 0, 12],
    [Code.JEQ_K, 0, 11, 0x800],
    [Code.LD_B_ABS, 0, 0, 23],
    [Code.JEQ_K, 0, 9, IpProtocol.udp],
    [Code.LD_W_ABS, 0, 0, 26],
    [Code.AND_K, 0, 0, 0xffff0000 | 0],
    [Code.JEQ_K, 0, 6, net],
    [Code.LD_H_ABS, 0, 0, 20],
    [Code.JSET_K, 4, 0, 0x1fff],
    [Code.LDX_MSH, 0, 0, 14],
    [Code.LD_H_IND, 0, 0, 16],
    [Code.JEQ_K, 0, 1, port],
    [Code.RET_K, 0, 0, 1],
    [Code.RET_K, 0, 0, 0],
  ]);
}

const SOURCE_NET = 0x0a010000;

/** Half fail at the port, half at the network. */
function expressions(count: number, matching: boolean): readonly RuleConfig[] {
  return Array.from({ length: count }, (_, i) => {
    const other = i % 2 === 0 ? expression(SOURCE_NET, 10_000 + i) : expression(0xcb000000 | (i << 16), 443);
    const program = i === count - 1 && matching ? expression(SOURCE_NET, 443) : other;
    const match = { program: { kind: 'expr', text: '', program } } as const;
    return { name: `rule-${i}`, match, action: 'drop' };
  });
}

/** Rules of which the last matches each packet, or none does. `compiled`: programs run as JavaScript. */
function rulesCase(
  kind: 'structured' | 'expressions',
  count: number,
  matching: boolean,
  indexed: boolean,
  compiled = true,
): MicroCase {
  const rules = (kind === 'structured' ? structured : expressions)(count, matching);
  const tables = new RuleShelf().build(rules, (name) => Number(name.slice(5)));
  const programs = new ProgramShelf(compiled).load(tables.programs);
  const set = new RuleSet(tables, programs, NO_PARTS, counters, new Chance(1), indexed ? INDEX_LEAST : Infinity);
  const packets = parsedBurst(udp);
  const body = (): number => {
    let dropped = 0;
    for (let i = 0; i < BURST; i++) if (set.match(packets[i], 0) === RuleAction.drop) dropped++;
    return dropped;
  };
  const how = (indexed ? '' : ', one by one') + (compiled ? '' : ', interpreted');
  const what = matching ? 'the last matches' : 'none matches';
  return { name: `rules, ${count} ${kind}, ${what}${how}`, body, expected: matching ? BURST : 0 };
}

const rulesCases = (['structured', 'expressions'] as const).flatMap((kind) =>
  COUNTS.flatMap((count) => [
    rulesCase(kind, count, false, true),
    rulesCase(kind, count, true, true),
    rulesCase(kind, count, true, false),
  ]),
);

// As with --disallow-code-generation-from-strings.
const interpretedCases = [1, 10, 100].flatMap((count) => [
  rulesCase('expressions', count, false, true, false),
  rulesCase('expressions', count, true, true, false),
  rulesCase('expressions', count, true, false, false),
]);

measure([
  sanityCase('sanity checks, IPv4, UDP', parsedBurst(udp)),
  sanityCase('sanity checks, IPv6, TCP', parsedBurst({ family: 6, protocol: IpProtocol.tcp, bytes: 78 })),
  ...rulesCases,
  ...interpretedCases,
]);
