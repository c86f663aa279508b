/** What the workers bench makes of its trials; the trials themselves run in the bench. */
import { describe, expect, it } from 'vitest';
import { workersResults } from '../../bench/workers/run.js';
import { workersRows } from '../../bench/workers/show.js';

const one = [
  { carried: 800_000, cpuNs: 1000 },
  { carried: 400_000, cpuNs: 1200 },
  { carried: 600_000, cpuNs: 1100 },
];
const two = [
  { carried: 1_600_000, cpuNs: 1000 },
  { carried: 600_000, cpuNs: 1320 },
  { carried: 1_020_000, cpuNs: 1100 },
];

describe('the workers bench', () => {
  it('compares two queues with one of the same round', () => {
    const [single, double] = workersResults([one, two], false);
    expect([single.toOne, single.cpuToOne]).toEqual([null, null]);
    expect(double.toOne).toMatchObject({ min: 1.5, max: 2 });
    expect(double.toOne?.median).toBeCloseTo(1.7);
    expect(double.cpuToOne?.median).toBe(1);
    expect(double.cpuToOne?.max).toBeCloseTo(1.1);
    expect(double.queues).toBe(2);
  });

  it('says in its table where generators were', () => {
    const shared = workersRows(workersResults([one, two], false));
    expect(shared[0][0]).toMatch(/generator on the same CPUs/);
    expect(shared[2][2]).toBe('1.70 [1.50..2.00]');
    expect(workersRows(workersResults([one, two], true))[0][0]).not.toMatch(/generator/);
  });
});
