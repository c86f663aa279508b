/** The way to a DNS message over UDP, from the layer-3 header on. */
import type { Assembler, Label } from '../../shared/cbpf/assembler.js';
import { Code } from '../../shared/cbpf/program.js';

export const UDP_BYTES = 8;
/** The header of a message (RFC 1035 section 4.1.1). */
export const DNS_BYTES = 12;
const IPPROTO_UDP = 17;
const DNS_PORT = 53;

/**
 * X = where the UDP header begins, of a packet with port 53 at that end. IPv4 with options, no later fragments; IPv6 without extension headers. Others
 * go to `fail`.
 */
export function writeUdpHeaders(asm: Assembler, fail: Label, end: 'source' | 'destination'): void {
  const isIpv6 = asm.label();
  const isUdp = asm.label();
  const must = (code: Code, k: number, holds = true): void =>
    asm.branch(code, k, holds ? null : fail, holds ? fail : null);
  const port = end === 'source' ? 0 : 2;
  asm.op(Code.LD_B_ABS, 0);
  asm.op(Code.AND_K, 0xf0);
  asm.branch(Code.JEQ_K, 0x40, null, isIpv6);
  asm.op(Code.LD_B_ABS, 9);
  must(Code.JEQ_K, IPPROTO_UDP);
  asm.op(Code.LD_H_ABS, 6);
  must(Code.JSET_K, 0x1fff, false);
  asm.op(Code.LDX_MSH, 0);
  asm.op(Code.LD_H_IND, port);
  must(Code.JEQ_K, DNS_PORT);
  asm.jump(isUdp);
  asm.place(isIpv6);
  must(Code.JEQ_K, 0x60);
  asm.op(Code.LD_B_ABS, 6);
  must(Code.JEQ_K, IPPROTO_UDP);
  asm.op(Code.LD_H_ABS, 40 + port);
  must(Code.JEQ_K, DNS_PORT);
  asm.op(Code.LDX_IMM, 40);
  asm.place(isUdp);
}
