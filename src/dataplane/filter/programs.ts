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

/** Programs that are compiled in one go: some 5 ms, in which no packet moves. */
const BATCH = 64;

/** A program as a worker runs it. */
export interface LoadedProgram {
  match: PacketMatch;
  /** The program sees the frame from its Ethernet header on; else the packet from its layer-3 header on. */
  readonly wantsFrame: boolean;
}

interface Held extends LoadedProgram {
  readonly program: Program;
  state: 'compiled' | 'interpreted' | 'waits';
}

/**
 * The programs in use. One that was there before, by its content, stays as it is, so that a change of other things compiles nothing. Of many new ones the first are
 * compiled at once; the others are interpreted until `compileSome` has come to them.
 */
export class ProgramShelf {
  #held: ReadonlyMap<string, Held> = new Map();
  #waiting: Held[] = [];
  #compiles: boolean;

  /** `compiles`: false is for tests and benches, as if Node did not allow it. */
  constructor(compiles = true) {
    this.#compiles = compiles;
  }

  /** Programs in use, each once. */
  get size(): number {
    return this.#held.size;
  }

  /** Those of them that the interpreter runs, those that wait to be compiled among them. */
  get interpreted(): number {
    let count = 0;
    for (const { state } of this.#held.values()) if (state !== 'compiled') count++;
    return count;
  }

  /** False once Node has refused to compile: everything is interpreted. */
  get compiles(): boolean {
    return this.#compiles;
  }

  /** Takes these programs into use, and lets go of all others. In the order given. The first time, before packets flow, all are compiled. */
  load(programs: readonly RuleProgram[]): LoadedProgram[] {
    const starts = this.#held.size === 0;
    const held = new Map<string, Held>();
    const loaded = programs.map(({ link: kind, words }) => {
      const key = `${kind} ${Buffer.from(words).toString('latin1')}`;
      const known = held.get(key) ?? this.#held.get(key) ?? hold({ link: kind, words: new Int32Array(words).slice() });
      held.set(key, known);
      return known;
    });
    this.#held = held;
    this.#waiting = [...held.values()].filter(({ state }) => state === 'waits');
    this.compileSome(starts ? Infinity : BATCH);
    return loaded;
  }

  /** Compiles some of what waits. Call it now and then, between two bursts. */
  compileSome(most = BATCH): void {
    for (let left = most; left > 0 && this.#waiting.length > 0; left -= BATCH) {
      this.#compileBatch(this.#waiting.splice(0, Math.min(left, BATCH)));
    }
  }

  #compileBatch(batch: readonly Held[]): void {
    const matches = this.#compile(batch.map(({ program }) => program));
    batch.forEach((held, i) => {
      held.state = matches === null ? 'interpreted' : 'compiled';
      if (matches !== null) held.match = matches[i];
    });
  }

  #compile(programs: readonly Program[]): readonly PacketMatch[] | null {
    if (!this.#compiles) return null;
    try {
      return link(compileJavaScript(programs));
    } catch (error) {
      if (!(error instanceof EvalError)) throw error;
      this.#compiles = false;
      return null;
    }
  }
}

function hold(program: Program): Held {
  return {
    match: (view, at, length, wireLength) => interpret(program, view, at, length, wireLength),
    wantsFrame: program.link === 'ethernet',
    program,
    state: hasLoop(program) ? 'interpreted' : 'waits',
  };
}
