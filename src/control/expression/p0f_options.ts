/** TCP options of a p0f signature: kinds in their order, sizes, and the quirks they have (p0f's process.c, "TCP option parsing"). */
import { Code } from '../../shared/cbpf/program.js';
import { OPTION_SIZE, TcpOption } from './p0f_signature.js';
import { Cell, type P0fWriter } from './p0f_writer.js';

/** Bytes of the TCP header in front of the options. */
export const TCP_BYTES = 20;

/** Options that p0f reads to their end: all but the last one of a layout whose last one is cut off. */
export function readOptions({ signature: { layout }, ending }: P0fWriter): readonly number[] {
  return ending === 'aborted' ? layout.slice(0, -1) : layout;
}

/** Bytes of all options, when the signature alone says it; null when the packet does. */
export function fixedBytes({ signature, ending }: P0fWriter): number | null {
  if (ending !== 'complete') return null;
  let bytes = signature.padding;
  for (const kind of signature.layout) {
    const size = kind === TcpOption.eol ? 1 : OPTION_SIZE.get(kind);
    if (size === undefined) return null;
    bytes += size;
  }
  return bytes;
}

/** Which parts of options are asked for behind them. */
export interface Kept {
  readonly mss: boolean;
  readonly timestamp: boolean;
}

/**
 * Writes the walk over the options. Where their size is not fixed, Cell.end has the end of the header, and nothing behind it is read: a load
 * outside of the packet would end the program, and with it the other ways to match.
 */
export function writeOptions(writer: P0fWriter, kept: Kept): void {
  const { signature, ending } = writer;
  const kinds = readOptions(writer);
  const walk = new OptionWalk(writer, kept, fixedBytes(writer) !== null);
  kinds.forEach((kind, i) => walk.option(kind, kinds.lastIndexOf(kind) === i));
  writer.flush();
  if (ending === 'aborted') walk.cutOff(signature.layout[signature.layout.length - 1]);
  else walk.finish(ending === 'more');
}

class OptionWalk {
  /** Offset of the next option. */
  private at = TCP_BYTES;

  constructor(
    private readonly writer: P0fWriter,
    private readonly kept: Kept,
    private readonly fixed: boolean,
  ) {}

  /** `last`: of its kind. What such an option says overrides those before. */
  option(kind: number, last: boolean): void {
    const { writer, at } = this;
    if (kind === TcpOption.eol) return this.endOfList();
    const size = OPTION_SIZE.get(kind);
    if (size === undefined) return this.sized(kind);
    this.room(size);
    writer.expect(at, kind);
    if (size > 1) {
      if (writer.wants('bad') === false) writer.expect(at + 1, size);
      else if (writer.wants('bad') === true) {
        writer.flush();
        writer.load(1, at + 1);
        writer.tally('bad', Code.JEQ_K, size, false);
      }
    }
    if (kind === TcpOption.mss && last) this.mss();
    if (kind === TcpOption.ws) this.scale(last);
    if (kind === TcpOption.ts) this.timestamp(last);
    this.at += size;
  }

  private mss(): void {
    const { writer, at } = this;
    const { mss } = writer.signature;
    if (mss !== null) writer.expect(at + 2, mss >> 8, mss & 0xff);
    if (!this.kept.mss) return;
    writer.flush();
    writer.load(2, at + 2);
    writer.asm.op(Code.ST, Cell.mss);
  }

  private scale(last: boolean): void {
    const { writer, at } = this;
    const { scale } = writer.signature;
    if (last && scale !== null) writer.expect(at + 2, scale);
    if (writer.wants('exws') === null) return;
    writer.flush();
    writer.load(1, at + 2);
    writer.tally('exws', Code.JGT_K, 14);
  }

  private timestamp(last: boolean): void {
    const { writer, at } = this;
    writer.flush();
    const keep = last && this.kept.timestamp;
    if (keep || writer.wants('ts1-') !== null) writer.load(4, at + 2);
    if (keep) writer.asm.op(Code.ST, Cell.timestamp);
    writer.tally('ts1-', Code.JEQ_K, 0);
    if (writer.wants('ts2+') === null) return;
    writer.load(4, at + 6);
    writer.tally('ts2+', Code.JEQ_K, 0, false);
  }

  private endOfList(): void {
    const { writer, at } = this;
    const { padding } = writer.signature;
    this.room(1 + padding);
    writer.expect(at, TcpOption.eol);
    this.at += 1 + padding;
    const wanted = writer.wants('opt+');
    if (wanted === false) writer.expect(at + 1, ...new Array<number>(padding).fill(0));
    if (wanted !== true) return;
    writer.flush();
    const tests = Array.from({ length: padding }, (_, i) => ({
      load: () => writer.load(1, at + 1 + i),
      code: Code.JGT_K,
      k: 0,
    }));
    writer.quirk('opt+', tests);
  }

  /** An option whose length is in the packet, where p0f reads on behind it. */
  private sized(kind: number): void {
    const { writer, at } = this;
    this.room(2);
    writer.expect(at, kind);
    writer.flush();
    const [least, most] = lengths(kind);
    writer.load(1, at + 1);
    writer.must(Code.JGE_K, least);
    writer.must(Code.JGT_K, most, false);
    this.skip();
    writer.asm.op(Code.LDX_MEM, Cell.end);
    writer.must(Code.JGT_X, 0, false);
    writer.restore();
    this.at = 0;
  }

  /** Position += A. */
  private skip(): void {
    const { writer, at } = this;
    if (writer.origin === null) {
      writer.asm.op(Code.ADD_X);
      if (at !== 0) writer.asm.op(Code.ADD_K, at);
    } else writer.asm.op(Code.ADD_K, writer.origin + at);
    writer.moveTo();
  }

  /** The header goes on for so many bytes. */
  private room(bytes: number): void {
    if (this.fixed) return;
    this.writer.flush();
    this.compareEnd(this.at + bytes, Code.JGT_X, false);
  }

  /** The position of an offset compared with the end of the header. */
  private compareEnd(offset: number, code: Code, holds: boolean): void {
    const { writer } = this;
    writer.positionOf(offset);
    writer.asm.op(Code.LDX_MEM, Cell.end);
    writer.must(code, 0, holds);
    writer.restore();
  }

  /** The last option has its kind in the header, and not all that p0f wants of it. */
  cutOff(kind: number): void {
    const { writer, at } = this;
    this.room(1);
    writer.expect(at, kind);
    writer.flush();
    const size = OPTION_SIZE.get(kind);
    if (size !== undefined) return this.compareEnd(at + size, Code.JGT_X, true);
    const { asm } = writer;
    const [least, most] = lengths(kind);
    const isCut = asm.label();
    writer.positionOf(at + 1);
    asm.op(Code.LDX_MEM, Cell.end);
    asm.branch(Code.JGE_X, 0, isCut, null);
    writer.restore();
    writer.load(1, at + 1);
    asm.branch(Code.JGE_K, least, null, isCut);
    asm.branch(Code.JGT_K, most, isCut, null);
    if (writer.origin === null) asm.op(Code.ADD_X);
    asm.op(Code.ADD_K, (writer.origin ?? 0) + at);
    asm.op(Code.LDX_MEM, Cell.end);
    writer.must(Code.JGT_X, 0);
    asm.place(isCut);
    writer.restore();
  }

  /** The header ends behind the last option, or has more. */
  finish(more: boolean): void {
    if (this.fixed) return;
    if (more) this.compareEnd(this.at, Code.JGE_X, false);
    else this.compareEnd(this.at, Code.JEQ_X, true);
  }
}

/** Lengths that p0f takes: of SACK, one to four blocks (RFC 2018 section 3) and two bytes more than that. */
function lengths(kind: number): [least: number, most: number] {
  return kind === TcpOption.sack ? [10, 34] : [2, 40];
}
