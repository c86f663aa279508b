/** Compiled programs, and simplified ones, against the interpreter: random programs of every kind over random packets. */
import { describe, expect, it } from 'vitest';
import { checkProgram } from '../../src/shared/cbpf/check.js';
import { interpret } from '../../src/shared/cbpf/interpret.js';
import { compileJavaScript } from '../../src/shared/cbpf/javascript.js';
import { link } from '../../src/shared/cbpf/link.js';
import { instructionCount, type PacketMatch, type Program } from '../../src/shared/cbpf/program.js';
import { simplify } from '../../src/shared/cbpf/simplify.js';
import { randomPacket, randomProgram, randomSource, show, type Random } from '../support/cbpf_programs.js';
import { GuardedView } from '../support/guarded_view.js';

/** Lists of programs. SLUICE_FUZZ_ROUNDS for a longer run, SEED to repeat one. */
const ROUNDS = Number(process.env.SLUICE_FUZZ_ROUNDS ?? 60);
const PROGRAMS = 10;
const PACKETS = 40;
const seed = Number(process.env.SEED ?? 20261121);

interface Placed {
  readonly bytes: Uint8Array;
  readonly view: GuardedView;
  readonly at: number;
  readonly length: number;
  readonly wireLength: number;
}

/** A packet amid other memory, of which nothing else may be read. */
function placed(random: Random, bytes: Uint8Array): Placed {
  const at = random(3) === 0 ? 0 : random(300);
  const memory = new Uint8Array(at + bytes.length + random(3) * 50).fill(0xee);
  memory.set(bytes, at);
  const view = new GuardedView(memory.buffer).guard(at, at + bytes.length);
  return { bytes, view, at, length: bytes.length, wireLength: bytes.length + (random(4) === 0 ? random(2000) : 0) };
}

function expectSame(program: Program, match: PacketMatch, simple: Program, packet: Placed): number {
  const { view, at, length, wireLength } = packet;
  const results = [
    interpret(program, view, at, length, wireLength),
    match(view, at, length, wireLength),
    interpret(simple, view, at, length, wireLength),
  ];
  if (results[0] !== results[1] || results[0] !== results[2]) {
    const where = `${show(program)} over ${Buffer.from(packet.bytes).toString('hex')} (${wireLength} on the wire)`;
    throw new Error(`seed ${seed}: interpreter, compiled, simplified: ${results.join(', ')}: ${where}`);
  }
  return results[0];
}

describe('random programs', () => {
  it('do the same interpreted, compiled, simplified and together', () => {
    const random = randomSource(seed);
    const seen = { matched: 0, pairs: 0, before: 0, after: 0, first: 0 };
    for (let round = 0; round < ROUNDS; round++) {
      const packets = Array.from({ length: PACKETS }, () => placed(random, randomPacket(random)));
      const length = 4 << random(round % 50 === 0 ? 9 : 6);
      const programs = Array.from({ length: PROGRAMS }, () => randomProgram(random, packets[0].bytes, { length }));
      const simple = programs.map(simplify);
      const matches = link(compileJavaScript(programs));
      const [all] = link(compileJavaScript(programs, { together: true }));
      for (let i = 0; i < PROGRAMS; i++) {
        expect(checkProgram(programs[i])).toBeNull();
        expect(checkProgram(simple[i])).toBeNull();
        seen.before += instructionCount(programs[i]);
        seen.after += instructionCount(simple[i]);
      }
      for (const packet of packets) {
        const results = programs.map((program, i) => expectSame(program, matches[i], simple[i], packet));
        const first = all(packet.view, packet.at, packet.length, packet.wireLength);
        if (first !== results.findIndex((result) => result !== 0)) {
          throw new Error(`seed ${seed}, round ${round}: together ${first}, one by one ${results.join(' ')}`);
        }
        if (first > 0) seen.first++;
        seen.matched += results.filter((result) => result !== 0).length;
        seen.pairs += PROGRAMS;
      }
    }
    expect(seen.matched).toBeGreaterThan(seen.pairs / 10);
    expect(seen.matched).toBeLessThan((seen.pairs * 9) / 10);
    expect(seen.after).toBeLessThan(seen.before);
    expect(seen.first).toBeGreaterThan(ROUNDS);
    if (process.env.SLUICE_FUZZ_ROUNDS) console.log(seed, JSON.stringify(seen));
  }, 3_600_000);

  it('match nothing, and read nothing, when the packet is not in the view', () => {
    const random = randomSource(seed + 1);
    const view = new GuardedView(new ArrayBuffer(128)).guard(0, 0);
    const outside = [
      [0, 129],
      [100, 29],
      [128, 1],
      [129, 0],
      [-1, 4],
      [0, -1],
      [-0x80000000, 0x7fffffff],
      [0x7fffffff, 0x7fffffff],
      [0, 0x7fffffff],
      [0x7fffffff, 1],
      [-0x80000000, -0x80000000],
    ];
    for (let round = 0; round < 50; round++) {
      const programs = [0, 1, 2].map(() => randomProgram(random, randomPacket(random), { length: 30 }));
      const [all] = link(compileJavaScript(programs, { together: true }));
      link(compileJavaScript(programs)).forEach((match, i) => {
        for (const [at, length] of outside) {
          expect(interpret(programs[i], view, at, length, 64)).toBe(0);
          expect(match(view, at, length, 64)).toBe(0);
          expect(all(view, at, length, 64)).toBe(-1);
        }
      });
    }
  });
});
