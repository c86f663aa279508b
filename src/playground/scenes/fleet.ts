import { ECHO_PORT } from '../backends.js';
import type { ConnectionResult } from '../connection_tally.js';
import { Fleet, type FleetNode } from '../fleet.js';
import { GUE_CHAINS } from '../fleet_config.js';
import { Playground } from '../netns.js';
import { VIP4, VIP6 } from '../topology.js';
import { ConnectionLoad } from '../traffic.js';
import { grouped, pause, sum, until } from './numbers.js';
import type { Report, Scene, Stage } from './scene.js';

const NODES = 2;
const BACKENDS = 3;
/** Held connections over IPv4 and over IPv6. */
const HELD = { 4: 40, 6: 20 } as const;
/** Over each. */
const SHORT_PER_SECOND = 75;
const LIFE_MS: [number, number] = [1000, 2500];
/** TCP sends again what was on its way to a node that was killed: some times, if need be. */
const TIMEOUT_MS = 10_000;
const BEGIN_LIMIT_MS = 10_000;
/** Packets are counted for so long, or until both nodes had some. */
const SPREAD_MS = 300;
const SPREAD_LIMIT_MS = 5000;
/** How long the killed node stays dead. */
const OUTAGE_MS = 500;

const CAUSES = ['reset', 'timeout', 'refused', 'other backend', 'wrong answer', 'closed'] as const;
const CAUSE_WORDS: Record<string, string> = {
  reset: 'reset',
  timeout: 'timed out',
  refused: 'refused',
  'other backend': 'answered by another backend',
  'wrong answer': 'answered wrongly',
  closed: 'closed on us',
};

/** Connections to both VIPs; resolves when every held one has begun. */
async function connect(fleet: Fleet): Promise<ConnectionLoad[]> {
  const loads = ([4, 6] as const).map(
    (family) =>
      new ConnectionLoad(fleet.playground, fleet.client, {
        host: family === 4 ? VIP4 : VIP6,
        port: ECHO_PORT,
        held: HELD[family],
        lifeMs: LIFE_MS,
        shortPerSecond: SHORT_PER_SECOND,
        timeoutMs: TIMEOUT_MS,
      }),
  );
  await until(
    () => Promise.resolve(sum(loads.map((load) => load.progress.met.held))),
    (held) => held >= HELD[4] + HELD[6],
    BEGIN_LIMIT_MS,
  );
  return loads;
}

/** Packets that each node has sent on since it started. */
const sentBy = (nodes: readonly FleetNode[]): Promise<number[]> =>
  Promise.all(nodes.map(async ({ sluice }) => (await sluice.status()).totals.tx));

async function checkSpread(fleet: Fleet, report: Report, when: string): Promise<void> {
  const begin = await sentBy(fleet.nodes);
  await pause(SPREAD_MS);
  const parts = await until(
    async () => (await sentBy(fleet.nodes)).map((packets, i) => packets - begin[i]),
    (packets) => packets.every((count) => count > 0),
    SPREAD_LIMIT_MS,
  );
  const words = parts.map((packets, i) => `${fleet.nodes[i].host.name} ${grouped(packets)}`);
  report.check(
    parts.every((packets) => packets > 0),
    `${when} the router gives packets to both: ${words.join(', ')}`,
  );
}

/** Kills a node and has it come back. Returns how long it was away, ms. */
async function killAndRevive(fleet: Fleet, node: FleetNode, report: Report, meanwhile: string): Promise<number> {
  const begin = performance.now();
  await fleet.kill(node);
  const others = fleet.nodes.filter(({ routed }) => routed).map(({ host }) => host.name);
  report.check(
    !node.sluice.running && others.length === NODES - 1,
    `${meanwhile}, ${node.host.name} is killed with kill -9: its flows come to ${others.join(', ')}`,
  );
  await pause(OUTAGE_MS);
  await fleet.revive(node);
  const awayMs = Math.round(performance.now() - begin);
  report.check(
    node.routed && node.serving,
    `${node.host.name} is back after ${grouped(awayMs)} ms, with an empty flow table`,
  );
  return awayMs;
}

/** Replaces all backends one after another, and one node while the second of them drains. */
async function replaceAll(fleet: Fleet, report: Report): Promise<{ replaced: string[]; awayMs: number }> {
  const replaced: string[] = [];
  let awayMs = 0;
  for (const [i, backend] of [...fleet.backends].entries()) {
    const begin = performance.now();
    await fleet.drain(backend);
    const replacing = fleet.replace(backend);
    // Awaited below; should the node fail first, that is what is told.
    replacing.catch(() => undefined);
    if (i === 1) awayMs = await killAndRevive(fleet, fleet.nodes[0], report, `while ${backend.host.name} drains`);
    const fresh = await replacing;
    replaced.push(backend.host.name);
    const seconds = ((performance.now() - begin) / 1000).toFixed(1);
    report.check(
      fleet.backends.includes(fresh) && !fleet.backends.includes(backend),
      `${backend.host.name} is drained, ended and unplugged, and ${fresh.host.name} serves in its place: ${seconds} s`,
    );
  }
  return { replaced, awayMs };
}

/** All loads as one. */
function total(results: readonly ConnectionResult[]) {
  const add = (value: (result: ConnectionResult) => number) => sum(results.map(value));
  const causes = [...new Set([...CAUSES, ...results.flatMap(({ broken }) => Object.keys(broken))])];
  return {
    held: add(({ opened }) => opened.held),
    short: add(({ opened }) => opened.short),
    finished: add(({ finished }) => finished.held + finished.short),
    answered: add(({ answered }) => answered),
    sentAgain: add(({ kernel }) => kernel.retransmitted),
    /** Reset or given up, by the client's kernel. */
    kernelReset: add(({ kernel }) => kernel.reset),
    slowestMs: Math.max(...results.map(({ slowestMs }) => slowestMs)),
    broken: Object.fromEntries(causes.map((cause) => [cause, add(({ broken }) => broken[cause] ?? 0)])),
    accounts: results.flatMap(({ accounts }) => accounts),
  };
}

async function tellTraffic(fleet: Fleet, report: Report, loads: readonly ConnectionLoad[]): Promise<void> {
  const all = total(await Promise.all(loads.map((load) => load.stop())));
  const opened = all.held + all.short;
  const moved = Math.max(0, (await fleet.misses()) - opened);
  const hopped = await fleet.hops();
  report.tell(
    `${grouped(opened)} connections were opened over IPv4 and IPv6: ${grouped(all.held)} held for ${LIFE_MS[0] / 1000} to` +
      ` ${LIFE_MS[1] / 1000} s, ${grouped(all.short)} for one message`,
  );
  report.tell(
    `${grouped(all.answered)} messages were answered, byte for byte and by the backend of the first answer; the slowest took` +
      ` ${grouped(all.slowestMs)} ms (${grouped(all.sentAgain)} segments were sent again)`,
  );
  report.tell(`at least ${grouped(moved)} flows came to a node that did not know them`);
  report.tell(`${grouped(hopped)} packets took a second hop, to the backend that knew their connection`);
  const violations = (await fleet.statuses()).flatMap((status) => status.violations);
  report.check(
    violations.length === 0,
    `the counters of both nodes add up${violations.map((text) => `; ${text}`).join('')}`,
  );

  const broken = sum(Object.values(all.broken));
  const kinds = Object.entries(all.broken).map(([cause, count]) => `${grouped(count)} ${CAUSE_WORDS[cause] ?? cause}`);
  report.check(
    broken === 0 && all.kernelReset === 0 && all.finished === opened,
    `${grouped(broken)} connections broken (${kinds.join(', ')}); ${grouped(all.finished)} of ${grouped(opened)} ended by a FIN` +
      ` in each direction`,
  );
  for (const account of all.accounts) report.tell(account);
  Object.assign(report.facts, { opened, moved, hopped, ...all });
}

async function perform(stage: Stage, report: Report, playground: Playground): Promise<void> {
  const begin = performance.now();
  const policy = { hops: 3, encapsulation: GUE_CHAINS } as const;
  const fleet = await Fleet.build(playground, { nodes: NODES, backends: BACKENDS, policy });
  stage.shown = fleet.nodes.map(({ host, sluice }) => ({ name: host.name, sluice }));
  report.tell(
    `router, ${NODES} nodes and ${BACKENDS} backends are up after ${Math.round(performance.now() - begin)} ms`,
  );

  const loads = await connect(fleet);
  await checkSpread(fleet, report, 'at first');
  const { replaced, awayMs } = await replaceAll(fleet, report);
  await checkSpread(fleet, report, 'at the end');
  Object.assign(report.facts, { nodes: NODES, replaced, awayMs });
  await tellTraffic(fleet, report, loads);
}

async function play(stage: Stage, report: Report): Promise<void> {
  // The addresses are those of the other scenes: a playground of its own.
  const playground = new Playground();
  const shown = stage.shown;
  try {
    await perform(stage, report, playground);
  } finally {
    stage.shown = shown;
    await playground.close();
  }
}

export const fleet: Scene = {
  title: 'Everything is replaced under load',
  story:
    'Two sluices serve the VIPs together, behind a router that spreads flows over them (ECMP). Every backend is replaced, one\n' +
    'after another, and one of the sluices is killed and comes back. No connection may notice.\n' +
    '\n' +
    '                                ┌── lb1, lb2\n' +
    '   client ── router ── switch ──┤\n' +
    '                                └── b1, b2, b3, then b4, b5, b6',
  play,
};
