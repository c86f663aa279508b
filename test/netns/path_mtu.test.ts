/** Transfers of full-size packets with DF set, where the links inside have no room for outer headers, or the way back is narrow. */
import { expect, it } from 'vitest';
import { ECHO_PORT } from '../../src/playground/backends.js';
import type { Fleet } from '../../src/playground/fleet.js';
import { CLIENT_PREFIXES, FRONT } from '../../src/playground/fleet_topology.js';
import { HOST_INTERFACE, VIP4, VIP6 } from '../../src/playground/topology.js';
import { testFleet } from '../support/fleet.js';

const METRICS = '127.0.0.1:9477';
const MIB = 1 << 20;
const VIPS = [VIP4, VIP6];
/** MTU of every link inside: as large as the client's, so a full-size packet does not fit with an outer header. */
const INSIDE = 1500;
/** Of the router's route back to the client. */
const NARROW = 1400;
/** Nothing arrives for so long, and the transfer has stalled, ms; a little where that is what should happen. */
const STALL_MS = { unexpected: 20_000, expected: 1500 };

/** Sends random lines to the echo, and compares a hash of them with one of what comes back. Prints one line of JSON. */
const TRANSFER = `
  const { createHash, randomBytes } = require('node:crypto');
  const [host, port, bytes, stallMs] = process.argv.slice(1);
  const [there, back] = [createHash('sha256'), createHash('sha256')];
  const lines = Array.from({ length: bytes / 4096 }, () => randomBytes(2047).toString('hex'));
  const text = lines.map((line) => line + '\\n').join('');
  there.update(lines.join(''));
  let [received, rest] = [0, ''];
  const finish = (end) => {
    const whole = received === lines.length && there.digest('hex') === back.digest('hex');
    console.log(JSON.stringify({ end, whole, lines: received }));
    // What was not sent is not to be sent later.
    socket.resetAndDestroy().on('close', () => process.exit());
  };
  const socket = require('node:net').connect({ host, port });
  socket.setTimeout(Number(stallMs), () => finish('stalled'));
  socket.on('error', (error) => finish(error.code));
  socket.setEncoding('latin1').on('data', (chunk) => {
    const parts = (rest + chunk).split('\\n');
    rest = parts.pop();
    // "b1 " and the line.
    for (const part of parts) {
      back.update(part.slice(part.indexOf(' ') + 1));
      received++;
    }
    if (received === lines.length) finish('done');
  });
  socket.write(text);
`;

interface Outcome {
  end: string;
  whole: boolean;
  /** That came back. */
  lines: number;
}

async function transfer(fleet: Fleet, vip: string, expected: 'whole' | 'stalled' = 'whole'): Promise<Outcome> {
  const stallMs = expected === 'whole' ? STALL_MS.unexpected : STALL_MS.expected;
  const args = ['-e', TRANSFER, vip, ECHO_PORT, MIB, stallMs].map(String);
  const program = fleet.playground.start(fleet.client.namespace, process.execPath, args, { label: 'transfer' });
  return program.message<Outcome>(() => true, 60_000);
}

const WHOLE: Outcome = { end: 'done', whole: true, lines: MIB / 4096 };

/** Sum of a metric over all workers of the one node. */
function metric(fleet: Fleet, name: string): number {
  // The listener for metrics comes up last, a moment after the control socket has said "ready".
  const retry = ['--retry', '20', '--retry-delay', '1', '--retry-connrefused'];
  const text = fleet.nodes[0].host.namespace.exec('curl', '-s', ...retry, `http://${METRICS}/metrics`);
  const values = [...text.matchAll(new RegExp(`^${name}(?:\\{.*\\})? (\\d+)$`, 'gm'))].map(([, value]) =>
    Number(value),
  );
  expect(values.length, name).toBeGreaterThan(0);
  return values.reduce((a, b) => a + b);
}

const tooBigReplies = (fleet: Fleet) => metric(fleet, 'sluice_icmp_too_big_replies_total');
const icmpErrors = (fleet: Fleet) => metric(fleet, 'sluice_icmp_error_packets_total');

/** Path MTU to an address as the client's kernel has learned it; undefined when it has learned none. */
function learned(fleet: Fleet, vip: string): number | undefined {
  const [route] = fleet.client.namespace.query<{ metrics?: { mtu?: number }[] }[]>('route', 'get', vip);
  return route.metrics?.[0]?.mtu;
}

/** The router forwards nothing larger than NARROW to the client, and says so to the source, which is the VIP. */
function narrowTheWayBack(fleet: Fleet): void {
  const [to4, to6] = CLIENT_PREFIXES;
  // In place of the routes that came with the interface's addresses; those of IPv6 have a metric.
  fleet.topology.router.namespace.ip(
    `route replace ${to4} dev ${FRONT} mtu ${NARROW}`,
    `route replace ${to6} dev ${FRONT} metric 256 mtu ${NARROW}`,
  );
}

function pathFleet(policy: object, settings: object = {}): Promise<Fleet> {
  const metrics = { metrics: { listen: METRICS } };
  return testFleet({ nodes: 1, backends: 2, internalMtu: INSIDE, policy, settings: { ...metrics, ...settings } });
}

/** No ICMP message reaches a backend. */
const NO_ICMP = {
  rules: [
    { name: 'no-icmp', match: { protocol: 'icmp' }, action: 'drop' },
    { name: 'no-icmpv6', match: { protocol: 'icmpv6' }, action: 'drop' },
  ],
};

it.each([
  { encapsulation: 'ipip', told: [1480, 1460] },
  { encapsulation: 'gue', told: [1472, 1452] },
])('senders are told of packets that do not fit into $encapsulation, and send smaller ones', async (given) => {
  const { encapsulation, told } = given;
  const fleet = await pathFleet({ encapsulation });
  for (const [i, vip] of VIPS.entries()) {
    const before = tooBigReplies(fleet);
    const { client, playground } = fleet;
    const filter = `dst host ${vip} and tcp and greater ${INSIDE}`;
    const capture = playground.start(client.namespace, 'tcpdump', ['-nnvc1', '-i', HOST_INTERFACE, filter]);
    const packet: string[] = [];
    capture.on('line', (line) => packet.push(line));
    await new Promise<void>((resolve) =>
      capture.on('errorLine', (line) => {
        if (line.includes('listening on')) resolve();
      }),
    );
    expect(await transfer(fleet, vip), vip).toEqual(WHOLE);
    await capture.ended;
    // IPv6 has no such flag: its routers never fragment.
    expect(packet.join('\n')).toMatch(vip === VIP4 ? /flags \[DF\]/ : /IP6/);
    expect(tooBigReplies(fleet), vip).toBeGreaterThan(before);
    expect(learned(fleet, vip), vip).toBe(told[i]);
    // Its kernel remembers.
    const after = tooBigReplies(fleet);
    expect(await transfer(fleet, vip), vip).toEqual(WHOLE);
    expect(tooBigReplies(fleet), vip).toBe(after);
  }
  // The answers are not wrapped, and meet a narrow link of their own.
  expect(icmpErrors(fleet)).toBe(0);
  narrowTheWayBack(fleet);
  for (const vip of VIPS) {
    const before = icmpErrors(fleet);
    expect(await transfer(fleet, vip), vip).toEqual(WHOLE);
    // What the router said to the VIP came to the backend whose packet it was about.
    expect(icmpErrors(fleet), vip).toBeGreaterThan(before);
  }
  const [{ drops, violations }] = await fleet.statuses();
  expect([drops, violations]).toEqual([{}, []]);
});

it('transfers stall when nobody is told; with a smaller MSS of the backends nobody has to be', async () => {
  const fleet = await pathFleet({}, { icmp: { too_big: 'drop' }, ...NO_ICMP });
  const stalled = await Promise.all(VIPS.map((vip) => transfer(fleet, vip, 'stalled')));
  expect(stalled).toEqual(VIPS.map(() => ({ end: 'stalled', whole: false, lines: 0 })));
  const [{ drops }] = await fleet.statuses();
  expect(drops.too_big).toBeGreaterThan(0);

  const { router } = fleet.topology;
  for (const { host } of fleet.backends) {
    host.namespace.ip(
      `route replace ${CLIENT_PREFIXES[0]} via ${router.address4} advmss 1440`,
      `route replace ${CLIENT_PREFIXES[1]} via ${router.address6} advmss 1400`,
    );
  }
  for (const vip of VIPS) expect(await transfer(fleet, vip), vip).toEqual(WHOLE);
  expect((await fleet.statuses())[0].drops).toEqual(drops);
  expect(tooBigReplies(fleet)).toBe(0);

  narrowTheWayBack(fleet);
  const late = await Promise.all(VIPS.map((vip) => transfer(fleet, vip, 'stalled')));
  expect(late.map(({ end }) => end)).toEqual(['stalled', 'stalled']);
});

it('with mss_clamp backends send what fits the way back, and nobody has to tell them', async () => {
  const fleet = await pathFleet({ mss_clamp: 1300 }, NO_ICMP);
  narrowTheWayBack(fleet);
  for (const vip of VIPS) expect(await transfer(fleet, vip), vip).toEqual(WHOLE);
  expect(metric(fleet, 'sluice_mss_clamps_total')).toBe(VIPS.length);
  // The router had nothing to say.
  const [{ drops, violations, rules }] = await fleet.statuses();
  expect([drops, violations]).toEqual([{}, []]);
  expect(rules.map(({ packets }) => packets)).toEqual([0, 0]);
});
