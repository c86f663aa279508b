/** Limits on rates in the program: the arithmetic of src/dataplane/mitigate/{hash_limit,shared_bucket}.ts, under a lock an entry. */
import type { LimitSpec } from '../../../shared/layout.js';
import { HashLimitMode } from '../../../shared/limits/hash_limit.js';
import { maskWords } from '../../../shared/mask_words.js';
import { Label, type Assembler } from '../assembler.js';
import { Alu, Helper, Jump, Reg, Size } from '../instruction.js';

import { addressesOf, field, ports, type PacketKind } from './kinds.js';
import { creditOf, type Credit } from './limit_credit.js';
import { LimitEntry, type LimitMap } from './limit_maps.js';
import { Decided, Kept } from './stack.js';

/** BPF_NOEXIST. */
const NO_EXIST = 1;
const NS_PER_MS = 1_000_000;

export interface LimitEnvironment {
  readonly kind: PacketKind;
  readonly map: LimitMap;
  /** Descriptor of an array map whose value is the time, uint64 ms; null: the clock of the kernel. For tests. */
  readonly clock: number | null;
}

/**
 * Charges the packet: goes on with what follows when it is within the limit, and to `over` when it is above, or has a key that a full table does not
 * have. Uses r0 to r5, r8 and r9; creditOf(spec) is not null.
 */
export function emitLimit(asm: Assembler, spec: LimitSpec, environment: LimitEnvironment, over: Label): void {
  const credit = creditOf(spec)!;
  const { map, clock } = environment;
  emitClock(asm, clock);
  if (spec.kind === 'hash') {
    emitKey(asm, spec, environment.kind);
    emitFind(asm, spec, credit, map, over);
    asm.alu64X(Alu.MOV, Reg.r8, Reg.r0);
  } else {
    asm.loadMapValue(Reg.r8, map.fd, 0);
  }
  emitLock(asm, Helper.spin_lock);
  emitCharge(asm, spec, credit, map.baseMs);
  emitLock(asm, Helper.spin_unlock);
  asm.jump64(Jump.JEQ, Reg.r9, 0, over);
}

/** r9 = now, ms. */
function emitClock(asm: Assembler, clock: number | null): void {
  if (clock !== null) {
    asm.loadMapValue(Reg.r1, clock, 0);
    asm.load(Size.DW, Reg.r9, Reg.r1, 0);
    return;
  }
  asm.call(Helper.ktime_get_ns);
  asm.alu64X(Alu.MOV, Reg.r9, Reg.r0);
  asm.alu64(Alu.DIV, Reg.r9, NS_PER_MS);
}

/** The key of the packet, as keyWords has it, at Decided.key of the stack. */
function emitKey(asm: Assembler, { shared: { run } }: LimitSpec & { kind: 'hash' }, kind: PacketKind): void {
  const { mode } = run;
  const { src, dst, words } = addressesOf(kind);
  let at: number = Decided.key;
  asm.storeImm(Size.W, Reg.r10, at, kind.family);
  at += 4;
  const address = (from: number, masks: readonly number[]): void => {
    masks.forEach((mask, i) => {
      if (i >= words || mask === 0) asm.storeImm(Size.W, Reg.r10, at, 0);
      else {
        field(asm, kind, Reg.r1, Size.W, from + i * 4);
        if (mask !== -1) asm.alu32(Alu.AND, Reg.r1, mask);
        asm.store(Size.W, Reg.r10, at, Reg.r1);
      }
      at += 4;
    });
  };
  if ((mode & HashLimitMode.srcip) !== 0) address(src, maskWords(kind.family === 4 ? run.srcMask4 : run.srcMask6));
  if ((mode & HashLimitMode.dstip) !== 0) address(dst, maskWords(kind.family === 4 ? run.dstMask4 : run.dstMask6));
  const [sport, dport] = [(mode & HashLimitMode.srcport) !== 0, (mode & HashLimitMode.dstport) !== 0];
  if (!sport && !dport) return;
  ports(asm, kind, Reg.r1);
  if (!sport) asm.alu32(Alu.AND, Reg.r1, 0xffff);
  if (!dport) asm.alu32(Alu.AND, Reg.r1, 0xffff0000 | 0);
  asm.store(Size.W, Reg.r10, at, Reg.r1);
}

/** r0 = the key's entry, a new one if there is none. */
function emitFind(
  asm: Assembler,
  spec: LimitSpec & { kind: 'hash' },
  credit: Credit,
  map: LimitMap,
  over: Label,
): void {
  const found = new Label();
  const lookUp = (fd = map.fd): void => {
    asm.loadMap(Reg.r1, fd);
    asm.alu64X(Alu.MOV, Reg.r2, Reg.r10);
    asm.alu64(Alu.ADD, Reg.r2, Decided.key);
    asm.call(Helper.map_lookup_elem);
  };
  lookUp();
  asm.jump64(Jump.JNE, Reg.r0, 0, found);
  constant(asm, Reg.r1, credit.cap);
  asm.store(Size.DW, Reg.r10, Decided.entry + LimitEntry.credit, Reg.r1);
  asm.store(Size.DW, Reg.r10, Decided.entry + LimitEntry.since, Reg.r9);
  asm.alu64X(Alu.MOV, Reg.r1, Reg.r9);
  asm.alu64(Alu.ADD, Reg.r1, spec.shared.run.expireMs);
  asm.store(Size.DW, Reg.r10, Decided.entry + LimitEntry.expires, Reg.r1);
  asm.storeImm(Size.W, Reg.r10, Decided.entry + LimitEntry.left, credit.refills);
  asm.storeImm(Size.W, Reg.r10, Decided.entry + LimitEntry.lock, 0);
  asm.loadMap(Reg.r1, map.fd);
  asm.alu64X(Alu.MOV, Reg.r2, Reg.r10);
  asm.alu64(Alu.ADD, Reg.r2, Decided.key);
  asm.alu64X(Alu.MOV, Reg.r3, Reg.r10);
  asm.alu64(Alu.ADD, Reg.r3, Decided.entry);
  asm.alu32(Alu.MOV, Reg.r4, NO_EXIST);
  asm.call(Helper.map_update_elem);
  // It may be another CPU that has made it; or nobody, when the table is full.
  lookUp();
  asm.jump64(Jump.JNE, Reg.r0, 0, found);
  asm.storeImm(Size.W, Reg.r10, Decided.key, 0);
  lookUp(map.full);
  asm.jump64(Jump.JEQ, Reg.r0, 0, over);
  asm.load(Size.DW, Reg.r1, Reg.r0, 0);
  asm.alu64(Alu.ADD, Reg.r1, 1);
  asm.store(Size.DW, Reg.r0, 0, Reg.r1);
  asm.goto(over);
  asm.place(found);
}

function emitLock(asm: Assembler, helper: Helper.spin_lock | Helper.spin_unlock): void {
  // LimitEntry.lock is where the entry begins.
  asm.alu64X(Alu.MOV, Reg.r1, Reg.r8);
  asm.call(helper);
}

/** r8: the entry, locked, so nothing is called here. r9: now; becomes 1 within the limit, else 0. r3 has the credit meanwhile. */
function emitCharge(asm: Assembler, spec: LimitSpec, credit: Credit, baseMs: number): void {
  const charge = new Label();
  asm.load(Size.DW, Reg.r3, Reg.r8, LimitEntry.credit);
  if (spec.kind === 'hash') emitForget(asm, spec, credit, baseMs, charge);
  asm.load(Size.DW, Reg.r1, Reg.r8, LimitEntry.since);
  emitGrow(asm, credit, charge);
  asm.place(charge);
  if (spec.kind === 'hash') {
    asm.alu64X(Alu.MOV, Reg.r1, Reg.r9);
    asm.alu64(Alu.ADD, Reg.r1, spec.shared.run.expireMs);
    asm.store(Size.DW, Reg.r8, LimitEntry.expires, Reg.r1);
  }
  emitCost(asm, credit);
  const paid = new Label();
  if (credit.refills > 0) {
    const enough = new Label();
    asm.jump64X(Jump.JGE, Reg.r3, Reg.r2, enough);
    asm.load(Size.W, Reg.r1, Reg.r8, LimitEntry.left);
    asm.jump32(Jump.JEQ, Reg.r1, 0, enough);
    asm.alu32(Alu.SUB, Reg.r1, 1);
    asm.store(Size.W, Reg.r8, LimitEntry.left, Reg.r1);
    constant(asm, Reg.r3, credit.cap);
    asm.place(enough);
  }
  asm.alu32(Alu.MOV, Reg.r9, 0);
  asm.jump64X(Jump.JLT, Reg.r3, Reg.r2, paid);
  asm.alu64X(Alu.SUB, Reg.r3, Reg.r2);
  asm.alu32(Alu.MOV, Reg.r9, 1);
  asm.place(paid);
  asm.store(Size.DW, Reg.r8, LimitEntry.credit, Reg.r3);
}

/**
 * A key whose time is over at the last multiple of the collection interval begins anew, whether or not its place has been freed; goes to `charge` then.
 */
function emitForget(
  asm: Assembler,
  { shared: { run } }: LimitSpec & { kind: 'hash' },
  credit: Credit,
  baseMs: number,
  charge: Label,
): void {
  const alive = new Label();
  asm.load(Size.DW, Reg.r1, Reg.r8, LimitEntry.expires);
  asm.jump64X(Jump.JGT, Reg.r1, Reg.r9, alive);
  constant(asm, Reg.r4, BigInt(baseMs));
  asm.alu64X(Alu.MOV, Reg.r2, Reg.r9);
  asm.alu64X(Alu.SUB, Reg.r2, Reg.r4);
  asm.alu64(Alu.MOD, Reg.r2, run.gcIntervalMs);
  asm.alu64X(Alu.MOV, Reg.r4, Reg.r9);
  asm.alu64X(Alu.SUB, Reg.r4, Reg.r2);
  asm.jump64X(Jump.JGT, Reg.r1, Reg.r4, alive);
  constant(asm, Reg.r3, credit.cap);
  asm.store(Size.DW, Reg.r8, LimitEntry.since, Reg.r9);
  asm.storeImm(Size.W, Reg.r8, LimitEntry.left, credit.refills);
  asm.goto(charge);
  asm.place(alive);
}

/** r3 += what has come since r1, up to the cap. Another CPU's clock may have been read later and be in first. */
function emitGrow(asm: Assembler, { cap, gain }: Credit, charge: Label): void {
  const full = new Label();
  asm.jump64X(Jump.JLE, Reg.r9, Reg.r1, charge);
  asm.store(Size.DW, Reg.r8, LimitEntry.since, Reg.r9);
  asm.alu64X(Alu.MOV, Reg.r2, Reg.r9);
  asm.alu64X(Alu.SUB, Reg.r2, Reg.r1);
  constant(asm, Reg.r4, cap);
  // Longer, and the product may not fit.
  constant(asm, Reg.r5, cap / gain + 1n);
  asm.jump64X(Jump.JGE, Reg.r2, Reg.r5, full);
  constant(asm, Reg.r5, gain);
  asm.alu64X(Alu.MUL, Reg.r2, Reg.r5);
  asm.alu64X(Alu.ADD, Reg.r3, Reg.r2);
  asm.jump64X(Jump.JLE, Reg.r3, Reg.r4, charge);
  asm.place(full);
  asm.alu64X(Alu.MOV, Reg.r3, Reg.r4);
}

/** r2 = what the packet costs. */
function emitCost(asm: Assembler, { cap, cost, charge }: Credit): void {
  if (charge === 'packet') return constant(asm, Reg.r2, cost);
  asm.load(Size.W, Reg.r2, Reg.r10, Kept.l3Bytes);
  if (charge === 'step') {
    asm.alu32(Alu.RSH, Reg.r2, 4);
    asm.alu32(Alu.ADD, Reg.r2, 1);
  }
  constant(asm, Reg.r1, cost);
  asm.alu64X(Alu.MUL, Reg.r2, Reg.r1);
  if (charge === 'byte') return;
  const dear = new Label();
  constant(asm, Reg.r1, cap);
  asm.jump64X(Jump.JLE, Reg.r2, Reg.r1, dear);
  asm.alu64X(Alu.MOV, Reg.r2, Reg.r1);
  asm.place(dear);
}

/** reg = a number below 2^63. */
function constant(asm: Assembler, reg: Reg, value: bigint): void {
  if (value <= 0x7fffffffn) asm.alu64(Alu.MOV, reg, Number(value));
  else asm.loadImm64(reg, Number(value & 0xffffffffn) | 0, Number(value >> 32n) | 0);
}
