/** Rules of a running sluice, changed under traffic: every packet is counted where it belongs, and none of the others is lost. */
import { describe, expect, it } from 'vitest';
import { callControl } from '../../src/control/api/client.js';
import type { ListedRule, RuleListing } from '../../src/control/api/contract.js';
import {
  daemonConfig,
  metric,
  pause,
  TestDaemon,
  UDP_PORT,
  Wire,
  type Receiver,
  type Sender,
} from '../support/daemon.js';
import { expectGood } from '../support/good_through.js';

/** Nobody serves this port of the VIP: what no rule drops is left to the host. */
const BAD_PORT = 7777;
/** Ethernet, IPv4 and UDP headers in front of 64 bytes. */
const FRAME_BYTES = 14 + 20 + 8 + 64;

interface Rig {
  wire: Wire;
  receiver: Receiver;
  daemon: TestDaemon;
  sender: Sender;
}

/** A daemon with good traffic through it. */
async function underTraffic(parts: Record<string, unknown> = {}): Promise<Rig> {
  const wire = new Wire({ backend: true });
  const receiver = await wire.receive();
  const daemon = await TestDaemon.start(wire, daemonConfig(wire, parts));
  const sender = await wire.send({ ratePerSecond: 1000 });
  return { wire, receiver, daemon, sender };
}

function listing(daemon: TestDaemon): Promise<RuleListing> {
  return callControl(daemon.socket, 'rules.list', {}, 10_000);
}

async function rule(daemon: TestDaemon, name: string): Promise<ListedRule | undefined> {
  return (await listing(daemon)).rules.find((one) => one.name === name);
}

/** The command, which must succeed. */
function rules(daemon: TestDaemon, ...args: string[]): string {
  const { code, stdout, stderr } = daemon.cli('rules', ...args);
  expect([code, stderr]).toEqual([0, '']);
  return stdout;
}

/** Sends bad packets, and waits until the rules have counted what they should: [packets, acted] by name. */
async function sendBad(
  { wire, daemon }: Rig,
  packets: number,
  wanted: Record<string, [number, number]>,
): Promise<void> {
  const sender = await wire.send({ port: BAD_PORT, packets, bytes: 64, flows: 4 });
  expect(await sender.sent()).toBe(packets);
  const counted = async (): Promise<Record<string, [number, number]>> => {
    const all = (await listing(daemon)).rules.filter(({ name }) => name in wanted);
    return Object.fromEntries(all.map((one) => [one.name, [one.packets, one.acted]]));
  };
  await expect.poll(counted).toEqual(wanted);
}

describe('rules of a running sluice', () => {
  it('are added, moved, shadowed, enforced and removed under traffic, counted to the packet', async () => {
    const rig = await underTraffic({
      rules: [{ name: 'see', match: { protocol: 'udp', dport: BAD_PORT }, action: 'count' }],
    });
    const { daemon, wire } = rig;

    rules(daemon, 'add', 'bad', '--expr', `udp dst port ${BAD_PORT} and greater 100`, '--action', 'drop');
    await sendBad(rig, 400, { see: [400, 0], bad: [400, 400] });
    expect((await daemon.status()).drops).toEqual({ rule: 400 });

    rules(daemon, 'shadow', 'bad');
    await sendBad(rig, 300, { see: [700, 0], bad: [700, 700] });
    // In shadow mode it says what it would have dropped, and drops nothing.
    expect((await daemon.status()).drops).toEqual({ rule: 400 });

    rules(daemon, 'enforce', 'bad');
    rules(
      daemon,
      'add',
      'friend',
      '--dport',
      String(BAD_PORT),
      '--protocol',
      'udp',
      '--action',
      'pass',
      '--before',
      'bad',
    );
    await sendBad(rig, 200, { see: [900, 0], friend: [200, 0], bad: [700, 700] });

    rules(daemon, 'move', 'friend', '--last');
    await sendBad(rig, 100, { see: [1000, 0], bad: [800, 800], friend: [200, 0] });

    // A reload with another configuration around them: both are there, with their counts.
    daemon.configure(
      daemonConfig(wire, {
        rules: [
          { name: 'new', match: { protocol: 'icmp' }, action: 'drop' },
          { name: 'see', match: { protocol: 'udp', dport: BAD_PORT }, action: 'count' },
        ],
      }),
    );
    expect(await daemon.reload()).toMatchObject({ applied: true });
    expect((await listing(daemon)).rules.map(({ name }) => name)).toEqual(['new', 'see', 'bad', 'friend']);
    await sendBad(rig, 50, { see: [1050, 0], bad: [850, 850], friend: [200, 0] });

    const refused = daemon.cli('rules', 'remove', 'bad', 'baad');
    expect([refused.code, refused.stderr]).toEqual([
      2,
      expect.stringMatching(/there is no rule "baad"\n {2}Did you mean "bad"\?/),
    ]);
    const bad = (await rule(daemon, 'bad'))!;
    expect([bad.bytes, bad.actedBytes]).toEqual([850 * FRAME_BYTES, 850 * FRAME_BYTES]);
    expect(metric(daemon.metrics().body, 'sluice_rule_acted_packets_total{rule="bad"}')).toBe(850);
    rules(daemon, 'remove', 'bad');
    await sendBad(rig, 150, { see: [1200, 0], friend: [350, 0] });

    const friend = (await rule(daemon, 'friend'))!;
    expect([friend.bytes, friend.actedBytes]).toEqual([350 * FRAME_BYTES, 0]);
    const { body } = daemon.metrics();
    expect(metric(body, 'sluice_rule_packets_total{rule="friend"}')).toBe(350);
    expect(metric(body, 'sluice_rule_packets_total{rule="see"}')).toBe(1200);
    expect((await daemon.status()).drops).toEqual({ rule: 400 + 100 + 50 });
    const audited = daemon.log.filter(({ msg, audit }) => audit === true && msg.startsWith('control: rule'));
    expect(audited.map(({ msg }) => msg.slice(9))).toEqual([
      'rules added',
      'rules set',
      'rules set',
      'rules added',
      'rule moved',
      'rules removed',
    ]);
    await expectGood(rig, rig.sender);
  });

  it('with a time to live are gone to the second, which is logged and counted', async () => {
    const rig = await underTraffic();
    const { daemon, wire } = rig;
    const attack = await wire.send({ port: BAD_PORT, ratePerSecond: 1000, flows: 4 });
    // What is passed is balanced all the same.
    rules(daemon, 'add', 'keep', '--protocol', 'udp', '--dport', String(UDP_PORT), '--action', 'pass', '--first');
    rules(daemon, 'add', 'short', '--protocol', 'udp', '--action', 'drop', '--ttl', '4s');
    await expect.poll(() => daemon.logged('control: rules added').length).toBe(2);
    const addedMs = daemon.logged('control: rules added')[1].time;
    const { ttlLeftMs } = (await rule(daemon, 'short'))!;
    expect(ttlLeftMs).toBeGreaterThan(0);
    expect(ttlLeftMs).toBeLessThanOrEqual(4000);
    await expect.poll(() => daemon.logged('rule’s time is over').length).toBe(1);
    const [over] = daemon.logged('rule’s time is over');
    expect(over).toMatchObject({ rule: 'short', action: 'drop', ttl: 4 });
    expect(over.time - addedMs).toBeGreaterThan(3900);
    // To the second where it has a processor.
    expect(over.time - addedMs).toBeLessThan(6900);
    await expect.poll(async () => (await listing(daemon)).rules.map(({ name }) => name)).toEqual(['keep']);
    // Workers have the tables without it: nothing is dropped any more.
    const { drops } = await daemon.status();
    await pause(300);
    const after = await daemon.status();
    expect(after.drops).toEqual(drops);
    expect(drops.rule).toBeGreaterThan(1000);
    expect(metric(daemon.metrics().body, 'sluice_rules_expired_total')).toBe(1);
    await attack.stop();
    await expectGood(rig, rig.sender);
  });

  it('are changed a hundred times without a good packet lost', async () => {
    const rig = await underTraffic();
    const { daemon } = rig;
    for (let i = 0; i < 30; i++) {
      const name = `r${i}`;
      const match = { src: `203.0.113.${i}`, dport: [i, 1000 + i] };
      const add = {
        rules: [{ name, match, action: 'drop' }],
        place: i % 2 === 0 ? ('first' as const) : ('last' as const),
      };
      // Several at once: they go one after the other.
      await Promise.all([
        callControl(daemon.socket, 'rules.add', add),
        callControl(daemon.socket, 'rules.add', {
          rules: [{ name: `s${i}`, match: `src port ${i + 1}`, action: 'count' }],
        }),
      ]);
      await callControl(daemon.socket, 'rules.mode', { rules: [name], mode: 'shadow' });
      if (i >= 10) await callControl(daemon.socket, 'rules.remove', { rules: [`r${i - 10}`] });
    }
    const all = (await listing(daemon)).rules;
    expect(all).toHaveLength(40);
    expect(all.filter(({ packets }) => packets > 0)).toEqual([]);
    rules(daemon, 'reset');
    expect((await listing(daemon)).rules).toEqual([]);
    await expectGood(rig, rig.sender);
  });
});
