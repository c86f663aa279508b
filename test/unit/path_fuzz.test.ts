import { describe, expect, it } from 'vitest';
import { World } from '../support/fuzz_world.js';

/** The first world's number, for a failure to be seen again; the others follow. */
const FIRST = Number(process.env['SLUICE_FUZZ_SEED'] ?? Date.now() % 1_000_000_007);

/** Set SLUICE_FUZZ_SECONDS for a longer run. */
const SECONDS = Number(process.env['SLUICE_FUZZ_SECONDS'] ?? 3);

/** Runs a world; what goes wrong names its seed. */
function run(seed: number): number {
  const world = new World(seed);
  try {
    world.run();
  } catch (error) {
    throw new Error(`SLUICE_FUZZ_SEED=${seed}, frame ${world.frames}: ${(error as Error).message}`, { cause: error });
  }
  return world.frames;
}

describe('random traffic through random configurations that change', () => {
  it(
    `does only what it may, on the short way and by the steps, from seed ${FIRST} on`,
    () => {
      const until = performance.now() + SECONDS * 1000;
      let worlds = 0;
      let frames = 0;
      for (; worlds < 10 || performance.now() < until; worlds++) frames += run(FIRST + worlds);
      console.log(`${worlds} worlds, ${frames} frames`);
      expect(frames).toBeGreaterThan(500);
    },
    SECONDS * 1000 + 60_000,
  );
});
