import { availableParallelism } from 'node:os';
import type { Status, StatusWorker } from '../../control/api/contract.js';
import { DISCARD_PORT, SERVICES } from '../daemon_config.js';
import { VIP4, type Host } from '../topology.js';
import { udpFlood } from '../traffic.js';
import { grouped, kernelLost, nsPerPacket, sum, until } from './numbers.js';
import type { Report, Scene, Stage } from './scene.js';

const PACKETS = 200_000;
/** V8 compiles what runs often: until then a packet costs many times as much. */
const WARM_UP_PACKETS = 100_000;
const SETTLE_MS = 3000;

interface Cost {
  sent: number;
  processed: number;
  lost: number;
  perSecond: number;
  nsPerPacket: number | null;
}

/** As many packets as the sender can make, and what sluice took for them, once its code is compiled. */
async function measure(stage: Stage, from: Host): Promise<Cost> {
  from.namespace.exec('ping', '-c', '1', '-W', '2', stage.topology.lb.address4);
  await flood(stage, from, WARM_UP_PACKETS);
  return flood(stage, from, PACKETS);
}

async function flood(stage: Stage, from: Host, packets: number): Promise<Cost> {
  const before = await stage.daemon.status();
  const sender = { address: VIP4, port: DISCARD_PORT, packets, ratePerSecond: 0 };
  const { sent, durationMs } = await udpFlood(stage.topology.playground, from, sender);
  const begin = performance.now() - durationMs;
  const taken = (status: Status) => status.totals.rx - before.totals.rx + kernelLost(status) - kernelLost(before);
  const after = await until(
    () => stage.daemon.status(),
    (status) => taken(status) >= sent,
    SETTLE_MS,
  );
  return {
    sent,
    processed: after.totals.rx - before.totals.rx,
    lost: kernelLost(after) - kernelLost(before),
    // Until the last of them was seen, not until the last was sent.
    perSecond: (1000 * (after.totals.rx - before.totals.rx)) / (performance.now() - begin),
    nsPerPacket: nsPerPacket(before, after),
  };
}

function tellCost(report: Report, what: string, cost: Cost): void {
  const each = cost.nsPerPacket === null ? 'not sampled' : `${Math.round(cost.nsPerPacket)} ns each in TypeScript`;
  const lost = cost.lost > 0 ? `; ${grouped(cost.lost)} found no room in the ring` : '';
  report.tell(`${what}: ${grouped(cost.processed)} packets at ${grouped(cost.perSecond)} a second, ${each}${lost}`);
}

function workerAddsUp(worker: StatusWorker): boolean {
  return worker.rx === sum([worker.drop, worker.pass, worker.tx, worker.redirect, worker.aborted]);
}

function framesAddUp({ frames }: StatusWorker): boolean {
  return frames.total > 0 && frames.free + frames.fill + frames.rx + frames.tx + frames.held === frames.total;
}

async function play(stage: Stage, report: Report): Promise<void> {
  const dropped = await measure(stage, stage.topology.attacker);
  tellCost(report, 'dropped by a rule', dropped);
  const balanced = await measure(stage, stage.topology.client);
  tellCost(report, `balanced and encapsulated to service "${SERVICES.discard}"`, balanced);
  report.tell(`sender, switch, sluice and backends share the ${availableParallelism()} CPUs of this machine`);
  report.tell('so packets come a few at a time, into caches that others have used since, with checksums to complete;');
  report.tell('what a packet costs in full bursts and without a wire, npm run bench measures');
  report.check(dropped.processed > 0 && balanced.processed > 0, 'both floods reached sluice');

  const status = await until(
    () => stage.daemon.status(),
    (now) => now.workers.every((worker) => worker.frames.rx === 0 && worker.frames.tx === 0),
    SETTLE_MS,
  );
  for (const worker of status.workers) {
    const { rx, drop, pass, tx, redirect, aborted } = worker;
    report.check(
      workerAddsUp(worker),
      `queue ${worker.queue}: ${grouped(rx)} received = ${grouped(drop)} dropped + ${grouped(tx)} sent + ${grouped(pass)} passed` +
        ` + ${grouped(redirect)} redirected + ${grouped(aborted)} aborted`,
    );
  }
  const redirected = sum(status.interfaces.map((entry) => entry.xdp?.redirect ?? 0));
  const received = sum(status.workers.map((worker) => worker.rx));
  report.check(
    redirected === received + kernelLost(status),
    `the XDP program redirected ${grouped(redirected)} = ${grouped(received)} received` +
      ` + ${grouped(kernelLost(status))} that found no room`,
  );
  report.check(
    status.workers.length > 1 && status.workers.every((worker) => worker.rx > 0),
    `${status.workers.length} queues, each served by a thread of its own, all had traffic`,
  );
  report.check(
    status.workers.every(framesAddUp),
    `all ${grouped(sum(status.workers.map((worker) => worker.frames.total)))} frames of packet memory are accounted for`,
  );
  report.check(
    status.violations.length === 0,
    `every other counter adds up${status.violations.map((text) => `; ${text}`).join('')}`,
  );
  Object.assign(report.facts, { dropped, balanced, workers: status.workers, drops: status.drops });
}

export const cost: Scene = {
  title: 'What it costs',
  story:
    'As many packets as one sender can make, first into the dropping rule, then through the whole path to a backend.',
  play,
};
