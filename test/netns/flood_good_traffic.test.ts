/**
 * Honest clients in the middle of floods: no stage of mitigation costs them a packet. Floods are small enough that no queue in front of the daemon overflows, so every
 * packet is dropped by a verdict or not at all; the drops by reason add up to what the attacker sent, so none was somebody else's.
 */
import { afterAll, describe, expect, it } from 'vitest';
import { callControl } from '../../src/control/api/client.js';
import type { ListedRule, Status } from '../../src/control/api/contract.js';
import { Attacked, ECHO_PORT, VIP4, type Flood } from '../support/attacked.js';
import { lost, pause, type ConfigDocument } from '../support/daemon.js';
import { DNS_PORT, startDnsServer, startGoodTraffic, type GoodTraffic } from '../support/good_traffic.js';
import { TCP } from '../support/packet_builder.js';

/** Of each flood; the good traffic begins before it and ends after it. */
const FLOOD_MS = 700;
/** A SYN that is lost comes again after a second. */
const SYN_TIMEOUT_MS = 900;

/** Rates are averages: what is above its share is known after some windows of 134 ms. */
const LEARNING_MS = 500;

const PARTS = { filters: ['sanity', 'rules'], fragments: { timeout: '500ms' } };
const NTP = { name: 'ntp', match: 'udp src port 123 and greater 200', action: 'drop' };
const TORTURE = { name: 'torture', match: { dns: '*.flood.example' }, action: 'drop' };
const PINGS = { name: 'pings', match: { protocol: 'icmp' }, action: 'limit', limit: { rate: '100/s', burst: 50 } };
const FRAGMENTS = {
  name: 'fragments',
  match: { fragment: true },
  action: 'limit',
  limit: { rate: '300/s', burst: 50 },
};
const CHALLENGE = { challenge: { mode: 'always' } };
const TCP_STATE = { tcp_state: { mode: 'mitigate', adopt: 'never', connections: 65536 } };

const AMPLIFIED: Flood = { protocol: 17, sport: 123, port: ECHO_PORT, payload: '17'.repeat(440), perSecond: 2000 };
/** The question's first label is eight random letters. */
const QUERY = `0000010000010000000000000861616161616161610566${'6c6f6f64'}076578616d706c650000010001`;
const QUERIES: Flood = { protocol: 17, port: DNS_PORT, payload: QUERY, letters: [13, 8], perSecond: 4000 };
/** From one host that sends many: what limits by source are for. */
const PINGED: Flood = { protocol: 1, payload: '00'.repeat(400), spoofed: false, perSecond: 3000 };
/** Behind the first, of datagrams that have none. */
const ORPHANS: Flood = { protocol: 17, fragment: 185, payload: '66'.repeat(200), spoofed: false, perSecond: 3000 };
/** Of TCP, both families. */
const flags = (bits: number): Flood[] =>
  ([4, 6] as const).map((family) => ({ flags: bits, port: ECHO_PORT, family, perSecond: 2000 }));
const SYNS = flags(TCP.SYN);

/** What a flood did to the daemon's counters. */
interface Outcome {
  /** Packets by flood, in the order in which they were asked for. */
  sent: number[];
  drops: Record<string, number>;
  /** By rule: packets dropped in the kernel, and all that it matched and acted on. */
  rules: Record<string, { matched: number; acted: number; kernel: number }>;
  challenges: number;
  good: GoodTraffic;
}

const table: string[][] = [['flood', 'offload', 'packets', 'of these', 'good requests', 'answered']];
afterAll(() => {
  const widths = table[0].map((_, i) => Math.max(...table.map((row) => row[i].length)));
  console.log(table.map((row) => row.map((cell, i) => cell.padEnd(widths[i])).join('  ')).join('\n'));
});

async function start(parts: ConfigDocument): Promise<Attacked> {
  const net = await Attacked.start({ ...PARTS, ...parts }, 1024);
  await startDnsServer(net);
  return net;
}

async function listed(net: Attacked): Promise<ListedRule[]> {
  return (await callControl(net.daemon.socket, 'rules.list', {}, 10_000)).rules;
}

/** The floods, all at once, with good traffic before, beside and behind them. `settled`: all of them is dropped or answered. */
async function under(net: Attacked, floods: Flood[], settled: (outcome: Outcome) => boolean): Promise<Outcome> {
  const before = { status: await net.daemon.status(), rules: await listed(net) };
  const traffic = await startGoodTraffic(net);
  await pause(100);
  const running = [];
  for (const flood of floods) running.push(await net.flood(flood));
  await pause(FLOOD_MS);
  const sent = await Promise.all(running.map((flood) => flood.stop()));
  const good = await traffic.stop();
  const measure = async (): Promise<Outcome & { status: Status }> => {
    const status = await net.daemon.status();
    const drops = Object.entries(status.drops).map(([reason, count]) => [reason, count - (before.status.drops[reason] ?? 0)] as const); // prettier-ignore
    const rules = (await listed(net)).map((rule, i) => [rule.name, changeOf(before.rules[i], rule)] as const);
    return {
      sent,
      good,
      status,
      drops: Object.fromEntries(drops.filter(([, count]) => count > 0)),
      rules: Object.fromEntries(rules),
      challenges: status.mitigation.challenges - before.status.mitigation.challenges,
    };
  };
  let now = await measure();
  for (const end = performance.now() + 20_000; !settled(now) && performance.now() < end; now = await measure()) {
    await pause(50);
  }
  expect(now.status.violations).toEqual([]);
  expect(lost(now.status)).toBe(lost(before.status));
  return now;
}

function changeOf(before: ListedRule, after: ListedRule): Outcome['rules'][string] {
  return {
    matched: after.packets - before.packets,
    acted: after.acted - before.acted,
    kernel: after.kernelPackets - before.kernelPackets,
  };
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** All that was asked was answered, and no connection had to ask twice. */
function expectGood(flood: string, offload: string, { sent, drops, rules, challenges, good }: Outcome): void {
  const counts = Object.values(good.kinds);
  const [asked, answered] = [sum(counts.map((kind) => kind.sent)), sum(counts.map((kind) => kind.answered))];
  const inKernel = sum(Object.values(rules).map(({ kernel }) => kernel));
  const parts = Object.entries({ ...drops, 'by rules in the kernel': inKernel, challenged: challenges });
  const words = parts.filter(([, count]) => count > 0).map(([reason, count]) => `${reason} ${count}`);
  table.push([flood, offload, String(sum(sent)), words.join(', '), String(asked), String(answered)]);
  for (const [kind, count] of Object.entries(good.kinds)) {
    expect([kind, count.answered]).toEqual([kind, count.sent]);
    expect(count.sent, kind).toBeGreaterThan(9);
  }
  expect(good.slowestMs).toBeLessThan(SYN_TIMEOUT_MS);
}

/** What the workers dropped by a rule: what it dropped less what it dropped in the kernel. */
const byWorkers = ({ acted, kernel }: Outcome['rules'][string]): number => acted - kernel;

const nonzero = (drops: Record<string, number>): Record<string, number> =>
  Object.fromEntries(Object.entries(drops).filter(([, count]) => count > 0));

describe.each(['off', 'auto'] as const)('rules, with offload: %s', (offload) => {
  const rules = [NTP, TORTURE, PINGS, FRAGMENTS];

  it('cost honest clients nothing, one flood after another and all at once', async () => {
    const net = await start({ rules, offload });
    expect((await listed(net))[0].runs).toBe(offload === 'auto' ? 'kernel' : 'user space');

    const both = [AMPLIFIED, { ...AMPLIFIED, family: 6 } as const];
    const amplified = await under(net, both, (now) => now.rules.ntp.acted >= sum(now.sent));
    expectGood('amplification', offload, amplified);
    const all = sum(amplified.sent);
    expect(amplified.rules.ntp).toEqual({ matched: all, acted: all, kernel: offload === 'auto' ? all : 0 });
    expect(amplified.drops).toEqual(nonzero({ rule: byWorkers(amplified.rules.ntp) }));

    const queries = await under(net, [QUERIES], (now) => now.rules.torture.acted >= now.sent[0]);
    expectGood('DNS queries', offload, queries);
    expect(queries.rules.torture.acted).toBe(queries.sent[0]);
    expect(queries.drops).toEqual(nonzero({ rule: byWorkers(queries.rules.torture) }));

    // What the limit lets pass of the attacker is answered.
    const pinged = (now: Outcome): number => now.sent[0] + now.good.kinds.ping.sent;
    const pings = await under(net, [PINGED], (now) => now.rules.pings.matched >= pinged(now));
    expectGood('pings', offload, pings);
    expect(pings.rules.pings.matched).toBe(pinged(pings));
    expect(pings.drops).toEqual(nonzero({ limited: byWorkers(pings.rules.pings) }));
    expect(pings.rules.pings.acted).toBeGreaterThan(pings.sent[0] / 2);

    // What the limit lets pass waits for a first fragment that never comes.
    const gone = ({ drops, rules }: Outcome): number => rules.fragments.acted + (drops.fragment_timeout ?? 0);
    const orphans = await under(net, [ORPHANS], (now) => gone(now) >= now.sent[0]);
    expectGood('fragments', offload, orphans);
    const { fragments } = orphans.rules;
    const waited = orphans.sent[0] - fragments.acted;
    expect(orphans.drops).toEqual(nonzero({ limited: byWorkers(fragments), fragment_timeout: waited }));
    expect(fragments.acted).toBeGreaterThan(orphans.sent[0] / 4);

    await net.reload({ ...PARTS, rules, offload, mitigation: { ...CHALLENGE, ...TCP_STATE } });
    const floods = [AMPLIFIED, QUERIES, SYNS[0], flags(TCP.ACK)[1], PINGED, ORPHANS];
    const slower = floods.map((flood) => ({ ...flood, perSecond: 800 }));
    const mixed = await under(net, slower, (now) => {
      const [, queries, , acks, , orphans] = now.sent;
      return now.rules.torture.acted >= queries && gone(now) >= orphans && (now.drops.tcp_not_found ?? 0) >= acks;
    });
    expectGood('mixed', offload, mixed);
    const [answers, asked, syns, acks, , behind] = mixed.sent;
    const by = mixed.rules;
    expect(by.ntp).toEqual({ matched: answers, acted: answers, kernel: offload === 'auto' ? answers : 0 });
    expect(by.torture.acted).toBe(asked);
    expect(mixed.drops).toEqual(
      nonzero({
        rule: byWorkers(by.ntp) + byWorkers(by.torture),
        limited: byWorkers(by.pings) + byWorkers(by.fragments),
        fragment_timeout: behind - by.fragments.acted,
        tcp_not_found: acks,
        // The RSTs by which the client shows that it is there.
        challenge_answer: mixed.challenges - syns,
      }),
    );
  });
});

it('a SYN flood costs clients a challenge, and no connection', async () => {
  const net = await start({ mitigation: CHALLENGE });
  const syns = await under(net, SYNS, (now) => now.challenges >= sum(now.sent));
  expectGood('SYN', 'off', syns);
  expect(syns.drops).toEqual({ challenge_answer: syns.challenges - sum(syns.sent) });
  expect(net.counter('TcpExt', 'SyncookiesSent')).toBe(0);
  expect(net.halfOpen()).toBe(0);
});

it('floods of packets of no connection cost connections nothing', async () => {
  const net = await start({ mitigation: TCP_STATE });
  for (const [kind, bits, reason] of [
    ['ACK', TCP.ACK, 'tcp_not_found'],
    ['RST', TCP.RST, 'tcp_not_found'],
    ['FIN', TCP.FIN | TCP.ACK, 'tcp_not_found'],
    ['SYN-ACK', TCP.SYN | TCP.ACK, 'tcp_unexpected'],
  ] as const) {
    const flood = await under(net, flags(bits), (now) => (now.drops[reason] ?? 0) >= sum(now.sent));
    expectGood(kind, 'off', flood);
    expect(flood.drops).toEqual({ [reason]: sum(flood.sent) });
  }
  expect(net.counter('Tcp', 'OutRsts')).toBe(0);
});

it('fair share knows no more than rates: it costs honest packets until it has found the flood, and hardly any then', async () => {
  const net = await start({ mitigation: { fair_share: { rate: '1500/s' } } });
  const honest = net.run(`
    const socket = dgram.createSocket('udp4');
    const sent = [], answered = new Set();
    let begin = Infinity, stop = false;
    socket.on('message', (text) => answered.add(Number(String(text).split(' ')[1])));
    void told().then(async () => { begin = performance.now(); await told(); stop = true; });
    say('begun');
    for (let i = 0; !stop; i++) {
      sent.push(performance.now());
      socket.send(String(i), ${ECHO_PORT}, '${VIP4}');
      await later(5);
    }
    await later(500);
    const parts = [[-Infinity, 0], [0, ${LEARNING_MS}], [${LEARNING_MS}, Infinity]];
    const inside = ([from, to]) => sent.map((ms, i) => [ms - begin, i]).filter(([ms]) => ms >= from && ms < to);
    say(parts.map((part) => [inside(part).length, inside(part).filter(([, i]) => answered.has(i)).length]));`);
  await honest.next();
  await pause(500);
  const flood = await net.flood({ protocol: 17, port: ECHO_PORT, perSecond: 5000, spoofed: false, sport: 9 });
  honest.tell('flood');
  await pause(2000);
  honest.tell('stop');
  const parts = await honest.next<[number, number][]>();
  const sent = await flood.stop();
  const asked = sum(parts.map(([count]) => count));
  const status = await net.daemon.until(({ totals }) => totals.rx >= sent + asked, 'all is counted');
  const share = status.drops.fair_share;
  for (const [i, when] of ['before', `first ${LEARNING_MS} ms`, 'then'].entries()) {
    const [count, answered] = parts[i];
    const packets = i === 2 ? [String(sent), `fair_share ${share}`] : ['', ''];
    table.push([`fair share, ${when}`, 'off', ...packets, String(count), String(answered)]);
  }
  const [before, , then] = parts;
  expect(before[1]).toBe(before[0]);
  expect(then[0]).toBeGreaterThan(100);
  expect(then[1]).toBeGreaterThanOrEqual(then[0] * 0.9);
  expect(Object.keys(status.drops)).toEqual(['fair_share']);
  expect(share).toBeGreaterThan(sent / 3);
});
