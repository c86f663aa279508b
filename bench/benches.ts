import type { Bench } from './bench.js';
import { dropBench } from './drop/bench.js';
import { idleBench } from './idle/bench.js';
import { latencyBench } from './latency/bench.js';
import { microBench } from './micro/bench.js';
import { offloadBench } from './offload/bench.js';
import { pathBench, waysBench } from './path/bench.js';
import { filtersBench } from './path/filter_bench.js';
import { pausesBench } from './pauses/bench.js';
import { ppsBench } from './pps/bench.js';
import { tablesBench } from './tables/bench.js';
import { workersBench } from './workers/bench.js';

/** All benches, in the order in which they run. A new one is a line here; what it has to have is in bench.ts. */
export const BENCHES: readonly Bench[] = [
  pathBench,
  waysBench,
  filtersBench,
  tablesBench,
  microBench,
  dropBench,
  offloadBench,
  ppsBench,
  workersBench,
  latencyBench,
  pausesBench,
  idleBench,
];

/** @throws RangeError when there is none of that name */
export function benchNamed(name: string): Bench {
  const found = BENCHES.find((bench) => bench.name === name);
  if (found === undefined) throw new RangeError(`there is no bench "${name}"`);
  return found;
}
