/** Random classic BPF programs that the kernel takes, and packets that give them something to decide. */
import { Bpf, Code, programOf, type Instruction, type Program } from '../../src/shared/cbpf/program.js';

export type Random = (below: number) => number;

/** Mulberry32. */
export function randomSource(state: number): Random {
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

const pick = <T>(random: Random, from: readonly T[]): T => from[random(from.length)];

/** Numbers at which 32-bit arithmetic turns. */
export const EDGES = [
  ...[0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 33, 63, 255, 256, 65535, 65536, 0x7ffffffe, 0x7fffffff, -0x80000000],
  ...[-0x7fffffff, -1, -2, -14, -32, -256, 0x800, 0x86dd, 0x11, 0x06, 53, 0x0a000000, 0x1fff, 0xff000000 | 0],
];

const FIELDS = [0, 6, 12, 14, 15, 16, 18, 20, 22, 23, 26, 30, 34, 36, 38, 46, 47, 54, 56];
const LOADS = [Code.LD_W_ABS, Code.LD_H_ABS, Code.LD_B_ABS];
const INDIRECT = [Code.LD_W_IND, Code.LD_H_IND, Code.LD_B_IND];
const ALU = [Bpf.ADD, Bpf.SUB, Bpf.MUL, Bpf.DIV, Bpf.OR, Bpf.AND, Bpf.LSH, Bpf.RSH, Bpf.MOD, Bpf.XOR];
const JUMPS = [Bpf.JEQ, Bpf.JGT, Bpf.JGE, Bpf.JSET];

function number(random: Random): number {
  const kind = random(10);
  if (kind < 5) return pick(random, EDGES);
  if (kind < 7) return random(256);
  if (kind < 8) return random(65536);
  return random(0x7fffffff) ^ (random(2) << 31);
}

/** A number that is likely to be what the packet has at `at`, so that jumps go both ways. */
function fromPacket(random: Random, packet: Uint8Array, at: number): number {
  let value = 0;
  for (let size = pick(random, [1, 2, 4]), i = 0; i < size; i++) value = (value << 8) | (packet[at + i] ?? 0);
  return value + (random(3) === 0 ? random(3) - 1 : 0);
}

function offset(random: Random): number {
  const kind = random(20);
  if (kind < 12) return pick(random, FIELDS);
  if (random(12) > 0) return random(40);
  return random(3) > 0 ? random(400) : 0x7fffffff - random(4);
}

interface Choice {
  /** Instructions, about. */
  length: number;
  /**
   * A return of A comes behind a multiplication and a shift that leave a byte of it: what only shows up to a packet's length still tells
   * nearly all of A's values apart.
   */
  small?: boolean;
}

/** A program with every instruction there is in it sooner or later, of the kind that the kernel takes. */
export function randomProgram(random: Random, packet: Uint8Array, choice: Choice): Program {
  // A and X begin as 0, which decides much: mostly something else takes its place.
  const code: Instruction[] = random(4) === 0 ? [] : start(random);
  const count = 2 + random(choice.length);
  /** Cells that are stored first of all, so that any path may load them. */
  const cells = random(1 << random(5));
  for (let cell = 0; cell < 16; cell++) {
    if (((cells >> cell) & 1) === 0) continue;
    const value: Instruction =
      random(2) === 0 ? [Code.LD_IMM, 0, 0, number(random)] : [Code.LD_H_ABS, 0, 0, random(14)];
    code.push(value, [Code.ST, 0, 0, cell]);
  }
  const usable = [...Array(16).keys()].filter((cell) => ((cells >> cell) & 1) === 1);
  let last = 12;
  while (code.length < count) {
    const left = count - code.length;
    const kind = random(100);
    if (kind < 25) code.push([pick(random, LOADS), 0, 0, (last = offset(random))]);
    else if (kind < 33) {
      if (random(2) === 0) code.push([Code.LDX_MSH, 0, 0, random(8) === 0 ? offset(random) : 14]);
      const k = random(4) === 0 ? number(random) : offset(random);
      code.push([pick(random, INDIRECT), 0, 0, k]);
    } else if (kind < 37) code.push([pick(random, [Code.LD_IMM, Code.LDX_IMM]), 0, 0, number(random)]);
    else if (kind < 39) code.push([pick(random, [Code.LD_LEN, Code.LDX_LEN]), 0, 0, random(3)]);
    else if (kind < 42) code.push([pick(random, [Code.ST, Code.STX]), 0, 0, random(16)]);
    else if (kind < 46 && usable.length > 0)
      code.push([pick(random, [Code.LD_MEM, Code.LDX_MEM]), 0, 0, pick(random, usable)]);
    else if (kind < 50) code.push([pick(random, [Code.TAX, Code.TXA]), 0, 0, 0]);
    else if (kind < 66) code.push(alu(random));
    else if (kind < 92) code.push(jump(random, packet, last, left));
    else if (kind < 94) code.push([Code.JA, 0, 0, random(left)]);
    else if (random(3) === 0) code.push(...end(random, choice));
  }
  code.push(...end(random, choice));
  // What was pushed behind the count, and what a jump of the last instructions could still miss.
  return programOf(
    'ethernet',
    code.map(([c, jt, jf, k], i) => {
      const far = code.length - i - 2;
      if (c === Code.JA) return [c, 0, 0, Math.min(k, far)];
      return (c & 7) === 5 ? [c, Math.min(jt, far), Math.min(jf, far), k] : [c, jt, jf, k];
    }),
  );
}

function start(random: Random): Instruction[] {
  return [
    [pick(random, LOADS), 0, 0, random(10)],
    [Code.TAX, 0, 0, 0],
    [pick(random, LOADS), 0, 0, pick(random, FIELDS)],
  ];
}

function alu(random: Random): Instruction {
  if (random(20) === 0) return [Code.NEG, 0, 0, 0];
  const op = pick(random, ALU);
  if (random(3) === 0) return [Bpf.ALU | op | Bpf.X, 0, 0, 0];
  if (op === Bpf.LSH || op === Bpf.RSH) return [Bpf.ALU | op, 0, 0, random(32)];
  return [Bpf.ALU | op, 0, 0, number(random) || 1];
}

function jump(random: Random, packet: Uint8Array, last: number, left: number): Instruction {
  const op = pick(random, random(2) === 0 ? [Bpf.JEQ] : JUMPS);
  const k = random(2) === 0 ? fromPacket(random, packet, last) : number(random);
  const reach = Math.min(left, random(6) === 0 ? 256 : 8);
  return [Bpf.JMP | op | (random(5) === 0 ? Bpf.X : 0), random(reach), random(random(3) === 0 ? reach : 2), k];
}

function end(random: Random, choice: Choice): Instruction[] {
  if (random(2) === 0) return [[Code.RET_K, 0, 0, choice.small ? random(200) : pick(random, EDGES)]];
  if (!choice.small) return [[Code.RET_A, 0, 0, 0]];
  return [
    [Code.MUL_K, 0, 0, 0x9e3779b1 | 0],
    [Code.RSH_K, 0, 0, 24],
    [Code.RET_A, 0, 0, 0],
  ];
}

/** IPv4 or IPv6 with UDP, TCP or something else, whole or cut short, with damage; sometimes noise only. */
export function randomPacket(random: Random): Uint8Array {
  const bytes = new Uint8Array(random(4) === 0 ? random(400) : 14 + random(90));
  for (let i = 0; i < bytes.length; i++) bytes[i] = random(3) === 0 ? random(256) : pick(random, [0, 0, 1, 10, 255]);
  const kind = random(8);
  const put = (at: number, ...values: number[]): void => {
    values.forEach((value, i) => {
      if (at + i < bytes.length) bytes[at + i] = value;
    });
  };
  if (kind < 5) {
    put(12, 8, 0, 0x45 + (random(4) === 0 ? random(11) : 0));
    put(
      20,
      random(5) === 0 ? random(256) : 0,
      random(5) === 0 ? random(4) : 0,
      64,
      pick(random, [6, 17, 1, random(256)]),
    );
    put(26, 10, 0, 0, random(4), 192, 0, 2, random(4));
    put(34, 0, pick(random, [53, 80, 123]), 0, pick(random, [53, 80, 123]));
  } else if (kind < 7) {
    put(12, 0x86, 0xdd, 0x60);
    put(20, pick(random, [6, 17, 58, 44, random(256)]), 64, 0x20, 0x01, 0x0d, 0xb8);
    put(38, 0x20, 0x01, 0x0d, 0xb8);
    put(54, 0, pick(random, [53, 80, 123]), 0, pick(random, [53, 80, 123]));
  }
  return bytes;
}

/** For messages: the bytecode as iptables has it. */
export function show(program: Program): string {
  const lines = [];
  for (let i = 0; i < program.words.length; i += 4) lines.push(program.words.subarray(i, i + 4).join(' '));
  return lines.join(',');
}
