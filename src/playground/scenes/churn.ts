import type { Movement } from '../../control/maglev_movement.js';
import { moved } from '../../control/maglev_movement.js';
import { buildRing } from '../../control/maglev_build.js';
import { Backend, ECHO_PORT, HTTP_PORT } from '../backends.js';
import { SERVICES, type PlaygroundBackend } from '../daemon_config.js';
import type { HttpLoadResult } from '../http_tally.js';
import { growTopology, VIP4 } from '../topology.js';
import { HttpLoad, UdpProbe } from '../traffic.js';
import { grouped, pause, percent, sum, until } from './numbers.js';
import type { Report, Scene, Stage } from './scene.js';

/** Position in the configuration of the backend that leaves. */
const LEAVING = 1;
const HELD_CONNECTIONS = 60;
const FLOWS = 1000;
const RING_SLOTS = 65537;
const TIMEOUT_MS = 5000;

/** Ring of a list of backends as the daemon builds it: one that drains has no weight. */
function ringOf(backends: readonly PlaygroundBackend[]) {
  const list = backends.map(({ address, weight, state }) => ({
    key: address,
    weight: state === 'draining' ? 0 : weight,
  }));
  return { ring: buildRing(list, RING_SLOTS), backends: list };
}

/** Waits until every worker works with the newest tables and knows the way to every backend. */
async function adopted(stage: Stage): Promise<void> {
  const status = await until(
    () => stage.daemon.status(),
    (now) =>
      now.workers.every((worker) => worker.generation === now.generation) &&
      now.services.every((service) => service.backends.every((backend) => backend.nextHop !== null)),
    TIMEOUT_MS,
  );
  const late = status.workers.filter((worker) => worker.generation !== status.generation);
  if (late.length > 0) throw new Error(`worker ${late[0].queue} did not adopt generation ${status.generation}`);
}

/** Compares who answers the same flows before and after with what Maglev's rings say. */
function checkMovement(report: Report, what: string, before: string[], after: string[], rings: Movement): number {
  const flows = before.filter((name, i) => name !== '' && after[i] !== '').length;
  const movedFlows = before.filter((name, i) => name !== '' && after[i] !== '' && name !== after[i]).length;
  const bound = rings.bound / rings.slots;
  // The probed flows are a sample of all flows: four standard deviations on top.
  const limit = flows * bound + 4 * Math.sqrt(flows * bound * (1 - bound));
  report.check(
    flows === before.length && movedFlows <= limit,
    `${what}: ${grouped(movedFlows)} of ${grouped(flows)} flows go to another backend than before,` +
      ` ${percent(movedFlows / Math.max(1, flows))} (no method does with less than ${percent(rings.needed / rings.slots)};` +
      ` Maglev’s ring moved ${percent(rings.moved / rings.slots, 2)}, its bound is ${percent(bound)})`,
  );
  return movedFlows;
}

/** Held connections that broke and were not held by the backend that left. */
function brokenElsewhere(result: HttpLoadResult, leaving: string): number {
  return sum(Object.entries(result.broken).map(([name, count]) => (name === leaving ? 0 : count)));
}

async function drainOne(stage: Stage, report: Report, probe: UdpProbe, visitors: HttpLoad): Promise<string[]> {
  const leaving = stage.backends[LEAVING].host;
  const before = await probe.ask();
  const from = ringOf(stage.configured);
  for (const service of Object.values(SERVICES)) {
    await stage.daemon.setBackend(service, leaving.address4, { state: 'draining' });
  }
  stage.configured = stage.configured.map((backend, i) =>
    i === LEAVING ? { ...backend, state: 'draining' } : backend,
  );
  await adopted(stage);
  const after = await probe.ask();
  report.facts.drainMoved = checkMovement(
    report,
    `${leaving.name} drains`,
    before.backends,
    after.backends,
    moved(from, ringOf(stage.configured)),
  );

  const { playground, client } = stage.topology;
  const fresh = await new HttpLoad(playground, client, { host: VIP4, port: HTTP_PORT, requests: 300 }).result;
  report.check(
    fresh.failed === 0 && (fresh.perBackend[leaving.name] ?? 0) === 0,
    `${grouped(fresh.answered)} new connections were answered, ${fresh.perBackend[leaving.name] ?? 0} of them by ${leaving.name}`,
  );
  const held = await visitors.snapshot();
  report.check(
    sum(Object.values(held.broken)) === 0 && held.failed === 0,
    `all ${held.connections} connections held open meanwhile go on, the ${held.held[leaving.name] ?? 0} to ${leaving.name} too`,
  );
  return after.backends;
}

async function addOne(stage: Stage, report: Report, probe: UdpProbe, before: string[]): Promise<string[]> {
  const host = growTopology(stage.topology);
  stage.backends.push(await Backend.start(stage.topology, host, { independent: stage.independent }));
  const from = ringOf(stage.configured);
  stage.configured = [...stage.configured, { address: host.address4, weight: 1 }];
  stage.daemon.configure(stage.configured);
  await stage.daemon.reload();
  await adopted(stage);
  const after = await probe.ask();
  const rings = moved(from, ringOf(stage.configured));
  report.facts.addMoved = checkMovement(report, `${host.name} joins`, before, after.backends, rings);
  report.check(
    after.backends.includes(host.name),
    `${host.name} answers ${after.backends.filter((name) => name === host.name).length} of them`,
  );
  return after.backends;
}

/** The draining one is removed for good, with connections still on it. */
async function removeOne(stage: Stage, report: Report, visitors: HttpLoad): Promise<void> {
  const leaving = stage.backends[LEAVING].host;
  const before = await visitors.snapshot();
  const atLeaving = before.held[leaving.name] ?? 0;
  stage.configured = stage.configured.filter(({ address }) => address !== leaving.address4);
  stage.daemon.configure(stage.configured);
  await stage.daemon.reload();
  await adopted(stage);
  // Every held connection asks several times more.
  await pause(1500);
  const held = await visitors.stop();
  const elsewhere = brokenElsewhere(held, leaving.name);
  report.check(
    elsewhere === 0 && held.misrouted === 0,
    `${leaving.name} is removed for good: of the ${sum(Object.values(before.held)) - atLeaving} connections to the others,` +
      ` ${elsewhere} broke (of the ${atLeaving} to ${leaving.name} itself, ${held.broken[leaving.name] ?? 0})`,
  );
  report.facts.held = held;
}

async function play(stage: Stage, report: Report): Promise<void> {
  const { playground, client } = stage.topology;
  const visitors = new HttpLoad(playground, client, {
    host: VIP4,
    port: HTTP_PORT,
    mode: 'keepalive',
    connections: HELD_CONNECTIONS,
    intervalMs: 250,
  });
  const probe = await UdpProbe.start(playground, client, { address: VIP4, port: ECHO_PORT, flows: FLOWS });
  await until(
    () => visitors.snapshot(),
    (result) => sum(Object.values(result.held)) === HELD_CONNECTIONS,
    TIMEOUT_MS,
  );
  const drained = await drainOne(stage, report, probe, visitors);
  await addOne(stage, report, probe, drained);
  await removeOne(stage, report, visitors);
  await probe.close();
}

export const churn: Scene = {
  title: 'One backend leaves, another joins',
  story:
    'Under load, a backend is drained (it keeps its connections and gets no new ones), a new one is added by a reload, and\n' +
    'then the drained one is removed. Connections to the others must not notice, and few flows may change their backend.',
  play,
};
