/**
 * TcpGuard between a client and a server that are real kernels, in one network as if by a cable:
 *
 *     left 10.97.0.1, fd97::1 ── veth0 guard veth1 ── 10.97.0.2, fd97::2 right
 *
 * The guard judges what comes from the left; what comes from the right goes by, as with direct server return.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { ChallengeOptions } from '../../src/dataplane/mitigate/challenge.js';
import type { OutOfStateOptions } from '../../src/dataplane/mitigate/out_of_state.js';
import { packageRoot } from '../../src/native.js';
import type { Namespace } from '../../src/playground/netns.js';
import { Net, Program } from './library.js';

export const CLIENT4 = '10.97.0.1';
export const SERVER4 = '10.97.0.2';
export const CLIENT6 = 'fd97::1';
export const SERVER6 = 'fd97::2';
export const CLIENT_MAC = '02:00:00:00:98:01';
export const SERVER_MAC = '02:00:00:00:98:11';

const dist = (path: string): string => pathToFileURL(join(packageRoot, 'dist', path)).href;

const GUARD = `
import { SynChallenge, DEFAULT_CHALLENGE } from '${dist('dataplane/mitigate/challenge.js')}';
import { OutOfState, DEFAULT_OUT_OF_STATE } from '${dist('dataplane/mitigate/out_of_state.js')}';
import { TcpGuard } from '${dist('dataplane/mitigate/tcp_guard.js')}';
import { FlowHash } from '${dist('dataplane/balance/hash.js')}';
import { hashOf } from '${dist('dataplane/balance/slot.js')}';
const options = OPTIONS;
const challenge = new SynChallenge({ ...DEFAULT_CHALLENGE, mode: 'off', ...options.challenge }, [1, 2, 3, 4]);
challenge.setClock(native().nowMs(), Date.now());
const outOfState = new OutOfState({ ...DEFAULT_OUT_OF_STATE, mode: 'off', ...options.outOfState }, new Int32Array(16 << 16));
const guard = new TcpGuard(challenge, outOfState);
const hash = new FlowHash([5, 6, 7, 8]);
/** Packets from the left by the guard's verdict; bytes that came as SYNs and went as challenges. */
const verdicts = {};
let longer = 0;
const lost = () => options.lossPercent > 0 && Math.random() * 100 < options.lossPercent;
let lostBefore = 0;
let lostBehind = 0;
const port = await openPort({ interface: ['veth0', 'veth1'], hostPath: false });
say('ready');
await port.run((packet) => {
  packet.target = 1 - packet.port;
  if (packet.port === 0 && lost()) { lostBefore++; return Verdict.Drop; }
  if (packet.port === 1) return Verdict.Redirect;
  if (packet.family !== 0) packet.flowHash = hashOf(hash, packet);
  const bytes = packet.length;
  const verdict = guard.judge(packet, native().nowMs());
  verdicts[verdict] = (verdicts[verdict] ?? 0) + 1;
  if (verdict === 0 && lost()) { lostBehind++; return Verdict.Drop; }
  if (verdict === 0) return Verdict.Redirect;
  if (verdict > 0) return Verdict.Drop;
  if (packet.length > bytes) longer++;
  return Verdict.Tx;
}, untilTold());
const { challenges, passed, failed, limited, admitted } = challenge;
const { unexpected, notFound, outOfSequence, alreadyClosed } = outOfState;
say({ verdicts, longer, lostBefore, lostBehind, challenges, passed, failed, limited, admitted, unexpected, notFound, outOfSequence, alreadyClosed,
  connections: outOfState.connections.table.count, totals: port.totals() });
`;

/** What the guard says at its end. Verdicts by TcpVerdict. */
export interface GuardReport {
  verdicts: Record<string, number>;
  /** Challenges that were longer than the SYN. */
  longer: number;
  lostBefore: number;
  lostBehind: number;
  challenges: number;
  passed: number;
  failed: number;
  limited: number;
  admitted: number;
  unexpected: number;
  notFound: number;
  outOfSequence: number;
  alreadyClosed: number;
  connections: number;
  totals: { rx: number; txLost: number; missed: number };
}

export interface GuardOptions {
  /** Of the packets from the left, lost before the guard sees them, and as many of those that it lets pass. */
  lossPercent?: number;
  challenge?: Partial<ChallengeOptions>;
  outOfState?: Partial<OutOfStateOptions>;
}

/** In front of clients, servers and floods. */
const HOST = `
import net from 'node:net';
import { createInterface } from 'node:readline';
import { native } from '${dist('native.js')}';
const say = (value) => process.stdout.write(JSON.stringify(value) + '\\n');
const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const lines = createInterface({ input: process.stdin });
const told = () => new Promise((resolve) => lines.once('line', resolve));
/** A connection and how long it took, ms. */
const connect = (host, port) => new Promise((resolve, reject) => {
  const begin = performance.now();
  const socket = net.connect({ host, port, noDelay: true });
  socket.once('error', reject);
  socket.once('connect', () => resolve({ socket, ms: performance.now() - begin }));
});
const ended = (socket) => new Promise((resolve) => socket.once('close', resolve));
`;

export class GuardNet {
  readonly net = new Net({ right: true });
  readonly left: Namespace = this.net.left;
  readonly right: Namespace = this.net.right!;
  private guard: Program | null = null;
  private programs = 0;

  constructor() {
    this.join(this.left, `${CLIENT4}/24`, `${CLIENT6}/64`, [SERVER4, SERVER6], SERVER_MAC);
    this.join(this.right, `${SERVER4}/24`, `${SERVER6}/64`, [CLIENT4, CLIENT6], CLIENT_MAC);
    // Answers to spoofed sources go back the way they came.
    this.right.ip(
      `neighbour add 10.97.0.254 lladdr ${CLIENT_MAC} dev eth0`,
      'route add default via 10.97.0.254',
      `neighbour add fd97::fe lladdr ${CLIENT_MAC} dev eth0`,
      'route add ::/0 via fd97::fe',
    );
  }

  private join(host: Namespace, ipv4: string, ipv6: string, peers: string[], mac: string): void {
    host.sysctl({ 'net/ipv6/conf/eth0/disable_ipv6': 0, 'net/ipv6/conf/eth0/accept_dad': 0 });
    host.ip(
      `address add ${ipv4} dev eth0`,
      `address add ${ipv6} dev eth0 nodad`,
      ...peers.map((peer) => `neighbour replace ${peer} lladdr ${mac} dev eth0`),
    );
  }

  async start(options: GuardOptions): Promise<void> {
    this.guard = this.net.run(GUARD.replace('OPTIONS', JSON.stringify(options)));
    await this.guard.next();
  }

  /** Ends the guard. */
  async report(): Promise<GuardReport> {
    this.guard!.tell('stop');
    return this.guard!.next<GuardReport>();
  }

  /** Runs a module on one of the hosts. */
  run(host: Namespace, script: string): Program {
    const file = this.net.playground.path(`host${this.programs++}.mjs`);
    writeFileSync(file, `${HOST}${script}\nprocess.exit(0);`);
    return new Program(this.net.playground.start(host, process.execPath, [file], { label: 'host program' }));
  }

  /** A server on the right that sends back what it gets, and counts connections. */
  async echo(port: number, backlog: number): Promise<Program> {
    const program = this.run(
      this.right,
      `let connections = 0;
      const server = net.createServer({ allowHalfOpen: true }, (socket) => {
        connections++;
        socket.on('error', () => undefined);
        socket.pipe(socket);
      });
      server.listen({ port: ${port}, host: '::', backlog: ${backlog} }, () => say('listening'));
      await told();
      say(connections);`,
    );
    await program.next();
    return program;
  }

  /** A counter of a host's stack: group and name as in /proc/net/netstat and /proc/net/snmp. */
  counter(host: Namespace, group: string, name: string): number {
    const rows = host.exec('cat', '/proc/net/netstat', '/proc/net/snmp').split('\n');
    const [names, values] = rows.filter((row) => row.startsWith(`${group}:`)).map((row) => row.split(/\s+/));
    return Number(values[names.indexOf(name)]);
  }
}

export interface FloodOptions {
  /** TCP flags byte. */
  flags: number;
  port: number;
  perSecond: number;
  family: 4 | 6;
  /** From 100.64.0.0/10 and 2001:db8::/32, at random; else from the client's own address. */
  spoofed: boolean;
}

/**
 * Body of a module that sends TCP headers without options from the left until it is told to stop, and then says how many: random source
 * ports and sequence numbers, right checksums. It says 'flooding' first.
 */
export function floodScript(options: FloodOptions): string {
  return `
  const o = ${JSON.stringify(options)};
  const mac = (text) => text.split(':').map((part) => parseInt(part, 16));
  const v6 = o.family === 6;
  const l3 = 14, l4 = l3 + (v6 ? 40 : 20);
  const frame = new Uint8Array(l4 + 20);
  const view = new DataView(frame.buffer);
  frame.set([...mac('${SERVER_MAC}'), ...mac('${CLIENT_MAC}')]);
  view.setUint16(12, v6 ? 0x86dd : 0x0800);
  if (v6) {
    frame.set([0x60, 0, 0, 0, 0, 20, 6, 64], l3);
    frame.set([0xfd, 0x97], l3 + 8); frame[l3 + 23] = 1;
    frame.set([0xfd, 0x97], l3 + 24); frame[l3 + 39] = 2;
  } else {
    frame.set([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 97, 0, 1, 10, 97, 0, 2], l3);
  }
  frame.set([0, 0, o.port >> 8, o.port & 255, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, o.flags, 0xff, 0xff, 0, 0, 0, 0], l4);
  const sum = (from, to, start) => { let s = start; for (let i = from; i < to; i += 2) s += view.getUint16(i); return s; };
  const folded = (s) => { while (s > 65535) s = (s & 65535) + (s >>> 16); return ~s & 65535; };
  const random = () => (Math.random() * 0x100000000) >>> 0;
  const socket = new (native().PacketSocket)({ interface: 'eth0' });
  const stop = told();
  let stopped = false;
  void stop.then(() => (stopped = true));
  const begin = performance.now();
  let sent = 0;
  say('flooding');
  while (!stopped) {
    const due = Math.min(256, ((performance.now() - begin) / 1000) * o.perSecond - sent);
    for (let i = 0; i < due; i++) {
      if (o.spoofed) {
        if (v6) { view.setUint32(l3 + 8, 0x20010db8); view.setUint32(l3 + 12, random()); view.setUint32(l3 + 16, random()); }
        else view.setUint32(l3 + 12, 0x64400000 | (random() & 0x3fffff));
      }
      view.setUint16(l4, 1024 + (random() % 64000));
      view.setUint32(l4 + 4, random());
      view.setUint32(l4 + 8, o.flags & 16 ? random() : 0);
      view.setUint16(l4 + 16, 0);
      view.setUint16(l4 + 16, folded(sum(l4, l4 + 20, sum(v6 ? l3 + 8 : l3 + 12, l4, 26))));
      if (!v6) { view.setUint16(l3 + 10, 0); view.setUint16(l3 + 10, folded(sum(l3, l4, 0))); }
      try { socket.send(frame); sent++; } catch (error) { if (error.code !== 'ENOBUFS') throw error; break; }
    }
    await later(1);
  }
  say(sent);`;
}
