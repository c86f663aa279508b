/** `-m connlimit` as a limit on connections, which is of all services together. */
import type { Option } from './conditions.js';
import type { MatchKeys, RuleDraft } from './rule_draft.js';

/** What a rule says of its limit, as it was read. */
export interface ConnLimit {
  /** Packets of those above it are meant, or of those within it. */
  direction: 'above' | 'upto' | null;
  connections: number;
  per: 'src' | 'dst';
  mask: number | null;
}

/** An entry of mitigation.limits. */
export interface ImportedLimit {
  name: string;
  connections: number;
  per: 'src' | 'dst';
  [mask: string]: unknown;
}

function option(values: 0 | 1, read: (limit: ConnLimit, value: string, draft: RuleDraft) => boolean): Option {
  return {
    values,
    read(draft, [value], negated) {
      draft.connections ??= { direction: null, connections: 0, per: 'src', mask: null };
      return !negated && read(draft.connections, value, draft);
    },
  };
}

const most = (direction: 'above' | 'upto'): Option =>
  option(1, (limit, value) => {
    limit.direction = direction;
    limit.connections = Number(value);
    return /^\d{1,10}$/.test(value) && limit.connections >= 1 && limit.connections <= 0x7fffffff;
  });

export const CONNLIMIT: readonly (readonly [string, Option])[] = [
  ['--connlimit-above', most('above')],
  ['--connlimit-upto', most('upto')],
  ['--connlimit-saddr', option(0, (limit) => ((limit.per = 'src'), true))],
  ['--connlimit-daddr', option(0, (limit) => ((limit.per = 'dst'), true))],
  [
    '--connlimit-mask',
    option(1, (limit, value, draft) => {
      limit.mask = Number(value);
      return /^\d{1,3}$/.test(value) && limit.mask <= (draft.family === 4 ? 32 : 128);
    }),
  ],
];

/** Conditions that say no more than that a connection begins. */
const OPENING: Readonly<Record<string, readonly unknown[]>> = {
  family: [4, 6],
  protocol: ['tcp'],
  tcp_flags: ['!fin,syn,!rst,!ack', 'syn', 'syn,!ack'],
};

/** Why a limit on all connections is not the same; '' when it is, for packets of this match. */
export function connLimitProblem(match: MatchKeys): string {
  const other = Object.keys(match).find((key) => !OPENING[key]?.includes(match[key]));
  if (other !== undefined) return `connlimit with ${other} (limits on connections are of all services together)`;
  return match.protocol === 'tcp' ? '' : 'connlimit of other protocols than TCP';
}

export function connLimitEntry(name: string, { connections, per, mask }: ConnLimit, family: 4 | 6): ImportedLimit {
  const key = `${per}_mask${family === 4 ? '' : '6'}`;
  return { name, connections, per, ...(mask === null ? {} : { [key]: mask }) };
}
