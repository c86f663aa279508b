/** Programs made of p0f signatures against a reading of p0f's own code, over random SYNs. */
import { describe, expect, it } from 'vitest';
import { p0fProgram } from '../../src/control/expression/p0f_program.js';
import { checkProgram } from '../../src/shared/cbpf/check.js';
import { interpret } from '../../src/shared/cbpf/interpret.js';
import { compileJavaScript } from '../../src/shared/cbpf/javascript.js';
import { link } from '../../src/shared/cbpf/link.js';
import { instructionCount } from '../../src/shared/cbpf/program.js';
import { SluiceError } from '../../src/errors.js';
import { randomSource } from '../support/cbpf_programs.js';
import { fits, synFields } from '../support/p0f_reference.js';
import { randomSyn, signatureNear } from '../support/p0f_random.js';

/** SLUICE_FUZZ_ROUNDS for a longer run, SEED to repeat one. */
const ROUNDS = Number(process.env.SLUICE_FUZZ_ROUNDS ?? 1500);
const PACKETS = 12;
const seed = Number(process.env.SEED ?? 20261121);

describe('p0f signatures', () => {
  it('match the SYNs that p0f would match, compiled and interpreted', () => {
    const random = randomSource(seed);
    const seen = { signatures: 0, refused: 0, pairs: 0, matched: 0, bad: 0, longest: 0 };
    for (let round = 0; round < ROUNDS; round++) {
      const packets = Array.from({ length: PACKETS }, () => randomSyn(random));
      const all = packets.map(synFields);
      const own = random(PACKETS);
      const fields = all[own];
      if (fields === null) continue;
      const text = signatureNear(random, fields);
      let program;
      try {
        program = p0fProgram(text);
      } catch (error) {
        if (!(error instanceof SluiceError)) throw error;
        // A signature that is refused fits no packet, or it is written wrong; the packet it was made from is the likeliest one.
        const fit = all.findIndex((one) => one !== null && fits(one, text));
        if (fit >= 0)
          throw new Error(`seed ${seed}: ${text} was refused and fits ${hex(packets[fit])}: ${error.message}`, {
            cause: error,
          });
        seen.refused++;
        continue;
      }
      seen.signatures++;
      expect(checkProgram(program)).toBeNull();
      seen.longest = Math.max(seen.longest, instructionCount(program));
      const [match] = link(compileJavaScript([program]));
      packets.forEach((packet, i) => {
        const view = new DataView(packet.buffer);
        const one = all[i];
        const wanted = one !== null && fits(one, text);
        const results = [
          interpret(program, view, 0, packet.length, packet.length),
          match(view, 0, packet.length, packet.length),
        ];
        if (results.some((result) => (result !== 0) !== wanted)) {
          throw new Error(`seed ${seed}: ${text} gives ${results.join(', ')}, not ${wanted}: ${hex(packet)}`);
        }
        seen.pairs++;
        if (wanted) seen.matched++;
        if (wanted && one.quirks.has('bad')) seen.bad++;
      });
    }
    if (process.env.SLUICE_FUZZ_ROUNDS) console.log(seed, JSON.stringify(seen));
    expect(seen.signatures).toBeGreaterThan(ROUNDS / 2);
    expect(seen.matched).toBeGreaterThan(seen.signatures / 4);
    expect(seen.bad).toBeGreaterThan(seen.signatures / 30);
    expect(seen.refused).toBeLessThan(seen.signatures / 2);
  }, 3_600_000);
});

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
