import { Label, type Assembler } from '../assembler.js';
import { Alu, Jump, Reg, Size } from '../instruction.js';
import { COPIED, emitCopy, OFFSET, REST } from './copies.js';
import { COPIES, Copy, field } from './kinds.js';

/** As many as the data plane's parser follows. */
const DEPTH_MOST = 8;
const [FRAGMENT, AUTHENTICATION] = [44, 51] as const;
/** Hop-by-hop, routing, destination options, mobility, HIP, Shim6 (RFC 8200 §4, RFC 7045 §4). */
const OTHERS = [0, 43, 60, 135, 139, 140] as const;

interface Ways {
  /** To the transport header, with its protocol in r1. */
  readonly transport: Label;
  /** A fragment that does not start the datagram. */
  readonly later: Label;
  readonly leave: Label;
}

/**
 * Follows a chain of IPv6 extension headers from the next header in r1 on. Leaves one that the parser objects to, and one with two fragment headers.
 *
 * The code is there once for each header, and again for those behind a fragment header: so the kernel need not know bounded loops.
 */
export function emitExtensions(asm: Assembler, ways: Ways): void {
  const behindFragment = Array.from({ length: DEPTH_MOST + 1 }, () => new Label());
  for (let depth = 0; depth <= DEPTH_MOST; depth++) emitHeader(asm, depth, behindFragment[depth + 1], ways);
  for (let depth = 1; depth <= DEPTH_MOST; depth++) {
    asm.place(behindFragment[depth]);
    emitHeader(asm, depth, null, ways);
  }
}

/** Goes on behind itself with the next one; behind a fragment header at `fragment`, null: it is the second. */
function emitHeader(asm: Assembler, depth: number, fragment: Label | null, { transport, later, leave }: Ways): void {
  const [extension, first, authentication, known] = [new Label(), new Label(), new Label(), new Label()];
  for (const type of OTHERS) asm.jump32(Jump.JEQ, Reg.r1, type, extension);
  asm.jump32(Jump.JEQ, Reg.r1, AUTHENTICATION, extension);
  asm.jump32(Jump.JNE, Reg.r1, FRAGMENT, transport);
  asm.place(extension);
  if (depth === DEPTH_MOST) return asm.goto(leave);
  asm.jump32(Jump.JLT, REST, 8, leave);
  emitCopy(asm, Copy.extension, 8, leave);
  asm.load(Size.W, Reg.r1, COPIES, Copy.protocol);
  asm.jump32(Jump.JEQ, Reg.r1, FRAGMENT, fragment === null ? leave : first);
  field(asm, COPIED, Reg.r2, Size.B, Copy.extension + 1);
  asm.jump32(Jump.JEQ, Reg.r1, AUTHENTICATION, authentication);
  asm.alu32(Alu.ADD, Reg.r2, 1);
  asm.alu32(Alu.LSH, Reg.r2, 3);
  asm.goto(known);
  asm.place(authentication);
  asm.alu32(Alu.ADD, Reg.r2, 2);
  asm.alu32(Alu.LSH, Reg.r2, 2);
  asm.place(known);
  asm.jump32X(Jump.JGT, Reg.r2, REST, leave);
  asm.alu32X(Alu.ADD, OFFSET, Reg.r2);
  asm.alu32X(Alu.SUB, REST, Reg.r2);
  emitNext(asm);
  if (fragment === null) return;
  const next = new Label();
  asm.goto(next);
  asm.place(first);
  asm.alu32(Alu.ADD, OFFSET, 8);
  asm.alu32(Alu.SUB, REST, 8);
  asm.store(Size.W, COPIES, Copy.fragmentBytes, REST);
  emitNext(asm);
  field(asm, COPIED, Reg.r2, Size.H, Copy.extension + 2);
  // Offset and M flag; the two bits between are reserved.
  asm.alu32(Alu.AND, Reg.r2, 0xfff9);
  asm.store(Size.W, COPIES, Copy.fragment, Reg.r2);
  asm.jump32(Jump.JSET, Reg.r2, 0xfff8, later);
  asm.goto(fragment);
  asm.place(next);
}

/** r1 = what the header says comes next. */
function emitNext(asm: Assembler): void {
  field(asm, COPIED, Reg.r1, Size.B, Copy.extension);
  asm.store(Size.W, COPIES, Copy.protocol, Reg.r1);
}
