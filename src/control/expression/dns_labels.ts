/** Patterns of DNS names as instructions that compare a name label by label; and which of them are needed. */
import type { Assembler, Label } from '../../shared/cbpf/assembler.js';
import { Code } from '../../shared/cbpf/program.js';
import type { DnsLabel, DnsPattern } from './dns_names.js';

/** Without patterns that another one covers: repeated ones, and those below a name that is open in front. */
export function minimal(patterns: readonly DnsPattern[]): DnsPattern[] {
  const open = new Set(patterns.filter(({ front, behind }) => front && !behind).map(({ labels }) => keyOf(labels)));
  const seen = new Set<string>();
  return patterns.filter((pattern) => {
    const { front, behind, labels } = pattern;
    const key = `${front} ${behind} ${keyOf(labels)}`;
    const isBelow = !behind && labels.some((_, i) => open.has(keyOf(labels.slice(i + 1))));
    if (seen.has(key) || isBelow) return false;
    seen.add(key);
    return true;
  });
}

function keyOf(labels: readonly DnsLabel[]): string {
  return labels
    .map((label) => ('bytes' in label ? Buffer.from(label.bytes).toString('hex') : `${label.least}-${label.most}`))
    .join('.');
}

/**
 * Compares labels, and the root behind them where asked for. What follows is at X + `at`; `moved`: X has changed, also on the way to `next`. A load does
 * not leave the packet before a byte differs: up to three bytes behind the root are in the question.
 */
export function writeLabels(
  asm: Assembler,
  labels: readonly DnsLabel[],
  next: Label,
  root: boolean,
): { at: number; moved: boolean } {
  let at = 0;
  let moved = false;
  let bytes: number[] = [];
  const flush = (): void => {
    for (let i = 0; i < bytes.length;) {
      const left = bytes.length - i;
      const size = left >= 4 ? 4 : left >= 2 ? 2 : 1;
      const chunk = bytes.slice(i, i + size);
      asm.op(size === 4 ? Code.LD_W_IND : size === 2 ? Code.LD_H_IND : Code.LD_B_IND, at + i);
      const mask = chunk.reduce((sum, byte) => (sum << 8) | (isLetter(byte) ? 0x20 : 0), 0);
      if (mask !== 0) asm.op(Code.OR_K, mask);
      asm.branch(
        Code.JEQ_K,
        chunk.reduce((sum, byte) => (sum << 8) | byte, 0),
        null,
        next,
      );
      i += size;
    }
    at += bytes.length;
    bytes = [];
  };
  for (const label of labels) {
    if ('bytes' in label) {
      bytes.push(label.bytes.length, ...label.bytes);
      continue;
    }
    flush();
    asm.op(Code.LD_B_IND, at);
    asm.branch(Code.JGE_K, label.least, null, next);
    asm.branch(Code.JGT_K, label.most, next, null);
    asm.op(Code.ADD_X);
    asm.op(Code.ADD_K, at + 1);
    asm.op(Code.TAX);
    at = 0;
    moved = true;
  }
  if (root) bytes.push(0);
  flush();
  return { at, moved };
}

/** Of a byte in lower case; length bytes are below. */
function isLetter(byte: number): boolean {
  return byte >= 0x61 && byte <= 0x7a;
}
