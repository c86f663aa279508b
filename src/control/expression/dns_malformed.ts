/** DNS queries that no resolver sends: floods are often made of bytes that only look like DNS. */
import { Assembler } from '../../shared/cbpf/assembler.js';
import { Code, type Program } from '../../shared/cbpf/program.js';
import { DNS_BYTES, UDP_BYTES, writeUdpHeaders } from './dns_headers.js';

/** Flags that queries may have: RD, RA (sent by RIPE Atlas probes), Z, AD and CD (RFC 6840). All others say that it is none. */
const FLAGS = 0x01f0;
const RECURSION = 0x0180;
/** A question for the root: its name, QTYPE and QCLASS. One for the shortest name of two labels. */
const QUESTION_LEAST = 5;
const QUESTION_OF_TWO_LABELS = 9;

/**
 * Matches UDP packets to port 53 that are no well-formed query, as bpftools' dns_validate: other flags than a query has (a response, an opcode, AA, TC,
 * an RCODE), other than one question, answers or authorities, more than one additional record, a UDP length without room for a question; and
 * those that end before all that is there. `strict`: RD and RA are wrong too, and so is a name of fewer than two labels, as in front of a server
 * that is authoritative for zones below a top-level domain. Unfragmented packets and first fragments, IPv6 without extension headers.
 */
export function malformedDnsProgram({ strict = false }: { strict?: boolean } = {}): Program {
  const asm = new Assembler();
  const matches = asm.label();
  const fail = asm.label();
  writeUdpHeaders(asm, fail, 'destination');
  // A load outside of the packet would end the program without a match: X + what is read must be inside.
  asm.op(Code.LD_LEN);
  asm.op(Code.SUB_X);
  asm.branch(Code.JGE_K, UDP_BYTES + DNS_BYTES, null, matches);
  asm.op(Code.LD_H_IND, 4);
  asm.branch(Code.JGE_K, UDP_BYTES + DNS_BYTES + (strict ? QUESTION_OF_TWO_LABELS : QUESTION_LEAST), null, matches);
  asm.op(Code.LD_H_IND, UDP_BYTES + 2);
  asm.branch(Code.JSET_K, 0xffff & ~(strict ? FLAGS & ~RECURSION : FLAGS), matches, null);
  asm.op(Code.LD_H_IND, UDP_BYTES + 4);
  asm.branch(Code.JEQ_K, 1, null, matches);
  asm.op(Code.LD_W_IND, UDP_BYTES + 6);
  asm.branch(Code.JEQ_K, 0, null, matches);
  asm.op(Code.LD_H_IND, UDP_BYTES + 10);
  asm.branch(Code.JGT_K, 1, matches, fail);
  asm.place(matches);
  asm.op(Code.RET_K, 1);
  asm.place(fail);
  asm.op(Code.RET_K, 0);
  return asm.build('ip')!;
}
