/** Classic programs translated to eBPF, in the kernel (BPF_PROG_TEST_RUN), against the interpreter. */
import { describe, expect, it } from 'vitest';
import { encode } from '../../src/control/ebpf/assembler.js';
import { KernelRuns, type TestFrame } from '../../src/control/ebpf/kernel_runs.js';
import { loadXdp, xdpProgram, type XdpOptions } from '../../src/control/ebpf/xdp_program.js';
import { compileExpressions } from '../../src/control/expression/compile.js';
import { native } from '../../src/native.js';
import { checkProgram } from '../../src/shared/cbpf/check.js';
import { interpret } from '../../src/shared/cbpf/interpret.js';
import { hasLoop } from '../../src/shared/cbpf/loops.js';
import { Bpf, Code, programOf, type Instruction, type Program } from '../../src/shared/cbpf/program.js';
import { simplify } from '../../src/shared/cbpf/simplify.js';
import { EDGES, randomPacket, randomProgram, randomSource, show, type Random } from '../support/cbpf_programs.js';
import { expressionFrames } from '../support/expression_frames.js';
import { EXPRESSIONS } from '../support/expressions.js';

/** Programs; each sees PACKETS packets. SLUICE_FUZZ_ROUNDS for a longer run, SEED to repeat one. */
const ROUNDS = Number(process.env.SLUICE_FUZZ_ROUNDS ?? 3000);
const PACKETS = 16;
const seed = Number(process.env.SEED ?? 20261121);
const WAYS: readonly XdpOptions[] = [
  { access: 'direct', length: 'packet' },
  { access: 'helpers', length: 'packet' },
  { access: 'direct', length: 'metadata' },
  { access: 'helpers', length: 'metadata' },
];

const METADATA = 4;

/** What the kernel returns for each packet; the metadata says the length on the wire. */
function inKernel(program: Program, options: XdpOptions, packets: readonly Uint8Array[], wire: number[]): Int32Array {
  const xdp = xdpProgram(program, options);
  if (!xdp.ok) throw new Error(xdp.error);
  const load = { type: 'xdp', name: 'test', license: 'Apache-2.0', instructions: encode(xdp.instructions) } as const;
  const loaded = native().loadProgram(load);
  const frames = packets.map((packet, i) => Buffer.concat([new Uint8Array(Uint32Array.of(wire[i]).buffer), packet]));
  let end = 0;
  const ends = Uint32Array.from(frames, ({ length }) => (end += length));
  const results = loaded.runFrames(Buffer.concat(frames), ends, METADATA);
  loaded.close();
  return results;
}

function interpreted(program: Program, packet: Uint8Array, wireLength: number): number {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  return interpret(program, view, 0, packet.length, wireLength);
}

/** Frames that the kernel takes. */
function framed(random: Random): Uint8Array {
  const packet = randomPacket(random);
  if (packet.length >= 14) return packet;
  return Uint8Array.from({ length: 14 + packet.length }, (_, i) => packet[i] ?? random(256));
}

function compare(program: Program, packets: readonly Uint8Array[], ways: readonly XdpOptions[]): number {
  let matched = 0;
  for (const way of ways) {
    const wire = packets.map(({ length }, i) => (way.length === 'metadata' ? length + i * 100 : length));
    const kernel = inKernel(program, way, packets, wire);
    packets.forEach((packet, i) => {
      const mine = interpreted(program, packet, wire[i]);
      if (mine !== 0) matched++;
      if (kernel[i] === mine) return;
      const where = `${show(program)} over ${Buffer.from(packet).toString('hex')}, ${wire[i]} on the wire`;
      throw new Error(`seed ${seed}: ${JSON.stringify(way)}: kernel ${kernel[i]}, interpreter ${mine}: ${where}`);
    });
  }
  return matched;
}

describe('programs as eBPF and the interpreter', () => {
  it('agree on random programs and packets, in every way of access', () => {
    const random = randomSource(seed);
    let [matched, ran] = [0, 0];
    for (let round = 0; round < ROUNDS; round++) {
      const packets = Array.from({ length: PACKETS }, () => framed(random));
      const long = round % 100 === 0;
      const whole = randomProgram(random, packets[0], { length: long ? 2000 : 8 << random(5) });
      const program = round % 3 === 0 ? simplify(whole) : whole;
      const ways = long ? WAYS.slice(1, 2) : [WAYS[round % WAYS.length], WAYS[random(WAYS.length)]];
      matched += compare(program, packets, ways);
      ran += PACKETS * ways.length;
    }
    // Neither "always" nor "never" would test much.
    expect(matched).toBeGreaterThan(ran / 10);
    expect(matched).toBeLessThan((ran * 9) / 10);
  }, 3_600_000);

  const operators = [Bpf.ADD, Bpf.SUB, Bpf.MUL, Bpf.DIV, Bpf.OR, Bpf.AND, Bpf.LSH, Bpf.RSH, Bpf.MOD, Bpf.XOR];
  it('compute the same at every pair of edges, by X and by K', () => {
    // Both numbers come from the packet, so that neither the verifier nor anybody else knows them.
    const packets = EDGES.flatMap((a) =>
      EDGES.map((x) => {
        const bytes = new DataView(new ArrayBuffer(14));
        bytes.setInt32(0, a);
        bytes.setInt32(4, x);
        return new Uint8Array(bytes.buffer);
      }),
    );
    const head: Instruction[] = [
      [Code.LD_W_ABS, 0, 0, 4],
      [Code.TAX, 0, 0, 0],
      [Code.LD_W_ABS, 0, 0, 0],
    ];
    for (const op of operators) {
      compare(programOf('ethernet', [...head, [Bpf.ALU | op | Bpf.X, 0, 0, 0], [Code.RET_A, 0, 0, 0]]), packets, WAYS);
      for (const k of EDGES) {
        const program = programOf('ethernet', [...head, [Bpf.ALU | op, 0, 0, k], [Code.RET_A, 0, 0, 0]]);
        if (checkProgram(program) === null) compare(program, packets.slice(0, 64), WAYS.slice(0, 1));
      }
    }
    compare(programOf('ethernet', [...head, [Code.NEG, 0, 0, 0], [Code.RET_A, 0, 0, 0]]), packets, WAYS);
    for (const op of [Bpf.JEQ, Bpf.JGT, Bpf.JGE, Bpf.JSET]) {
      const ends: Instruction[] = [
        [Code.RET_K, 0, 0, -1],
        [Code.RET_K, 0, 0, 7],
      ];
      for (const [jt, jf] of [
        [0, 1],
        [1, 0],
        [1, 1],
      ]) {
        compare(
          programOf('ethernet', [...head, [Bpf.JMP | op | Bpf.X, jt, jf, 0], ...ends]),
          packets,
          WAYS.slice(0, 1),
        );
        for (const k of EDGES) {
          const program = programOf('ethernet', [...head, [Bpf.JMP | op, jt, jf, k], ...ends]);
          compare(program, packets.slice(0, 64), WAYS.slice(0, 1));
        }
      }
    }
  });

  it('load the same at every edge of the packet, by k and by X + k round 2^32', () => {
    const packet = Uint8Array.from({ length: 61 }, (_, i) => i * 7 + 1);
    const offsets = [
      0, 1, 14, 56, 57, 58, 59, 60, 61, 62, 0x7fff, 0x8000, 0xfffb, 0xffff, 0x10000, 0x7fffffff, -1, -14,
    ];
    for (const size of [Bpf.W, Bpf.H, Bpf.B]) {
      for (const k of offsets) {
        if (k >= 0)
          compare(
            programOf('ethernet', [
              [Bpf.LD | size | Bpf.ABS, 0, 0, k],
              [Code.RET_A, 0, 0, 0],
            ]),
            [packet],
            WAYS,
          );
        for (const x of [0, 1, 57, -1, -14, 0x7fffffff, -0x80000000, 0x10000]) {
          const code: Instruction[] = [
            [Code.LDX_IMM, 0, 0, x],
            [Bpf.LD | size | Bpf.IND, 0, 0, k],
            [Code.RET_A, 0, 0, 0],
          ];
          compare(programOf('ethernet', code), [packet], WAYS.slice(0, 2));
        }
      }
    }
    for (const k of offsets.filter((offset) => offset >= 0)) {
      compare(
        programOf('ethernet', [
          [Code.LDX_MSH, 0, 0, k],
          [Code.TXA, 0, 0, 0],
          [Code.RET_A, 0, 0, 0],
        ]),
        [packet],
        WAYS,
      );
    }
  });

  it('agree at both ends of a long packet', () => {
    const packet = Uint8Array.from({ length: 3000 }, (_, i) => i ^ (i >> 8));
    for (const k of [2996, 2997, 2999, 3000]) {
      compare(
        programOf('ethernet', [
          [Code.LD_W_ABS, 0, 0, k],
          [Code.RET_A, 0, 0, 0],
        ]),
        [packet],
        WAYS,
      );
      const byX: Instruction[] = [
        [Code.LDX_LEN, 0, 0, 0],
        [Code.LD_B_IND, 0, 0, k - 3001],
        [Code.RET_A, 0, 0, 0],
      ];
      compare(programOf('ethernet', byX), [packet], WAYS);
    }
  });
});

describe('expressions', () => {
  it('match the same frames in the kernel, the whole corpus', () => {
    const frames = expressionFrames().map(({ data, wireLength }): TestFrame => {
      return { data: new DataView(data.buffer, data.byteOffset, data.byteLength), wireLength };
    });
    const runs = new KernelRuns(frames);
    // The short ones are there, and few.
    expect(runs.left.length).toBeGreaterThan(10);
    expect(runs.left.length).toBeLessThan(frames.length / 8);
    let [loops, matched] = [0, 0];
    compileExpressions(EXPRESSIONS).forEach((result, i) => {
      if (!result.ok) throw new Error(EXPRESSIONS[i]);
      const run = runs.run(result.program);
      if (hasLoop(result.program)) {
        loops++;
        return expect(run).toMatchObject({ ok: false, error: expect.stringContaining('loop') as string });
      }
      if (!run.ok) throw new Error(`${EXPRESSIONS[i]}: ${run.error}`);
      const wanted = frames.map(({ data, wireLength }) =>
        interpret(result.program, data, 0, data.byteLength, wireLength),
      );
      matched += wanted.filter((value) => value !== 0).length;
      const differs = wanted.findIndex((value, frame) => value !== run.results[frame]);
      expect([EXPRESSIONS[i], differs]).toEqual([EXPRESSIONS[i], -1]);
    });
    expect(loops).toBeGreaterThan(5);
    expect(matched).toBeGreaterThan(10_000);
  }, 60_000);
});

describe('the verifier', () => {
  const repeat = (count: number, part: (i: number) => Instruction[]): Instruction[] =>
    Array.from({ length: count }, (_, i) => part(i)).flat();
  /** Long programs whose ways are as many as a program can have. */
  const LARGE: Record<string, Instruction[]> = {
    'indirect loads in a row': [
      [Code.LD_B_ABS, 0, 0, 0],
      [Code.TAX, 0, 0, 0],
      ...repeat(4093, (i) => [[Code.LD_B_IND, 0, 0, i % 50]]),
    ],
    'header lengths': repeat(2047, (i) => [
      [Code.LDX_MSH, 0, 0, i % 50],
      [Code.LD_B_IND, 0, 0, i % 50],
    ]),
    'loads behind branches': repeat(1365, (i) => [
      [Code.LD_B_ABS, 0, 0, i % 1300],
      [Code.JEQ_K, 0, 1, i & 255],
      [Code.ADD_K, 0, 0, i],
    ]),
    'an X of many values': repeat(1023, (i) => [
      [Code.LD_B_ABS, 0, 0, i % 1300],
      [Code.JEQ_K, 0, 1, i & 255],
      [Code.LDX_IMM, 0, 0, i],
      [Code.LD_B_IND, 0, 0, 1],
    ]),
    'an X that is summed up': repeat(1023, (i) => [
      [Code.TXA, 0, 0, 0],
      [Code.JSET_K, 0, 1, 1 << (i & 15)],
      [Code.ADD_K, 0, 0, i + 1],
      [Code.TAX, 0, 0, 0],
    ]),
    'branches only': repeat(4000, (i) => [[Code.JEQ_K, 0, i % 2 === 0 ? 1 : 0, i]]),
  };
  it.each(Object.keys(LARGE))('takes 4,096 instructions of %s', (name) => {
    const program = programOf('ethernet', [...LARGE[name], [Code.RET_A, 0, 0, 0]]);
    expect(checkProgram(program)).toBeNull();
    expect(program.words.length / 4).toBeGreaterThan(4000);
    const loaded = loadXdp(program, 'packet');
    if (!loaded.ok) throw new Error(loaded.error);
    const { verified } = loaded.program.info();
    const packets = [0, 1, 77].map((seed) => Uint8Array.from({ length: 1500 }, (_, i) => (i * seed) >> 1));
    const wire = packets.map(({ length }) => length);
    const wanted = packets.map((packet) => interpreted(program, packet, packet.length));
    expect([...inKernel(program, { access: loaded.access, length: 'packet' }, packets, wire)]).toEqual(wanted);
    loaded.program.close();
    expect(verified).toBeGreaterThan(0);
    expect(verified).toBeLessThan(100_000);
  });

  it('gives up on a program with too many ways, and that is said', () => {
    // Each test of a bit of X tells the verifier something else to remember: 2^8 ways.
    const ways = repeat(1300, (i) => [
      [Code.TXA, 0, 0, 0],
      [Code.JSET_K, 1, 0, 1 << (i & 7)],
      [Code.LD_B_ABS, 0, 0, 14 + ((i * 37) % 1200)],
    ]);
    const program = programOf('ethernet', [
      [Code.LD_B_ABS, 0, 0, 3],
      [Code.TAX, 0, 0, 0],
      ...ways,
      [Code.RET_K, 0, 0, 1],
    ]);
    expect(checkProgram(program)).toBeNull();
    expect(loadXdp(program, 'packet')).toEqual({ ok: false, error: expect.stringMatching(/E2BIG.*million/) as string });
  });

  it('takes no jump over more than 32,767 instructions, and that is said', () => {
    const body = repeat(4090, () => [[Code.LD_B_IND, 0, 0, 0]]);
    const program = programOf('ethernet', [
      [Code.LD_B_ABS, 0, 0, 0],
      [Code.JEQ_K, 0, 1, 1],
      [Code.JA, 0, 0, 4090],
      ...body,
      [Code.RET_A, 0, 0, 0],
    ]);
    expect(checkProgram(program)).toBeNull();
    expect(loadXdp(program, 'packet')).toEqual({
      ok: false,
      error: expect.stringContaining('at most 32767') as string,
    });
  });
});
