/** Sets of uint32 as intervals, and what the machine's arithmetic makes of them. Sound, not exact: a result may be too wide. */
import { compute, holds } from './interpret.js';
import { Bpf } from './program.js';

/** From `lo` to `hi`, both included, as numbers from 0 to 2^32 − 1. */
export interface Range {
  readonly lo: number;
  readonly hi: number;
}

const LAST = 0xffffffff;
export const ANY: Range = { lo: 0, hi: LAST };

export function only(value: number): Range {
  return { lo: value >>> 0, hi: value >>> 0 };
}

export function upTo(hi: number): Range {
  return { lo: 0, hi };
}

export function isOnly(range: Range): boolean {
  return range.lo === range.hi;
}

/** The smallest interval that holds both. */
export function join(one: Range, two: Range): Range {
  if (one.lo <= two.lo && one.hi >= two.hi) return one;
  return { lo: Math.min(one.lo, two.lo), hi: Math.max(one.hi, two.hi) };
}

/** From `lo` to `hi` when that does not wrap. */
function within(lo: number, hi: number): Range {
  return lo >= 0 && hi <= LAST ? { lo, hi } : ANY;
}

/** All bits that a number up to `hi` can have. */
function bits(hi: number): number {
  return hi === 0 ? 0 : LAST >>> Math.clz32(hi);
}

/** Result of an ALU operation. A division by 0 has none; what is left of `operand` counts. */
export function computeRange(code: number, a: Range, operand: Range): Range {
  const op = code & Bpf.OP;
  const divides = op === Bpf.DIV || op === Bpf.MOD;
  if (isOnly(a) && isOnly(operand) && !(divides && operand.lo === 0))
    return only(compute(code, a.lo | 0, operand.lo | 0));
  switch (op) {
    case Bpf.ADD:
      return within(a.lo + operand.lo, a.hi + operand.hi);
    case Bpf.SUB:
      return within(a.lo - operand.hi, a.hi - operand.lo);
    case Bpf.MUL:
      return within(a.lo * operand.lo, a.hi * operand.hi);
    case Bpf.DIV:
      return {
        lo: Math.floor(a.lo / Math.max(operand.hi, 1)),
        hi: Math.floor(a.hi / Math.max(operand.lo, 1)),
      };
    case Bpf.MOD:
      return a.hi < operand.lo ? a : upTo(Math.min(a.hi, Math.max(operand.hi, 1) - 1));
    case Bpf.AND:
      return upTo(Math.min(a.hi, operand.hi));
    case Bpf.OR:
      return { lo: Math.max(a.lo, operand.lo), hi: bits(Math.max(a.hi, operand.hi)) };
    case Bpf.XOR:
      return upTo(bits(Math.max(a.hi, operand.hi)));
    case Bpf.LSH: {
      const by = 2 ** (operand.lo & 31);
      return isOnly(operand) ? within(a.lo * by, a.hi * by) : ANY;
    }
    case Bpf.RSH:
      return isOnly(operand) ? { lo: a.lo >>> operand.lo, hi: a.hi >>> operand.lo } : upTo(a.hi);
    default:
      return ANY;
  }
}

/** What is left of `a` when the jump is taken (or is not); null when that cannot be. */
export function refine(code: number, a: Range, operand: Range, taken: boolean): Range | null {
  if (isOnly(a) && isOnly(operand)) return holds(code, a.lo | 0, operand.lo | 0) === taken ? a : null;
  let { lo, hi } = a;
  switch (code & Bpf.OP) {
    case Bpf.JEQ:
      if (taken) {
        lo = Math.max(lo, operand.lo);
        hi = Math.min(hi, operand.hi);
      } else if (isOnly(operand)) {
        if (lo === operand.lo) lo++;
        if (hi === operand.lo) hi--;
      }
      break;
    case Bpf.JGT:
      if (taken) lo = Math.max(lo, operand.lo + 1);
      else hi = Math.min(hi, operand.hi);
      break;
    case Bpf.JGE:
      if (taken) lo = Math.max(lo, operand.lo);
      else hi = Math.min(hi, operand.hi - 1);
      break;
    default:
      // A number that has one of the bits is no less than the lowest of them.
      if (taken && (bits(hi) & bits(operand.hi)) === 0) return null;
      if (taken && isOnly(operand)) lo = Math.max(lo, (operand.lo & -operand.lo) >>> 0);
  }
  return lo <= hi ? (lo === a.lo && hi === a.hi ? a : { lo, hi }) : null;
}
