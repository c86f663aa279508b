/**
 * Where a classic program must compare the packet's length, so that its loads at constant offsets need no comparison of their own.
 *
 * A load outside the packet ends a program with 0, and nothing else that a program does shows: so it may look ahead, and end as soon as it is certain
 * that it will end with 0. Every way from an instruction to a return other than 0 has loads; the least of the lengths that these ways need is
 * what the instruction needs.
 */
import { Bpf, Code, isConditional, isPacketLoad, loadSize, Word, type Program } from '../../shared/cbpf/program.js';
import { operationAt } from '../../shared/cbpf/values.js';

/** The program returns 0 from here on, whatever the packet. */
export const NEVER = 0x7fffffff;
/** The verifier's MAX_PACKET_OFF. No packet of XDP is as long. */
const LONGEST = 0xffff;

export interface Guards {
  /** Bytes that a packet must have for the program to return anything but 0 from the instruction on; NEVER: it returns 0. */
  readonly need: Int32Array;
  /** Whether the instruction is reached at all, without passing one that has NEVER. */
  readonly reached: readonly boolean[];
  /** Whether there is a jump to the instruction. */
  readonly target: readonly boolean[];
  /** Length to compare with in front of the instruction; 0: no comparison. */
  readonly check: Int32Array;
}

/**
 * `program` has no loop. With `alike`, a length is certain behind a place where ways meet only if it is the same on all of them: then the verifier
 * finds one state there, and goes on from it once. Without, the least is, which saves comparisons.
 */
export function guardsOf({ words }: Program, alike = false): Guards {
  const count = words.length / Word.SIZE;
  const need = new Int32Array(count);
  for (let i = count - 1; i >= 0; i--) need[i] = needAt(words, i, need);

  const reached = Array.from({ length: count }, () => false);
  const target = Array.from({ length: count }, () => false);
  const check = new Int32Array(count);
  /** Length that is certain in front of an instruction. */
  const known = new Int32Array(count).fill(NEVER);
  const flow = (to: number, length: number): void => {
    reached[to] ||= need[to] !== NEVER;
    const differ = known[to] !== NEVER && known[to] !== length;
    known[to] = alike && differ ? 0 : Math.min(known[to], length);
  };
  const jump = (to: number, length: number): void => {
    flow(to, length);
    target[to] = true;
  };
  flow(0, 0);
  for (let i = 0; i < count; i++) {
    if (!reached[i]) continue;
    if (need[i] > known[i]) check[i] = need[i];
    const length = Math.max(known[i], need[i]);
    const { code, jt, jf, k } = operationAt(words, i);
    if (code === Code.JA) jump(i + 1 + k, length);
    else if (isConditional(code)) {
      jump(i + 1 + jt, length);
      jump(i + 1 + jf, length);
    } else if ((code & Bpf.CLASS) !== Bpf.RET) flow(i + 1, length);
  }
  return { need, reached, target, check };
}

function needAt(words: Int32Array, i: number, need: Int32Array): number {
  const { code, jt, jf, k } = operationAt(words, i);
  if (code === Code.RET_K) return k === 0 ? NEVER : 0;
  if (code === Code.RET_A) return 0;
  if (code === Code.JA) return need[i + 1 + k];
  if (isConditional(code)) return Math.min(need[i + 1 + jt], need[i + 1 + jf]);
  return Math.max(loadEnd(code, k), need[i + 1]);
}

/** Length that a load at a constant offset needs; 0 for every other instruction. */
function loadEnd(code: number, k: number): number {
  const absolute = isPacketLoad(code) && (code & Bpf.MODE) === Bpf.ABS;
  if (!absolute && code !== Code.LDX_MSH) return 0;
  const end = k + (absolute ? loadSize(code) : 1);
  return k < 0 || end > LONGEST ? NEVER : end;
}
