/**
 * Entry of a thread that makes the filter chain of a configuration once, says whether that went well, and ends. See
 * control/manager/trial.ts.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { CounterBlock, RuleField, type FilterSpec } from '../../shared/layout.js';
import { buildChain, loadModules } from './build.js';

const filters = workerData as FilterSpec[];
try {
  await loadModules(filters);
  const noRules = new Int32Array(RuleField.HEADER as number);
  buildChain(filters, noRules, new Float64Array(CounterBlock.SIZE as number), { worker: 0, nowMs: () => 0 });
  parentPort?.postMessage('');
} catch (error) {
  parentPort?.postMessage(error instanceof Error ? error.message : String(error));
}
