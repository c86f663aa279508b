/**
 * Our reading of classic BPF against the kernel's own engine: the same programs and packets through SO_ATTACH_FILTER.
 *
 * The kernel shows min(what the program returns, the packet's length) only, so programs here return small numbers.
 */
import { describe, expect, it } from 'vitest';
import { native } from '../../src/native.js';
import { checkProgram } from '../../src/shared/cbpf/check.js';
import { interpret } from '../../src/shared/cbpf/interpret.js';
import { Bpf, Code, programOf, type Instruction, type Program } from '../../src/shared/cbpf/program.js';
import { EDGES, randomPacket, randomProgram, randomSource, show } from '../support/cbpf_programs.js';

/** Programs; each sees PACKETS packets. SLUICE_FUZZ_ROUNDS for a longer run, SEED to repeat one. */
const ROUNDS = Number(process.env.SLUICE_FUZZ_ROUNDS ?? 4000);
const PACKETS = 12;
const seed = Number(process.env.SEED ?? 20261121);

function kernelTakes(program: Program): boolean {
  try {
    new (native().SocketFilter)(program.words).close();
    return true;
  } catch (error) {
    if ((error as { code?: string }).code !== 'EINVAL') throw error;
    return false;
  }
}

function ours(program: Program, packet: Uint8Array): number {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  return Math.min(interpret(program, view, 0, packet.length, packet.length) >>> 0, packet.length);
}

/** What the kernel's engine and ours keep of the packet. */
function both(code: readonly Instruction[], packet: Uint8Array): [kernel: number, ours: number] {
  const program = programOf('ethernet', code);
  const filter = new (native().SocketFilter)(program.words);
  const kept = filter.run(packet);
  filter.close();
  return [kept, ours(program, packet)];
}

/**
 * Whether an indirect load of the program comes to where the kernel reads from the network or link header on: X + k in the windows that begin at
 * SKF_NET_OFF and SKF_LL_OFF. There it may read, and we return 0, by design. Every instruction of the path is run alone, by the interpreter.
 */
function comesToKernelWindow(program: Program, bytes: Uint8Array): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const { words } = program;
  const m = new Array<number>(16).fill(0);
  let [a, x] = [0, 0];
  for (let i = 0; i < words.length / 4; i++) {
    const [code, jt, jf, k] = words.subarray(i * 4, i * 4 + 4);
    const operator = code & Bpf.CLASS;
    const run = (instruction: Instruction, behind: Instruction[] = []): number => {
      const alone: Instruction[] = [
        [Code.LDX_IMM, 0, 0, x],
        [Code.LD_IMM, 0, 0, a],
        instruction,
        ...behind,
        [Code.RET_A, 0, 0, 0],
      ];
      return interpret(programOf('ethernet', alone), view, 0, bytes.length, bytes.length);
    };
    if (operator === Bpf.RET) return false;
    if (operator === Bpf.ST || operator === Bpf.STX) m[k] = operator === Bpf.ST ? a : x;
    else if (code === Code.LD_MEM) a = m[k];
    else if (code === Code.LDX_MEM) x = m[k];
    else if (code === Code.JA) i += k;
    else if (operator === Bpf.JMP) {
      const ends: Instruction[] = [
        [Code.RET_K, 0, 0, 1],
        [Code.RET_K, 0, 0, 0],
      ];
      i += run([code, 0, 1, k], ends) === 1 ? jt : jf;
    } else if (operator === Bpf.LDX || code === Code.TAX) x = run([code, 0, 0, k], [[Code.TXA, 0, 0, 0]]);
    else {
      const offset = (x + k) | 0;
      if ((code & Bpf.MODE) === Bpf.IND && operator === Bpf.LD && offset < 0 && offset >= -0x200000) return true;
      a = run([code, 0, 0, k]);
    }
  }
  return false;
}

const packet = Uint8Array.from({ length: 600 }, (_, i) => i * 7);
/** A byte of A, then out: A's four bytes come out by four programs. */
const byteOfA = (shift: number): Instruction[] => [
  [Code.RSH_K, 0, 0, shift],
  [Code.AND_K, 0, 0, 0xff],
  [Code.ADD_K, 0, 0, 1],
  [Code.RET_A, 0, 0, 0],
];

describe('the interpreter and the kernel', () => {
  const alu: [string, number][] = [
    ...([
      ['add', Bpf.ADD],
      ['sub', Bpf.SUB],
      ['mul', Bpf.MUL],
      ['div', Bpf.DIV],
      ['mod', Bpf.MOD],
    ] as [string, number][]),
    ...([
      ['or', Bpf.OR],
      ['and', Bpf.AND],
      ['xor', Bpf.XOR],
      ['lsh', Bpf.LSH],
      ['rsh', Bpf.RSH],
    ] as [string, number][]),
  ];
  it.each(alu)('compute the same %s by X and by K, at every pair of edges', (_name, op) => {
    for (const a of EDGES) {
      for (const operand of EDGES) {
        const shift = ((a * 31 + operand) & 3) * 8;
        const byX: Instruction[] = [
          [Code.LDX_IMM, 0, 0, operand],
          [Code.LD_IMM, 0, 0, a],
          [Bpf.ALU | op | Bpf.X, 0, 0, 0],
          ...byteOfA(shift),
        ];
        const [kernel, mine] = both(byX, packet);
        expect({ a, operand, kept: mine }).toEqual({ a, operand, kept: kernel });
        const byK: Instruction[] = [[Code.LD_IMM, 0, 0, a], [Bpf.ALU | op, 0, 0, operand], ...byteOfA(shift)];
        if (checkProgram(programOf('ethernet', byK)) !== null) continue;
        const [kernelK, mineK] = both(byK, packet);
        expect({ a, operand, kept: mineK }).toEqual({ a, operand, kept: kernelK });
      }
    }
  });

  const jumps: [string, number][] = [
    ['jeq', Bpf.JEQ],
    ['jgt', Bpf.JGT],
    ['jge', Bpf.JGE],
    ['jset', Bpf.JSET],
  ];
  it.each(jumps)('jump the same by %s, at every pair of edges', (_name, op) => {
    for (const a of EDGES) {
      for (const operand of EDGES) {
        const code: Instruction[] = [
          [Code.LDX_IMM, 0, 0, operand],
          [Code.LD_IMM, 0, 0, a],
          [Bpf.JMP | op | Bpf.X, 0, 1, 0],
          [Bpf.JMP | op, 1, 2, operand],
          [Code.RET_K, 0, 0, 10],
          [Code.RET_K, 0, 0, 20],
          [Code.RET_K, 0, 0, 30],
        ];
        const [kernel, mine] = both(code, packet);
        expect({ a, operand, kept: mine }).toEqual({ a, operand, kept: kernel });
      }
    }
  });

  it('load the same at every edge of the packet, by k and by X + k round 2^32', () => {
    const short = packet.subarray(0, 61);
    const ends: Instruction[] = [
      [Code.AND_K, 0, 0, 31],
      [Code.ADD_K, 0, 0, 1],
      [Code.RET_A, 0, 0, 0],
    ];
    const offsets = [...Array(70).keys(), 0x7ffffffc, 0x7fffffff, -1, -2, -4, -14, -0x80000000, -0x10000000];
    for (const size of [Bpf.W, Bpf.H, Bpf.B]) {
      for (const k of offsets) {
        if (k >= 0) {
          const [kernel, mine] = both([[Bpf.LD | size | Bpf.ABS, 0, 0, k], ...ends], short);
          expect({ size, k, kept: mine }).toEqual({ size, k, kept: kernel });
        }
        for (const x of [0, 1, 14, 57, -1, -2, -14, 0x7fffffff, -0x80000000]) {
          const code: Instruction[] = [[Code.LDX_IMM, 0, 0, x], [Bpf.LD | size | Bpf.IND, 0, 0, k], ...ends];
          const [kernel, mine] = both(code, short);
          expect({ size, k, x, kept: mine }).toEqual({ size, k, x, kept: kernel });
        }
      }
    }
    for (const k of [0, 1, 14, 59, 60, 61, 62, 0x7fffffff]) {
      const [kernel, mine] = both([[Code.LDX_MSH, 0, 0, k], [Code.TXA, 0, 0, 0], ...ends], short);
      expect({ k, kept: mine }).toEqual({ k, kept: kernel });
    }
  });

  it('agree on random programs and packets', () => {
    const random = randomSource(seed);
    let matched = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const packets = Array.from({ length: PACKETS }, () => randomPacket(random));
      const program = randomProgram(random, packets[0], { length: 8 << random(5), small: true });
      const filter = new (native().SocketFilter)(program.words);
      for (const bytes of packets) {
        const [kernel, mine] = [filter.run(bytes), ours(program, bytes)];
        if (kernel > 0) matched++;
        if (kernel === mine || comesToKernelWindow(program, bytes)) continue;
        const hex = Buffer.from(bytes).toString('hex');
        throw new Error(`seed ${seed}: kernel ${kernel}, interpreter ${mine}: ${show(program)} over ${hex}`);
      }
      filter.close();
    }
    // Neither "always" nor "never" would test much.
    expect(matched).toBeGreaterThan((ROUNDS * PACKETS) / 10);
    expect(matched).toBeLessThan((ROUNDS * PACKETS * 9) / 10);
  }, 3_600_000);
});

describe('what is well formed', () => {
  it('is so to the kernel: random programs with random damage', () => {
    const random = randomSource(seed + 1);
    const seen = { taken: 0, refused: 0 };
    for (let round = 0; round < ROUNDS; round++) {
      const program = randomProgram(random, packet, { length: 20 });
      const { words } = program;
      for (let edits = random(3); edits > 0; edits--) {
        const at = random(words.length / 4) * 4;
        const field = random(4);
        if (field === 0) words[at] = random(3) === 0 ? random(65536) : random(256);
        else if (field === 3) words[at + 3] = EDGES[random(EDGES.length)];
        else words[at + field] = random(256);
      }
      const reason = checkProgram(program);
      // Loads of the kernel's own values: the one thing that we refuse and it may take.
      if (reason !== null && /SKF_/.test(reason)) continue;
      const takes = kernelTakes(program);
      if (takes !== (reason === null)) throw new Error(`seed ${seed}: kernel ${takes}, ${reason}: ${show(program)}`);
      seen[takes ? 'taken' : 'refused']++;
    }
    expect(seen.taken).toBeGreaterThan(ROUNDS / 10);
    expect(seen.refused).toBeGreaterThan(ROUNDS / 10);
  }, 3_600_000);

  it('has 4096 instructions at most', () => {
    const of = (count: number): Program =>
      programOf('ethernet', [
        ...Array.from({ length: count - 1 }, (): Instruction => [Code.LD_IMM, 0, 0, 0]),
        [Code.RET_K, 0, 0, 1],
      ]);
    expect([checkProgram(of(4096)), kernelTakes(of(4096))]).toEqual([null, true]);
    expect([checkProgram(of(4097)), kernelTakes(of(4097))]).toEqual([expect.stringContaining('4097'), false]);
  });

  it('reads no header that only the kernel knows: X + k that comes to one returns 0', () => {
    // Without one there (a datagram between local sockets), the kernel's window begins at the first byte.
    const code: Instruction[] = [
      [Code.LDX_IMM, 0, 0, -0x100000],
      [Code.LD_B_IND, 0, 0, 3],
      [Code.RET_K, 0, 0, 5],
    ];
    expect(both(code, packet)).toEqual([5, 0]);
    expect(comesToKernelWindow(programOf('ethernet', code), packet)).toBe(true);
  });

  it('reads no header that only the kernel knows: an offset of its own is refused', () => {
    // SKF_AD_OFF + SKF_AD_PAY_OFFSET and SKF_NET_OFF: taken by the kernel.
    for (const k of [-0x1000 + 52, -0x100000]) {
      const program = programOf('ethernet', [
        [Code.LD_W_ABS, 0, 0, k],
        [Code.RET_K, 0, 0, 1],
      ]);
      expect(kernelTakes(program)).toBe(true);
      expect(checkProgram(program)).toMatch(/SKF_/);
    }
  });
});
