import { afterEach, describe, expect, it } from 'vitest';
import type { IpCommand, IpResult, MonitorEvents } from '../../src/control/ip_command.js';
import { Solicitor, neighbourKey, readNeighbours, type NeighbourName } from '../../src/control/neighbours.js';
import { NeighbourMemory } from '../../src/control/neighbour_memory.js';
import { NextHopResolver, type NextHopOptions } from '../../src/control/next_hops.js';
import { readLinks, readRoutes, type NextHop } from '../../src/control/routes.js';
import { SluiceError } from '../../src/errors.js';
import { formatMac, parseAddress } from '../../src/shared/addr.js';

const sleep = (ms: number) => new Promise((wake) => setTimeout(wake, ms));
const ok = (stdout: string): IpResult => ({ stdout, stderr: '', code: 0 });

// Output of iproute2 6.1.0 on Debian 12, as it printed it.
const LINKS =
  '[{"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP","LOWER_UP"],"mtu":65536,"qdisc":"noqueue","operstate":"UNKNOWN","linkmode":"DEFAULT","group":"default","txqlen":1000,"link_type":"loopback","address":"00:00:00:00:00:00","broadcast":"00:00:00:00:00:00"},' +
  '{"ifindex":2,"link_index":2,"ifname":"a0","flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],"mtu":1500,"qdisc":"noqueue","operstate":"UP","linkmode":"DEFAULT","group":"default","txqlen":1000,"link_type":"ether","address":"3e:13:55:c3:d8:7d","broadcast":"ff:ff:ff:ff:ff:ff","link_netnsid":0},' +
  '{"ifindex":3,"ifname":"tun0","flags":["POINTOPOINT","MULTICAST","NOARP","UP","LOWER_UP"],"mtu":1400,"operstate":"UNKNOWN","link_type":"none"}]\n';
const ROUTES: Record<string, string> = {
  '10.77.0.2': '[{"dst":"10.77.0.2","dev":"a0","prefsrc":"10.77.0.1","flags":[],"uid":0,"cache":[]}]',
  '10.89.0.5':
    '[{"dst":"10.89.0.5","gateway":"10.77.0.2","dev":"a0","prefsrc":"10.77.0.1","flags":[],"uid":0,"cache":[],"metrics":[{"mtu":1300}]}]',
  '10.92.0.1':
    '[{"dst":"10.92.0.1","via":{"family":"inet6","host":"fd77::2"},"dev":"a0","prefsrc":"10.77.0.1","flags":[],"uid":0,"cache":[]}]',
  'fd77::2':
    '[{"dst":"fd77::2","from":"::","dev":"a0","protocol":"kernel","prefsrc":"fd77::1","metric":256,"flags":[],"pref":"medium"}]',
  '10.77.0.1':
    '[{"type":"local","dst":"10.77.0.1","dev":"lo","prefsrc":"10.77.0.1","flags":[],"uid":0,"cache":["local"]}]',
  '10.55.0.1': '[{"dst":"10.55.0.1","dev":"tun0","prefsrc":"10.55.0.2","flags":[],"uid":0,"cache":[]}]',
};
const FAILURES: Record<string, string> = {
  '10.90.0.1': 'RTNETLINK answers: No route to host',
  '203.0.113.1': 'RTNETLINK answers: Network is unreachable',
};

interface FakeNeighbour {
  dst: string;
  dev: string;
  lladdr?: string;
  state: string[];
}

/** `ip` on a host that is these fields. */
class FakeIp implements IpCommand {
  links = LINKS;
  routes = { ...ROUTES };
  neighbours: FakeNeighbour[] = [];
  /** Commands of batches other than route get. */
  commands: string[] = [];
  /** Runs of the program, by first word. */
  runs: string[] = [];
  error: Error | null = null;
  permitted = true;
  monitors: { events: MonitorEvents; closed: boolean }[] = [];
  /** What a `neigh … use` brings about. */
  onUse: (address: string) => void = () => undefined;

  run(args: readonly string[], input = ''): Promise<IpResult> {
    this.runs.push(args.join(' '));
    if (this.error) return Promise.reject(this.error);
    if (args.includes('link')) return Promise.resolve(ok(this.links));
    if (args.includes('neigh')) return Promise.resolve(ok(`${JSON.stringify(this.neighbours)}\n`));
    const lines = input.split('\n').filter((line) => line !== '');
    return Promise.resolve(args.includes('-json') ? this.#routeBatch(lines) : this.#neighbourBatch(lines));
  }

  #routeBatch(lines: string[]): IpResult {
    const stdout: string[] = [];
    const stderr: string[] = [];
    lines.forEach((line, i) => {
      const address = line.replace('route get ', '');
      const failure = FAILURES[address];
      if (this.routes[address]) stdout.push(`${this.routes[address]}\n`);
      else stderr.push(`${failure ?? 'RTNETLINK answers: Network is unreachable'}\nCommand failed -:${i + 1}\n`);
    });
    return { stdout: stdout.join(''), stderr: stderr.join(''), code: stderr.length > 0 ? 1 : 0 };
  }

  #neighbourBatch(lines: string[]): IpResult {
    if (!this.permitted)
      return { stdout: '', stderr: 'RTNETLINK answers: Operation not permitted\nCommand failed -:1\n', code: 1 };
    for (const line of lines) {
      this.commands.push(line);
      if (line.endsWith(' use')) this.onUse(line.split(' ')[2]);
    }
    return ok('');
  }

  monitor(_objects: readonly string[], events: MonitorEvents) {
    const monitor = { events, closed: false };
    this.monitors.push(monitor);
    return { close: () => (monitor.closed = true) };
  }

  event(text: string): void {
    this.monitors.at(-1)!.events.onText(text);
  }
}

const MAC = 'b2:45:7f:66:12:35';
const known = (dst: string, lladdr = MAC, state = 'REACHABLE'): FakeNeighbour => ({
  dst,
  dev: 'a0',
  lladdr,
  state: [state],
});

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
    if (performance.now() - startMs > 5000) throw new Error(`not within 5 s: ${what}`);
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
    expect(performance.now() - startMs).toBeLessThan(2000);
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
