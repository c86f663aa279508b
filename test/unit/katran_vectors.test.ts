/** Every packet of Katran's own tests through the whole data path, from a configuration that says what Katran was told. */
import { readInner, wrap } from '../../src/control/health/tunnel/wrap.js';
import { parseAddress, parseMac } from '../../src/shared/addr.js';
import { beforeAll, describe, expect, it } from 'vitest';
import { expectTable } from '../support/compatibility.js';
import { nameOf } from '../support/katran_config.js';
import { DIFFERENCES, type Difference } from '../support/katran_differences.js';
import { runAllOfKatran, type KatranOutcome, type KatranRun } from '../support/katran_run.js';
import { GUE_SOURCE, katranSetup, ROUTER_MAC } from '../support/katran_setup.js';
import { frameOf, katranVectors, NO_VECTORS } from '../support/vectors.js';

const differenceOf = (suite: string, n: number): Difference | undefined =>
  DIFFERENCES[suite]?.find(({ cases }) => cases.includes(n));

/** Dropped frames are not compared: nobody sees them. */
function isSame({ verdict, frame, one }: KatranOutcome): boolean {
  return verdict === one.verdict && (verdict === 'XDP_DROP' || frame.toString('hex') === one.out);
}

describe("Katran's tests", () => {
  const vectors = katranVectors();
  let runs: Map<string, KatranRun>;

  beforeAll(() => {
    if (vectors) runs = runAllOfKatran(vectors);
  });

  it.for(Object.keys(vectors?.suites ?? {}).filter((suite) => katranSetup(suite)))('%s', (suite) => {
    const { outcomes, lab } = runs.get(suite)!;
    for (const outcome of outcomes) {
      const { one, verdict, frame } = outcome;
      const what = `${suite} ${one.n}: ${one.description}`;
      const difference = differenceOf(suite, one.n);
      if (!difference) {
        expect([what, verdict, frame.toString('hex')]).toEqual([
          what,
          one.verdict,
          verdict === 'XDP_DROP' ? frame.toString('hex') : one.out,
        ]);
        continue;
      }
      expect(isSame(outcome), `${what} differs`).toBe(false);
      expect(verdict, what).toBe(difference.verdict ?? one.verdict);
      expect(frame.toString('hex') === one.in, what).toBe(difference.untouched ?? false);
      difference.check?.(frame);
      expect(difference.common(frame), what).toEqual(difference.common(Buffer.from(one.out, 'hex')));
    }
    expect(lab.violations()).toEqual([]);
  });

  // The first comes from a socket without a mark, which is no check's: here such packets do not come into the tunnel at all.
  it.for([
    [2, '10.0.0.1'],
    [3, '10.0.0.2'],
    [4, 'fc00::1'],
  ] as const)('hc %i: a check is wrapped for its backend', ([n, backend], { skip }) => {
    skip(vectors === null, NO_VECTORS);
    const { description, ...frames } = vectors!.suites.hc[n - 1];
    const destination = parseAddress(backend);
    const frame = Buffer.from(
      wrap(readInner(frameOf(frames.in))!, {
        interface: 'eth0',
        smac: parseMac('00:ff:de:ad:be:af'),
        dmac: parseMac(ROUTER_MAC),
        sourceAddress: parseAddress(destination.family === 4 ? GUE_SOURCE.ipv4 : GUE_SOURCE.ipv6),
        destination,
        encapsulation: { kind: 'ipip', gue: { port: 6080, variant: 1, checksum: 'zero' } },
      }),
    );
    const difference = differenceOf('hc', n);
    expect(frame.toString('hex') === frames.out, description).toBe(difference === undefined);
    difference?.check?.(frame);
    if (difference) expect(difference.common(frame)).toEqual(difference.common(Buffer.from(frames.out, 'hex')));
  });

  it('count packets and bytes of the VIPs as Katran does', ({ skip }) => {
    skip(vectors === null, NO_VECTORS);
    const { lab } = runs.get('base')!;
    const services = katranSetup('base')!.vips.map((vip) => lab.service(nameOf(vip)));
    const sent = services.reduce((sum, { packets }) => sum + packets, 0);
    // Katran counts the one that is too big as well.
    expect(sent + lab.drops().too_big).toBe(25);
    expect(lab.service('10.200.1.1-80-6')).toEqual({ packets: 4, bytes: 248 });
  });

  it('pass as docs/compatibility.md says', ({ skip }) => {
    skip(vectors === null, NO_VECTORS);
    expect(Object.keys(vectors!.suites)).toEqual(expect.arrayContaining(Object.keys(DIFFERENCES)));
    expectTable(
      'katran',
      Object.entries(vectors!.suites).map(([suite, { length }]) => ({
        suite,
        cases: length,
        deviations: DIFFERENCES[suite] ?? [],
      })),
    );
  });
});
