/**
 * A thread that fills one set of the cache of flows while another runs the program. workerData: {dist, map, filter, keys, flows, backends, sports, state}. `map`, `filter`: descriptors; `flows`: records of flows of
 * the set; `backends`: how many there are, number n with generation n + 1, always for the same flow; `sports[flow * backends + n]`: outer port of a decision; `state`: [stop, decisions that were put in force].
 */
import { workerData } from 'node:worker_threads';

const { dist, keys, flows, backends, sports } = workerData;
const { native } = await import(`${dist}/native.js`);
const { FlowHash } = await import(`${dist}/control/ebpf/flow_hash.js`);
const { FlowSets } = await import(`${dist}/control/manager/flow_sets.js`);

const state = new Int32Array(workerData.state);
const [map, filter] = [workerData.map, workerData.filter].map((fd) => native().mapByFd(fd));
const sets = new FlowSets(4, new Int32Array(map.memory()), new Int32Array(filter.memory()), new FlowHash(keys));
const BACKEND = 10;
const SPORT_AND_PORT = 12;

const nowMs = Number(process.hrtime.bigint() / 1_000_000n);
for (let turn = 0; Atomics.load(state, 0) === 0; turn++) {
  const backend = turn % backends;
  const flow = backend % flows.length;
  const record = flows[flow];
  record[BACKEND] = backend;
  record[SPORT_AND_PORT] = sports[flow * backends + backend] << 16;
  // All decisions but that of the turn before may give way.
  const place = sets.announce(record, 0, nowMs, (_, generation) => generation === backend);
  if (place >= 0 && sets.enforce(place, backend, backend + 1, nowMs)) Atomics.add(state, 1, 1);
}
map.close();
filter.close();
