/** What a p0f signature says of numbers that depend on each other: windows in units of the MSS or MTU, and the quirk `linux`. */
import { Code } from '../../shared/cbpf/program.js';
import { WINDOW_MSS_LEAST } from './p0f_check.js';
import { Cell, type P0fWriter } from './p0f_writer.js';

/**
 * The window is N times the MSS or the MTU, in one of the readings that p0f has of these (detect_win_multi in fp_tcp.c): stacks subtract room for
 * timestamps, and take the size of another interface. p0f says the first that divides the window; here any of the kind will do.
 * `header`: bytes of the TCP header, null: Cell.end has its end.
 */
export function writeMultiple(writer: P0fWriter, hasTimestamp: boolean, header: number | null): void {
  const { asm, family, fail, signature } = writer;
  const { kind, value } = signature.window;
  const { mss } = signature;
  const matches = asm.label();
  if (mss === null) {
    asm.op(Code.LD_MEM, Cell.mss);
    writer.must(Code.JGE_K, WINDOW_MSS_LEAST);
  }
  const units = kind === 'mtu' ? [1500] : family === 6 ? [1460, 1448, 1440, 1428] : [1460, 1448];
  if (mss !== null) units.push(...(kind === 'mss' ? [mss] : family === 6 ? [mss + 40, mss + 60] : [mss + 40]));
  asm.op(Code.LD_MEM, Cell.window);
  for (const unit of new Set(units)) asm.branch(Code.JEQ_K, unit * value, matches, null);
  const compare = (add: () => void, isLast: boolean): void => {
    if (mss === null) asm.op(Code.LD_MEM, Cell.mss);
    else asm.op(Code.LD_IMM, mss);
    add();
    asm.op(Code.MUL_K, value);
    asm.op(Code.TAX);
    asm.op(Code.LD_MEM, Cell.window);
    asm.branch(Code.JEQ_X, 0, matches, isLast ? fail : null);
  };
  if (kind === 'mtu') {
    if (mss === null) {
      compare(() => asm.op(Code.ADD_K, 40), false);
      if (family === 6) compare(() => asm.op(Code.ADD_K, 60), false);
    }
    compare(() => addHeaders(writer, header), true);
  } else if (mss === null) compare(() => undefined, !hasTimestamp);
  if (kind === 'mss' && hasTimestamp) {
    if (mss !== null) writer.must(Code.JEQ_K, (mss - 12) * value);
    asm.op(Code.LD_MEM, Cell.timestamp);
    writer.must(Code.JEQ_K, 0, false);
    if (mss === null) compare(() => asm.op(Code.SUB_K, 12), true);
  } else if (kind === 'mss' && mss !== null) asm.jump(fail);
  asm.place(matches);
}

/** A += bytes of IP and TCP header. */
function addHeaders({ asm, family, signature }: P0fWriter, header: number | null): void {
  if (header === null) {
    asm.op(Code.LDX_MEM, Cell.end);
    asm.op(Code.ADD_X);
  } else if (family === 6) asm.op(Code.ADD_K, 40 + header);
  else if (signature.optionBytes !== null) asm.op(Code.ADD_K, 20 + signature.optionBytes + header);
  else {
    asm.op(Code.LDX_MEM, Cell.tcp);
    asm.op(Code.ADD_X);
    asm.op(Code.ADD_K, header);
  }
}

/** The identification is made of sequence number and timestamp. `tcp`: start of the TCP header, null: Cell.tcp has it. */
export function writeLinux(writer: P0fWriter, tcp: number | null): void {
  const { asm } = writer;
  if (tcp === null) {
    asm.op(Code.LDX_MEM, Cell.tcp);
    asm.op(Code.LD_H_IND, 6);
  } else asm.op(Code.LD_H_ABS, tcp + 6);
  asm.op(Code.LDX_MEM, Cell.timestamp);
  asm.op(Code.XOR_X);
  asm.op(Code.AND_K, 0xffff);
  asm.op(Code.TAX);
  asm.op(Code.LD_H_ABS, 4);
  writer.must(Code.JEQ_X, 0);
}
