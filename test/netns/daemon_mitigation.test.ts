/** The daemon under floods, with kernels at both ends and answers that go straight from the backend to the client. */
import { describe, expect, it } from 'vitest';
import type { Status } from '../../src/control/api/contract.js';
import type { Namespace } from '../../src/playground/netns.js';
import { Attacked, ECHO_PORT, HTTP_PORT, VIP4, VIP6 } from '../support/attacked.js';
import { lost, metric, pause } from '../support/daemon.js';
import { TCP } from '../support/packet_builder.js';

const BACKLOG = 64;

/** Connects to both VIPs, has a line echoed over each connection, and keeps them until it is told to go. */
const clients = (connections: number): string => `
  const made = [];
  for (let i = 0; i < ${connections}; i++) {
    for (const host of ['${VIP4}', '${VIP6}']) {
      const begin = performance.now();
      const socket = await connect(host, ${ECHO_PORT});
      if (socket === null) { say('nobody answers'); continue; }
      made.push(performance.now() - begin);
      await echo(socket, 'hello');
    }
  }
  say(made);
  await told();
  say('gone');`;

/** What ss says of the options of each open connection to the VIPs. */
function optionsOf(host: Namespace): string[] {
  const rows = host.exec('ss', '-Htinoe', 'state', 'established').trim().split('\n');
  return rows
    .filter((row) => row.includes('rto:'))
    .map((row) =>
      [...row.matchAll(/\b(?:ts|sack|wscale:\d+,\d+)/g)].map(([text]) => text.replace(/:.*/, '')).join(' '),
    );
}

/** No packet is unaccounted for. */
function expectSound(status: Status): void {
  expect(status.violations).toEqual([]);
  expect(lost(status)).toBe(0);
}

describe('a SYN flood of more than ten backlogs', () => {
  it('leaves nothing at the backend, and clients connect with all their options, also over a reload', async () => {
    const parts = { mitigation: { challenge: { mode: 'auto', above: '200/s', below: '50/s' } } };
    const net = await Attacked.start(parts, BACKLOG);
    const floods = [
      await net.flood({ family: 4, port: ECHO_PORT, perSecond: 2000 }),
      await net.flood({ family: 6, port: ECHO_PORT, perSecond: 2000 }),
    ];
    const { daemon, topology, backend } = net;
    // Four destinations: two addresses, each at two workers.
    await daemon.until(({ mitigation }) => mitigation.challenged === 4, 'challenges are on');
    const client = net.run(clients(6));
    const made = await client.next<number[]>();
    expect(made).toHaveLength(12);
    for (const host of [topology.client.namespace, backend.namespace]) {
      const options = optionsOf(host);
      expect(options.filter((text) => text === 'ts sack wscale')).toHaveLength(12);
    }
    const asked = (await daemon.status()).drops.challenge_answer;
    // Once a family and worker.
    expect(asked).toBeGreaterThanOrEqual(2);
    expect(asked).toBeLessThanOrEqual(4);
    // A client sends its SYN again for each of these, and for none that was lost.
    expect(net.counter('TcpExt', 'TCPSynRetrans', topology.client.namespace)).toBe(asked);

    const changes = await net.reload({ mitigation: { ...parts.mitigation, tcp_state: { mode: 'monitor' } } });
    expect(changes).toEqual(['mitigation.tcp_state.mode: off → monitor']);
    const more = net.run(clients(2));
    expect(await more.next<number[]>()).toHaveLength(4);
    const later = await daemon.status();
    expect(later.drops.challenge_answer).toBeLessThanOrEqual(4);
    await pause(200);
    const sent = await Promise.all(floods.map((flood) => flood.stop()));
    const all = sent[0] + sent[1];
    expect(all).toBeGreaterThan(10 * BACKLOG);
    const status = await daemon.until(({ totals }) => totals.rx >= all, 'all of the flood is counted');
    expectSound(status);
    expect(Object.keys(status.drops)).toEqual(['challenge_answer']);
    // What passed before the flood was noticed: a tenth of a second's worth a destination and worker.
    const { challenges, admitted } = status.mitigation;
    const passed = all + status.drops.challenge_answer - challenges;
    expect(passed).toBeLessThan(BACKLOG);
    expect(admitted).toBe(16);

    expect(net.counter('TcpExt', 'SyncookiesSent')).toBe(0);
    expect(net.counter('TcpExt', 'TCPReqQFullDrop')).toBe(0);
    expect(net.halfOpen()).toBeLessThanOrEqual(passed);
    expect(daemon.cli('status').stdout).toMatch(/SYN challenge on for 4 destinations: [\d,]+ asked/);
    const { body } = daemon.metrics();
    const series = ['0', '1'].map((queue) => metric(body, `sluice_challenges_total{queue="${queue}"}`));
    expect(series[0] + series[1]).toBe(challenges);
    client.tell('go');
    more.tell('go');
  });
});

describe('floods of packets of no connection', () => {
  it('do not reach the backend, and cost no connection a packet', async () => {
    const net = await Attacked.start({
      mitigation: { tcp_state: { mode: 'mitigate', adopt: 'never', connections: 65536 } },
    });
    const client = net.run(`
      const sockets = [await connect('${VIP4}', ${ECHO_PORT}), await connect('${VIP6}', ${ECHO_PORT})];
      say('connected');
      let echoed = 0;
      let stop = false;
      void told().then(() => (stop = true));
      while (!stop) for (const socket of sockets) { if (await echo(socket, 'line ' + echoed) === 'b1 line ' + echoed + '\\n') echoed++; }
      say(echoed);`);
    await client.next();
    const kinds = [TCP.ACK, TCP.RST, TCP.FIN | TCP.ACK, TCP.SYN | TCP.ACK];
    const floods = [];
    for (const [i, flags] of kinds.entries()) {
      floods.push(await net.flood({ flags, port: ECHO_PORT, perSecond: 800, family: i % 2 === 0 ? 4 : 6 }));
    }
    await pause(1000);
    const sent = await Promise.all(floods.map((flood) => flood.stop()));
    const all = sent.reduce((sum, count) => sum + count, 0);
    const { daemon } = net;
    const dropped = ({ drops }: Status): number => (drops.tcp_not_found ?? 0) + (drops.tcp_unexpected ?? 0);
    const status = await daemon.until((now) => dropped(now) >= all, 'all of the floods is dropped');
    client.tell('stop');
    expect(await client.next<number>()).toBeGreaterThan(50);
    expect(status.drops).toEqual({ tcp_not_found: sent[0] + sent[1] + sent[2], tcp_unexpected: sent[3] });
    expectSound(status);
    expect(status.mitigation.connections).toBe(2);
    expect(net.counter('Tcp', 'OutRsts')).toBe(0);
    expect(daemon.cli('status').stdout).toMatch(/2 TCP connections: tcp_unexpected [\d,]+ {2}tcp_not_found/);

    // Told to only watch, it lets them pass, and still knows which are which.
    await net.reload({ mitigation: { tcp_state: { mode: 'monitor', adopt: 'never', connections: 65536 } } });
    const again = await net.flood({ flags: TCP.ACK, port: ECHO_PORT, perSecond: 800, family: 4 });
    await pause(200);
    const passed = await again.stop();
    const found = status.mitigation.outOfState.tcp_not_found + passed;
    await daemon.until(({ mitigation }) => mitigation.outOfState.tcp_not_found === found, 'all are counted');
    expect((await daemon.status()).drops).toEqual(status.drops);
  });
});

describe('limits', () => {
  const rules = (limit: object) => ({
    rules: [{ name: 'echo', match: { protocol: 'udp', dport: ECHO_PORT }, action: 'limit', limit }],
  });
  /** Datagrams from eight sockets, so that both workers get some; says how many were answered when as many were as should be, and a little later. */
  const datagrams = (count: number, expected: number): string => `
    const sockets = Array.from({ length: 8 }, () => dgram.createSocket('udp4'));
    let answers = 0;
    for (const socket of sockets) socket.on('message', () => answers++);
    for (let i = 0; i < ${count}; i++) {
      await new Promise((resolve) => sockets[i % 8].send('x', ${ECHO_PORT}, '${VIP4}', resolve));
      if (i % 32 === 31) await later(2);
    }
    for (let i = 0; i < 1000 && answers < ${expected}; i++) await later(10);
    await later(300);
    say(answers);`;

  it('hold each source to its rate, to the packet and over all workers, and a reload forgets nothing', async () => {
    const limit = { rate: '1/hour', burst: 40 };
    const net = await Attacked.start(rules(limit));
    const { attacker } = net.topology;
    expect(await net.run(datagrams(200, 40)).next<number>()).toBe(40);
    expect(await net.run(datagrams(200, 40), attacker.namespace).next<number>()).toBe(40);
    const changes = await net.reload({ ...rules(limit), mitigation: { fair_share: { rate: '100000/s' } } });
    expect(changes).toEqual(['mitigation.fair_share.rate: none → 100000/second']);
    expect(await net.run(datagrams(50, 0)).next<number>()).toBe(0);
    const status = await net.daemon.until(({ rules: [{ packets }] }) => packets >= 450, 'all are counted');
    expect(status.drops).toEqual({ limited: 160 + 160 + 50 });
    const [{ packets, acted }] = status.rules;
    expect([packets, acted]).toEqual([450, 370]);
    expect(status.workers.every(({ rx }) => rx > 0)).toBe(true);
    expectSound(status);
  });

  it('hold a source to its connections, and count those that are closed no more', async () => {
    const net = await Attacked.start({
      mitigation: { tcp_state: { mode: 'monitor', connections: 65536 }, limits: [{ name: 'few', connections: 5 }] },
    });
    const client = net.run(`
      const open = async (count) => (await Promise.all(Array.from({ length: count }, () => connect('${VIP4}', ${HTTP_PORT}, 2000)))).filter((socket) => socket !== null);
      const first = await open(8);
      say(first.length);
      for (const socket of first.splice(0, 3)) socket.destroy();
      await later(100);
      say((await open(4)).length);`);
    expect(await client.next<number>()).toBe(5);
    expect(await client.next<number>()).toBe(3);
    const status = await net.daemon.status();
    expect(Object.keys(status.drops)).toEqual(['connection_limit']);
    expect(status.drops.connection_limit).toBeGreaterThanOrEqual(4);
    expectSound(status);
  });

  it('by fair share hold a flood, and leave honest sources alone', async () => {
    const net = await Attacked.start({ mitigation: { fair_share: { rate: '1500/s' } } });
    const flood = await net.flood({ protocol: 17, port: ECHO_PORT, perSecond: 6000, spoofed: false, sport: 9 });
    await net.daemon.until(({ drops }) => (drops.fair_share ?? 0) > 2000, 'the flood is found');
    const honest = net.run(`
      const socket = dgram.createSocket('udp4');
      let answers = 0;
      socket.on('message', () => answers++);
      for (let i = 0; i < 200; i++) { await new Promise((resolve) => socket.send('x', ${ECHO_PORT}, '${VIP4}', resolve)); await later(5); }
      await later(300);
      say(answers);`);
    const answers = await honest.next<number>();
    const sent = await flood.stop();
    // Rates are estimates: in the moments in which the share is still moving, or after a pause of a machine without a free processor,
    // everybody may pay a little. Without the share of its own, three of four would be lost.
    expect(answers).toBeGreaterThanOrEqual(180);
    const { drops } = await net.daemon.until(({ totals }) => totals.rx >= sent + 200, 'all is counted');
    expect(Object.keys(drops)).toEqual(['fair_share']);
    expect(drops.fair_share).toBeGreaterThan(sent / 2);
  });
});
