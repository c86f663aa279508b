import { checkProgram } from './check.js';
import { hasLoop } from './loops.js';
import { Bpf, Code, isConditional, isPacketLoad, isReturn, loadSize, Word, type Program } from './program.js';
import { isOnly, type Range } from './ranges.js';
import { after, along, knownValues, loadKey, operandOf, operationAt, type Known, type Operation } from './values.js';

/** Rounds until nothing changes; real programs need two or three. */
const ROUNDS_MOST = 6;
/** Jumps that are followed from one edge. */
const HOPS_MOST = 8;

/**
 * A program with the same result for every packet, with constants folded, branches that cannot be taken and values that nobody reads removed, and
 * jumps led to where they end. Takes a program that has passed checkProgram, and the result passes too;
 * one with a loop is given back as it is.
 */
export function simplify(program: Program): Program {
  if (hasLoop(program)) return program;
  let words: Int32Array = program.words.slice();
  for (let round = 0; round < ROUNDS_MOST; round++) {
    const known = knownValues({ link: program.link, words });
    const changed = fold(words, known);
    const threaded = thread(words, known);
    const removed = removeDead(words, known);
    const size = words.length;
    words = compact(words, program.link);
    if (!changed && !threaded && !removed && words.length === size) break;
  }
  const simple: Program = { link: program.link, words };
  // The kernel's rule for M[] goes by the order of instructions, which has changed.
  return checkProgram(simple) === null ? simple : program;
}

function put(words: Int32Array, index: number, code: number, k: number): true {
  words.set([code, 0, 0, k], index * Word.SIZE);
  return true;
}

/** Replaces one by one what is decided already. An instruction without effect becomes JA 0. */
function fold(words: Int32Array, known: readonly (Known | null)[]): boolean {
  let changed = false;
  known.forEach((state, i) => {
    if (state !== null && foldOne(words, i, state)) changed = true;
  });
  return changed;
}

function foldOne(words: Int32Array, i: number, state: Known): boolean {
  const operation = operationAt(words, i);
  const { code, k } = operation;
  if (code === Code.JA || code === Code.RET_K) return false;
  if (code === Code.RET_A) return isOnly(state.a) && put(words, i, Code.RET_K, state.a.lo);
  if (isConditional(code)) return foldJump(words, i, state, operation);
  const next = after(operation, state);
  if (next === null) return put(words, i, Code.RET_K, 0);
  if (isPacketLoad(code)) {
    if ((code & Bpf.MODE) === Bpf.ABS) return loadKey(code, k) === state.load && put(words, i, Code.JA, 0);
    if (!isOnly(state.x)) return false;
    const offset = (state.x.lo + k) | 0;
    if (offset < 0) return put(words, i, Code.RET_K, 0);
    return put(words, i, Bpf.LD | (code & Bpf.SIZE) | Bpf.ABS, offset);
  }
  if (code === Code.LDX_MSH) return k === state.msh && put(words, i, Code.JA, 0);
  if (code === Code.ST || code === Code.STX) {
    return same(state.m[k], next.m[k]) && put(words, i, Code.JA, 0);
  }
  const setsX = (code & Bpf.CLASS) === Bpf.LDX || code === Code.TAX;
  const [before, behind, immediate] = setsX ? [state.x, next.x, Code.LDX_IMM] : [state.a, next.a, Code.LD_IMM];
  if (isOnly(behind)) {
    // By X = 0 there is no result, and the program ends.
    if ((code === Code.DIV_X || code === Code.MOD_X) && state.x.lo === 0) return false;
    if (same(before, behind)) return put(words, i, Code.JA, 0);
    return code !== immediate && put(words, i, immediate, behind.lo);
  }
  return (code & Bpf.CLASS) === Bpf.ALU && foldAlu(words, i, state, operation);
}

function same(one: Range, two: Range): boolean {
  return isOnly(one) && isOnly(two) && one.lo === two.lo;
}

function foldAlu(words: Int32Array, i: number, state: Known, operation: Operation): boolean {
  const { code } = operation;
  if (code === Code.NEG) return false;
  const operand = operandOf(operation, state);
  if (!isOnly(operand)) return false;
  const op = code & Bpf.OP;
  const k = op === Bpf.LSH || op === Bpf.RSH ? operand.lo & 31 : operand.lo | 0;
  const neutral = op === Bpf.MUL || op === Bpf.DIV ? 1 : op === Bpf.AND ? -1 : op === Bpf.MOD ? NaN : 0;
  if (k === neutral) return put(words, i, Code.JA, 0);
  return (code & Bpf.SRC) === Bpf.X && put(words, i, Bpf.ALU | op, k);
}

function foldJump(words: Int32Array, i: number, state: Known, operation: Operation): boolean {
  const { code, jt, jf } = operation;
  if (along(operation, state, true) === null) return put(words, i, Code.JA, jf);
  if (along(operation, state, false) === null || jt === jf) return put(words, i, Code.JA, jt);
  if ((code & Bpf.SRC) === Bpf.K || !isOnly(state.x)) return false;
  words.set([code & ~Bpf.SRC, jt, jf, state.x.lo], i * Word.SIZE);
  return true;
}

/**
 * Leads every jump to where it ends: behind other jumps, and behind tests that it has decided. From the last to the first: to leave out a test
 * sends more packets to a later one, for which what `known` says of it no longer holds.
 */
function thread(words: Int32Array, known: readonly (Known | null)[]): boolean {
  let changed = false;
  for (let i = known.length - 1; i >= 0; i--) {
    const state = known[i];
    if (state !== null && (words[i * Word.SIZE] & Bpf.CLASS) === Bpf.JMP && threadOne(words, i, state)) changed = true;
  }
  return changed;
}

function threadOne(words: Int32Array, i: number, state: Known): boolean {
  const operation = operationAt(words, i);
  const at = i * Word.SIZE;
  if (operation.code === Code.JA) {
    const end = follow(words, i + 1 + operation.k, state);
    const { code, k } = operationAt(words, end);
    if (isReturn(code)) return put(words, i, code, k);
    return end !== i + 1 + operation.k && put(words, i, Code.JA, end - i - 1);
  }
  let changed = false;
  for (const [field, taken] of [
    [Word.jt, true],
    [Word.jf, false],
  ] as const) {
    const edge = along(operation, state, taken);
    if (edge === null) continue;
    const distance = follow(words, i + 1 + words[at + field], edge) - i - 1;
    if (distance === words[at + field] || distance > 255) continue;
    words[at + field] = distance;
    changed = true;
  }
  const needless = withoutTest(words, i, state);
  return needless >= 0 ? put(words, i, Code.JA, needless) : changed;
}

/**
 * A test is needless when the next one would send to the same end what this one takes out. Distance to that next one, −1 when there is none.
 */
function withoutTest(words: Int32Array, i: number, state: Known): number {
  const operation = operationAt(words, i);
  for (const taken of [true, false]) {
    const edge = along(operation, state, taken);
    const end = i + 1 + (taken ? operation.jt : operation.jf);
    const next = i + 1 + (taken ? operation.jf : operation.jt);
    if (edge === null || next === end || !isConditional(words[next * Word.SIZE])) continue;
    if (alike(words, follow(words, next, edge), end)) return next - i - 1;
  }
  return -1;
}

/** Whether two instructions are one, or return the same. */
function alike(words: Int32Array, one: number, two: number): boolean {
  if (one === two) return true;
  const [a, b] = [operationAt(words, one), operationAt(words, two)];
  return a.code === b.code && (a.code === Code.RET_A || (a.code === Code.RET_K && a.k === b.k));
}

/** Where the program goes on that comes to `index` with this knowledge. */
function follow(words: Int32Array, index: number, edge: Known): number {
  for (let hops = 0; hops < HOPS_MOST; hops++) {
    const operation = operationAt(words, index);
    if (operation.code === Code.JA) index += 1 + operation.k;
    else if (!isConditional(operation.code)) return index;
    else if (along(operation, edge, true) === null) index += 1 + operation.jf;
    else if (along(operation, edge, false) === null) index += 1 + operation.jt;
    else return index;
  }
  return index;
}

/** Bits of what is read later: M[0] to M[15], then A and X. */
const A = 1 << 16;
const X = 1 << 17;

/** Makes JA 0 of what computes a value that nobody reads, unless it may end the program. */
function removeDead(words: Int32Array, known: readonly (Known | null)[]): boolean {
  const live = new Int32Array(known.length + 1);
  let changed = false;
  for (let i = known.length - 1; i >= 0; i--) {
    const { code, jt, jf, k } = operationAt(words, i);
    if (isReturn(code)) live[i] = code === Code.RET_A ? A : 0;
    else if (code === Code.JA) live[i] = live[i + 1 + k];
    else if (isConditional(code)) live[i] = live[i + 1 + jt] | live[i + 1 + jf] | A | ((code & Bpf.SRC) === 0 ? 0 : X);
    else {
      const { reads, writes } = effects(code, k);
      const state = known[i];
      const useless = (live[i + 1] & writes) === 0 && state !== null && !mayEnd(code, k, state);
      if (useless) changed = put(words, i, Code.JA, 0);
      live[i] = useless ? live[i + 1] : (live[i + 1] & ~writes) | reads;
    }
  }
  return changed;
}

function effects(code: number, k: number): { reads: number; writes: number } {
  switch (code & Bpf.CLASS) {
    case Bpf.LD:
      return { reads: (code & Bpf.MODE) === Bpf.IND ? X : code === Code.LD_MEM ? 1 << k : 0, writes: A };
    case Bpf.LDX:
      return { reads: code === Code.LDX_MEM ? 1 << k : 0, writes: X };
    case Bpf.ST:
      return { reads: A, writes: 1 << k };
    case Bpf.STX:
      return { reads: X, writes: 1 << k };
    case Bpf.ALU:
      return { reads: A | ((code & Bpf.SRC) === Bpf.X ? X : 0), writes: A };
    default:
      return code === Code.TAX ? { reads: A, writes: X } : { reads: X, writes: A };
  }
}

function mayEnd(code: number, k: number, { x, length }: Known): boolean {
  if (code === Code.DIV_X || code === Code.MOD_X) return x.lo === 0;
  if (code === Code.LDX_MSH) return k + 1 > length;
  if (!isPacketLoad(code)) return false;
  return (code & Bpf.MODE) === Bpf.IND || k + loadSize(code) > length;
}

/** Without what is never reached and jumps to the next instruction. */
function compact(words: Int32Array, link: Program['link']): Int32Array {
  const known = knownValues({ link, words });
  const count = known.length;
  const stays = known.map((state, i) => {
    const { code, k } = operationAt(words, i);
    return state !== null && !(code === Code.JA && k === 0);
  });
  /** New place of each instruction; of one that goes: of the next that stays. */
  const place = new Int32Array(count + 1);
  for (let i = 0; i < count; i++) place[i + 1] = place[i] + (stays[i] ? 1 : 0);
  const compacted = new Int32Array(place[count] * Word.SIZE);
  for (let i = 0; i < count; i++) {
    if (!stays[i]) continue;
    const { code, jt, jf, k } = operationAt(words, i);
    const from = place[i] + 1;
    const isJump = (code & Bpf.CLASS) === Bpf.JMP;
    // An edge that is never taken may lead behind what is left.
    const far = place[count] - 1 - from;
    const to = (distance: number): number => Math.min(far, place[i + 1 + distance] - from);
    compacted.set(
      !isJump ? [code, 0, 0, k] : code === Code.JA ? [code, 0, 0, to(k)] : [code, to(jt), to(jf), k],
      place[i] * Word.SIZE,
    );
  }
  return compacted;
}
