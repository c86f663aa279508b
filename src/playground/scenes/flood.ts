import { HTTP_PORT, ECHO_PORT } from '../backends.js';
import { FLOOD_RULE } from '../daemon_config.js';
import { HttpLoad, udpFlood } from '../traffic.js';
import { VIP4 } from '../topology.js';
import { grouped, kernelLost, nsPerPacket, ruleCount, until } from './numbers.js';
import type { Report, Scene, Stage } from './scene.js';

const PACKETS = 100_000;
const RATE = 25_000;
/** After the last packet was sent, everything on the way has arrived. */
const SETTLE_MS = 2000;

async function play(stage: Stage, report: Report): Promise<void> {
  const { playground, client, attacker, lb } = stage.topology;
  // The attacker must know the way before it counts: a packet that waits for ARP may be dropped by its own kernel.
  attacker.namespace.exec('ping', '-c', '1', '-W', '2', lb.address4);
  const before = await stage.daemon.status();
  const visitors = new HttpLoad(playground, client, {
    host: VIP4,
    port: HTTP_PORT,
    mode: 'keepalive',
    connections: 8,
    intervalMs: 20,
  });
  const flood = await udpFlood(playground, attacker, {
    address: VIP4,
    port: ECHO_PORT,
    packets: PACKETS,
    ratePerSecond: RATE,
  });
  const after = await until(
    () => stage.daemon.status(),
    (status) => ruleCount(status, FLOOD_RULE) - ruleCount(before, FLOOD_RULE) >= flood.sent,
    SETTLE_MS,
  );
  const http = await visitors.stop();

  const dropped = ruleCount(after, FLOOD_RULE) - ruleCount(before, FLOOD_RULE);
  const lost = kernelLost(after) - kernelLost(before);
  const perSecond = (1000 * flood.sent) / flood.durationMs;
  report.tell(`the attacker sends ${grouped(flood.sent)} UDP packets to the VIP, ${grouped(perSecond)} a second`);
  report.check(
    dropped === flood.sent,
    `the rule "${FLOOD_RULE}" dropped ${grouped(dropped)} packets: as many as were sent, exactly`,
  );
  report.check(lost === 0, `${grouped(lost)} packets were lost in front of sluice's rings`);
  report.check(
    http.failed === 0 && Object.keys(http.broken).length === 0 && http.answered > 0,
    `meanwhile ${grouped(http.answered)} HTTP requests on ${http.connections} connections were answered,` +
      ` ${http.failed} failed (99th percentile ${http.latencyMs.p99} ms)`,
  );
  Object.assign(report.facts, {
    sent: flood.sent,
    dropped,
    lost,
    perSecond,
    http,
    nsPerPacket: nsPerPacket(before, after),
  });
}

export const flood: Scene = {
  title: 'A flood that one rule drops',
  story:
    'An attacker floods the VIP with UDP. One rule of the configuration matches it; sluice drops those packets before\n' +
    'they cost anything else, and counts every one.',
  play,
};
