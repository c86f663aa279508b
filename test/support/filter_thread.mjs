/**
 * A worker thread that loads filter modules as a queue's worker does. Takes {specs} and answers {verdicts, created} or {error}; each is
 * a new publication in the same thread. workerData: {dist}.
 */
import { parentPort, workerData } from 'node:worker_threads';

const { buildChain, loadModules, missingModules } = await import(`${workerData.dist}/dataplane/filter/build.js`);
const { Packet } = await import(`${workerData.dist}/dataplane/packet/packet.js`);

const counters = new Float64Array(1 << 20);
const nothing = new SharedArrayBuffer(0);
const noRules = { rules: nothing, ruleIndex: null, ruleSets: nothing, programs: [], ruleStamp: 0 };
const packet = new Packet(new DataView(new ArrayBuffer(4096)), 2048);
packet.place(256, 64);

parentPort.on('message', async ({ specs, packets }) => {
  try {
    const imports = missingModules(specs).length;
    await loadModules(specs);
    const chain = buildChain({ filters: specs, ...noRules }, counters, { worker: 3, nowMs: () => 1234 });
    const verdicts = Array.from({ length: packets ?? 1 }, () => {
      try {
        return chain.run(packet, 1234);
      } catch (error) {
        return `${error.name}: ${error.message}`;
      }
    });
    parentPort.postMessage({ verdicts, imports, made: globalThis.made ?? [] });
  } catch (error) {
    const { name, code, message, remedy } = error;
    parentPort.postMessage({ error: { name, code, message, remedy } });
  }
});
