/** The cases of the path bench: how many flows, and which of the ways that a packet can go. */
import type { EffortName } from '../bench.js';
import { PLAIN_WAY, type FixtureOptions, type Way } from './fixture.js';

/** What a packet finds: its flow in the table, a full table without it, or a service that remembers no flows. */
export type Finding = 'hit' | 'miss' | 'ring';

export interface PathCase extends Required<FixtureOptions> {
  name: string;
  finding: Finding;
}

/** The plainest way. */
export function known(name: string, flows: number, flowSlots: number): PathCase {
  return { name, flows, flowSlots, way: PLAIN_WAY, clockStepMs: 0, finding: 'hit' };
}

const MILLION = known('1,000,000 flows', 1_000_000, 2_097_152);

/** From all in the first-level cache to a table that no cache holds: 64 B × 2 Mi slots. Those that two revisions are compared by. */
export const PATH_CASES: readonly PathCase[] = [
  known('64 flows', 64, 65_536),
  known('4,096 flows', 4096, 65_536),
  known('16,384 flows', 16_384, 65_536),
  MILLION,
];

/** A million of the others: IPv6, GUE, both, and new flows in a full table. */
const MORE_MILLIONS: readonly PathCase[] = [
  { ...MILLION, name: '1,000,000 flows, IPv6', way: { ...PLAIN_WAY, inner: 6 } },
  { ...MILLION, name: '1,000,000 flows, GUE', way: { ...PLAIN_WAY, kind: 'gue' } },
  {
    ...MILLION,
    name: '1,000,000 flows, IPv6, GUE over IPv6',
    way: { inner: 6, outer: 6, kind: 'gue', flowTable: true },
  },
  { ...known('1,048,576 new flows', 1_048_576, 262_144), clockStepMs: 1, finding: 'miss' },
];

/** Stands for the last in short runs: writing and comparing a million packets takes longer than all the rest. */
const SHORT_CASE = known('262,144 flows', 262_144, 524_288);

export function pathCases(effort: EffortName): readonly PathCase[] {
  if (effort === 'full') return [...PATH_CASES, ...MORE_MILLIONS];
  return [...PATH_CASES.filter(({ flows }) => flows <= 4096), SHORT_CASE];
}

const KINDS = ['ipip', 'gue'] as const;
const FAMILIES = [4, 6] as const;

/**
 * Every way by every finding. A miss is a flow that the full table has given up since it was last seen: four times as many flows as slots come
 * in turn, a burst a millisecond, so that each packet is balanced, inserted, and pushes out the flow of its window that was silent longest.
 */
export function wayCases(smoke: boolean): PathCase[] {
  const slots = smoke ? 4096 : 65_536;
  const findings: Record<Finding, Omit<FixtureOptions, 'way'>> = {
    hit: { flows: 4096, flowSlots: 65_536 },
    miss: { flows: 4 * slots, flowSlots: slots, clockStepMs: 1 },
    ring: { flows: 4096, flowSlots: 65_536 },
  };
  const all = FAMILIES.flatMap((inner) =>
    KINDS.flatMap((kind) =>
      FAMILIES.flatMap((outer) =>
        (['hit', 'miss', 'ring'] as const).map((finding) => {
          const way: Way = { inner, outer, kind, flowTable: finding !== 'ring' };
          return { name: wayName(way, finding), way, finding, clockStepMs: 0, ...findings[finding] };
        }),
      ),
    ),
  );
  return smoke ? all.filter(isForSmoke) : all;
}

/** Every way once, and every finding with the first and the last of them. */
function isForSmoke({ finding, way: { inner, outer, kind } }: PathCase): boolean {
  return finding === 'hit' || (inner === outer && (inner === 6) === (kind === 'gue'));
}

function wayName({ inner, outer, kind }: Way, finding: Finding): string {
  return `IPv${inner}, ${kind === 'ipip' ? 'IPIP' : 'GUE'} over IPv${outer}, ${finding}`;
}

/** Packets that both sides write before they are timed: with a flow table each flow's first and second, or its first and one more after it was given up. */
export function packetsToCompare({ flows, finding }: PathCase): number {
  return finding === 'hit' ? 2 * flows : flows;
}
