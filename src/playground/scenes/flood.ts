import { HTTP_PORT, ECHO_PORT } from '../backends.js';
import { FLOOD_RULE } from '../daemon_config.js';
import { HttpLoad, udpFlood } from '../traffic.js';
import { VIP4 } from '../topology.js';
import { grouped, kernelLost, pause, sum, until } from './numbers.js';
import type { Report, Scene, Stage } from './scene.js';

/** Of each flood. */
const PACKETS = 20_000;
const RATE = 25_000;
/** Floods of each setting, in turn: what else the machine does meets both. */
const ROUNDS = 2;
/** V8 compiles what runs often: until then a packet costs many times as much. */
const WARM_UP_PACKETS = 10_000;
/** Visitors alone, to know what of the CPU time is theirs. */
const QUIET_MS = 700;
const VISITORS = 8;
/** After the last packet was sent, everything on the way has arrived. */
const SETTLE_MS = 2000;

/** What the daemon has counted and used, up to now or between two readings. */
interface Reading {
  inWorkers: number;
  inKernel: number;
  lost: number;
  cpuNs: number;
  ms: number;
}

interface Flood extends Reading {
  sent: number;
  perSecond: number;
}

async function read({ daemon }: Stage): Promise<Reading> {
  const status = await daemon.status();
  const { rules } = await daemon.rules();
  return {
    inWorkers: status.drops.rule ?? 0,
    inKernel: rules.find(({ name }) => name === FLOOD_RULE)!.kernelPackets,
    lost: kernelLost(status),
    cpuNs: daemon.cpuNs(),
    ms: performance.now(),
  };
}

function difference(before: Reading, after: Reading): Reading {
  return {
    inWorkers: after.inWorkers - before.inWorkers,
    inKernel: after.inKernel - before.inKernel,
    lost: after.lost - before.lost,
    cpuNs: after.cpuNs - before.cpuNs,
    ms: after.ms - before.ms,
  };
}

/** Visitors and nobody else. Returns the daemon's CPU time, as a share of one CPU. */
async function quiet(stage: Stage): Promise<number> {
  const before = await read(stage);
  await pause(QUIET_MS);
  const { cpuNs, ms } = difference(before, await read(stage));
  return cpuNs / (ms * 1e6);
}

async function floodOnce(stage: Stage, packets: number): Promise<Flood> {
  const { playground, attacker } = stage.topology;
  const target = { address: VIP4, port: ECHO_PORT, packets, ratePerSecond: RATE };
  const before = await read(stage);
  const { sent, durationMs } = await udpFlood(playground, attacker, target);
  const change = await until(
    async () => difference(before, await read(stage)),
    ({ inWorkers, inKernel }) => inWorkers + inKernel >= sent,
    SETTLE_MS,
  );
  return { ...change, sent, perSecond: (1000 * sent) / durationMs };
}

function total(floods: readonly Flood[]): Flood {
  const add = (key: keyof Flood): number => sum(floods.map((flood) => flood[key]));
  return {
    sent: add('sent'),
    inWorkers: add('inWorkers'),
    inKernel: add('inKernel'),
    lost: add('lost'),
    cpuNs: add('cpuNs'),
    ms: add('ms'),
    perSecond: add('perSecond') / floods.length,
  };
}

/** Returns where the rule runs now, and why not in the kernel. */
async function setOffload(stage: Stage, offload: 'off' | 'auto'): Promise<{ runs: string; why: string }> {
  stage.daemon.configure(stage.configured, offload);
  await stage.daemon.reload();
  await stage.daemon.ready();
  const { rules } = await stage.daemon.rules();
  return rules.find(({ name }) => name === FLOOD_RULE)!;
}

const microseconds = ({ cpuNs, sent }: Flood): string => (cpuNs / 1000 / sent).toFixed(1);

/** Both settings in turn, from the same attacker; `auto` is null where this kernel does not take the rule. */
async function floods(stage: Stage, report: Report): Promise<{ off: Flood; auto: Flood | null }> {
  const off: Flood[] = [];
  const auto: Flood[] = [];
  report.tell(
    `${ROUNDS} floods of ${grouped(PACKETS)} packets with each setting, in turn, while ${VISITORS} visitors ask for pages`,
  );
  await floodOnce(stage, WARM_UP_PACKETS);
  for (let round = 0; round < ROUNDS; round++) {
    await setOffload(stage, 'off');
    off.push(await floodOnce(stage, PACKETS));
    const { runs, why } = await setOffload(stage, 'auto');
    if (runs === 'kernel') auto.push(await floodOnce(stage, PACKETS));
    else if (round === 0) report.tell(`offload: auto leaves the rule in the workers here: ${why}`);
  }
  return { off: total(off), auto: auto.length > 0 ? total(auto) : null };
}

function tellFlood(report: Report, offload: string, flood: Flood, dropped: number, elsewhere: number): void {
  const { sent, lost, perSecond, inWorkers, inKernel } = flood;
  report.check(
    dropped === sent && elsewhere === 0 && lost === 0,
    `offload: ${offload}: ${grouped(sent)} packets sent, ${grouped(perSecond)} a second; "${FLOOD_RULE}" dropped` +
      ` ${grouped(inWorkers)} in the workers and ${grouped(inKernel)} in the kernel, ${grouped(lost)} were lost in front of it`,
  );
  report.tell(`${microseconds(flood)} µs of sluice's CPU time for each packet dropped`);
}

async function play(stage: Stage, report: Report): Promise<void> {
  const { playground, client, attacker, lb } = stage.topology;
  // The attacker must know the way before it counts: a packet that waits for ARP may be dropped by its own kernel.
  attacker.namespace.exec('ping', '-c', '1', '-W', '2', lb.address4);
  const load = { host: VIP4, port: HTTP_PORT, mode: 'keepalive', connections: VISITORS, intervalMs: 20 } as const;
  const visitors = new HttpLoad(playground, client, load);
  const { off, auto } = await floods(stage, report);
  await setOffload(stage, 'off');
  const alone = await quiet(stage);
  const http = await visitors.stop();

  tellFlood(report, 'off', off, off.inWorkers, off.inKernel);
  if (auto) tellFlood(report, 'auto', auto, auto.inKernel, auto.inWorkers);
  const share = ((alone * off.ms * 1000) / off.sent).toFixed(1);
  report.tell(
    `(visitors alone would make that ${share} µs; what XDP takes is not in it: here that is the sender's CPU time)`,
  );
  report.check(
    http.failed === 0 && Object.keys(http.broken).length === 0 && http.answered > 0,
    `meanwhile ${grouped(http.answered)} of ${grouped(http.answered + http.failed)} HTTP requests on ${http.connections} connections` +
      ` were answered (99th percentile ${http.latencyMs.p99} ms)`,
  );
  if (auto) {
    report.check(
      auto.cpuNs / auto.sent < off.cpuNs / off.sent,
      `so the same rule drops and counts the same packets either way, no visitor notices, and in the kernel it leaves sluice` +
        ` its CPU: ${microseconds(auto)} µs instead of ${microseconds(off)}`,
    );
  }
  Object.assign(report.facts, { off, auto, alone, http });
}

export const flood: Scene = {
  title: 'A flood that one rule drops, in the workers and in the kernel',
  story:
    'An attacker floods the VIP with UDP. One rule of the configuration matches it: with offload: off it runs in the workers,\n' +
    'in TypeScript; with offload: auto it is eBPF in XDP, in front of them. Every packet is counted, here and there.',
  play,
};
