import { Label, type Assembler } from '../assembler.js';
import { Alu, Helper, Jump, Reg, Size } from '../instruction.js';
import { addressesOf, field, type PacketKind } from './kinds.js';
import { Kept } from './stack.js';

/**
 * Goes to `leave` with a packet whose destination is not in `vips` (vip_map of bpf/maps.h), and with one to ::ffff:a.b.c.d, which
 * would be taken for an IPv4 address there.
 */
export function emitDestination(asm: Assembler, kind: PacketKind, vips: number, leave: Label): void {
  const address = Kept.destination + 4;
  const { dst } = addressesOf(kind);
  asm.storeImm(Size.W, Reg.r10, Kept.destination, 128);
  if (kind.family === 4) {
    asm.storeImm(Size.W, Reg.r10, address, 0);
    asm.storeImm(Size.W, Reg.r10, address + 4, 0);
    asm.alu32(Alu.MOV, Reg.r1, 0xffff);
    asm.networkOrder(Reg.r1, 32);
    asm.store(Size.W, Reg.r10, address + 8, Reg.r1);
    asm.load(Size.W, Reg.r1, kind.base, dst);
    asm.store(Size.W, Reg.r10, address + 12, Reg.r1);
  } else {
    const good = new Label();
    for (let i = 0; i < 4; i++) {
      asm.load(Size.W, Reg.r1, kind.base, dst + i * 4);
      asm.store(Size.W, Reg.r10, address + i * 4, Reg.r1);
    }
    for (let i = 0; i < 2; i++) {
      asm.load(Size.W, Reg.r1, kind.base, dst + i * 4);
      asm.jump32(Jump.JNE, Reg.r1, 0, good);
    }
    field(asm, kind, Reg.r1, Size.W, dst + 8);
    asm.jump32(Jump.JEQ, Reg.r1, 0xffff, leave);
    asm.place(good);
  }
  asm.loadMap(Reg.r1, vips);
  asm.alu64X(Alu.MOV, Reg.r2, Reg.r10);
  asm.alu64(Alu.ADD, Reg.r2, Kept.destination);
  asm.call(Helper.map_lookup_elem);
  asm.jump64(Jump.JEQ, Reg.r0, 0, leave);
}
