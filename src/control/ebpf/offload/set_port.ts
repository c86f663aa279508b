import { PortProtocol } from '../../../shared/sets/index.js';
import { Label, type Assembler } from '../assembler.js';
import { Alu, Jump, Reg, Size } from '../instruction.js';
import { COPIES, Copy, field, port, type PacketKind } from './kinds.js';

/** Offset of a fragment, in the word that Copy.fragment has. */
const OFFSET_MASK = { 4: 0x1fff, 6: 0xfff8 } as const;

/** r1 = what portKeyOf says (shared/sets/packet_key.ts) of a packet that is IP; or goes to `none`. r1 to r3 are used. */
export function emitPortKey(asm: Assembler, kind: PacketKind, destination: boolean, none: Label): void {
  if (kind.protocol !== null) {
    port(asm, kind, Reg.r1, destination ? 2 : 0);
    asm.alu32(Alu.OR, Reg.r1, kind.protocol << 16);
    return;
  }
  const family = kind.family === 4 ? 4 : 6;
  const [withPorts, later, icmp, whole] = [new Label(), new Label(), new Label(), new Label()];
  const protocol = Reg.r2;
  const low = Reg.r1;
  asm.load(Size.W, protocol, COPIES, Copy.protocol);
  // Later fragments, which have no header.
  for (const one of [PortProtocol.tcp, PortProtocol.udp]) asm.jump32(Jump.JEQ, protocol, one, none);
  for (const one of [PortProtocol.sctp, PortProtocol.udpLite]) asm.jump32(Jump.JEQ, protocol, one, withPorts);
  asm.load(Size.W, low, COPIES, Copy.fragment);
  asm.jump32(Jump.JSET, low, OFFSET_MASK[family], later);
  for (const one of [PortProtocol.icmp, PortProtocol.icmpv6]) asm.jump32(Jump.JEQ, protocol, one, icmp);
  asm.alu32(Alu.MOV, low, 0);
  asm.goto(whole);

  asm.place(later);
  if (family === 6) asm.goto(none);
  else {
    asm.jump32(Jump.JEQ, protocol, PortProtocol.icmp, none);
    asm.alu32(Alu.MOV, low, 0);
    asm.goto(whole);
  }

  asm.place(withPorts);
  asm.load(Size.W, low, COPIES, Copy.ports);
  asm.jump32(Jump.JEQ, low, 0, none);
  port(asm, kind, low, destination ? 2 : 0);
  asm.goto(whole);

  asm.place(icmp);
  field(asm, kind, low, Size.H, kind.l4);

  asm.place(whole);
  asm.alu32(Alu.LSH, protocol, 16);
  asm.alu32X(Alu.OR, low, protocol);
}
