import { unstoredCells } from '../../shared/cbpf/check.js';
import { withoutLoops } from '../../shared/cbpf/loops.js';
import { Code, programOf, Word, type Instruction, type Program } from '../../shared/cbpf/program.js';

/** SKF_AD_OFF of include/uapi/linux/filter.h as a uint32: absolute loads from here on ask the kernel, not the packet. */
const SKF_AD_OFF = 0xfffff000;
/** SKF_AD_PKTTYPE (inbound, outbound) and SKF_AD_IFINDEX: what libpcap asks when it has neither interface nor file. */
const METADATA = [SKF_AD_OFF + 4, SKF_AD_OFF + 8];

/** A program from struct sock_filter, little-endian: code (uint16), jt, jf (uint8), k (uint32). */
export function programFrom(bytes: Buffer): Program {
  const instructions = Array.from({ length: bytes.length >> 3 }, (_, i): Instruction => {
    const at = i * 8;
    return [bytes.readUInt16LE(at), bytes[at + 2], bytes[at + 3], bytes.readInt32LE(at + 4)];
  });
  return programOf('ethernet', instructions);
}

/** Whether it asks for what the kernel knows of a packet beside its bytes. */
export function asksForMetadata({ words }: Program): boolean {
  for (let at = 0; at < words.length; at += Word.SIZE) {
    if (isAbsoluteLoad(words[at]) && METADATA.includes(words[at + Word.k] >>> 0)) return true;
  }
  return false;
}

/**
 * Loads at constant offsets where the kernel has its own meanings for them ("ether[0xffffffff]"): to libpcap they are beyond
 * every packet, which ends the program without a match. Here they become just that. Changes the program in place.
 */
export function endAtHugeOffsets({ words }: Program): void {
  for (let at = 0; at < words.length; at += Word.SIZE) {
    if (isAbsoluteLoad(words[at]) && words[at + Word.k] < 0) words.set([Code.RET_K, 0, 0, 0], at);
  }
}

/**
 * The program with 0 stored first in each cell of M[] that it would read unstored. libpcap compiles what comes behind `geneve` to look within
 * the tunnel, at offsets kept in M[], also where it is asked of packets without one ("not geneve and tcp"). No kernel takes such a program, and
 * libpcap's own engine reads what its stack held; BSD's reads 0. The same object when there are none.
 */
export function clearMemory(program: Program): Program {
  const cells = unstoredCells(withoutLoops(program, 0));
  if (cells === 0) return program;
  const first: number[] = [Code.LD_IMM, 0, 0, 0];
  for (let k = 0; k < Word.MEM_WORDS; k++) if ((cells & (1 << k)) !== 0) first.push(Code.ST, 0, 0, k);
  return { link: program.link, words: Int32Array.of(...first, ...program.words) };
}

function isAbsoluteLoad(code: number): boolean {
  return code === Code.LD_W_ABS || code === Code.LD_H_ABS || code === Code.LD_B_ABS;
}
