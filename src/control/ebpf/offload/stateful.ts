import type { Assembler, Label } from '../assembler.js';
import { Helper, Jump, Reg } from '../instruction.js';
import { emitDecided, emitWritable, type Stateful } from './decided.js';
import type { PacketKind } from './kinds.js';
import { emitLimit } from './limit.js';
import type { LimitSource } from './limit_maps.js';

export interface StatefulEnvironment {
  /** Where limits are; null: the plan has none. */
  readonly limits?: LimitSource | null;
  /** As in LimitEnvironment. */
  readonly clock?: number | null;
}

/**
 * Draws or meters for a packet that matches: goes to `over` when it is to be dropped, goes on with what follows when it is not, which is then known to
 * user space; to `leave` when that could not be said. Uses r0 to r5, r8 and r9.
 */
export function emitStateful(
  asm: Assembler,
  { bit, threshold, limit }: Stateful,
  kind: PacketKind,
  { limits = null, clock = null }: StatefulEnvironment,
  { over, leave }: { over: Label; leave: Label },
): void {
  emitWritable(asm, leave);
  if (limit !== null) {
    emitLimit(asm, limit, { kind, map: limits!.of(limit), clock }, over);
  } else {
    asm.call(Helper.get_prandom_u32);
    asm.jump32(Jump.JLT, Reg.r0, threshold, over);
  }
  emitDecided(asm, bit);
}
