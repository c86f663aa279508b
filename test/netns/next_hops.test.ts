import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemIp } from '../../src/control/ip_command.js';
import { Solicitor } from '../../src/control/neighbours.js';
import { NextHopResolver, type NextHopOptions } from '../../src/control/next_hops.js';
import type { NextHop } from '../../src/control/routes.js';
import { formatMac, parseAddress } from '../../src/shared/addr.js';

/**
 * A node with two links, to a peer each; the resolver acts in the node's namespace through `ip -n`. Backends:
 *
 *   node a0 10.77.0.1 ── b0 10.77.0.2 peer 1        10.88.0.0/24 via peer 1, 10.99.0.0/24 via peer 2
 *   node a1 10.78.0.1 ── b1 10.78.0.2 peer 2        fd77::1 ── fd77::2 on the first link
 */
const tag = `nh${process.pid}`;
const node = `${tag}n`;
const peer1 = `${tag}p`;
const peer2 = `${tag}q`;
const MAC1 = '02:00:00:77:00:02';
const MAC2 = '02:00:00:78:00:02';

function ip(namespace: string, ...args: string[]): string {
  return execFileSync('ip', ['-n', namespace, ...args], { encoding: 'utf8' });
}

function sysctl(namespace: string, setting: string): void {
  execFileSync('ip', ['netns', 'exec', namespace, 'sysctl', '-qw', setting]);
}

/** What an operator waits for; a fifth of it where the processors are not busy with other things. */
const SOON_MS = 10_000;

let resolver: NextHopResolver | null = null;

function resolve(addresses: string[], options: Partial<NextHopOptions> = {}): NextHopResolver {
  const command = systemIp(node);
  const solicitor = new Solicitor(command, () => {
    throw new Error('a test must not send datagrams from the namespace that it runs in');
  });
  resolver = new NextHopResolver({ ip: command, solicitor, ...options });
  resolver.setAddresses(addresses.map(parseAddress));
  return resolver;
}

/** Milliseconds until the condition holds for the address. */
async function until(
  address: string,
  what: string,
  holds: (hop: NextHop) => boolean,
  limitMs: number,
): Promise<number> {
  const start = performance.now();
  for (;;) {
    const hop = resolver!.hops.get(address);
    const elapsed = performance.now() - start;
    if (hop && holds(hop)) return elapsed;
    if (elapsed > limitMs) throw new Error(`${what}: not within ${limitMs} ms, but ${JSON.stringify(hop)}`);
    await new Promise((wake) => setTimeout(wake, 10));
  }
}

const hasMac = (mac: string) => (hop: NextHop) => hop.resolved && hop.dmac !== null && formatMac(hop.dmac) === mac;

/** Command lines of living processes that mention the node's namespace. */
function processes(): string[] {
  const lines: string[] = [];
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      if (line.includes(node)) lines.push(line);
    } catch {
      // It ended while we looked.
    }
  }
  return lines;
}

beforeEach(() => {
  for (const namespace of [node, peer1, peer2]) {
    execFileSync('ip', ['netns', 'add', namespace]);
    ip(namespace, 'link', 'set', 'lo', 'up');
  }
  for (const [i, peer, mac] of [
    [0, peer1, MAC1],
    [1, peer2, MAC2],
  ] as const) {
    ip(node, 'link', 'add', `a${i}`, 'type', 'veth', 'peer', 'name', `b${i}`, 'netns', peer);
    ip(peer, 'link', 'set', `b${i}`, 'address', mac);
    ip(node, 'addr', 'add', `10.${77 + i}.0.1/24`, 'dev', `a${i}`);
    ip(peer, 'addr', 'add', `10.${77 + i}.0.2/24`, 'dev', `b${i}`);
    ip(node, 'addr', 'add', `fd${77 + i}::1/64`, 'dev', `a${i}`, 'nodad');
    ip(peer, 'addr', 'add', `fd${77 + i}::2/64`, 'dev', `b${i}`, 'nodad');
    ip(node, 'link', 'set', `a${i}`, 'up');
    ip(peer, 'link', 'set', `b${i}`, 'up');
  }
  ip(node, 'route', 'add', '10.88.0.0/24', 'via', '10.77.0.2', 'mtu', '1400');
  ip(node, 'route', 'add', '10.99.0.0/24', 'via', '10.78.0.2');
});

afterEach(() => {
  resolver?.close();
  resolver = null;
  for (const namespace of [node, peer1, peer2]) {
    try {
      execFileSync('ip', ['netns', 'del', namespace], { stdio: 'ignore' });
    } catch {
      // Set-up did not get that far.
    }
  }
});

describe('next hops on real links', () => {
  it('finds interface, source, MTU and hardware addresses, on the link and through a router, for both families', async () => {
    const hops = resolve(['10.77.0.2', '10.88.0.5', '10.99.0.5', 'fd77::2']);
    expect(await hops.settled(15_000)).toBe(true);
    const [{ address }] = JSON.parse(ip(node, '-json', 'link', 'show', 'a0')) as { address: string }[];
    const seen = [...hops.hops.values()].map((hop) => ({
      ...hop,
      source: hop.source?.text,
      smac: hop.interface === 'a0' ? formatMac(hop.smac!) : '-',
      dmac: formatMac(hop.dmac!),
    }));
    const first = { interface: 'a0', smac: address, dmac: MAC1, resolved: true, error: null, mtu: 1500, gateway: null };
    expect(seen).toEqual([
      { ...first, address: '10.77.0.2', source: '10.77.0.1' },
      { ...first, address: '10.88.0.5', source: '10.77.0.1', gateway: '10.77.0.2', mtu: 1400 },
      {
        ...first,
        address: '10.99.0.5',
        source: '10.78.0.1',
        gateway: '10.78.0.2',
        interface: 'a1',
        smac: '-',
        dmac: MAC2,
      },
      { ...first, address: 'fd77::2', source: 'fd77::1' },
    ]);
  });

  it('sees at once that a peer announces another hardware address', async () => {
    const hops = resolve(['10.77.0.2', 'fd77::2']);
    await hops.settled(15_000);
    sysctl(peer1, 'net.ipv4.conf.b0.arp_notify=1');
    sysctl(peer1, 'net.ipv6.conf.b0.ndisc_notify=1');
    ip(peer1, 'link', 'set', 'b0', 'address', '02:00:00:00:00:99');
    const four = await until('10.77.0.2', 'new address', hasMac('02:00:00:00:00:99'), SOON_MS);
    const six = await until('fd77::2', 'new address', hasMac('02:00:00:00:00:99'), SOON_MS);
    console.log(
      `announced change of hardware address: seen after ${four.toFixed(0)} ms, IPv6 ${six.toFixed(0)} ms later`,
    );
  });

  it('finds out by itself that a peer changed its hardware address in silence', async () => {
    // The kernel alone would believe in the old one for 15 to 45 s, and then some.
    const hops = resolve(['10.77.0.2'], { refreshMs: 1000 });
    await hops.settled(15_000);
    ip(peer1, 'link', 'set', 'b0', 'address', '02:00:00:00:00:98');
    const took = await until('10.77.0.2', 'new address', hasMac('02:00:00:00:00:98'), 20_000);
    console.log(`silent change of hardware address: seen after ${took.toFixed(0)} ms with refreshMs 1000`);
  });

  it('resolves again after a flush, without a moment in which it knows no address', async () => {
    const hops = resolve(['10.77.0.2']);
    await hops.settled(15_000);
    const states: boolean[] = [];
    hops.on('change', (map) => states.push(map.get('10.77.0.2')!.resolved));
    for (let i = 0; i < 3; i++) {
      ip(node, 'neigh', 'flush', 'dev', 'a0');
      const start = performance.now();
      while (!ip(node, 'neigh').includes(MAC1)) {
        expect(performance.now() - start).toBeLessThan(SOON_MS);
        await new Promise((wake) => setTimeout(wake, 20));
      }
    }
    expect(states).toEqual([]);
    expect(hops.hops.get('10.77.0.2')!.resolved).toBe(true);
  });

  it('follows a route to another interface', async () => {
    const hops = resolve(['10.88.0.5']);
    await hops.settled(15_000);
    expect(hops.hops.get('10.88.0.5')!.interface).toBe('a0');
    ip(node, 'route', 'replace', '10.88.0.0/24', 'via', '10.78.0.2');
    const took = await until(
      '10.88.0.5',
      'other interface',
      (hop) => hop.interface === 'a1' && hasMac(MAC2)(hop),
      SOON_MS,
    );
    console.log(`route to another interface: followed after ${took.toFixed(0)} ms`);
    expect(hops.hops.get('10.88.0.5')).toMatchObject({ gateway: '10.78.0.2', mtu: 1500, error: null });
  });

  it('names backends that have no route, and takes them up when one appears', async () => {
    ip(node, 'route', 'add', 'unreachable', '10.66.0.0/24');
    const hops = resolve(['203.0.113.9', '10.66.0.1', '10.77.0.1', 'fd66::1', '10.77.0.2']);
    expect(await hops.settled(15_000)).toBe(true);
    const errorOf = (address: string) => hops.hops.get(address)!.error;
    expect(errorOf('203.0.113.9')).toMatch(/^backend 203\.0\.113\.9 has no route: .*Network is unreachable/);
    expect(errorOf('10.66.0.1')).toMatch(/^backend 10\.66\.0\.1 has no route: .*No route to host/);
    expect(errorOf('10.77.0.1')).toMatch(/says it is "local"/);
    expect(errorOf('fd66::1')).toMatch(/^backend fd66::1 has no route: .*Network is unreachable/);
    expect(errorOf('10.77.0.2')).toBeNull();
    ip(node, 'route', 'add', '203.0.113.0/24', 'via', '10.78.0.2');
    await until('203.0.113.9', 'new route', hasMac(MAC2), SOON_MS);
  });

  it('says so when a backend on the link does not answer, and finds it when it comes up', async () => {
    const hops = resolve(['10.77.0.50']);
    expect(await hops.settled(10_000)).toBe(true);
    expect(hops.hops.get('10.77.0.50')).toMatchObject({
      resolved: false,
      error: 'backend 10.77.0.50: 10.77.0.50 on a0 does not answer neighbour requests',
    });
    ip(peer1, 'addr', 'add', '10.77.0.50/24', 'dev', 'b0');
    const took = await until('10.77.0.50', 'backend that came up', hasMac(MAC1), 20_000);
    console.log(`backend that came up: found after ${took.toFixed(0)} ms`);
  });

  it('notices an interface that goes down, up, and away', async () => {
    const hops = resolve(['10.77.0.2']);
    await hops.settled(15_000);
    // The peer's end: the node's keeps its routes, but has no carrier.
    ip(peer1, 'link', 'set', 'b0', 'down');
    await until('10.77.0.2', 'down', (hop) => !hop.resolved && /a0 is down/.test(hop.error ?? ''), SOON_MS);
    ip(peer1, 'link', 'set', 'b0', 'up');
    await until('10.77.0.2', 'up', hasMac(MAC1), SOON_MS);
    ip(node, 'link', 'del', 'a0');
    await until('10.77.0.2', 'gone', (hop) => !hop.resolved && /has no route/.test(hop.error ?? ''), SOON_MS);
  });

  it('leaves PERMANENT neighbours permanent', async () => {
    ip(node, 'neigh', 'replace', '10.77.0.2', 'dev', 'a0', 'lladdr', '02:aa:aa:aa:aa:aa', 'nud', 'permanent');
    const hops = resolve(['10.77.0.2'], { refreshMs: 100 });
    await hops.settled(15_000);
    expect(hasMac('02:aa:aa:aa:aa:aa')(hops.hops.get('10.77.0.2')!)).toBe(true);
    await new Promise((wake) => setTimeout(wake, 600));
    expect(ip(node, 'neigh')).toContain('PERMANENT');
  });

  it('has a way that works without privileges: the kernel refuses the one, and resolves for a datagram', () => {
    // What Solicitor does once sluice has given up root: it knows the refusal by these words.
    const asNobody = ['netns', 'exec', node, 'setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
    const command = 'neigh replace 10.77.0.2 dev a0 nud none use\n';
    const refused = spawnSync('ip', [...asNobody, 'ip', '-force', '-batch', '-'], { input: command, encoding: 'utf8' });
    expect(refused.stderr).toContain('not permitted');
    expect(ip(node, 'neigh')).not.toContain('10.77.0.2');
    const send =
      "const s=require('dgram').createSocket('udp4');s.send('x',9,'10.77.0.2',()=>setTimeout(()=>s.close(),300))";
    const sent = spawnSync('ip', [...asNobody, process.execPath, '-e', send], { encoding: 'utf8' });
    expect(sent.stderr).toBe('');
    expect(ip(node, 'neigh')).toContain(`10.77.0.2 dev a0 lladdr ${MAC1}`);
  });

  it('starts its monitor again when somebody kills it, and leaves no process behind', async () => {
    const hops = resolve(['10.77.0.2'], { refreshMs: 60_000, restartMs: 50 });
    await hops.settled(15_000);
    const monitors = () => processes().filter((line) => line.includes(' monitor '));
    expect(monitors()).toHaveLength(1);
    const pid = readdirSync('/proc').find((name) => {
      try {
        return /^\d+$/.test(name) && readFileSync(`/proc/${name}/cmdline`, 'utf8').includes(`${node}\0monitor`);
      } catch {
        return false;
      }
    });
    process.kill(Number(pid), 'SIGKILL');
    // A change while nobody listens.
    ip(node, 'route', 'replace', '10.77.0.2/32', 'via', '10.78.0.2');
    await until('10.77.0.2', 'change during the gap', (hop) => hop.interface === 'a1', SOON_MS);
    ip(node, 'route', 'del', '10.77.0.2/32');
    await until('10.77.0.2', 'change after the restart', (hop) => hop.interface === 'a0', SOON_MS);
    hops.close();
    const start = performance.now();
    while (processes().length > 0 && performance.now() - start < SOON_MS)
      await new Promise((wake) => setTimeout(wake, 10));
    expect(processes()).toEqual([]);
  });
});
