/**
 * Entry of a thread that makes the filter chain of a configuration once, says whether that went well, and ends. See
 * control/manager/trial.ts.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { CounterBlock, type FilterSpec } from '../../shared/layout.js';
import { buildChain, loadModules } from './build.js';

const filters = workerData as FilterSpec[];
try {
  await loadModules(filters);
  const nothing = new SharedArrayBuffer(0);
  const noRules = { rules: nothing, ruleIndex: null, ruleSets: nothing, programs: [], ruleStamp: 0 };
  const counters = new Float64Array(CounterBlock.SIZE as number);
  buildChain({ filters, ...noRules }, counters, { worker: 0, nowMs: () => 0 });
  parentPort?.postMessage('');
} catch (error) {
  parentPort?.postMessage(error instanceof Error ? error.message : String(error));
}
