/**
 * Every packet that is not plain, as the data plane's parser reads it (src/dataplane/packet/parse.ts): up to two VLAN tags, IPv4 options, fragments, IPv6
 * extension headers, all IP protocols, frames that are not IP. What the parser objects to is left to it. Headers are copied (Copy), and compared there.
 */
import { Label, type Assembler } from '../assembler.js';
import { Alu, Jump, Reg, Size } from '../instruction.js';
import { COPIED, emitCopies, emitCopy, OFFSET, REST } from './copies.js';
import { emitExtensions } from './extensions.js';
import { At, COPIES, Copy, emitReach, field, FRAME, NO_PORT, type WayTo } from './kinds.js';
import { Kept } from './stack.js';

const VLAN = [0x8100, 0x88a8] as const;
/** 802.3 lengths end below it; ARP, LLDP, SLOW, PAE, 1588: what is_housekeeping() of bpf/redirect.bpf.c gives to the host. */
const TYPE_LEAST = 0x0600;
const HOUSEKEEPING = [0x0806, 0x88cc, 0x8809, 0x888e, 0x88f7] as const;

/** SCTP, DCCP, UDP-Lite: with ports where UDP has them. */
const WITH_PORTS = [132, 33, 136] as const;
const [ICMP, ICMPV6] = [1, 58] as const;

/**
 * Tags and EtherType. Goes on with OFFSET behind them: to `ipv4` and `ipv6`, or to the rules for what is not IP.
 *
 * @param copies descriptor of the map of Copy
 */
export function emitEthernet(
  asm: Assembler,
  copies: number,
  { ipv4, ipv6, leave }: Record<'ipv4' | 'ipv6' | 'leave', Label>,
  to: WayTo,
): void {
  const untagged = new Label();
  const type = Reg.r9;
  asm.alu32(Alu.MOV, OFFSET, At.l3);
  emitReach(asm, At.l3, leave);
  field(asm, FRAME, Reg.r1, Size.H, At.etherType);
  for (const bytes of [4, 8]) {
    const tag = new Label();
    asm.jump32(Jump.JEQ, Reg.r1, VLAN[0], tag);
    asm.jump32(Jump.JNE, Reg.r1, VLAN[1], untagged);
    asm.place(tag);
    emitReach(asm, At.l3 + bytes, leave);
    field(asm, FRAME, Reg.r1, Size.H, At.etherType + bytes);
    asm.alu32(Alu.ADD, OFFSET, 4);
  }
  asm.place(untagged);
  asm.alu32X(Alu.MOV, type, Reg.r1);
  emitCopies(asm, copies, leave);
  asm.jump32(Jump.JEQ, type, 0x0800, ipv4);
  asm.jump32(Jump.JEQ, type, 0x86dd, ipv6);
  const rules = to(0, null);
  if (rules === leave) return asm.goto(leave);
  asm.jump32(Jump.JLT, type, TYPE_LEAST, leave);
  // A third tag is an error of the parser's.
  for (const other of [...VLAN, ...HOUSEKEEPING]) asm.jump32(Jump.JEQ, type, other, leave);
  asm.goto(rules);
}

/** RFC 791. */
export function emitIpv4(asm: Assembler, to: WayTo, leave: Label): void {
  const later = new Label();
  emitCopy(asm, Copy.header, 20, leave);
  asm.store(Size.W, COPIES, Copy.l3, OFFSET);
  emitAvailable(asm);
  field(asm, COPIED, Reg.r1, Size.B, Copy.header);
  asm.alu32X(Alu.MOV, Reg.r2, Reg.r1);
  asm.alu32(Alu.RSH, Reg.r1, 4);
  asm.jump32(Jump.JNE, Reg.r1, 4, leave);
  asm.alu32(Alu.AND, Reg.r2, 15);
  asm.alu32(Alu.LSH, Reg.r2, 2);
  asm.jump32(Jump.JLT, Reg.r2, 20, leave);
  field(asm, COPIED, Reg.r3, Size.H, Copy.header + 2);
  asm.jump32X(Jump.JLT, Reg.r3, Reg.r2, leave);
  asm.jump32X(Jump.JGT, Reg.r3, REST, leave);
  asm.store(Size.W, Reg.r10, Kept.l3Bytes, Reg.r3);
  asm.alu32X(Alu.ADD, OFFSET, Reg.r2);
  asm.alu32X(Alu.SUB, Reg.r3, Reg.r2);
  asm.alu32X(Alu.MOV, REST, Reg.r3);
  asm.store(Size.W, COPIES, Copy.fragmentBytes, REST);
  field(asm, COPIED, Reg.r1, Size.B, Copy.header + 9);
  asm.store(Size.W, COPIES, Copy.protocol, Reg.r1);
  field(asm, COPIED, Reg.r2, Size.H, Copy.header + 6);
  asm.alu32(Alu.AND, Reg.r2, 0x3fff);
  asm.store(Size.W, COPIES, Copy.fragment, Reg.r2);
  asm.jump32(Jump.JSET, Reg.r2, 0x1fff, later);
  emitTransport(asm, 4, to, later, leave);
}

/** RFC 8200. */
export function emitIpv6(asm: Assembler, to: WayTo, leave: Label): void {
  const [transport, later] = [new Label(), new Label()];
  emitCopy(asm, Copy.header, 40, leave);
  emitAvailable(asm);
  field(asm, COPIED, Reg.r1, Size.B, Copy.header);
  asm.alu32(Alu.RSH, Reg.r1, 4);
  asm.jump32(Jump.JNE, Reg.r1, 6, leave);
  field(asm, COPIED, Reg.r3, Size.H, Copy.header + 4);
  asm.alu32(Alu.ADD, Reg.r3, 40);
  asm.jump32X(Jump.JGT, Reg.r3, REST, leave);
  asm.store(Size.W, Reg.r10, Kept.l3Bytes, Reg.r3);
  asm.alu32(Alu.ADD, OFFSET, 40);
  asm.alu32(Alu.SUB, Reg.r3, 40);
  asm.alu32X(Alu.MOV, REST, Reg.r3);
  asm.storeImm(Size.W, COPIES, Copy.fragment, 0);
  asm.storeImm(Size.W, COPIES, Copy.fragmentBytes, 0);
  field(asm, COPIED, Reg.r1, Size.B, Copy.header + 6);
  asm.store(Size.W, COPIES, Copy.protocol, Reg.r1);
  emitExtensions(asm, { transport, later, leave });
  asm.place(transport);
  emitTransport(asm, 6, to, later, leave);
}

/** REST = bytes of the frame from the IP header on. */
function emitAvailable(asm: Assembler): void {
  asm.load(Size.W, REST, Reg.r10, Kept.frameBytes);
  asm.alu32X(Alu.SUB, REST, OFFSET);
}

/** r1: protocol. Places `later`, to which packets without transport header go. */
function emitTransport(asm: Assembler, family: 4 | 6, to: WayTo, later: Label, leave: Label): void {
  const [tcp, udp, icmp, ports] = [new Label(), new Label(), new Label(), new Label()];
  asm.jump32(Jump.JEQ, Reg.r1, 6, tcp);
  asm.jump32(Jump.JEQ, Reg.r1, 17, udp);
  asm.jump32(Jump.JEQ, Reg.r1, ICMP, icmp);
  asm.jump32(Jump.JEQ, Reg.r1, ICMPV6, icmp);
  for (const protocol of WITH_PORTS) asm.jump32(Jump.JEQ, Reg.r1, protocol, ports);
  asm.goto(later);

  asm.place(icmp);
  asm.jump32(Jump.JLT, REST, 8, leave);
  // Type and code, by which sets with ports are asked.
  emitCopy(asm, Copy.transport, 2, leave);
  if (family === 6) emitNeighbourDiscovery(asm, later, leave);
  asm.place(later);
  asm.storeImm(Size.W, COPIES, Copy.sport, NO_PORT);
  asm.storeImm(Size.W, COPIES, Copy.dport, NO_PORT);
  asm.storeImm(Size.W, COPIES, Copy.ports, 0);
  asm.goto(to(family, null));

  asm.place(ports);
  asm.jump32(Jump.JLT, REST, 8, later);
  emitCopy(asm, Copy.transport, 4, leave);
  field(asm, COPIED, Reg.r1, Size.H, Copy.transport);
  asm.store(Size.W, COPIES, Copy.sport, Reg.r1);
  field(asm, COPIED, Reg.r1, Size.H, Copy.transport + 2);
  asm.store(Size.W, COPIES, Copy.dport, Reg.r1);
  field(asm, COPIED, Reg.r1, Size.W, Copy.transport);
  asm.store(Size.W, COPIES, Copy.ports, Reg.r1);
  asm.goto(to(family, null));

  asm.place(udp);
  asm.jump32(Jump.JLT, REST, 8, leave);
  emitCopy(asm, Copy.transport, 8, leave);
  field(asm, COPIED, Reg.r1, Size.H, Copy.transport + 4);
  asm.jump32(Jump.JLT, Reg.r1, 8, leave);
  asm.jump32X(Jump.JLE, Reg.r1, REST, to(family, 17));
  // The length of a fragmented datagram is the whole's.
  asm.load(Size.W, Reg.r1, COPIES, Copy.fragment);
  asm.jump32(Jump.JEQ, Reg.r1, 0, leave);
  asm.goto(to(family, 17));

  asm.place(tcp);
  asm.jump32(Jump.JLT, REST, 20, leave);
  emitCopy(asm, Copy.transport, 20, leave);
  field(asm, COPIED, Reg.r1, Size.B, Copy.transport + 12);
  asm.alu32(Alu.RSH, Reg.r1, 2);
  asm.alu32(Alu.AND, Reg.r1, 0x3c);
  asm.jump32(Jump.JLT, Reg.r1, 20, leave);
  asm.jump32X(Jump.JGT, Reg.r1, REST, leave);
  asm.goto(to(family, 6));
}

/** Leaves what is_neighbour_discovery() of bpf/redirect.bpf.c gives to the host; all else goes to `other`. */
function emitNeighbourDiscovery(asm: Assembler, other: Label, leave: Label): void {
  field(asm, COPIED, Reg.r1, Size.B, Copy.header + 7);
  asm.jump32(Jump.JNE, Reg.r1, 255, other);
  field(asm, COPIED, Reg.r1, Size.B, Copy.transport);
  asm.jump32(Jump.JLT, Reg.r1, 133, other);
  asm.jump32(Jump.JLE, Reg.r1, 137, leave);
}
