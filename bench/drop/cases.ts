/** What is timed: ways to drop the same packets, from the least that the kernel can do to JavaScript. */

/** Destination of all packets, and the port that no service has and that the rules drop. */
export const VIP = '198.51.100.10';
export const PORT = 7777;
/** Sources: the first 1,000 addresses of this prefix, a flow each. */
export const SOURCES = '198.18.0.0/16';
export const FLOWS = 1000;

/** Begins the names of the rules that drop. */
export const RULE = 'bad';

type Part = Record<string, unknown>;

/** A way to drop all packets for `PORT`. */
export interface DropCase {
  name: string;
  /** `drop`: XDP_DROP and no more. `redirect`: the redirect program, which drops for want of a socket. `daemon`: sluice, by what follows. */
  by: 'drop' | 'redirect' | 'daemon';
  offload: 'auto' | 'off';
  rules: readonly Part[];
  sets: readonly Part[];
  /** Packets a second; 0: as fast as they can be sent. */
  rate: number;
  /** Packets that the rules may let by in a trial. */
  spare: number;
}

const PLAIN: Omit<DropCase, 'name' | 'by'> = { offload: 'off', rules: [], sets: [], rate: 0, spare: 0 };
const MATCH = { protocol: 'udp', dport: PORT };
const DROP = { name: RULE, match: MATCH, action: 'drop' };
const EXPRESSION = `src net 198.18.0.0/15 and udp dst port ${PORT} and less 100`;
/** What both ways carry on this kind of machine. */
const SLOW = 100_000;

/** Rules for other ports, and last the one that drops. */
function byPort(count: number): Part[] {
  const other = (i: number): Part => ({ name: `other${i}`, match: { ...MATCH, dport: 10_000 + i }, action: 'drop' });
  return [...Array.from({ length: count - 1 }, (_, i) => other(i)), DROP];
}

/** A set with that many addresses, the flows' among them. */
function addresses(count: number): Part[] {
  const entries = Array.from({ length: count }, (_, i) => `198.${18 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`);
  return [{ name: 'sources', type: 'hash:ip', maxelem: 131_072, entries }];
}

/** Packets above a rate are dropped by the first, those within it by the second. */
const LIMIT = [{ name: `${RULE}-limit`, match: MATCH, action: 'limit', limit: { rate: '1000/s' } }, { ...DROP }];

/** The same rules in the kernel, where they can be, and in the workers. `large`: with lists and sets that take long to load. */
function ruleCases(offload: 'auto' | 'off', large: boolean): DropCase[] {
  const named = (name: string, parts: Partial<DropCase>): DropCase => ({
    ...PLAIN,
    name: `${offload}: ${name}`,
    by: 'daemon',
    offload,
    ...parts,
  });
  const many = large ? [100, 1000] : [100];
  const sizes = large ? [1000, 100_000] : [1000];
  return [
    named('one rule', { rules: byPort(1) }),
    ...many.map((n) => named(`${n.toLocaleString('en')} rules, the last drops`, { rules: byPort(n) })),
    named('an expression of three conditions', { rules: [{ ...DROP, match: EXPRESSION }] }),
    ...sizes.map((n) =>
      named(`a set of ${n.toLocaleString('en')} addresses`, {
        rules: [{ ...DROP, match: { set: 'sources' } }],
        sets: addresses(n),
      }),
    ),
    named('a limit, then a rule', { rules: LIMIT }),
    named(`one rule, ${SLOW.toLocaleString('en')} a second`, { rules: byPort(1), rate: SLOW }),
  ];
}

export function dropCases(large: boolean): DropCase[] {
  return [
    { ...PLAIN, name: 'XDP_DROP, nothing else', by: 'drop' },
    { ...PLAIN, name: 'redirect program, no socket', by: 'redirect' },
    ...ruleCases('auto', large),
    ...ruleCases('off', large),
  ];
}
