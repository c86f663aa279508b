/** Look-ups of packets in sets that the kernel has, as SetView makes them (shared/sets/set_view.ts). */
import { SetSides } from '../../../shared/sets/index.js';
import { Label, type Assembler } from '../assembler.js';
import { Alu, Helper, Jump, Reg, Size } from '../instruction.js';
import { addressesOf, type PacketKind } from './kinds.js';
import { emitPortKey } from './set_port.js';
import { hasPortType, isNetType, SetValue, type KernelSets, type KernelTable, type SetLookup } from './set_maps.js';
import { Kept, SetKept } from './stack.js';

/** Look-ups of different sets, or by different sides, that a program has room for. */
export const LOOKUPS_MOST = 16;

const NS_A_SECOND = 1_000_000_000;

/** What look-ups of one program have in common. */
export interface LookupContext {
  readonly lookups: readonly SetLookup[];
  readonly sets: Pick<KernelSets, 'zeroNs' | 'counters'>;
}

/** Before the first look-up of a packet. */
export function emitNoneAsked(asm: Assembler, { lookups }: LookupContext, { family }: PacketKind): void {
  // Of what is not IP it is not known: such a packet is in no set.
  if (lookups.length > 0 && family === 0) asm.storeImm(Size.W, Reg.r10, Kept.l3Bytes, 0);
  for (let i = 0; i < lookups.length; i++) asm.storeImm(Size.DW, Reg.r10, askedAt(i), 0);
}

/**
 * Goes on behind itself with a packet that is in the set of look-up `i`, to `no` with one that is not, and to `leave` when an entry decides that has ended
 * and not been collected: then shorter networks count, which is found out length by length. r0 to r5 and r9 are used. False: no packet of the kind is in
 * the set, and nothing comes behind.
 */
export function emitAsk(
  asm: Assembler,
  context: LookupContext,
  i: number,
  kind: PacketKind,
  no: Label,
  leave: Label,
): boolean {
  const { set } = context.lookups[i];
  if (set.counts) add(asm, i, 1);
  if (!emitFind(asm, context, i, kind, no, leave)) {
    asm.goto(no);
    return false;
  }
  if (isNetType(set.type)) asm.jump32(Jump.JSET, Reg.r1, 1, no);
  // Never compared with anything: the verifier need not tell apart how often.
  add(asm, i, 2 ** 32);
  return true;
}

/** The sets around the rules: goes to `leave` with a packet that is allowed, to `drop` with one that a set drops. */
export function emitStages(
  asm: Assembler,
  context: LookupContext,
  { allow, drops }: { allow: readonly number[]; drops: readonly number[] },
  kind: PacketKind,
  leave: Label,
  drop: Label,
): void {
  for (const [positions, found] of [
    [allow, leave],
    [drops, drop],
  ] as const) {
    for (const i of positions) {
      const no = new Label();
      if (emitAsk(asm, context, i, kind, no, leave)) asm.goto(found);
      asm.place(no);
    }
  }
}

function add(asm: Assembler, i: number, amount: number): void {
  asm.load(Size.DW, Reg.r1, Reg.r10, askedAt(i));
  if (amount < 2 ** 31) asm.alu64(Alu.ADD, Reg.r1, amount);
  else {
    asm.loadImm64(Reg.r2, 0, amount / 2 ** 32);
    asm.alu64X(Alu.ADD, Reg.r1, Reg.r2);
  }
  asm.store(Size.DW, Reg.r10, askedAt(i), Reg.r1);
}

/**
 * r9 = value of the entry that decides, r1 = its state; or goes to `none`, or to `ended` with a network that has. False, and nothing is written: no
 * packet of the kind finds an entry.
 */
function emitFind(
  asm: Assembler,
  { lookups, sets }: LookupContext,
  i: number,
  kind: PacketKind,
  none: Label,
  ended: Label,
): boolean {
  const { set } = lookups[i];
  const table = kind.family === 0 ? null : kind.family === 4 ? set.ipv4 : set.ipv6;
  if (table === null) return false;
  emitKey(asm, lookups[i], table, kind, none);
  asm.loadMap(Reg.r1, table.fd);
  asm.alu64X(Alu.MOV, Reg.r2, Reg.r10);
  asm.alu64(Alu.ADD, Reg.r2, SetKept.key);
  asm.call(Helper.map_lookup_elem);
  asm.jump64(Jump.JEQ, Reg.r0, 0, none);
  asm.alu64X(Alu.MOV, Reg.r9, Reg.r0);
  asm.load(Size.W, Reg.r1, Reg.r9, SetValue.state);
  if (!set.ends) return true;
  const lives = new Label();
  asm.alu32X(Alu.MOV, Reg.r2, Reg.r1);
  asm.alu32(Alu.RSH, Reg.r2, 1);
  asm.jump32(Jump.JEQ, Reg.r2, 0, lives);
  asm.store(Size.W, Reg.r10, SetKept.state, Reg.r1);
  asm.call(Helper.ktime_get_ns);
  asm.loadImm64(Reg.r1, Number(BigInt.asIntN(32, sets.zeroNs)), Number(BigInt.asIntN(32, sets.zeroNs >> 32n)));
  asm.alu64X(Alu.SUB, Reg.r0, Reg.r1);
  asm.alu64(Alu.DIV, Reg.r0, NS_A_SECOND);
  asm.load(Size.W, Reg.r1, Reg.r10, SetKept.state);
  asm.alu32X(Alu.MOV, Reg.r2, Reg.r1);
  asm.alu32(Alu.RSH, Reg.r2, 1);
  asm.jump64X(Jump.JLE, Reg.r2, Reg.r0, isNetType(set.type) ? ended : none);
  asm.place(lives);
  return true;
}

function emitKey(
  asm: Assembler,
  { set, sides }: SetLookup,
  { mask }: KernelTable,
  kind: PacketKind,
  none: Label,
): void {
  const hasPort = hasPortType(set.type);
  let to: number = SetKept.key;
  if (isNetType(set.type)) {
    asm.storeImm(Size.W, Reg.r10, to, (hasPort ? 32 : 0) + (kind.family === 4 ? 32 : 128));
    to += 4;
  }
  if (hasPort) {
    emitPortKey(asm, kind, (sides & SetSides.portDestination) !== 0, none);
    asm.store(Size.W, Reg.r10, to, Reg.r1);
    to += 4;
  }
  const { src, dst, words } = addressesOf(kind);
  const from = (sides & SetSides.addressDestination) !== 0 ? dst : src;
  for (let i = 0; i < words; i++) {
    asm.load(Size.W, Reg.r1, kind.base, from + 4 * i);
    if (mask[i] !== -1) asm.alu32(Alu.AND, Reg.r1, swapped(mask[i]));
    asm.store(Size.W, Reg.r10, to + 4 * i, Reg.r1);
  }
}

/** The packet is dropped: counts it for the entries, in sets that count. It must be known to the verifier to have its headers. */
export function emitEntryCounts(asm: Assembler, context: LookupContext, kind: PacketKind): void {
  context.lookups.forEach(({ set }, i) => {
    if (!set.counts) return;
    const none = new Label();
    if (!emitFind(asm, context, i, kind, none, none)) return;
    asm.load(Size.W, Reg.r1, Reg.r10, askedAt(i));
    asm.atomicAdd(Reg.r9, SetValue.packets, Reg.r1);
    asm.load(Size.W, Reg.r2, Reg.r10, Kept.l3Bytes);
    asm.alu64X(Alu.MUL, Reg.r1, Reg.r2);
    asm.atomicAdd(Reg.r9, SetValue.bytes, Reg.r1);
    asm.place(none);
  });
}

/** The packet is dropped: counts it for the sets that it was found in. */
export function emitSetCounts(asm: Assembler, { lookups, sets }: LookupContext): void {
  lookups.forEach(({ set: { slot } }, i) => {
    if (slot < 0) return;
    const absent = new Label();
    asm.storeImm(Size.W, Reg.r10, SetKept.state, slot);
    asm.loadMap(Reg.r1, sets.counters);
    asm.alu64X(Alu.MOV, Reg.r2, Reg.r10);
    asm.alu64(Alu.ADD, Reg.r2, SetKept.state);
    asm.call(Helper.map_lookup_elem);
    asm.jump64(Jump.JEQ, Reg.r0, 0, absent);
    asm.load(Size.W, Reg.r1, Reg.r10, askedAt(i) + 4);
    asm.load(Size.DW, Reg.r2, Reg.r0, 0);
    asm.alu64X(Alu.ADD, Reg.r2, Reg.r1);
    asm.store(Size.DW, Reg.r0, 0, Reg.r2);
    asm.load(Size.W, Reg.r2, Reg.r10, Kept.l3Bytes);
    asm.alu64X(Alu.MUL, Reg.r1, Reg.r2);
    asm.load(Size.DW, Reg.r2, Reg.r0, 8);
    asm.alu64X(Alu.ADD, Reg.r2, Reg.r1);
    asm.store(Size.DW, Reg.r0, 8, Reg.r2);
    asm.place(absent);
  });
}

function askedAt(i: number): number {
  return SetKept.asked + 8 * i;
}

/** The other byte order. */
function swapped(word: number): number {
  return (word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24);
}
