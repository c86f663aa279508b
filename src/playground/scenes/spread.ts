import { HTTP_PORT } from '../backends.js';
import { HttpLoad } from '../traffic.js';
import { VIP4 } from '../topology.js';
import { grouped, percent, sum } from './numbers.js';
import type { Report, Scene, Stage } from './scene.js';

const REQUESTS = 2000;
const UPLOADS = 50;
/** Larger than a packet by far: full-size segments cross the tunnel. */
const UPLOAD_BYTES = 64 * 1024;

async function play(stage: Stage, report: Report): Promise<void> {
  const { playground, client } = stage.topology;
  const before = await Promise.all(stage.backends.map((backend) => backend.stats()));
  const result = await new HttpLoad(playground, client, {
    host: VIP4,
    port: HTTP_PORT,
    requests: REQUESTS,
    connections: 16,
  }).result;
  const after = await Promise.all(stage.backends.map((backend) => backend.stats()));

  report.check(
    result.answered === REQUESTS && result.failed === 0,
    `${grouped(result.answered)} of ${grouped(REQUESTS)} HTTP requests answered, each on a connection of its own` +
      ` (median ${result.latencyMs.p50} ms, 99th percentile ${result.latencyMs.p99} ms)${reasons(result.reasons)}`,
  );
  const spread = spreadOf(stage, result.perBackend, result.answered);
  for (const { name, weight, answered, expected, tolerance } of spread) {
    const share = answered / Math.max(1, result.answered);
    report.check(
      Math.abs(share - expected) <= tolerance,
      `${name}, weight ${weight}: ${grouped(answered)} answers, ${percent(share)}` +
        ` (the weights ask for ${percent(expected)}; chance allows ± ${percent(tolerance)})`,
    );
  }
  const unwrapped = after.map((stats, i) => (stats.decap?.decap_4in4 ?? 0) - (before[i].decap?.decap_4in4 ?? 0));
  report.check(
    unwrapped.every((packets) => packets > 0),
    `the backends unwrapped ${grouped(sum(unwrapped))} packets from sluice and answered the client directly`,
  );

  const uploads = await new HttpLoad(playground, client, {
    host: VIP4,
    port: HTTP_PORT,
    requests: UPLOADS,
    postBytes: UPLOAD_BYTES,
  }).result;
  report.check(
    uploads.answered === UPLOADS && uploads.failed === 0,
    `${uploads.answered} of ${UPLOADS} uploads of ${UPLOAD_BYTES / 1024} KiB arrived whole` +
      ` (full-size packets fit into the tunnel)${reasons(uploads.reasons)}`,
  );
  Object.assign(report.facts, { requests: result, spread, unwrapped, uploads });
}

function reasons(counts: Record<string, number>): string {
  const words = Object.entries(counts).map(([reason, count]) => `${count} × ${reason}`);
  return words.length > 0 ? `; failed: ${words.join(', ')}` : '';
}

function spreadOf(stage: Stage, perBackend: Record<string, number>, total: number) {
  const weights = sum(stage.configured.map((backend) => backend.weight));
  return stage.configured.map(({ address, weight }) => {
    const name = stage.backends.find((backend) => backend.host.address4 === address)!.host.name;
    const expected = weight / weights;
    // Flows fall on backends like independent draws: four standard deviations are one miss in 16,000 runs.
    const tolerance = 4 * Math.sqrt((expected * (1 - expected)) / Math.max(1, total));
    return { name, weight, answered: perBackend[name] ?? 0, expected, tolerance };
  });
}

export const spread: Scene = {
  title: 'Many requests, spread by weight',
  story:
    'The client talks to one address, the VIP. sluice takes each packet from the interface, picks a backend by the flow’s\n' +
    'hash, and sends the packet on in an outer IP header. The backend takes it off and answers the client directly.',
  play,
};
