/** Programs written with labels: the distances of jumps, and relays where one goes further than a conditional jump can, are worked out here. */
import { checkProgram } from './check.js';
import { Code, isReturn, programOf, Word, type Instruction, type Program } from './program.js';
import { simplify } from './simplify.js';

/** A place in a program that jumps may go to; `Assembler.label` makes one. */
export type Label = number & { readonly label: unique symbol };

/** As far as jt and jf reach. */
const REACH = 255;

interface Item {
  readonly code: number;
  readonly k: number;
  /** Of a jump: where to; null: to the next item. JA has `yes` alone. */
  readonly yes: Label | null;
  readonly no: Label | null;
  /** The jump goes to a relay behind this item. */
  farYes: boolean;
  farNo: boolean;
}

/** Writes one program from front to back. Jumps go forward only: a label is placed after the jumps to it. */
export class Assembler {
  readonly #items: Item[] = [];
  /** Item that a label stands in front of; −1: not placed yet. */
  readonly #labels: number[] = [];

  /** Instructions written so far, relays not counted. */
  get size(): number {
    return this.#items.length;
  }

  label(): Label {
    return (this.#labels.push(-1) - 1) as Label;
  }

  /** The next instruction is where these labels are. */
  place(...labels: readonly Label[]): void {
    for (const label of labels) this.#labels[label] = this.#items.length;
  }

  /** An instruction that is no jump. */
  op(code: Code, k = 0): void {
    this.#items.push({ code, k, yes: null, no: null, farYes: false, farNo: false });
  }

  jump(to: Label): void {
    this.#items.push({ code: Code.JA, k: 0, yes: to, no: null, farYes: false, farNo: false });
  }

  /** A conditional jump; null: go on with the next instruction. */
  branch(code: Code, k: number, yes: Label | null, no: Label | null): void {
    this.#items.push({ code, k, yes, no, farYes: false, farNo: false });
  }

  /**
   * The program, simplified; null when it has more instructions than the kernel takes.
   *
   * @throws Error when the kernel would not take it otherwise, which is a mistake of whoever wrote it: a label that was not placed, a jump back
   */
  build(link: Program['link']): Program | null {
    const places = this.#settle();
    const instructions: Instruction[] = [];
    this.#items.forEach((item, i) => {
      const at = places[i];
      const distance = (to: Label | null): number => (to === null ? 0 : this.#target(to, places) - at - 1);
      if (item.yes === null && item.no === null) instructions.push([item.code, 0, 0, item.k | 0]);
      else if (item.code === Code.JA) instructions.push([Code.JA, 0, 0, distance(item.yes)]);
      else {
        const relays = [item.farYes ? item.yes : null, item.farNo ? item.no : null].filter((to) => to !== null);
        const edge = (to: Label | null, far: boolean, relay: number): number =>
          to === null ? relays.length : far ? relay : distance(to);
        const no = edge(item.no, item.farNo, relays.length - 1);
        instructions.push([item.code, edge(item.yes, item.farYes, 0), no, item.k | 0]);
        for (const to of relays) instructions.push(this.#relay(to, places, instructions.length));
      }
    });
    if (instructions.length > Word.MAX_INSTRUCTIONS) return null;
    const program = programOf(link, instructions);
    const reason = checkProgram(program);
    if (reason !== null) throw new Error(`a program that was generated is wrong: ${reason}`);
    return simplify(program);
  }

  /** Finds out which jumps need a relay; gives the place of every item, and of the end. */
  #settle(): number[] {
    for (;;) {
      const places = [0];
      for (const { farYes, farNo } of this.#items) places.push(places[places.length - 1] + 1 + +farYes + +farNo);
      let changed = false;
      this.#items.forEach((item, i) => {
        if (item.code === Code.JA) return;
        const isFar = (to: Label | null): boolean => to !== null && this.#target(to, places) - places[i] - 1 > REACH;
        if (!item.farYes && isFar(item.yes)) changed = item.farYes = true;
        if (!item.farNo && isFar(item.no)) changed = item.farNo = true;
      });
      if (!changed) return places;
    }
  }

  /** What stands between a jump and its far end: the return that is there, or a jump on. */
  #relay(to: Label, places: readonly number[], at: number): Instruction {
    const { code, k } = this.#items[this.#labels[to]];
    return isReturn(code) ? [code, 0, 0, k] : [Code.JA, 0, 0, this.#target(to, places) - at - 1];
  }

  #target(label: Label, places: readonly number[]): number {
    const item = this.#labels[label];
    if (item === -1) throw new Error('a label was not placed');
    return places[item];
  }
}
