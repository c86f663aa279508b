/** What a p0f signature says of the IP header, and of the fixed part of the TCP header. */
import { Code } from '../../shared/cbpf/program.js';
import { TCP_BYTES } from './p0f_options.js';
import { Cell, type P0fWriter } from './p0f_writer.js';

/** Hops that a packet may have come, and one more (MAX_DIST in p0f's config.h). */
const DISTANCE = 35;
const IPPROTO_TCP = 6;
/** Bits of the 16 from the data offset on: FIN, SYN, RST, ACK, of which SYN alone is set; CWR, ECE and NS, the last reserved bit. */
const CONTROL = 0x17;
const SYN = 0x02;
const PUSH = 0x08;
const URGENT = 0x20;
const ECN = 0x1c0;

/** IPv4: no fragment, all there, and what the signature says of it. From here on offsets are from the TCP header. */
export function writeIpv4(writer: P0fWriter): void {
  const { asm, signature } = writer;
  const { optionBytes } = signature;
  asm.op(Code.LD_B_ABS, 0);
  if (optionBytes === null) asm.op(Code.AND_K, 0xf0);
  writer.must(Code.JEQ_K, optionBytes === null ? 0x40 : 0x45 + optionBytes / 4);
  asm.op(Code.LD_B_ABS, 9);
  writer.must(Code.JEQ_K, IPPROTO_TCP);
  writeIpv4Flags(writer);
  asm.op(Code.LD_LEN);
  asm.op(Code.TAX);
  asm.op(Code.LD_H_ABS, 2);
  writer.must(Code.JGT_X, 0, false);
  const ecn = { load: () => asm.op(Code.LD_B_ABS, 1), code: Code.JSET_K, k: 3 };
  if (optionBytes === null) {
    asm.op(Code.LDX_MSH, 0);
    asm.op(Code.STX, Cell.tcp);
    asm.op(Code.TXA);
    writer.must(Code.JGE_K, 20);
  }
  writeEcn(writer, ecn);
}

/** The word of flags and fragment offset, and the identification. */
function writeIpv4Flags(writer: P0fWriter): void {
  const { asm } = writer;
  const [df, zero, hasId, noId] = (['df', '0+', 'id+', 'id-'] as const).map((quirk) => writer.wants(quirk));
  // id+ and id- say of DF what df says, or all that is said of it.
  const dontFragment = df ?? (hasId === true ? true : noId === true ? false : null);
  const mask = 0x3fff | (dontFragment === null ? 0 : 0x4000) | (zero === null ? 0 : 0x8000);
  asm.op(Code.LD_H_ABS, 6);
  if (mask !== 0xffff) asm.op(Code.AND_K, mask);
  writer.must(Code.JEQ_K, (dontFragment === true ? 0x4000 : 0) | (zero === true ? 0x8000 : 0));
  const id = dontFragment === true ? hasId : dontFragment === false && noId !== null ? !noId : null;
  if (id === null) return;
  asm.op(Code.LD_H_ABS, 4);
  writer.must(Code.JEQ_K, 0, !id);
}

/** IPv6 with TCP right behind its header. */
export function writeIpv6(writer: P0fWriter): void {
  const { asm } = writer;
  asm.op(Code.LD_B_ABS, 0);
  asm.op(Code.AND_K, 0xf0);
  writer.must(Code.JEQ_K, 0x60);
  asm.op(Code.LD_B_ABS, 6);
  writer.must(Code.JEQ_K, IPPROTO_TCP);
  asm.op(Code.LD_LEN);
  asm.op(Code.TAX);
  loadTotalLength(writer);
  writer.must(Code.JGT_X, 0, false);
  writer.quirk('flow', [{ load: () => asm.op(Code.LD_W_ABS, 0), code: Code.JSET_K, k: 0xfffff }]);
  writeEcn(writer, { load: () => asm.op(Code.LD_H_ABS, 0), code: Code.JSET_K, k: 0x30 });
}

function loadTotalLength({ asm, family }: P0fWriter): void {
  asm.op(Code.LD_H_ABS, family === 4 ? 2 : 4);
  if (family === 6) asm.op(Code.ADD_K, 40);
}

/** ECN bits of the IP header, ECE and CWR, and NS. Where there must be none, writeFlags has the last three. */
function writeEcn(writer: P0fWriter, ip: { load: () => void; code: Code; k: number }): void {
  const tcp = { load: () => writer.load(2, 12), code: Code.JSET_K, k: ECN };
  writer.quirk('ecn', writer.wants('ecn') === true ? [ip, tcp] : [ip]);
}

/**
 * Data offset, when it is known, and flags: a SYN without ACK, FIN and RST, and with what quirks say of the others. `header`: bytes of the TCP
 * header, null: not known.
 */
export function writeFlags(writer: P0fWriter, header: number | null): void {
  const push = writer.wants('pushf+');
  // A pointer counts where the flag is not set.
  const urgent = writer.wants('urgf+') ?? (writer.wants('uptr+') === true ? false : null);
  const mask =
    CONTROL |
    (header === null ? 0 : 0xf000) |
    (writer.wants('ecn') === false ? ECN : 0) |
    ((push === null ? 0 : PUSH) | (urgent === null ? 0 : URGENT));
  writer.load(2, 12);
  writer.asm.op(Code.AND_K, mask);
  writer.must(Code.JEQ_K, SYN | ((header ?? 0) << 10) | (push === true ? PUSH : 0) | (urgent === true ? URGENT : 0));
}

export function writeTtl(writer: P0fWriter): void {
  const { ttl, far } = writer.signature;
  if (far) return;
  writer.asm.op(Code.LD_B_ABS, writer.family === 4 ? 8 : 7);
  if (ttl < 255) writer.must(Code.JGT_K, ttl, false);
  if (ttl >= DISTANCE) writer.must(Code.JGT_K, ttl - DISTANCE);
}

/** The end of the TCP header, which is inside the packet; and whether something is behind it. `bytes`: of the header, null: the packet says it. */
export function writeEnd(writer: P0fWriter, bytes: number | null): void {
  const { asm, signature, origin } = writer;
  if (bytes === null) {
    writer.load(1, 12);
    asm.op(Code.RSH_K, 2);
    asm.op(Code.AND_K, 0x3c);
    writer.must(Code.JGE_K, TCP_BYTES);
    if (origin === null) asm.op(Code.ADD_X);
    else asm.op(Code.ADD_K, origin);
    asm.op(Code.ST, Cell.end);
  }
  const fixed = bytes !== null && origin !== null ? origin + bytes : null;
  if (fixed === null) {
    if (bytes !== null) writer.positionOf(bytes);
    asm.op(Code.TAX);
  }
  loadTotalLength(writer);
  const k = fixed ?? 0;
  const payload = signature.payload;
  if (payload === false) writer.must(fixed === null ? Code.JEQ_X : Code.JEQ_K, k);
  else if (payload === true) writer.must(fixed === null ? Code.JGT_X : Code.JGT_K, k);
  else writer.must(fixed === null ? Code.JGE_X : Code.JGE_K, k);
  if (fixed === null) writer.restore();
}

export function writeTcpQuirks(writer: P0fWriter): void {
  const [zero, ack, pointer] = (['seq-', 'ack+', 'uptr+'] as const).map((quirk) => writer.wants(quirk));
  if (zero !== null) {
    writer.load(4, 4);
    writer.must(Code.JEQ_K, 0, zero);
  }
  if (ack !== null) {
    writer.load(4, 8);
    writer.must(Code.JEQ_K, 0, !ack);
  }
  if (pointer === null || writer.wants('urgf+') === true) return;
  writer.load(2, 18);
  writer.must(Code.JEQ_K, 0, !pointer);
}
