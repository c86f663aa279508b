import { describe, expect, it } from 'vitest';
import { Solicitor, type NeighbourName } from '../../src/control/neighbours.js';
import { NeighbourMemory } from '../../src/control/neighbour_memory.js';
import { FakeIp } from '../support/fake_ip.js';

describe('Solicitor', () => {
  const names: NeighbourName[] = [
    { address: '10.77.0.2', interface: 'a0' },
    { address: 'fd77::2', interface: 'a0' },
  ];

  it('asks the kernel, all in one run', async () => {
    const ip = new FakeIp();
    const solicitor = new Solicitor(ip, () => expect.unreachable());
    await solicitor.resolve(names);
    await solicitor.verify(names.slice(0, 1));
    expect(ip.commands).toEqual([
      'neigh replace 10.77.0.2 dev a0 nud none use',
      'neigh replace fd77::2 dev a0 nud none use',
      'neigh change 10.77.0.2 dev a0 nud probe',
    ]);
    expect(ip.runs).toHaveLength(2);
  });

  it('sends datagrams instead when it may not, and does not ask for permission again', async () => {
    const ip = new FakeIp();
    ip.permitted = false;
    const sent: string[] = [];
    const solicitor = new Solicitor(ip, ({ address }) => sent.push(address));
    await solicitor.resolve(names);
    await solicitor.resolve(names.slice(1));
    expect(sent).toEqual(['10.77.0.2', 'fd77::2', 'fd77::2']);
    expect(ip.runs).toHaveLength(1);
  });

  it('never writes a name into a batch that could be read as more than a name', async () => {
    const ip = new FakeIp();
    const solicitor = new Solicitor(ip, () => expect.unreachable());
    for (const name of ['a"b', "a'b", 'a\\b', 'a#b', 'a\nlink'])
      await solicitor.resolve([{ address: '10.0.0.1', interface: name }]);
    expect(ip.runs).toEqual([]);
  });

  it('really sends a datagram: to a neighbour that is this very host', async () => {
    const { createSocket } = await import('node:dgram');
    const receiver = createSocket('udp4');
    await new Promise<void>((resolve) => receiver.bind(0, '127.0.0.1', resolve));
    const got = new Promise<Buffer>((resolve) => receiver.once('message', resolve));
    const ip = new FakeIp();
    ip.permitted = false;
    const solicitor = new Solicitor(ip, undefined, receiver.address().port);
    await solicitor.resolve([{ address: '127.0.0.1', interface: 'lo' }]);
    expect(await got).toHaveLength(1);
    solicitor.close();
    receiver.close();
  });
});

describe('NeighbourMemory', () => {
  const reading = (state: string, mac: Uint8Array | null) => new Map([['a0/x', { mac, state }]]);
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 1);

  it('lends the last known address for the time of grace, then no more', () => {
    const memory = new NeighbourMemory(5000);
    memory.see(['a0/x'], reading('REACHABLE', mac), 1000);
    memory.see(['a0/x'], new Map(), 2000);
    expect(memory.mac('a0/x', 5999)).toBe(mac);
    expect(memory.mac('a0/x', 6000)).toBeNull();
  });

  it('holds a failed neighbour for failed until it is seen', () => {
    const memory = new NeighbourMemory(5000);
    memory.see(['a0/x'], reading('FAILED', null), 0);
    memory.see(['a0/x'], reading('INCOMPLETE', null), 10);
    expect(memory.hasFailed('a0/x')).toBe(true);
    memory.see(['a0/x'], reading('REACHABLE', mac), 20);
    expect(memory.hasFailed('a0/x')).toBe(false);
  });

  it('asks once a second, and more rarely for one that failed', () => {
    const memory = new NeighbourMemory(5000);
    memory.see(['a0/x'], new Map(), 0);
    expect([0, 999, 1000].map((ms) => memory.mayAsk('a0/x', ms))).toEqual([true, false, true]);
    memory.see(['a0/x'], reading('FAILED', null), 1000);
    expect([2000, 5999, 6000].map((ms) => memory.mayAsk('a0/x', ms))).toEqual([false, false, true]);
    expect(memory.mayAsk('a0/unknown', 0)).toBe(false);
  });

  it('forgets who is no longer asked about', () => {
    const memory = new NeighbourMemory(5000);
    memory.see(['a0/x'], reading('REACHABLE', mac), 0);
    memory.see([], new Map(), 1);
    memory.see(['a0/x'], new Map(), 2);
    expect(memory.mac('a0/x', 3)).toBeNull();
  });
});
