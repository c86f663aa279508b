/** Runs the suites of Katran's tests through the whole data path. */
import { katranConfig, katranNextHop } from './katran_config.js';
import { katranSetup, type KatranSetup } from './katran_setup.js';
import { Lab } from './lab.js';
import { frameOf, type KatranCase, type KatranVectors } from './vectors.js';

/** What became of one packet. */
export interface KatranOutcome {
  one: KatranCase;
  verdict: 'XDP_TX' | 'XDP_DROP' | 'XDP_PASS';
  frame: Buffer;
}

export interface KatranRun {
  /** As it is after the suite. */
  lab: Lab;
  outcomes: KatranOutcome[];
}

/**
 * Largest packet that reaches a backend. Katran's limit is a frame of 1514 bytes; the other, of a variant of its authors', leaves room for IPv6
 * and GUE on links of 1500 bytes.
 */
function fitsOf(suite: string): number {
  return suite === 'gue_icmp_toobig' ? 1500 - 48 : 1500;
}

/**
 * A suite's packets one after the other, each as a burst of its own. A suite starts with an empty flow table, but for one that goes on where
 * the one before it, `before`, ended: its configuration is then loaded into the running data path.
 */
export function runKatran(vectors: KatranVectors, suite: string, before?: KatranRun): KatranRun {
  const setup = katranSetup(suite) as KatranSetup;
  const config = katranConfig(setup);
  const lab = before?.lab ?? new Lab(config, { nextHop: katranNextHop(setup, fitsOf(suite)) });
  if (before) lab.adopt(config);
  const outcomes = vectors.suites[suite].map((one): KatranOutcome => {
    const { sent, passed, dropped } = lab.run([frameOf(one.in)]);
    const [[frame], verdict] = (
      [
        [sent[0], 'XDP_TX'],
        [passed, 'XDP_PASS'],
        [dropped, 'XDP_DROP'],
      ] as const
    ).find(([frames]) => frames.length > 0)!;
    return { one, verdict, frame: Buffer.from(frame) };
  });
  return { lab, outcomes };
}

/** By suite, in the order of the file; without `hc`, which is not about packets that come in. */
export function runAllOfKatran(vectors: KatranVectors): Map<string, KatranRun> {
  const runs = new Map<string, KatranRun>();
  for (const suite of Object.keys(vectors.suites)) {
    if (katranSetup(suite) === null) continue;
    runs.set(suite, runKatran(vectors, suite, runs.get(suite.replace(/_2$/, '_1'))));
  }
  return runs;
}
