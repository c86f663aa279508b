/** `sluice backend-agent` in namespaces: real TCP through every tunnel, the second hop, and a host that is as it was at the end. */
import { describe, expect, it } from 'vitest';
import type { DecapStats } from '../../src/control/agent/decapsulator.js';
import { bpfObjectPath } from '../../src/native.js';
import { Backend } from '../../src/playground/backends.js';
import { compiledProgram, type ChildProgram } from '../../src/playground/process.js';
import { HOST_INTERFACE, VIP4, VIP6, type Host, type Topology } from '../../src/playground/topology.js';
import { enterForTest } from '../support/bpf.js';
import { until } from '../support/bpf_child.js';
import { Encapsulator, type Tunnel, type Way } from '../support/encapsulator.js';
import { testTopology } from '../support/netns.js';

/** Asks over connections that stay open, one for each name: {"name", "backend", "received"} or {"name", "error"}. */
const CLIENT = `
  const http = require('node:http');
  const agents = new Map();
  require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
    const { name, host, bytes } = JSON.parse(line);
    if (!agents.has(name)) agents.set(name, new http.Agent({ keepAlive: true, keepAliveMsecs: 60_000, maxSockets: 1 }));
    const say = (answer) => console.log(JSON.stringify({ name, ...answer }));
    const request = http.request({ host, method: 'POST', agent: agents.get(name) }, (response) => {
      let text = '';
      response.on('data', (chunk) => (text += chunk)).on('end', () => say(JSON.parse(text)));
    });
    request.on('error', (error) => say({ error: error.message }));
    request.end(Buffer.alloc(bytes));
  });
  console.log('{"ready":true}');
`;

interface Answer {
  name: string;
  backend?: string;
  received?: number;
  error?: string;
}

class Client {
  private constructor(private readonly program: ChildProgram) {}

  static async start({ playground, client }: Topology): Promise<Client> {
    const program = playground.start(client.namespace, process.execPath, ['-e', CLIENT], { label: 'client' });
    await program.message<{ ready?: boolean }>((message) => message.ready === true, 10_000);
    return new Client(program);
  }

  /** Who answers over the connection of that name, which is opened at its first use. */
  async ask(name: string, host = VIP4, bytes = 10): Promise<string> {
    const answer = this.program.message<Answer>((message) => message.name === name, 10_000);
    this.program.send({ name, host, bytes });
    const { backend, received, error } = await answer;
    if (error !== undefined) return error;
    expect(received).toBe(bytes);
    return backend!;
  }
}

interface Note {
  type: string;
  message?: string;
  packets?: DecapStats;
  hops?: { address: string; forwarded: number; unresolved: number }[];
}

class Agent {
  readonly notes: string[] = [];
  private reports = 0;
  private last: Required<Pick<Note, 'packets' | 'hops'>> = { packets: {} as DecapStats, hops: [] };

  private constructor(readonly program: ChildProgram) {
    program.on('line', (line) => {
      const note = JSON.parse(line) as Note;
      if (note.message !== undefined) this.notes.push(note.message);
      if (note.type !== 'stats') return;
      this.last = { packets: note.packets!, hops: note.hops! };
      this.reports++;
    });
  }

  /** With both VIPs, letting in the encapsulator and the other backends. */
  static async start({ playground }: Topology, host: Host, ...more: string[]): Promise<Agent> {
    const from = ['10.78.0.0/24', 'fd78::/64', '10.77.0.0/24', 'fd77::/64'].flatMap((prefix) => ['--from', prefix]);
    const fixed = ['--interface', HOST_INTERFACE, '--vip', VIP4, '--vip', VIP6, '--stats-interval', '0.1', '--json'];
    const args = [compiledProgram('cli/main'), 'backend-agent', ...fixed, ...from, ...more];
    const program = playground.start(host.namespace, process.execPath, args, { label: `agent ${host.name}` });
    const agent = new Agent(program);
    await program.message<Note>((note) => note.type === 'ready', 15_000);
    return agent;
  }

  /** Counters once nothing has moved for a while: delayed acknowledgements are in. */
  async quiet(): Promise<Required<Pick<Note, 'packets' | 'hops'>>> {
    for (let now = await this.stats(); ;) {
      const before = now;
      for (let i = 0; i < 3; i++) now = await this.stats();
      if (now.packets.seen === before.packets.seen) return now;
    }
  }

  /** Counters of now. */
  async stats(): Promise<Required<Pick<Note, 'packets' | 'hops'>>> {
    const before = this.reports;
    await until(() => this.reports > before, 5000);
    return this.last;
  }
}

/** Servers on both backends without VIPs, an encapsulator on lb, a client. This thread is in lb's namespace. */
async function stage(): Promise<{ topology: Topology; encapsulator: Encapsulator; client: Client }> {
  const topology = testTopology({ backends: 2 });
  await Promise.all(topology.backends.map((host) => Backend.start(topology, host, { decap: false })));
  for (const { namespace, name } of topology.backends) {
    namespace.ip(`addr del ${VIP4}/32 dev lo`, `addr del ${VIP6}/128 dev lo`);
    namespace.sysctl({ 'net/ipv4/conf/lo/forwarding': 0, 'net/ipv6/conf/lo/forwarding': 0 });
    // veth gives XDP_TX back only to an end with a program.
    topology.switch.ip(`link set ${name} xdpdrv object ${bpfObjectPath('pass')} section xdp`);
  }
  enterForTest(topology.lb.namespace);
  return { topology, encapsulator: Encapsulator.start(topology), client: await Client.start(topology) };
}

/** All that the agent may touch of a host. */
function state({ namespace }: Host): unknown {
  const settings = ['rp_filter', 'arp_ignore', 'arp_announce', 'forwarding'].flatMap((setting) =>
    ['all', 'lo', HOST_INTERFACE].map((where) => `/proc/sys/net/ipv4/conf/${where}/${setting}`),
  );
  const links = namespace.query<{ ifname: string; xdp?: unknown }[]>('link', 'show');
  return {
    addresses: namespace.exec('ip', 'address', 'show', 'dev', 'lo'),
    routes: [4, 6].map((family) => namespace.exec('ip', `-${family}`, 'route', 'show', 'table', 'local', 'dev', 'lo')),
    settings: namespace.exec('grep', '', ...settings, '/proc/sys/net/ipv6/conf/lo/forwarding'),
    xdp: links.map(({ ifname, xdp }) => [ifname, xdp ?? null]),
  };
}

it('connections work through every tunnel, over IPv4 and IPv6', async () => {
  const { topology, encapsulator, client } = await stage();
  const [host] = topology.backends;
  const agent = await Agent.start(topology, host);
  const ways: Way[] = (['ipip', 'gue0', 'gue1'] as Tunnel[]).flatMap((tunnel) => [
    { tunnel, to: host.address4 },
    { tunnel, to: host.address6 },
  ]);
  ways.push({ tunnel: 'gue0', to: host.address4, checksum: 0 }, { tunnel: 'gue1', to: host.address6, checksum: 0 });
  for (const way of ways) {
    encapsulator.way = way;
    for (const vip of [VIP4, VIP6]) {
      // Larger than a segment: full-sized packets and path MTU discovery are part of it.
      const name = JSON.stringify({ ...way, vip });
      expect(await client.ask(name, vip, 20_000), name).toBe('b1');
    }
  }
  const { packets } = await agent.stats();
  for (const counter of ['decap_4in4', 'decap_6in4', 'decap_4in6', 'decap_6in6', 'decap_gue0', 'decap_gue1'] as const) {
    expect(packets[counter], counter).toBeGreaterThan(15);
  }
  const dropped = Object.entries(packets).filter(([name, count]) => name.startsWith('drop_') && count > 0);
  expect(dropped).toEqual([]);
});

describe('second hop', () => {
  it.each(['address4', 'address6'] as const)(
    'a connection goes on when its packets come to another backend (%s)',
    async (address) => {
      const { topology, encapsulator, client } = await stage();
      const [b1, b2] = topology.backends;
      const [first, second] = [await Agent.start(topology, b1), await Agent.start(topology, b2)];
      b1.namespace.exec('ping', '-c', '1', b2[address]);

      encapsulator.way = { tunnel: 'gue0', to: b2[address] };
      for (const vip of [VIP4, VIP6]) expect(await client.ask(`old ${vip}`, vip)).toBe('b2');

      const direct = (await second.quiet()).packets.decap_gue0;
      const before = encapsulator.sent;
      expect(before).toBe(direct);

      // The table has changed: b1 is first now, b2 second.
      encapsulator.way = { tunnel: 'gue0', to: b1[address], hops: [b2[address]] };
      for (let i = 0; i < 40; i++) {
        for (const vip of [VIP4, VIP6]) expect(await client.ask(`old ${vip}`, vip, i * 100), `request ${i}`).toBe('b2');
      }
      const old = (await first.quiet()).packets;
      const forOld = encapsulator.sent - before;
      expect(old).toMatchObject({ hop_forwarded: forOld, decap_gue0: 0 });

      for (const vip of [VIP4, VIP6]) expect(await client.ask(`new ${vip}`, vip)).toBe('b1');
      const { packets, hops } = await first.quiet();
      expect(packets).toMatchObject({ local_syn: 2, hop_forwarded: forOld, local_last: 0, drop_hop_neighbour: 0 });
      expect(packets.local_socket).toBeGreaterThan(3);
      expect(hops).toEqual([{ address: b2[address], forwarded: forOld, unresolved: 0 }]);
      // Not one was lost on the way.
      expect((await second.quiet()).packets.decap_gue0).toBe(direct + forOld);
    },
  );

  it('a hop without a known hardware address costs a retransmission, not the connection', async () => {
    const { topology, encapsulator, client } = await stage();
    const [b1, b2] = topology.backends;
    const first = await Agent.start(topology, b1);
    await Agent.start(topology, b2);
    encapsulator.way = { tunnel: 'gue0', to: b2.address4 };
    expect(await client.ask('old')).toBe('b2');
    b1.namespace.ip(`neigh flush dev ${HOST_INTERFACE}`);
    encapsulator.way = { tunnel: 'gue0', to: b1.address4, hops: [b2.address4] };
    for (let i = 0; i < 5; i++) expect(await client.ask('old')).toBe('b2');
    const { packets, hops } = await first.stats();
    expect(packets.drop_hop_neighbour).toBeGreaterThan(0);
    expect(packets.drop_hop_neighbour).toBeLessThan(5);
    expect(hops).toMatchObject([{ address: b2.address4, unresolved: packets.drop_hop_neighbour }]);
  });
});

describe('the host', () => {
  const SYSCTLS = {
    'net/ipv4/conf/all/rp_filter': 1,
    'net/ipv4/conf/all/arp_ignore': 0,
    'net/ipv4/conf/all/arp_announce': 0,
  };
  const MORE = ['--vip', '203.0.113.0/24', '--vip', '2001:db8:5::/64', '--vip', '192.0.2.99', '--sysctl'];

  it('is as it was when the agent has ended, and when one after a killed one has ended', async () => {
    const topology = testTopology({ backends: 1 });
    const [host] = topology.backends;
    host.namespace.ip(`addr del ${VIP4}/32 dev lo`, 'addr add 192.0.2.99/32 dev lo');
    host.namespace.sysctl({ ...SYSCTLS, 'net/ipv4/conf/lo/forwarding': 0 });
    const before = state(host);

    const agent = await Agent.start(topology, host, ...MORE);
    const during = state(host);
    expect(during).not.toEqual(before);
    expect(host.namespace.exec('ip', 'route', 'get', '203.0.113.77')).toContain('dev lo');
    expect(host.namespace.exec('ip', 'route', 'get', '2001:db8:5::77')).toContain('dev lo');
    // What was there already is said to stay, VIP6 being another.
    expect(agent.notes.filter((note) => note.includes('already'))).toHaveLength(2);
    expect(await agent.program.stop()).toEqual({ code: 0, signal: null });
    expect(state(host)).toEqual(before);

    const killed = await Agent.start(topology, host, ...MORE);
    killed.program.kill('SIGKILL');
    await killed.program.ended;
    const next = await Agent.start(topology, host);
    expect(next.notes[0]).toMatch(/an agent was killed here/);
    await next.program.stop();
    expect(state(host)).toEqual(before);
  });

  it('is as it was when the terminal goes away, or the reader of the output', async () => {
    const topology = testTopology({ backends: 1 });
    const [host] = topology.backends;
    host.namespace.ip(`addr del ${VIP4}/32 dev lo`);
    host.namespace.sysctl({ ...SYSCTLS, 'net/ipv4/conf/lo/forwarding': 0 });
    const before = state(host);

    const agent = await Agent.start(topology, host, ...MORE);
    agent.program.kill('SIGHUP');
    expect(await agent.program.ended).toEqual({ code: 0, signal: null });
    expect(state(host)).toEqual(before);

    const command = `"$0" "$1" backend-agent --interface ${HOST_INTERFACE} --vip ${VIP4} --from 10.77.0.0/24 --stats-interval 0.1 --json | head -1; exit "\${PIPESTATUS[0]}"`;
    const args = ['-c', command, process.execPath, compiledProgram('cli/main')];
    const piped = topology.playground.start(host.namespace, 'bash', args, { label: 'agent | head' });
    expect(await piped.ended).toEqual({ code: 0, signal: null });
    expect(state(host)).toEqual(before);
  });

  it('gets an agent once, and none in the place of a foreign XDP program', async () => {
    const topology = testTopology({ backends: 1 });
    const [host] = topology.backends;
    const run = (): Promise<Agent> => Agent.start(topology, host);
    const agent = await run();
    await expect(run()).rejects.toThrow(/runs here already, pid \d+/);
    await agent.program.stop();

    host.namespace.ip(`link set ${HOST_INTERFACE} xdpdrv object ${bpfObjectPath('pass')} section xdp`);
    const before = state(host);
    await expect(run()).rejects.toThrow(/EBUSY[\s\S]*was left alone/);
    expect(state(host)).toEqual(before);
  });
});
