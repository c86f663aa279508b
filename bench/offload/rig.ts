/** All balancers side by side, each in its node; a sender on CPU 0, everything else of user space on CPU 1. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { balancingTables } from '../../src/bench/tables.js';
import { packageRoot } from '../../src/native.js';
import type { Playground } from '../../src/playground/netns.js';
import { type Namespace } from '../../src/playground/netns.js';
import type { ChildProgram } from '../../src/playground/process.js';
import { parseAddress, parseMac } from '../../src/shared/addr.js';
import { Subject } from '../pps/rig.js';
import { writeTables } from '../pps/tables_file.js';
import { ChildError } from '../process.js';
import { attach, quiet, ready, START_MS, startRig } from '../rig.js';
import { BACKENDS, PORT, SOURCES, VIPS, WAYS, type By, type Way } from './cases.js';
import { OffloadDaemon } from './daemon.js';
import type { LinkCounts } from './links.js';
import { natRules } from './nat.js';
import type { SenderRequest, SenderResult } from './sender.js';
import { MACS, OUTLETS, pinned, Place } from './topology.js';

const SETTLE_MS = 5000;
/** Between two reports of the C program, ms. */
const REPORT_MS = 50;
/** In the order of their nodes. */
const DOERS: readonly By[] = ['xdp', 'auto', 'off', 'c', 'nat', 'nat-stateless'];

export type LoadOptions = Partial<Omit<SenderRequest, 'interface' | 'destinationMac' | 'destination'>> & {
  durationMs: number;
};

export class OffloadRig {
  private constructor(
    readonly playground: Playground,
    readonly places: Readonly<Record<By, Place>>,
    readonly daemons: Readonly<Record<'auto' | 'off', OffloadDaemon>>,
    private readonly senders: readonly ChildProgram[],
    private readonly kernel: ChildProgram,
    private readonly peers: Readonly<Record<Way, ChildProgram>>,
  ) {}

  /** `slots`: of the workers' flow tables. @throws ChildError where there is no root, or one CPU */
  static start(slots: number): Promise<OffloadRig> {
    return startRig('offload', 2, (playground) => OffloadRig.build(playground, slots));
  }

  private static async build(playground: Playground, slots: number): Promise<OffloadRig> {
    const [gen, sink] = [playground.namespace('gen'), playground.namespace('sink')];
    for (const namespace of [gen, sink]) quiet(namespace);
    const places = Object.fromEntries(
      DOERS.map((by, number) => [by, Place.make(playground, gen, sink, number)]),
    ) as unknown as Record<By, Place>;
    const child = (on: Namespace, cpu: number, file: string): ChildProgram => pinned(playground, on, cpu, file);
    const senders = [child(gen, 0, 'sender.js'), child(gen, 0, 'sender.js')];
    const kernel = child(places.xdp.node, 1, '../pps/kernel.js');
    const peers = { back: child(gen, 1, 'peer.js'), through: child(sink, 1, 'peer.js') };
    await Promise.all([...senders, kernel, peers.back, peers.through].map(ready));
    for (const place of Object.values(places)) {
      for (const way of WAYS) await attach(peers[way], { interface: place.peer(way).name, action: 'drop' });
    }
    for (const by of ['nat', 'nat-stateless'] as const) {
      const file = playground.path(`${by}.nft`);
      writeFileSync(file, natRules(by === 'nat'));
      places[by].node.exec('nft', '-f', file);
    }
    for (const way of WAYS) writeTables(playground.path(`${way}.tables`), tablesOf(way));
    const [auto, off] = await Promise.all(
      (['auto', 'off'] as const).map((mode) => OffloadDaemon.start(playground, places[mode], mode, slots)),
    );
    return new OffloadRig(playground, places, { auto, off }, senders, kernel, peers);
  }

  /** Has the limit's program send back, or through. */
  async limit(way: Way): Promise<void> {
    await attach(this.kernel, { interface: 'd0', program: way === 'back' ? 'tx' : 'redirect', to: 'd1' });
  }

  /** Starts the C program, which takes a CPU until it is ended. */
  async startC(way: Way): Promise<Subject> {
    const interfaces = way === 'back' ? ['-i', 'd0'] : ['-i', 'd0', '-i', 'd1'];
    const args = [...interfaces, '-n', String(REPORT_MS), '-T', this.playground.path(`${way}.tables`)];
    const command = ['-c', '1', join(packageRoot, 'build/bench/lb'), ...args];
    const program = this.playground.start(this.places.c.node, 'taskset', command, { label: 'lb.cc' });
    const subject = new Subject('lb.cc', program);
    await ready(program);
    return subject;
  }

  /** Loads one balancer by one way. `sender`: two can send at the same time. */
  async send(by: By, way: Way, options: LoadOptions, sender = 0): Promise<SenderResult> {
    const request: SenderRequest = {
      interface: this.places[by].genName,
      destinationMac: MACS.d0,
      destination: VIPS[way],
      source: SOURCES,
      sourcePort: 1024,
      flows: 64,
      pick: 'cycle',
      packetsPerSecond: 0,
      packets: 0,
      loads: 1,
      ...options,
    };
    const timeout = options.durationMs * request.loads + START_MS;
    const answer = this.senders[sender].message<{ result?: SenderResult }>(
      ({ result }) => result !== undefined,
      timeout,
    );
    this.senders[sender].send(request);
    return (await answer).result!;
  }

  /** What came to the end of a way, once it no longer moves. */
  async settledPeer(by: By, way: Way): Promise<LinkCounts> {
    const deadline = performance.now() + SETTLE_MS;
    for (let before = this.places[by].counts(way); ;) {
      await pause(20);
      const now = this.places[by].counts(way);
      if (now.packets === before.packets && now.txDropped === before.txDropped) return now;
      if (performance.now() > deadline) throw new ChildError(`${by}: packets do not stop to arrive`);
      before = now;
    }
  }

  /** Whether the end of a way drops what comes there, or leaves it to be seen. */
  async dropAtPeer(by: By, way: Way, drops: boolean): Promise<void> {
    const interfaceName = this.places[by].peer(way).name;
    await attach(this.peers[way], { interface: interfaceName, action: drops ? 'drop' : 'pass' });
  }

  close(): Promise<void> {
    return this.playground.close();
  }
}

/** Tables of lb.cc for a way: backends are the same in number and behind the same interface. */
function tablesOf(way: Way): ReturnType<typeof balancingTables> {
  const { name, peer } = OUTLETS[way];
  const service = { vip: parseAddress(VIPS[way]), port: PORT, backends: BACKENDS, destinationMac: parseMac(peer) };
  return balancingTables(service, way === 'back' ? ['d0'] : ['d0', 'd1'], parseMac(MACS[name]));
}
