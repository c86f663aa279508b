import { parseArgs } from 'node:util';
import { MODES, type Mode } from '../src/bench/modes.js';

export type Part = 'path' | 'ways' | 'tables' | 'micro' | 'drop' | 'pps';

const PARTS: readonly Part[] = ['path', 'ways', 'tables', 'micro', 'drop', 'pps'];

/** How long to measure. */
export interface Effort {
  name: 'full' | 'quick' | 'smoke';
  /** Rounds of the path bench: one trial of each side a round. */
  rounds: number;
  /** Time that a trial of the path bench measures for, ms; start-up and warm-up come on top. */
  trialMs: number;
  /** The same of the bench of ways, which has eight times as many cases. */
  wayRounds: number;
  wayMs: number;
  /** Times that each table is built. */
  builds: number;
  /** Longest time of one micro bench, seconds. */
  microSeconds: number;
  /** Rounds of the drop bench, and how long each of its cases sends in one, ms. */
  dropRounds: number;
  dropMs: number;
  /** The same of the pps bench. */
  ppsRounds: number;
  ppsMs: number;
}

export interface BenchOptions {
  parts: ReadonlySet<Part>;
  /** Of the pps bench; all where none is named. */
  modes: ReadonlySet<Mode>;
  effort: Effort;
  /** Where to write the results as JSON. */
  json: string | null;
  /** Exit 1 when the median ratio of a path case is above this. */
  gate: number | null;
}

const FULL: Effort = {
  name: 'full',
  rounds: 10,
  trialMs: 1000,
  wayRounds: 7,
  wayMs: 400,
  builds: 5,
  microSeconds: 1.5,
  dropRounds: 9,
  dropMs: 1000,
  ppsRounds: 7,
  ppsMs: 700,
};
const QUICK: Effort = {
  name: 'quick',
  rounds: 5,
  trialMs: 500,
  wayRounds: 5,
  wayMs: 150,
  builds: 3,
  microSeconds: 0.3,
  dropRounds: 5,
  dropMs: 250,
  ppsRounds: 5,
  ppsMs: 250,
};
/** Only shows that everything runs and that the bytes agree; its numbers are rough. */
const SMOKE: Effort = {
  name: 'smoke',
  rounds: 1,
  trialMs: 100,
  wayRounds: 1,
  wayMs: 20,
  builds: 1,
  microSeconds: 0.03,
  dropRounds: 1,
  dropMs: 60,
  ppsRounds: 1,
  ppsMs: 60,
};

export const USAGE = `usage: npm run bench -- [path] [ways] [tables] [micro] [drop] [pps [MODE…]] [--quick | --smoke] [--gate RATIO] [--json FILE]

  path         the whole path in TypeScript against the same work in C++, as a ratio, by number of flows; needs g++
  ways         the same by family, encapsulation, and whether the flow is known; needs g++
  tables       how long the control plane's tables take to build, ms
  micro        steps of the path one by one, ns a packet
  drop         packets a second that are dropped over a veth pair: XDP_DROP, rules in the kernel, rules in JavaScript; needs root
  pps          packets a second of \`sluice bench\`, of the same jobs in C and in XDP: ${MODES.join(', ')}, or those named; needs root and g++
               (none named: all)
  --quick      fewer and shorter trials: about six minutes, wider spread
  --smoke      only shows that everything runs and that the bytes agree: about a minute
  --gate 1.3   exit 1 when the median ratio of a path case is above this
  --json FILE  results, machine and every trial as JSON`;

/** Arguments that make no sense; the message says which. */
export class UsageError extends Error {}

/** Parses the command line. null when help was asked for; UsageError for what is not understood. */
export function parseOptions(args: readonly string[]): BenchOptions | null {
  const { values, positionals } = read(args);
  if (values.help) return null;
  const parts = new Set<Part>();
  const modes = new Set<Mode>();
  for (const name of positionals) {
    const mode = MODES.find((each) => each === name);
    if (mode !== undefined) {
      modes.add(mode);
      continue;
    }
    const part = PARTS.find((each) => each === name);
    if (part === undefined) throw new UsageError(`unknown bench "${name}": there are ${PARTS.join(', ')}`);
    parts.add(part);
  }
  if (modes.size > 0 && !parts.has('pps'))
    throw new UsageError(`${[...modes].join(', ')}: modes of pps, which was not asked for`);
  if (modes.size === 0) for (const mode of MODES) modes.add(mode);
  if (values.quick && values.smoke) throw new UsageError('--quick and --smoke exclude each other');
  const gate = values.gate === undefined ? null : Number(values.gate);
  if (gate !== null && !(gate > 0)) throw new UsageError(`--gate takes a ratio such as 1.3, not "${values.gate}"`);
  if (parts.size === 0) for (const part of PARTS) parts.add(part);
  if (gate !== null && !parts.has('path'))
    throw new UsageError('--gate is about the path bench, which was not asked for');
  return { parts, modes, effort: values.smoke ? SMOKE : values.quick ? QUICK : FULL, json: values.json ?? null, gate };
}

function read(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        quick: { type: 'boolean', default: false },
        smoke: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
        gate: { type: 'string' },
        json: { type: 'string' },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}
