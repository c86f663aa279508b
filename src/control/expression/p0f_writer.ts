/** The instructions of one way to match a p0f signature: where the headers are, and what must hold of them. */
import type { Assembler, Label } from '../../shared/cbpf/assembler.js';
import { Code } from '../../shared/cbpf/program.js';
import { QUIRK_FAMILY, type P0fSignature, type Quirk } from './p0f_signature.js';

/** Cells of M[]. Positions count from the layer-3 header. */
export const enum Cell {
  /** Start of the TCP header, where that is not the same in every packet. */
  tcp = 0,
  /** Where reading options goes on behind one whose length the packet says. */
  position = 1,
  /** End of the TCP header. */
  end = 2,
  mss = 3,
  timestamp = 4,
  window = 5,
  /** Quirks that one of several options must have: 1 once one has it. */
  tally = 8,
}

/** Quirks of options; their order is that of the cells from `tally` on. */
const TALLIED: readonly Quirk[] = ['ts1-', 'ts2+', 'exws', 'bad'];

/** What reading the options comes to: their end as it should be; amid the last one (it is malformed); 24 options, and more behind. */
export type Ending = 'complete' | 'aborted' | 'more';

/**
 * Writes what one way needs. `fail` is where a packet goes that does not match this way. Offsets are from the TCP header, or from `position` once
 * that is known; `origin` is what an offset of 0 is from the layer-3 header, null where X has it.
 */
export class P0fWriter {
  origin: number | null;
  #xCell: Cell = Cell.tcp;
  /** Bytes that must be at consecutive offsets, not written yet: they make few loads. */
  #expected: number[] = [];
  #expectedAt = 0;
  readonly #counts = new Map<Quirk, number>();

  constructor(
    readonly asm: Assembler,
    readonly fail: Label,
    readonly signature: P0fSignature,
    readonly family: 4 | 6,
    readonly ending: Ending,
  ) {
    const { optionBytes } = signature;
    this.origin = family === 6 ? 40 : optionBytes === null ? null : 20 + optionBytes;
  }

  /** true: the packet must have it; false: must not; null: either. */
  wants(quirk: Quirk): boolean | null {
    const { quirks, otherQuirks } = this.signature;
    const of = QUIRK_FAMILY[quirk];
    if (of !== undefined && of !== this.family) return null;
    if (quirk === 'bad' && this.ending !== 'complete') return null;
    if (quirks.has(quirk)) return true;
    return otherQuirks || quirk === 'linux' ? null : false;
  }

  /** Loads 1, 2 or 4 bytes into A. */
  load(size: 1 | 2 | 4, offset: number): void {
    if (this.origin !== null) {
      this.asm.op(size === 4 ? Code.LD_W_ABS : size === 2 ? Code.LD_H_ABS : Code.LD_B_ABS, this.origin + offset);
    } else this.asm.op(size === 4 ? Code.LD_W_IND : size === 2 ? Code.LD_H_IND : Code.LD_B_IND, offset);
  }

  /** A = the position of an offset. */
  positionOf(offset: number): void {
    if (this.origin !== null) this.asm.op(Code.LD_IMM, this.origin + offset);
    else {
      this.asm.op(Code.TXA);
      if (offset !== 0) this.asm.op(Code.ADD_K, offset);
    }
  }

  /** X = what load needs, after it was used for something else. */
  restore(): void {
    if (this.origin === null) this.asm.op(Code.LDX_MEM, this.#xCell);
  }

  /** Offsets count from the position in A from now on. */
  moveTo(): void {
    this.asm.op(Code.ST, Cell.position);
    this.asm.op(Code.TAX);
    this.origin = null;
    this.#xCell = Cell.position;
  }

  /** A compared with k must be so. */
  must(code: Code, k: number, holds = true): void {
    this.asm.branch(code, k, holds ? null : this.fail, holds ? this.fail : null);
  }

  /** Bytes from `offset` on. */
  expect(offset: number, ...bytes: readonly number[]): void {
    if (this.#expectedAt + this.#expected.length !== offset) {
      this.flush();
      this.#expectedAt = offset;
    }
    this.#expected.push(...bytes);
  }

  /** Writes what `expect` has gathered. Before offsets change their meaning. */
  flush(): void {
    for (let i = 0; i < this.#expected.length;) {
      const left = this.#expected.length - i;
      const size = left >= 4 ? 4 : left >= 2 ? 2 : 1;
      const value = this.#expected.slice(i, i + size).reduce((sum, byte) => (sum << 8) | byte, 0);
      this.load(size, this.#expectedAt + i);
      this.must(Code.JEQ_K, value);
      i += size;
    }
    this.#expected = [];
  }

  /** A quirk that is there when one of these jumps is taken: each is written by a function that loads A first. */
  quirk(quirk: Quirk, tests: readonly { load: () => void; code: Code; k: number }[]): void {
    const wanted = this.wants(quirk);
    if (wanted === null) return;
    const found = this.asm.label();
    tests.forEach(({ load, code, k }, i) => {
      load();
      if (!wanted) this.must(code, k, false);
      else this.asm.branch(code, k, found, i === tests.length - 1 ? this.fail : null);
    });
    this.asm.place(found);
  }

  /** How many options may have a quirk that one of them must have. */
  count(quirk: Quirk, options: number): void {
    this.#counts.set(quirk, options);
  }

  /** Whether the quirks that options must have are possible: some option may have each. */
  get possible(): boolean {
    return TALLIED.every((quirk) => this.wants(quirk) !== true || (this.#counts.get(quirk) ?? 0) > 0);
  }

  /** Cells of quirks that several options may have, empty. Before any option. */
  beginTally(): void {
    for (const quirk of this.#tallied()) {
      this.asm.op(Code.LD_IMM, 0);
      this.asm.op(Code.ST, Cell.tally + TALLIED.indexOf(quirk));
    }
  }

  /** One option has the quirk when the jump on A is taken. */
  tally(quirk: Quirk, code: Code, k: number, taken = true): void {
    const wanted = this.wants(quirk);
    if (wanted === null) return;
    if (!wanted || this.#counts.get(quirk) === 1) {
      this.must(code, k, wanted === taken);
      return;
    }
    const next = this.asm.label();
    this.asm.branch(code, k, taken ? null : next, taken ? next : null);
    this.asm.op(Code.LD_IMM, 1);
    this.asm.op(Code.ST, Cell.tally + TALLIED.indexOf(quirk));
    this.asm.place(next);
  }

  endTally(): void {
    for (const quirk of this.#tallied()) {
      this.asm.op(Code.LD_MEM, Cell.tally + TALLIED.indexOf(quirk));
      this.must(Code.JEQ_K, 1);
    }
  }

  #tallied(): Quirk[] {
    return TALLIED.filter((quirk) => this.wants(quirk) === true && (this.#counts.get(quirk) ?? 0) > 1);
  }
}
