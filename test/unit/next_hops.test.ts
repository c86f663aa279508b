import { afterEach, describe, expect, it } from 'vitest';
import { Solicitor, neighbourKey, readNeighbours } from '../../src/control/neighbours.js';
import { NextHopResolver, type NextHopOptions } from '../../src/control/next_hops.js';
import { readLinks, readRoutes, type NextHop } from '../../src/control/routes.js';
import { SluiceError } from '../../src/errors.js';
import { formatMac, parseAddress } from '../../src/shared/addr.js';
import { FakeIp, LINKS, MAC, known } from '../support/fake_ip.js';

const sleep = (ms: number) => new Promise((wake) => setTimeout(wake, ms));

let resolver: NextHopResolver | null = null;
afterEach(() => resolver?.close());

function start(ip: FakeIp, addresses: string[], options: Partial<NextHopOptions> = {}): NextHopResolver {
  const solicitor = new Solicitor(ip, () => {
    throw new Error('a unit test must not send datagrams');
  });
  resolver = new NextHopResolver({ ip, solicitor, debounceMs: 5, restartMs: 5, ...options });
  resolver.setAddresses(addresses.map(parseAddress));
  return resolver;
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const startMs = performance.now();
  while (!holds()) {
    if (performance.now() - startMs > 15_000) throw new Error(`not within 15 s: ${what}`);
    await sleep(2);
  }
}

describe('readRoutes', () => {
  it('keeps answers and errors with their addresses', async () => {
    const ip = new FakeIp();
    const addresses = ['10.90.0.1', '10.77.0.2', '203.0.113.1', '10.89.0.5', '10.92.0.1', 'fd77::2', '10.77.0.1'];
    const routes = await readRoutes(ip, addresses.map(parseAddress));
    const a0 = { interface: 'a0', gateway: null, source: parseAddress('10.77.0.1'), mtu: null };
    expect(routes).toEqual([
      { error: 'ip route get 10.90.0.1 says "RTNETLINK answers: No route to host"' },
      a0,
      { error: 'ip route get 203.0.113.1 says "RTNETLINK answers: Network is unreachable"' },
      { ...a0, gateway: '10.77.0.2', mtu: 1300 },
      { ...a0, gateway: 'fd77::2' },
      { ...a0, source: parseAddress('fd77::1') },
      { error: 'ip route get 10.77.0.1 says it is "local"' },
    ]);
    expect(ip.runs).toEqual(['-json -force -batch -']);
  });

  it('runs nothing for no addresses', async () => {
    const ip = new FakeIp();
    expect(await readRoutes(ip, [])).toEqual([]);
    expect(ip.runs).toEqual([]);
  });

  it.each([
    ['an answer too few', '', ''],
    ['an error without a line', '', 'Object "route" is unknown, try "ip help".\n'],
    ['no JSON', '10.77.0.2 dev a0 src 10.77.0.1\n', ''],
  ])('refuses %s', async (_, stdout, stderr) => {
    const ip = { run: () => Promise.resolve({ stdout, stderr, code: 1 }), monitor: () => ({ close: () => undefined }) };
    await expect(readRoutes(ip, [parseAddress('10.77.0.2')])).rejects.toBeInstanceOf(SluiceError);
  });
});

describe('readLinks', () => {
  it('has hardware addresses of Ethernet devices only, and knows who has carrier', async () => {
    const ip = new FakeIp();
    const links = await readLinks(ip);
    expect([...links.values()].map(({ name, mac, mtu, up }) => [name, mac && formatMac(mac), mtu, up])).toEqual([
      ['lo', null, 65536, true],
      ['a0', '3e:13:55:c3:d8:7d', 1500, true],
      ['tun0', null, 1400, true],
    ]);
    ip.links = LINKS.replace('"MULTICAST","UP","LOWER_UP"],"mtu":1500', '"NO-CARRIER","UP"],"mtu":1500');
    expect((await readLinks(ip)).get('a0')!.up).toBe(false);
  });
});

describe('readNeighbours', () => {
  it('believes an address only in states that the kernel holds for valid', async () => {
    const ip = new FakeIp();
    const states = ['REACHABLE', 'STALE', 'DELAY', 'PROBE', 'PERMANENT', 'NOARP', 'FAILED', 'INCOMPLETE'];
    ip.neighbours = states.map((state, i) => known(`10.77.0.${i}`, MAC, state));
    ip.neighbours.push({ dst: 'fe80::1', dev: 'a0', state: ['INCOMPLETE'] });
    ip.neighbours.push({ dst: '10.1.1.1', dev: 'tun0', lladdr: '192.0.2.1', state: ['NOARP'] });
    const neighbours = await readNeighbours(ip);
    const valid = [...neighbours].filter(([, { mac }]) => mac !== null).map(([, { state }]) => state);
    expect(valid).toEqual(states.slice(0, 6));
    expect(neighbours.get(neighbourKey({ address: 'fe80::1', interface: 'a0' }))).toEqual({
      mac: null,
      state: 'INCOMPLETE',
    });
  });
});

describe('NextHopResolver', () => {
  it('resolves neighbours that the kernel does not know yet', async () => {
    const ip = new FakeIp();
    ip.onUse = (address) => {
      ip.neighbours.push(known(address));
      ip.event(`[NEIGH]${address} dev a0 lladdr ${MAC} REACHABLE \n`);
    };
    const hops = start(ip, ['10.89.0.5', 'fd77::2', '203.0.113.1', '10.55.0.1']);
    expect(await hops.settled(5000)).toBe(true);
    const view = [...hops.hops.values()].map(({ address, dmac, mtu, resolved, error }) => [
      address,
      dmac && formatMac(dmac),
      mtu,
      resolved,
      error,
    ]);
    expect(view).toEqual([
      ['10.89.0.5', MAC, 1300, true, null],
      ['fd77::2', MAC, 1500, true, null],
      [
        '203.0.113.1',
        null,
        0,
        false,
        'backend 203.0.113.1 has no route: ip route get 203.0.113.1 says "RTNETLINK answers: Network is unreachable"',
      ],
      ['10.55.0.1', null, 1400, false, 'backend 10.55.0.1: interface tun0 is no Ethernet device'],
    ]);
    // The gateway was asked for, not the backend behind it; each once.
    expect(ip.commands.filter((command) => command.endsWith('use'))).toEqual([
      'neigh replace 10.77.0.2 dev a0 nud none use',
      'neigh replace fd77::2 dev a0 nud none use',
    ]);
  });

  it('tells of a change once, and of nothing when nothing changed', async () => {
    const ip = new FakeIp();
    ip.neighbours = [known('10.77.0.2')];
    const hops = start(ip, ['10.77.0.2', '10.89.0.5']);
    const changes: ReadonlyMap<string, NextHop>[] = [];
    hops.on('change', (map) => changes.push(map));
    await hops.settled(5000);
    expect(changes).toHaveLength(1);
    const first = changes[0];
    const runs = ip.runs.length;
    ip.event(
      '[LINK]2: a0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500\n    link/ether 3e:13:55:c3:d8:7d brd ff:ff:ff:ff:ff:ff\n',
    );
    await until('another reading', () => ip.runs.length >= runs + 3);
    await sleep(20);
    expect(changes).toHaveLength(1);
    ip.neighbours = [known('10.77.0.2', '02:00:00:00:00:09')];
    ip.event('[NEIGH]10.77.0.2 dev a0 lladdr 02:00:00:00:00:09 STALE \n');
    await until('the change', () => changes.length === 2);
    expect(formatMac(changes[1].get('10.89.0.5')!.dmac!)).toBe('02:00:00:00:00:09');
    // The map that was handed out before is as it was.
    expect(formatMac(first.get('10.89.0.5')!.dmac!)).toBe(MAC);
  });

  it('reads neighbours only at events of neighbours in use, and routes too at any other', async () => {
    const ip = new FakeIp();
    ip.neighbours = [known('10.77.0.2')];
    const hops = start(ip, ['10.77.0.2']);
    await hops.settled(5000);
    await until('verification', () => ip.commands.length === 1);
    /** What is run for these events; waits for as many runs as are expected, and a little longer for others. */
    const read = async (expected: number, ...events: string[]): Promise<string[]> => {
      ip.runs = [];
      for (const event of events) ip.event(event);
      await until(`${expected} runs`, () => ip.runs.length >= expected);
      await sleep(50);
      return ip.runs;
    };
    const neighbours = ['-json neigh show'];
    const all = ['-json link show', '-json -force -batch -', '-json neigh show'];
    expect(await read(0, '[NEIGH]10.77.0.99 dev a0 lladdr 02:00:00:00:00:09 STALE \n')).toEqual([]);
    expect(await read(1, '[NEIGH]10.77.', '0.2 dev a0 lla', 'ddr 02:00:00:00:00:09 STALE \n')).toEqual(neighbours);
    expect(await read(1, '[NEIGH]Deleted 10.77.0.2 dev a0 lladdr 02:00:00:00:00:09 STALE \n')).toEqual(neighbours);
    expect(await read(3, '[ROUTE]10.88.0.0/24 via 10.77.0.2 dev a0 \n')).toEqual(all);
    expect(await read(3, 'netlink receive error No buffer space available (105)\n')).toEqual(all);
    // A storm is read once or twice, not a hundred times.
    const storm = await read(3, ...Array.from({ length: 100 }, () => '[ROUTE]10.88.0.0/24 via 10.77.0.2 dev a0 \n'));
    expect(storm.length).toBeLessThanOrEqual(6);
  });

  it('verifies known neighbours at each refresh, but not permanent ones', async () => {
    const ip = new FakeIp();
    ip.neighbours = [known('10.77.0.2', MAC, 'STALE'), known('fd77::2', MAC, 'PERMANENT')];
    const hops = start(ip, ['10.77.0.2', 'fd77::2'], { refreshMs: 30 });
    await hops.settled(5000);
    await until('three refreshes', () => ip.commands.length >= 3);
    expect(new Set(ip.commands)).toEqual(new Set(['neigh change 10.77.0.2 dev a0 nud probe']));
  });

  it('keeps the last known address for a time of grace, then says that there is no answer', async () => {
    const ip = new FakeIp();
    ip.neighbours = [known('10.77.0.2')];
    const hops = start(ip, ['10.77.0.2'], { graceMs: 800 });
    await hops.settled(5000);
    ip.neighbours = [{ dst: '10.77.0.2', dev: 'a0', state: ['FAILED'] }];
    ip.event('[NEIGH]10.77.0.2 dev a0 FAILED \n');
    await sleep(50);
    expect(hops.hops.get('10.77.0.2')).toMatchObject({ resolved: true, error: null });
    await until('the end of grace', () => !hops.hops.get('10.77.0.2')!.resolved);
    expect(hops.hops.get('10.77.0.2')!.error).toMatch(/10\.77\.0\.2 on a0 does not answer/);
  });

  it('drops addresses that are no longer wanted and keeps what it knows of others', async () => {
    const ip = new FakeIp();
    ip.neighbours = [known('10.77.0.2'), known('fd77::2')];
    const hops = start(ip, ['10.77.0.2', 'fd77::2', '10.77.0.2']);
    await hops.settled(5000);
    expect([...hops.hops.keys()]).toEqual(['10.77.0.2', 'fd77::2']);
    hops.setAddresses([parseAddress('fd77::2')]);
    expect(hops.hops.get('fd77::2')!.resolved).toBe(true);
    await until('the smaller map', () => hops.hops.size === 1);
    hops.setAddresses([]);
    await until('the empty map', () => hops.hops.size === 0);
    expect(await hops.settled(0)).toBe(true);
  });

  it('gives up waiting after the time allowed', async () => {
    const ip = new FakeIp();
    const hops = start(ip, ['10.77.0.2']);
    const startMs = performance.now();
    expect(await hops.settled(100)).toBe(false);
    expect(performance.now() - startMs).toBeLessThan(5000);
    expect(hops.hops.get('10.77.0.2')).toMatchObject({ resolved: false, error: null });
  });

  it('reports a broken ip once, keeps its answers, and recovers', async () => {
    const ip = new FakeIp();
    ip.neighbours = [known('10.77.0.2')];
    const hops = start(ip, ['10.77.0.2'], { refreshMs: 20 });
    const problems: Error[] = [];
    hops.on('problem', (error) => problems.push(error));
    await hops.settled(5000);
    ip.error = new Error('spawn ip ENOENT');
    await until('a problem', () => problems.length === 1);
    await sleep(700);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatchObject({
      code: 'SLUICE_DEVICE',
      message: 'next hops cannot be looked up: spawn ip ENOENT',
    });
    expect(hops.hops.get('10.77.0.2')!.resolved).toBe(true);
    ip.error = null;
    ip.neighbours = [known('10.77.0.2', '02:00:00:00:00:07')];
    await until('recovery', () => formatMac(hops.hops.get('10.77.0.2')!.dmac!) === '02:00:00:00:00:07');
  });

  it('throws from settled() when the kernel cannot be asked at all', async () => {
    const ip = new FakeIp();
    ip.error = new Error('spawn ip ENOENT');
    await expect(start(ip, ['10.77.0.2']).settled(5000)).rejects.toThrow(/ENOENT/);
  });

  it('starts the monitor again when it ends, and reads what it missed', async () => {
    const ip = new FakeIp();
    ip.neighbours = [known('10.77.0.2')];
    const hops = start(ip, ['10.77.0.2']);
    await hops.settled(5000);
    ip.neighbours = [known('10.77.0.2', '02:00:00:00:00:07')];
    ip.monitors[0].events.onExit('killed by SIGKILL');
    await until('the missed change', () => formatMac(hops.hops.get('10.77.0.2')!.dmac!) === '02:00:00:00:00:07');
    expect(ip.monitors).toHaveLength(2);
  });

  it('does nothing any more once it is closed', async () => {
    const ip = new FakeIp();
    ip.neighbours = [known('10.77.0.2')];
    const hops = start(ip, ['10.77.0.2'], { refreshMs: 10 });
    await hops.settled(5000);
    hops.close();
    await sleep(20);
    const runs = ip.runs.length;
    hops.setAddresses([parseAddress('fd77::2')]);
    ip.event('[ROUTE]10.88.0.0/24 via 10.77.0.2 dev a0 \n');
    ip.monitors[0].events.onExit('killed by SIGKILL');
    await sleep(60);
    expect(ip.runs).toHaveLength(runs);
    expect(ip.monitors).toHaveLength(1);
    expect(ip.monitors[0].closed).toBe(true);
    hops.close();
  });
});
