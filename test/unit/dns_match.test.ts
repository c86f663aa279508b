/** Programs made of DNS names against a reader of messages that shares nothing with them. */
import { describe, expect, it } from 'vitest';
import { dnsProgram } from '../../src/control/expression/dns_program.js';
import { checkProgram } from '../../src/shared/cbpf/check.js';
import { interpret } from '../../src/shared/cbpf/interpret.js';
import { compileJavaScript } from '../../src/shared/cbpf/javascript.js';
import { link } from '../../src/shared/cbpf/link.js';
import { SluiceError } from '../../src/errors.js';
import { randomSource } from '../support/cbpf_programs.js';
import {
  nameFits,
  patternNear,
  patternText,
  questionOf,
  randomMessage,
  randomName,
  type Part,
} from '../support/dns_reference.js';

/** SLUICE_FUZZ_ROUNDS for a longer run, SEED to repeat one. */
const ROUNDS = Number(process.env.SLUICE_FUZZ_ROUNDS ?? 120);
const PACKETS = 30;
const seed = Number(process.env.SEED ?? 20261121);

describe('DNS names', () => {
  it('match the questions that a reader of messages says, compiled and interpreted', () => {
    const random = randomSource(seed);
    const seen = { programs: 0, refused: 0, pairs: 0, matched: 0, walked: 0 };
    for (let round = 0; round < ROUNDS; round++) {
      const names = Array.from({ length: PACKETS }, () => randomName(random));
      const count = 1 + random(random(3) === 0 ? 8 : 2);
      const patterns = Array.from({ length: count }, (): Part[] => patternNear(random, names[random(PACKETS)]));
      const types = random(4) === 0 ? [255, 1].slice(random(2)) : [];
      const response = random(6) === 0;
      let program;
      try {
        program = dnsProgram(patterns.map(patternText), { qtype: types, response });
      } catch (error) {
        if (!(error instanceof SluiceError)) throw error;
        // Too long a name, or too many labels behind a star.
        expect(error.message).toMatch(/needs \d+ bytes|labels behind|instructions/);
        seen.refused++;
        continue;
      }
      seen.programs++;
      expect(checkProgram(program)).toBeNull();
      const [match] = link(compileJavaScript([program]));
      for (const name of names) {
        const packet = randomMessage(random, name, random(3) === 0 ? 255 : 1);
        const view = new DataView(packet.buffer);
        const question = packet.length === 0 ? null : questionOf(packet, response);
        const wanted =
          question !== null &&
          (types.length === 0 || types.includes(question.type)) &&
          patterns.some((parts) => nameFits(question.labels, parts));
        const results = [
          interpret(program, view, 0, packet.length, packet.length),
          match(view, 0, packet.length, packet.length),
        ];
        if (results.some((result) => (result !== 0) !== wanted)) {
          const what = `${patterns.map(patternText).join(' ')} (${types.join()}${response ? ' response' : ''})`;
          throw new Error(
            `seed ${seed}: ${what} gives ${results.join(', ')}, not ${wanted}: ${Buffer.from(packet).toString('hex')}`,
          );
        }
        seen.pairs++;
        if (wanted) seen.matched++;
        if (wanted && patterns.some((parts) => parts[0] === 'front')) seen.walked++;
      }
    }
    if (process.env.SLUICE_FUZZ_ROUNDS) console.log(seed, JSON.stringify(seen));
    expect(seen.programs).toBeGreaterThan(ROUNDS / 2);
    expect(seen.matched).toBeGreaterThan(seen.pairs / 40);
    expect(seen.walked).toBeGreaterThan(seen.pairs / 80);
  }, 3_600_000);
});
