/**
 * Where the rules keep what on the stack, as offsets from r10: below the classic programs (Stack of from_cbpf.ts) what every packet has, then what rules
 * that draw or meter need, and from the lower end up what look-ups in sets need. All may be in one program.
 */
import { Stack } from '../from_cbpf.js';

/** Words on the stack, below those of the classic programs: 32 bits, host order. */
export const enum Kept {
  /** Length of the frame. */
  frameBytes = Stack.END - 4,
  /** Length of the IP packet. */
  l3Bytes = Stack.END - 8,
  /** Number of the rule that drops the packet. */
  rule = Stack.END - 12,
  /** Key of a look-up. */
  key = Stack.END - 16,
  /** 64 bits: rules that have matched and let the search go on, by their position in Plan.marks. */
  marks = Stack.END - 24,
  /** struct lpm_key of bpf/types.h: 32 bits of prefix length, 128 of address. */
  destination = Stack.END - 48,
  /** 64 bits: address of the copies (Copy) of a packet that is not plain. */
  copies = Stack.END - 56,
  /** What is below is free. */
  END = Stack.END - 56,
}

/** For rules that draw or meter. */
export const enum Decided {
  /** 32 bits: what the second word in front of the packet will be. */
  rules = Kept.END - 4,
  /** An entry of a limit that is about to be made, LimitEntry.BYTES. */
  entry = Kept.END - 48,
  /** Key of a limit, 40 bytes at most. */
  key = Kept.END - 88,
}

/** For look-ups in sets: the lower end. */
export const enum SetKept {
  /** Key, of at most 24 bytes. */
  key = -512,
  /** State of an entry, 32 bits. */
  state = -488,
  /** 64 bits a look-up of Plan.lookups: how often it was made (in sets with counters; else 0), and << 32 how often it found the packet. */
  asked = -480,
}
