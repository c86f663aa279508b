import { HTTP_PORT } from '../backends.js';
import { VIP4, type Host } from '../topology.js';
import { HttpLoad } from '../traffic.js';
import { pause, sum, until } from './numbers.js';
import type { Report, Scene, Stage } from './scene.js';

/** From start to the first answer, ms, on a machine that has nothing else to do. */
const RESTART_LIMIT_MS = 2000;
/** The same in starts of a bare Node, for machines that are slow or busy: it takes some 20 of them. */
const RESTART_LIMIT_STARTS = 40;
const DETACH_LIMIT_MS = 1000;
/** How long sluice stays dead. */
const OUTAGE_MS = 500;
const HELD_CONNECTIONS = 20;

/** What it takes to start Node and do nothing, on this machine and just now: median of three, ms. */
function bareStartMs(lb: Host): number {
  const times = Array.from({ length: 3 }, () => {
    const begin = performance.now();
    lb.namespace.exec(process.execPath, '-e', '0');
    return performance.now() - begin;
  });
  return times.sort((a, b) => a - b)[1];
}

async function play(stage: Stage, report: Report): Promise<void> {
  const { daemon, topology } = stage;
  const target = { host: VIP4, port: HTTP_PORT };
  const held = new HttpLoad(topology.playground, topology.client, {
    ...target,
    mode: 'keepalive',
    connections: HELD_CONNECTIONS,
    intervalMs: 250,
    timeoutMs: 15_000,
  });
  // New connections all the time, each given up quickly: the first that is answered says when service is back.
  const knocking = new HttpLoad(topology.playground, topology.client, {
    ...target,
    connections: 2,
    intervalMs: 20,
    timeoutMs: 150,
  });
  await until(
    () => held.snapshot(),
    (result) => sum(Object.values(result.held)) === HELD_CONNECTIONS,
    5000,
  );
  const program = daemon.attachedProgram();
  report.check(program !== null, `before: XDP program ${program} is attached to lb's interface`);

  await daemon.killHard();
  const left = await until(
    () => Promise.resolve(daemon.attachedProgram()),
    (id) => id === null,
    DETACH_LIMIT_MS,
  );
  report.check(left === null, 'kill -9: the kernel took the program off the interface by itself');
  await pause(OUTAGE_MS);
  const limitMs = Math.round(Math.max(RESTART_LIMIT_MS, RESTART_LIMIT_STARTS * bareStartMs(topology.lb)));
  const down = await knocking.snapshot();

  const begin = performance.now();
  daemon.spawn();
  const back = await until(
    () => knocking.snapshot(),
    (result) => result.answered > down.answered,
    limitMs + 8000,
  );
  const restartMs = Math.round(performance.now() - begin);
  report.check(
    back.answered > down.answered && restartMs <= limitMs,
    `started again, it answered the first request after ${restartMs} ms (limit ${limitMs} ms)`,
  );
  await daemon.ready();
  await knocking.stop();
  // TCP asks again after at most the length of the outage, doubled.
  await pause(2500);
  const survivors = await held.stop();
  const broken = sum(Object.values(survivors.broken));
  report.check(
    broken === 0,
    `${HELD_CONNECTIONS - broken} of ${HELD_CONNECTIONS} connections held over the crash live on:` +
      ' the same configuration makes the same ring, so each flow finds its backend again',
  );
  Object.assign(report.facts, { restartMs, limitMs, detached: left === null, broken, survivors });
}

export const crash: Scene = {
  title: 'kill -9, and back again',
  story:
    'sluice is killed without a chance to clean up. Its program hangs on a descriptor, so the kernel detaches it at once and\n' +
    'the interface is an ordinary one again. A restart serves again within two seconds.',
  play,
};
