/** Floods that are not TCP or UDP in whole packets: the kernel drops them, with `require`, and honest packets of the same kinds come through. */
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { callControl } from '../../src/control/api/client.js';
import type { RuleListing } from '../../src/control/api/contract.js';
import { CLIENT, daemonConfig, interfaceOf, lost, pause, TestDaemon, VIP, Wire } from '../support/daemon.js';

const FLOOD = fileURLToPath(new URL('../support/raw_flood.mjs', import.meta.url));
const PINGS = 50;

const SPOOFED = '100.64.0.0/10';
const RULES = [
  { name: 'see', match: {}, action: 'count' },
  { name: 'pings', match: { protocol: 'icmp', src: SPOOFED }, action: 'drop' },
  { name: 'fragments', match: { fragment: true }, action: 'drop' },
  { name: 'gre', match: 'ip proto 47', action: 'drop' },
];

it('ICMP and fragments are dropped in the kernel; pings are answered and good packets arrive, all of them', async () => {
  const wire = new Wire({ backend: true });
  const receiver = await wire.receive();
  const parts = { filters: ['sanity', 'rules'], rules: RULES, offload: 'require', icmp: { echo: 'answer' } };
  const daemon = await TestDaemon.start(wire, daemonConfig(wire, parts));
  const counted = async () => {
    const { rules }: RuleListing = await callControl(daemon.socket, 'rules.list', {}, 10_000);
    return Object.fromEntries(rules.map((rule) => [rule.name, rule]));
  };
  const placed = Object.values(await counted()).map(({ name, runs }) => [name, runs]);
  expect(placed).toEqual([['see', 'both'], ...['pings', 'fragments', 'gre'].map((name) => [name, 'kernel'])]);

  const good = await wire.send({ ratePerSecond: 1000 });
  const ping = wire.client.exec.bind(wire.client, 'ping', '-q', '-c', String(PINGS), '-i', '0.01', '-W', '2', VIP);
  const addresses = { mac: '02:00:00:00:90:02', from: '02:00:00:00:90:01', src: CLIENT, dst: VIP };
  const flood = async (options: object): Promise<number> => {
    const all = { interface: 'eth0', ...addresses, family: 4, port: 53, sport: 53, perSecond: 20_000, ...options };
    const program = wire.playground.start(wire.client, process.execPath, [FLOOD, JSON.stringify(all)], {
      label: 'flood',
    });
    await once(program, 'line');
    await pause(50);
    expect(ping()).toMatch(new RegExp(`${PINGS} packets transmitted, ${PINGS} received`));
    program.send('stop');
    const [sent] = (await once(program, 'line')) as [string];
    return Number(sent);
  };
  // First fragments and later ones, as amplifiers send them.
  const floods = {
    pings: await flood({ protocol: 1, spoofed: true }),
    fragments: (await flood({ protocol: 17, fragment: 0x2000 })) + (await flood({ protocol: 17, fragment: 185 })),
  };
  const [drops, sentGood] = [floods.pings + floods.fragments, await good.stop()];
  expect(Math.min(floods.pings, floods.fragments)).toBeGreaterThan(500);
  const moved = async () => {
    const { pings, fragments, gre, see } = await counted();
    const { rules } = interfaceOf(await daemon.status()).xdp!;
    const { received, noRoom } = await receiver.stats();
    return {
      ...{ pings: [pings.acted, pings.kernelPackets], fragments: [fragments.acted, fragments.kernelPackets] },
      ...{ gre: gre.acted, see: [see.packets, see.kernelPackets], rules, good: received + noRoom },
    };
  };
  await expect.poll(moved).toEqual({
    ...{ pings: [floods.pings, floods.pings], fragments: [floods.fragments, floods.fragments] },
    ...{ gre: 0, see: [drops + sentGood + 3 * PINGS, drops], rules: drops, good: sentGood },
  });
  const status = await daemon.status();
  expect([status.violations, lost(status), status.drops.rule ?? 0]).toEqual([[], 0, 0]);
});
