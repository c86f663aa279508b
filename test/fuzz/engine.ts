/**
 * Fuzzing of parsers: inputs of a corpus, changed at random, into a parser that may refuse them in words and do nothing else wrong. Without the
 * coverage that libFuzzer is led by, so what matters is that mutations keep most of an input right: they work on its words.
 *
 * SLUICE_FUZZ_SECONDS: how long each target runs, with other mutations every time, in place of its few thousand fixed ones. SEED repeats a run.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { randomSource, type Random } from '../support/cbpf_programs.js';

export interface FuzzTarget {
  /** Name of the folder of its inputs in corpus/. */
  readonly name: string;
  /** Words that mutations put in. */
  readonly words: readonly string[];
  /** An input that no seed is near to. */
  readonly make?: (random: Random) => string;
  /** Inputs of one call of `check`; default 1. */
  readonly batch?: number;
  /** Mutations of a usual run. */
  readonly mutations: number;
  /** Throws when the parser does what it must not. Returns how many of the inputs it took. */
  check(inputs: readonly string[], random: Random): number;
}

export interface FuzzRun {
  inputs: number;
  /** Inputs that the parser took. */
  taken: number;
}

const corpus = fileURLToPath(new URL('corpus/', import.meta.url));

/** The seeds of a target: of a file *.lines each line is one, any other file is one. */
export function seedsOf(name: string): string[] {
  const folder = join(corpus, name);
  return readdirSync(folder)
    .sort()
    .flatMap((file) => {
      const text = readFileSync(join(folder, file), 'utf8');
      return file.endsWith('.lines') ? text.replace(/\n$/, '').split('\n') : [text];
    });
}

/** Runs the seeds, then mutations of them. Throws with the input that shows the fault, and where it was put. */
export function fuzz(target: FuzzTarget): FuzzRun {
  const seconds = Number(process.env.SLUICE_FUZZ_SECONDS ?? 0);
  const seed = Number(process.env.SEED ?? (seconds > 0 ? Date.now() % 1_000_000_007 : 20261121));
  const random = randomSource(seed);
  const seeds = seedsOf(target.name);
  const run: FuzzRun = { inputs: 0, taken: 0 };
  const { batch = 1 } = target;
  for (let i = 0; i < seeds.length; i += batch) check(target, seeds.slice(i, i + batch), random, run, seed);
  const until = performance.now() + seconds * 1000;
  for (let left = target.mutations; seconds > 0 ? performance.now() < until : left > 0; left -= batch) {
    const inputs = Array.from({ length: batch }, () =>
      target.make !== undefined && random(3) === 0 ? target.make(random) : mutated(random, seeds, target.words),
    );
    check(target, inputs, random, run, seed);
  }
  return run;
}

function check(target: FuzzTarget, inputs: readonly string[], random: Random, run: FuzzRun, seed: number): void {
  const [begin, cpu] = [performance.now(), process.cpuUsage()];
  run.inputs += inputs.length;
  try {
    run.taken += target.check(inputs, random);
    const { user, system } = process.cpuUsage(cpu);
    // Another process may have the CPU: both clocks have to say that it took long.
    const ms = Math.min(performance.now() - begin, (user + system) / 1000);
    if (ms > SLOW_MS * inputs.length) throw new Error(`took ${Math.round(ms)} ms`);
  } catch (cause) {
    if (inputs.length > 1) {
      // Which one was it?
      for (const input of inputs) check(target, [input], random, run, seed);
    }
    const file = join(tmpdir(), `sluice-fuzz-${target.name}-${seed}-${run.inputs}`);
    writeFileSync(file, inputs.join('\n'));
    const shown = JSON.stringify(inputs).slice(0, 1000);
    throw new Error(`${target.name}: ${String(cause)}\nseed ${seed}, input ${shown}\nIt is in ${file}.`, { cause });
  }
}

/** No input here is worth more CPU time in this process, ms. */
const SLOW_MS = 2000;

const LENGTH_MOST = 20_000;
const ODD = [
  '\0',
  '\n',
  '\r\n',
  '\t',
  ' ',
  '  ',
  '"',
  "'",
  '\\',
  '`',
  '$(',
  '%s',
  '\u202e',
  '\u2028',
  '\ud800',
  'é',
  '٣',
  '１',
];
const NUMBERS = [
  ...[
    '0',
    '1',
    '-1',
    '+1',
    '00',
    '1.5',
    '1e9',
    '0x10',
    '010',
    '',
    '127',
    '128',
    '255',
    '256',
    '32767',
    '32768',
    '65535',
  ],
  ...[
    '65536',
    '2147483647',
    '2147483648',
    '4294967295',
    '4294967296',
    '9007199254740993',
    '18446744073709551616',
    'NaN',
  ],
];

function pick<T>(random: Random, from: readonly T[]): T {
  return from[random(from.length)];
}

/** A seed with one to five changes. */
function mutated(random: Random, seeds: readonly string[], words: readonly string[]): string {
  let text = pick(random, seeds);
  for (let left = 1 + random(random(4) === 0 ? 8 : 3); left > 0; left--) text = changed(random, text, seeds, words);
  return text.slice(0, LENGTH_MOST);
}

function changed(random: Random, text: string, seeds: readonly string[], words: readonly string[]): string {
  const parts = text.match(/[A-Za-z0-9_]+|\s+|[^A-Za-z0-9_\s]/g) ?? [''];
  const at = random(parts.length);
  const splice = (remove: number, ...more: string[]): string => parts.toSpliced(at, remove, ...more).join('');
  const place = random(text.length + 1);
  switch (random(12)) {
    case 0:
      return splice(1 + random(3));
    case 1:
      return splice(0, parts[at], pick(random, ['', ' ', ',', '.']), parts[at]);
    case 2:
      return splice(1, pick(random, words));
    case 3:
      return splice(0, pick(random, words), random(2) === 0 ? ' ' : '');
    case 4:
      return splice(1, parts[random(parts.length)]);
    case 5:
      return text.replace(/\d+/g, (number) => (random(3) === 0 ? pick(random, NUMBERS) : number));
    case 6: {
      const other = pick(random, seeds);
      return text.slice(0, place) + other.slice(random(other.length + 1));
    }
    case 7:
      return text.slice(0, place) + pick(random, ODD) + text.slice(place);
    case 8:
      return text.slice(0, place) + text.slice(place + 1 + random(8));
    case 9: {
      const lines = text.split('\n');
      const [one, two] = [random(lines.length), random(lines.length)];
      return lines.toSpliced(one, random(2), lines[two]).join('\n');
    }
    case 10:
      return text.slice(0, place) + String.fromCharCode(random(random(4) === 0 ? 65536 : 128)) + text.slice(place + 1);
    default:
      return splice(1, parts[at].repeat(random(random(10) === 0 ? 2000 : 20)));
  }
}
