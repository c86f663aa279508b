/**
 * Programs as JavaScript. A packet costs what its path costs: one straight piece of code, no loop, no call but the DataView's, no allocation.
 *
 * Only numbers come from the program. Names are one letter and a number: v view, p at, n length, w wire length, a A, x X, m0 M[0], o the
 * offset of an indirect load, t and h loads that are kept, s the next instruction, b blocks, q programs, g parts of a long list.
 * `tokens.ts` has the whole vocabulary.
 */
import { SluiceError } from '../../errors.js';
import { SourceBody } from './javascript_body.js';
import { countLoads } from './loads.js';
import { hasLoop } from './loops.js';
import { instructionCount, type Program } from './program.js';
import { simplify } from './simplify.js';
import { SOURCE_MOST } from './tokens.js';

export interface JavaScriptOptions {
  /** One function for all programs: it returns the index of the first that matches, −1 for none. */
  together?: boolean;
}

/** Instructions of one function, about: V8 does not optimise above 60 KiB of its bytecode, and takes longer the longer it is. */
const PART_INSTRUCTIONS = 600;
/** Loads that a function of several programs does for all of them first. */
const HOISTED_MOST = 12;

const HEAD = '(v, p, n, w) {';
const INTEGERS = '  p = p | 0; n = n | 0; w = w | 0;';
const OUTSIDE = '  if (p < 0 || n < 0 || n > v.byteLength - p) return';

/**
 * Source of a function body that returns an array of functions, one a program (or one for all), each a PacketMatch; `link` makes it one.
 * The programs have passed checkProgram: none has a loop (loops.ts), the interpreter runs those.
 *
 * @throws SluiceError SLUICE_CONFIG when the source would be longer than SOURCE_MOST, RangeError for a program with a loop
 */
export function compileJavaScript(programs: readonly Program[], options: JavaScriptOptions = {}): string {
  if (programs.some(hasLoop)) throw new RangeError('a program with a loop has no JavaScript');
  const simple = programs.map(simplify);
  const lines = ['"use strict";'];
  if (options.together) writeTogether(lines, simple);
  else {
    lines.push('return [');
    for (const program of simple) {
      const body = new SourceBody(new Map());
      body.add(program.words);
      lines.push(`function ${HEAD}`, INTEGERS, `${OUTSIDE} 0;`, ...body.declarations(), ...body.lines, '},');
    }
    lines.push('];');
  }
  const source = lines.join('\n') + '\n';
  if (source.length <= SOURCE_MOST) return source;
  const limit = `${source.length} characters, at most ${SOURCE_MOST} are compiled`;
  throw new SluiceError('SLUICE_CONFIG', `match programs make ${limit}`, 'Use fewer or shorter programs.');
}

function writeTogether(lines: string[], programs: readonly Program[]): void {
  const parts = split(programs);
  parts.forEach(({ first, programs: members }, part) => {
    const hoisted = commonLoads(members);
    const body = new SourceBody(hoisted);
    members.forEach((program, i) => body.add(program.words, first + i));
    lines.push(
      `function g${part}${HEAD}`,
      ...body.declarations(),
      ...body.hoists(),
      ...body.lines,
      '  return -1;',
      '}',
    );
  });
  lines.push('return [', `function ${HEAD}`, INTEGERS, `${OUTSIDE} -1;`, '  var r = -1;');
  parts.forEach((_, part) => lines.push(`  r = g${part}(v, p, n, w);`, '  if (r >= 0) return r;'));
  lines.push('  return -1;', '},', '];');
}

interface Part {
  first: number;
  programs: Program[];
}

function split(programs: readonly Program[]): Part[] {
  const parts: Part[] = [];
  let room = 0;
  programs.forEach((program, i) => {
    room -= instructionCount(program);
    if (parts.length === 0 || room < 0) {
      parts.push({ first: i, programs: [] });
      room = PART_INSTRUCTIONS - instructionCount(program);
    }
    parts[parts.length - 1].programs.push(program);
  });
  return parts;
}

/** Number of the variable for each load that several programs do. */
function commonLoads(programs: readonly Program[]): Map<number, number> {
  const users = new Map<number, number>();
  for (const program of programs) {
    for (const key of countLoads(program.words).keys()) users.set(key, (users.get(key) ?? 0) + 1);
  }
  const common = [...users].filter(([, count]) => count > 1).sort(([, one], [, two]) => two - one);
  return new Map(common.slice(0, HOISTED_MOST).map(([key], i) => [key, i]));
}
