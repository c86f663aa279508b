/** The encoder of eBPF and the text of its instructions. */
import { endianness } from 'node:os';
import { describe, expect, it } from 'vitest';
import { Assembler, encode, JumpTooFar, Label } from '../../src/control/ebpf/assembler.js';
import { disassembleEbpf } from '../../src/control/ebpf/disassemble.js';
import { guardsOf, NEVER } from '../../src/control/ebpf/guards.js';
import { Alu, Helper, Jump, Reg, Size } from '../../src/control/ebpf/instruction.js';
import { xdpProgram } from '../../src/control/ebpf/xdp_program.js';
import { Code, programOf, type Instruction } from '../../src/shared/cbpf/program.js';

/** Instructions with their text, as the verifier writes it, and their bytes, as clang writes them. */
const KNOWN: [(asm: Assembler) => void, text: string, bytes: string][] = [
  [(asm) => asm.alu64(Alu.ADD, Reg.r1, -14), '(07) r1 += -14', '07 01 00 00 f2 ff ff ff'],
  [(asm) => asm.alu64X(Alu.MOV, Reg.r6, Reg.r1), '(bf) r6 = r1', 'bf 16 00 00 00 00 00 00'],
  [(asm) => asm.alu32(Alu.AND, Reg.r9, 15), '(54) w9 &= 15', '54 09 00 00 0f 00 00 00'],
  [(asm) => asm.alu32X(Alu.MOD, Reg.r8, Reg.r9), '(9c) w8 %= w9', '9c 98 00 00 00 00 00 00'],
  [(asm) => asm.alu32(Alu.NEG, Reg.r8, 0), '(84) w8 = -w8', '84 08 00 00 00 00 00 00'],
  [(asm) => asm.networkOrder(Reg.r8, 16), '(dc) r8 = be16 r8', 'dc 08 00 00 10 00 00 00'],
  [(asm) => asm.load(Size.H, Reg.r8, Reg.r6, 12), '(69) r8 = *(u16 *)(r6 +12)', '69 68 0c 00 00 00 00 00'],
  [(asm) => asm.store(Size.DW, Reg.r10, -8, Reg.r1), '(7b) *(u64 *)(r10 -8) = r1', '7b 1a f8 ff 00 00 00 00'],
  [(asm) => asm.storeImm(Size.W, Reg.r10, -4, 7), '(62) *(u32 *)(r10 -4) = 7', '62 0a fc ff 07 00 00 00'],
  [(asm) => asm.call(Helper.xdp_load_bytes), '(85) call bpf_xdp_load_bytes#189', '85 00 00 00 bd 00 00 00'],
  [(asm) => asm.exit(), '(95) exit', '95 00 00 00 00 00 00 00'],
];

const hex = (bytes: Uint8Array): string => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');

describe('the assembler of eBPF', () => {
  it.runIf(endianness() === 'LE').each(KNOWN)('encodes %#', (write, text, bytes) => {
    const asm = new Assembler();
    write(asm);
    expect(disassembleEbpf(asm.instructions())).toBe(`   0: ${text}\n`);
    expect(hex(encode(asm.instructions()))).toBe(bytes);
  });

  it('has 64-bit numbers and maps in two instructions', () => {
    const asm = new Assembler();
    asm.loadImm64(Reg.r1, -1, 0x12);
    asm.loadMap(Reg.r2, 9);
    asm.loadMapValue(Reg.r3, 9, 16);
    asm.exit();
    expect(asm.length).toBe(7);
    expect(disassembleEbpf(asm.instructions()).split('\n')).toEqual([
      '   0: (18) r1 = 0x12ffffffff',
      '   2: (18) r2 = map[fd:9]',
      '   4: (18) r3 = map[fd:9][0]+16',
      '   6: (95) exit',
      '',
    ]);
  });

  it('jumps both ways, to the instruction behind the label', () => {
    const asm = new Assembler();
    const [back, on] = [new Label(), new Label()];
    asm.place(back);
    asm.jump32(Jump.JEQ, Reg.r8, -1, on);
    asm.jump64X(Jump.JGT, Reg.r1, Reg.r7, back);
    asm.place(on);
    asm.exit();
    expect(disassembleEbpf(asm.instructions()).split('\n').slice(0, 2)).toEqual([
      '   0: (16) if w8 == 0xffffffff goto pc+1',
      '   1: (2d) if r1 > r7 goto pc-2',
    ]);
  });

  it('refuses a jump that is too far, and one to nowhere', () => {
    const asm = new Assembler();
    const far = new Label();
    asm.goto(far);
    expect(() => asm.instructions()).toThrow('was not placed');
    for (let i = 0; i < 32767; i++) asm.exit();
    asm.place(far);
    expect(asm.instructions()[0].off).toBe(32767);
    asm.exit();
    asm.place(far);
    expect(() => asm.instructions()).toThrow(JumpTooFar);
  });
});

describe('comparisons of the length', () => {
  const guards = (code: readonly Instruction[], alike = false) => guardsOf(programOf('ethernet', code), alike);

  it('come once, for all that every way to a match needs', () => {
    const { check, reached } = guards([
      [Code.LD_H_ABS, 0, 0, 12],
      [Code.JEQ_K, 0, 3, 0x800],
      [Code.LD_B_ABS, 0, 0, 23],
      [Code.JEQ_K, 0, 1, 17],
      [Code.RET_K, 0, 0, 1],
      [Code.RET_K, 0, 0, 0],
    ]);
    expect([...check]).toEqual([24, 0, 0, 0, 0, 0]);
    expect(reached).toEqual([true, true, true, true, true, false]);
  });

  it('do not keep from matching what matches without the load', () => {
    const { check } = guards([
      [Code.LD_B_ABS, 0, 0, 0],
      [Code.JEQ_K, 1, 0, 7],
      [Code.LD_B_ABS, 0, 0, 99],
      [Code.RET_K, 0, 0, 1],
    ]);
    expect([...check]).toEqual([1, 0, 100, 0]);
  });

  it('come again where ways meet that have compared differently, when all are to be alike', () => {
    const code: Instruction[] = [
      [Code.LD_B_ABS, 0, 0, 0],
      [Code.JEQ_K, 1, 0, 7],
      [Code.LD_B_ABS, 0, 0, 99],
      [Code.LDX_LEN, 0, 0, 0],
      [Code.JEQ_X, 1, 0, 0],
      [Code.RET_K, 0, 0, 2],
      [Code.LD_B_ABS, 0, 0, 0],
      [Code.RET_A, 0, 0, 0],
    ];
    expect([...guards(code).check]).toEqual([1, 0, 100, 0, 0, 0, 0, 0]);
    expect([...guards(code, true).check]).toEqual([1, 0, 100, 0, 0, 0, 1, 0]);
  });

  it('leave out what can only end in no match', () => {
    const { need, reached } = guards([
      [Code.JEQ_K, 0, 2, 0],
      [Code.LD_B_ABS, 0, 0, 0x10000],
      [Code.RET_K, 0, 0, 1],
      [Code.RET_A, 0, 0, 0],
    ]);
    expect([...need]).toEqual([0, NEVER, 0, 0]);
    expect(reached).toEqual([true, false, false, true]);
  });
});

describe('a program as XDP', () => {
  it('is refused when it has a loop', () => {
    const loop = programOf('ethernet', [
      [Code.LD_B_ABS, 0, 0, 0],
      [Code.JA, 0, 0, -2],
    ]);
    expect(xdpProgram(loop, { access: 'direct', length: 'packet' })).toEqual({
      ok: false,
      error: expect.stringContaining('loop') as string,
    });
  });

  it('reads the packet behind one comparison', () => {
    const program = programOf('ethernet', [
      [Code.LD_H_ABS, 0, 0, 12],
      [Code.JEQ_K, 0, 1, 0x806],
      [Code.RET_K, 0, 0, 5],
      [Code.RET_K, 0, 0, 0],
    ]);
    const xdp = xdpProgram(program, { access: 'direct', length: 'packet' });
    expect(xdp.ok && disassembleEbpf(xdp.instructions)).toBe(`   0: (7b) *(u64 *)(r10 -8) = r1
   1: (61) r7 = *(u32 *)(r1 +4)
   2: (61) r6 = *(u32 *)(r1 +0)
   3: (b4) w8 = 0
   4: (b4) w9 = 0
   5: (bf) r1 = r6
   6: (07) r1 += 14
   7: (2d) if r1 > r7 goto pc+5
   8: (69) r8 = *(u16 *)(r6 +12)
   9: (dc) r8 = be16 r8
  10: (56) if w8 != 0x806 goto pc+2
  11: (b4) w0 = 5
  12: (95) exit
  13: (b4) w0 = 0
  14: (95) exit
`);
  });
});
