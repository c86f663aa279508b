/**
 * Match programs as functions, for one worker. JavaScript where the process may compile it; where Node runs with
 * --disallow-code-generation-from-strings, and for programs with loops, the interpreter.
 */
import { compileJavaScript } from '../../shared/cbpf/javascript.js';
import { interpret } from '../../shared/cbpf/interpret.js';
import { link } from '../../shared/cbpf/link.js';
import { hasLoop } from '../../shared/cbpf/loops.js';
import type { PacketMatch, Program } from '../../shared/cbpf/program.js';
import type { RuleProgram } from '../../shared/layout.js';

/** Programs that are compiled at once: few calls of the compiler, and no source that is too long. */
const BATCH = 256;

/** A program as a worker runs it. */
export interface LoadedProgram {
  readonly match: PacketMatch;
  /** The program sees the frame from its Ethernet header on; else the packet from its layer-3 header on. */
  readonly wantsFrame: boolean;
}

interface Missing {
  key: string;
  program: Program;
}

/** The functions of the programs in use. A program that was there before, by its content, keeps its function. */
export class ProgramShelf {
  #loaded: ReadonlyMap<string, LoadedProgram> = new Map();
  #interpreted = 0;
  #compiles = true;

  /** Programs in use that the interpreter runs. */
  get interpreted(): number {
    return this.#interpreted;
  }

  /** False once Node has refused to compile: everything is interpreted. */
  get compiles(): boolean {
    return this.#compiles;
  }

  /** Takes these programs into use, and lets go of all others. In the order given. */
  load(programs: readonly RuleProgram[]): LoadedProgram[] {
    const keys = programs.map(({ link: kind, words }) => `${kind} ${Buffer.from(words).toString('latin1')}`);
    const missing: Missing[] = [];
    programs.forEach(({ link: kind, words }, i) => {
      if (!this.#loaded.has(keys[i])) missing.push({ key: keys[i], program: { link: kind, words: copyOf(words) } });
    });
    const all = new Map(this.#loaded);
    for (let i = 0; i < missing.length; i += BATCH) this.#add(missing.slice(i, i + BATCH), all);
    const inUse = new Map(keys.map((key) => [key, all.get(key)!]));
    this.#loaded = inUse;
    this.#interpreted = [...inUse.values()].filter(({ match }) => interpreters.has(match)).length;
    return keys.map((key) => inUse.get(key)!);
  }

  #add(batch: readonly Missing[], to: Map<string, LoadedProgram>): void {
    const matches = this.#functions(batch.map(({ program }) => program));
    batch.forEach(({ key, program }, i) => {
      to.set(key, { match: matches[i], wantsFrame: program.link === 'ethernet' });
    });
  }

  #functions(programs: readonly Program[]): PacketMatch[] {
    const straight = programs.filter((program) => !hasLoop(program));
    const compiled = new Map<Program, PacketMatch>();
    const functions = this.#compiles && straight.length > 0 ? this.#compile(straight) : null;
    functions?.forEach((match, i) => compiled.set(straight[i], match));
    return programs.map((program) => compiled.get(program) ?? interpreter(program));
  }

  #compile(programs: readonly Program[]): readonly PacketMatch[] | null {
    try {
      return link(compileJavaScript(programs));
    } catch (error) {
      if (!(error instanceof EvalError)) throw error;
      this.#compiles = false;
      return null;
    }
  }
}

const interpreters = new WeakSet<PacketMatch>();

function interpreter(program: Program): PacketMatch {
  const match: PacketMatch = (view, at, length, wireLength) => interpret(program, view, at, length, wireLength);
  interpreters.add(match);
  return match;
}

/** The interpreter reads an ordinary array faster, and the compiler keeps nothing of the shared one. */
function copyOf(words: SharedArrayBuffer): Int32Array {
  return new Int32Array(words).slice();
}
