import { parseArgs } from 'node:util';
import type { Bench, EffortName } from './bench.js';
import { BENCHES } from './benches.js';
import { COMPARED } from './compare/compared.js';

/** A bench that was asked for, and which of its words. */
export interface Chosen {
  bench: Bench;
  words: ReadonlySet<string>;
}

export interface BenchOptions {
  chosen: readonly Chosen[];
  effort: EffortName;
  /** Where to write all reports as JSON. */
  json: string | null;
  /** Write results/NAME.json, the charts and results/README.md. */
  save: boolean;
  /** Install what the pps bench compares with, before all else. */
  peers: boolean;
  /** Measure nothing: draw charts and tables of what results/ has. */
  render: boolean;
  /** Exit 1 when the median ratio of a case of the path bench is above this. */
  gate: number | null;
  /** Revision to compare with, as git understands it. */
  compare: string | null;
  /** Exit 1 when a case takes this many times as long as in the revision. */
  threshold: number;
}

const DEFAULT_THRESHOLD = 1.1;

function benchLines(): string {
  const lines = BENCHES.map(({ name, about, needsRoot, words }) => {
    const more = words ? `; words: ${words.join(', ')}` : '';
    return `  ${name.padEnd(16)}${about}${needsRoot ? '; root' : ''}${more}`;
  });
  return lines.join('\n');
}

const DEFAULTS = BENCHES.filter(({ byDefault }) => byDefault).map(({ name }) => name);

export const USAGE = `usage: npm run bench -- [NAME [WORD…]]… [--quick | --smoke] [--save] [--json FILE] [--gate RATIO]
       npm run bench -- [NAME…] --compare REVISION [--threshold RATIO] [--quick] [--json FILE]
       npm run bench -- --render

${benchLines()}
  all             every one of these. None named: ${DEFAULTS.join(', ')}; with --smoke all

  --quick         fewer cases, fewer and shorter trials: ${DEFAULTS.join(', ')} in under two minutes, wider spread
  --smoke         only shows that everything runs and does what it should; its numbers say nothing
  --save          writes bench/results/NAME.json, its charts as SVG, and bench/results/README.md
  --peers         has apt install what pps compares with and is not there: DPDK's testpmd
  --render        draws charts and tables of bench/results/ again, and measures nothing
  --json FILE     reports of all benches that ran, every trial and the machine
  --gate 1.3      exit 1 when the median ratio of a path case is above this
  --compare REV   what ${COMPARED.join(', ')} take here, as a ratio to that revision, in turn. Exit 1 when a case became slower: all its rounds are above 1,
                  their median above the threshold
  --threshold R   default ${DEFAULT_THRESHOLD}`;

/** Arguments that make no sense; the message says which. */
export class UsageError extends Error {}

/** Parses the command line. null when help was asked for; UsageError for what is not understood. */
export function parseOptions(args: readonly string[]): BenchOptions | null {
  const { values, positionals } = read(args);
  if (values.help) return null;
  if (values.quick && values.smoke) throw new UsageError('--quick and --smoke exclude each other');
  const effort: EffortName = values.smoke ? 'smoke' : values.quick ? 'quick' : 'full';
  const compare = values.compare ?? null;
  const chosen = choose(positionals, compare === null ? (effort === 'smoke' ? 'all' : 'default') : 'compared');
  const gate = ratio('--gate', values.gate);
  const threshold = ratio('--threshold', values.threshold);
  const options = { save: values.save, peers: values.peers, render: values.render, json: values.json ?? null };
  if (gate !== null && !chosen.some(({ bench }) => bench.aboveGate))
    throw new UsageError('--gate is about the path bench, which was not asked for');
  if (values.save && effort === 'smoke') throw new UsageError('--save: numbers of a smoke run say nothing');
  const part = chosen.find(({ bench, words }) => words.size < (bench.words?.length ?? 0));
  if (values.save && part) throw new UsageError(`--save: that would replace all of ${part.bench.name} by a part of it`);
  if (values.peers && !chosen.some(({ bench }) => bench.name === 'pps'))
    throw new UsageError('--peers is about the pps bench, which was not asked for');
  if (values.render && (positionals.length > 0 || values.save || compare !== null || options.json !== null))
    throw new UsageError('--render measures nothing: it stands alone');
  if (compare === null && threshold !== null) throw new UsageError('--threshold is for --compare');
  if (compare !== null) refuseWithCompare(chosen, values.save, gate);
  return { chosen, effort, ...options, gate, compare, threshold: threshold ?? DEFAULT_THRESHOLD };
}

function refuseWithCompare(chosen: readonly Chosen[], save: boolean, gate: number | null): void {
  if (save || gate !== null) throw new UsageError('--compare takes neither --save nor --gate');
  const other = chosen.find(({ bench }) => !COMPARED.includes(bench.name));
  if (other) throw new UsageError(`--compare knows ${COMPARED.join(', ')}, not ${other.bench.name}`);
}

/** Benches of these names, in the order in which they run, with the words that belong to them. */
function choose(positionals: readonly string[], otherwise: 'all' | 'default' | 'compared'): Chosen[] {
  const names = new Set<string>();
  const words: string[] = [];
  for (const name of positionals) {
    if (name === 'all') for (const bench of BENCHES) names.add(bench.name);
    else if (BENCHES.some((bench) => bench.name === name)) names.add(name);
    else if (BENCHES.some((bench) => bench.words?.includes(name))) words.push(name);
    else throw new UsageError(`unknown bench "${name}": there are ${BENCHES.map((bench) => bench.name).join(', ')}`);
  }
  const stray = words.find((word) => !BENCHES.some((bench) => names.has(bench.name) && bench.words?.includes(word)));
  if (stray !== undefined) {
    const owners = BENCHES.filter((bench) => bench.words?.includes(stray)).map(({ name }) => name);
    throw new UsageError(`${stray}: a word of ${owners.join(', ')}, not of what was asked for`);
  }
  const wanted = ({ name, byDefault }: Bench): boolean => {
    if (names.size > 0) return names.has(name);
    if (otherwise === 'compared') return name === COMPARED[0];
    return otherwise === 'all' || byDefault;
  };
  return BENCHES.filter(wanted).map((bench) => {
    const named = words.filter((word) => bench.words?.includes(word));
    return { bench, words: new Set(named.length > 0 ? named : (bench.words ?? [])) };
  });
}

function ratio(option: string, text: string | undefined): number | null {
  if (text === undefined) return null;
  const value = Number(text);
  if (!(value > 0)) throw new UsageError(`${option} takes a ratio such as 1.3, not "${text}"`);
  return value;
}

function read(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        quick: { type: 'boolean', default: false },
        smoke: { type: 'boolean', default: false },
        save: { type: 'boolean', default: false },
        peers: { type: 'boolean', default: false },
        render: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
        gate: { type: 'string' },
        json: { type: 'string' },
        compare: { type: 'string' },
        threshold: { type: 'string' },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}
