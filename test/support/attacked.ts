/** The demo's little internet with one backend, a daemon with a config of the test's own, an attacker and a client. */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { startBackends, ECHO_PORT, HTTP_PORT } from '../../src/playground/backends.js';
import type { Namespace } from '../../src/playground/netns.js';
import { HOST_INTERFACE, VIP4, VIP6, type Host, type Topology } from '../../src/playground/topology.js';
import { TestDaemon, type ConfigDocument } from './daemon.js';
import type { Wire } from './daemon_wire.js';
import { Program } from './library.js';
import { testTopology } from './netns.js';

export { ECHO_PORT, HTTP_PORT, VIP4, VIP6 };

export interface Flood {
  family?: 4 | 6;
  /** 6, 17 or 1. */
  protocol?: number;
  /** TCP flags byte. */
  flags?: number;
  port?: number;
  perSecond: number;
  /** Each packet from another source; else from the attacker's address. */
  spoofed?: boolean;
  /** 0: each packet from another port. */
  sport?: number;
  /** Of UDP and ICMP, hexadecimal; default 20 zero bytes. */
  payload?: string;
  /** Offset and bytes of the payload that are random letters, others in each packet. */
  letters?: readonly [number, number];
  /** Flags and offset of the IPv4 header. */
  fragment?: number;
}

const CLIENT_PRELUDE = `
import net from 'node:net';
import dgram from 'node:dgram';
import { createInterface } from 'node:readline';
const say = (value) => process.stdout.write(JSON.stringify(value) + '\\n');
const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const lines = createInterface({ input: process.stdin });
const told = () => new Promise((resolve) => lines.once('line', resolve));
/** The socket, or null when nobody answers within the time. */
const connect = (host, port, timeoutMs = 10000) => new Promise((resolve) => {
  const socket = net.connect({ host, port, noDelay: true });
  const timer = setTimeout(() => { socket.destroy(); resolve(null); }, timeoutMs);
  socket.on('error', () => undefined);
  socket.once('connect', () => { clearTimeout(timer); resolve(socket); });
});
const echo = (socket, line) => new Promise((resolve, reject) => {
  socket.once('data', (data) => resolve(String(data)));
  socket.once('close', () => reject(new Error('closed')));
  socket.write(line + '\\n');
});
`;

export class Attacked {
  readonly topology: Topology = testTopology({ backends: 1 });
  readonly backend: Host = this.topology.backends[0];
  daemon!: TestDaemon;
  private programs = 0;

  /** A backend with a small backlog, and a daemon with these parts in its config. */
  static async start(parts: ConfigDocument, backlog = 64): Promise<Attacked> {
    const net = new Attacked();
    const { backend, topology } = net;
    backend.namespace.sysctl({
      'net/ipv4/tcp_max_syn_backlog': backlog,
      'net/core/somaxconn': backlog,
    });
    // What gets through of a flood would be answered, and so be seen.
    backend.namespace.ip(
      `route add default via ${topology.client.address4}`,
      `route add ::/0 via ${topology.client.address6}`,
    );
    await startBackends(topology);
    const wire = { node: topology.lb.namespace, playground: topology.playground } as unknown as Wire;
    net.daemon = await TestDaemon.start(wire, net.config(parts));
    return net;
  }

  config(parts: ConfigDocument): ConfigDocument {
    const service = (name: string, vip: string, protocol: string, port: number): object => ({
      name,
      vip,
      protocol,
      port,
      backends: [{ address: this.backend.address4 }],
    });
    return {
      interfaces: [{ name: HOST_INTERFACE }],
      frames: { count: 24576, ring: 8192 },
      flows: { slots: 16384 },
      hash_key: 'the key of this test',
      services: [
        service('http4', VIP4, 'tcp', HTTP_PORT),
        service('http6', VIP6, 'tcp', HTTP_PORT),
        service('echo4', VIP4, 'tcp', ECHO_PORT),
        service('echo6', VIP6, 'tcp', ECHO_PORT),
        service('udp4', VIP4, 'udp', ECHO_PORT),
        service('dns4', VIP4, 'udp', 53),
      ],
      control: { socket: this.topology.playground.path('control.sock') },
      metrics: { listen: '127.0.0.1:9477' },
      log: { level: 'info', format: 'json' },
      ...parts,
    };
  }

  /** Applies other parts. Returns what changed. */
  async reload(parts: ConfigDocument): Promise<string[]> {
    this.daemon.configure(this.config(parts));
    const { applied, changes, problems } = await this.daemon.reload();
    if (!applied) throw new Error(JSON.stringify(problems));
    return changes;
  }

  /** Runs a module on a host; see CLIENT_PRELUDE. */
  run(script: string, host: Namespace = this.topology.client.namespace): Program {
    const file = this.topology.playground.path(`client${this.programs++}.mjs`);
    writeFileSync(file, `${CLIENT_PRELUDE}${script}\nprocess.exit(0);`);
    return new Program(this.topology.playground.start(host, process.execPath, [file], { label: 'client' }));
  }

  /** Begins a flood from the attacker; `stop` ends it and says how many packets it was. */
  async flood(flood: Flood): Promise<{ stop: () => Promise<number> }> {
    const { attacker, lb, playground } = this.topology;
    const { family = 4 } = flood;
    const options = {
      protocol: 6,
      flags: 2,
      port: HTTP_PORT,
      spoofed: true,
      sport: 0,
      ...flood,
      family,
      interface: HOST_INTERFACE,
      mac: macOf(lb.namespace),
      from: macOf(attacker.namespace),
      src: family === 4 ? attacker.address4 : attacker.address6,
      dst: family === 4 ? VIP4 : VIP6,
    };
    const file = fileURLToPath(new URL('raw_flood.mjs', import.meta.url));
    const args = [file, JSON.stringify(options)];
    const program = new Program(playground.start(attacker.namespace, process.execPath, args, { label: 'flood' }));
    await program.next();
    return {
      stop: () => {
        program.tell('stop');
        return program.next<number>();
      },
    };
  }

  /** Half-open connections at the backend. */
  halfOpen(): number {
    const text = this.backend.namespace.exec('ss', '-Htan', 'state', 'syn-recv').trim();
    return text === '' ? 0 : text.split('\n').length;
  }

  /** A counter of a host's stack: group and name as in /proc/net/netstat and /proc/net/snmp. */
  counter(group: string, name: string, host: Namespace = this.backend.namespace): number {
    const rows = host.exec('cat', '/proc/net/netstat', '/proc/net/snmp').split('\n');
    const [names, values] = rows.filter((row) => row.startsWith(`${group}:`)).map((row) => row.split(/\s+/));
    return Number(values[names.indexOf(name)]);
  }
}

function macOf(host: Namespace): string {
  return host.exec('cat', `/sys/class/net/${HOST_INTERFACE}/address`).trim();
}
