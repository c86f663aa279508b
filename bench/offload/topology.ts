/**
 * The network: for each balancer a namespace of its own with two veth pairs, all alike, so that nothing has to be changed between two trials.
 *
 *     gen gN ── d0 nodeN d1 ── sN sink
 *
 * What comes back by d0 or goes through by d1 is dropped by XDP programs at gN and sN, where the driver counts it.
 */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Namespace, Playground } from '../../src/playground/netns.js';
import type { ChildProgram } from '../../src/playground/process.js';
import { quiet } from '../rig.js';
import { BACKENDS, WAYS, type Way } from './cases.js';
import { linkCounts, transmitted, type LinkCounts } from './links.js';

const HERE = dirname(fileURLToPath(import.meta.url));
/** The same in every node: what leaves two of them can be compared byte by byte. */
export const MACS = {
  gen: '02:00:00:00:01:01',
  d0: '02:00:00:00:01:02',
  d1: '02:00:00:00:01:03',
  sink: '02:00:00:00:01:04',
};
/** Of d0 and d1, by the way that leads out of it. */
export const OUTLETS: Readonly<Record<Way, { name: 'd0' | 'd1'; network: string; peer: string }>> = {
  back: { name: 'd0', network: '10.0.0', peer: MACS.gen },
  through: { name: 'd1', network: '10.1.0', peer: MACS.sink },
};

/** Addresses of backends behind an outlet. */
export function backendsBehind(way: Way): string[] {
  return Array.from({ length: BACKENDS }, (_, i) => `${OUTLETS[way].network}.${10 + i}`);
}

/** A balancer's namespace, and what of the others belongs to it. */
export class Place {
  private constructor(
    readonly node: Namespace,
    private readonly gen: Namespace,
    private readonly sink: Namespace,
    readonly number: number,
  ) {}

  static make(playground: Playground, gen: Namespace, sink: Namespace, number: number): Place {
    const node = playground.namespace(`node${number}`);
    quiet(node);
    node.sysctl({
      'net/ipv4/ip_forward': 1,
      'net/ipv4/conf/all/rp_filter': 0,
      'net/ipv4/conf/default/rp_filter': 0,
      'net/ipv4/conf/all/send_redirects': 0,
      'net/ipv4/conf/default/send_redirects': 0,
    });
    const place = new Place(node, gen, sink, number);
    playground.veth({ namespace: gen, name: place.genName }, { namespace: node, name: 'd0' });
    playground.veth({ namespace: node, name: 'd1' }, { namespace: sink, name: place.sinkName });
    gen.ip(`link set ${place.genName} address ${MACS.gen} arp off up`);
    sink.ip(`link set ${place.sinkName} address ${MACS.sink} arp off up`);
    for (const way of WAYS) {
      const { name, network, peer } = OUTLETS[way];
      const neighbours = backendsBehind(way).map((address) => `neigh replace ${address} lladdr ${peer} dev ${name}`);
      node.ip(`link set ${name} address ${MACS[name]} up`, `address add ${network}.1/24 dev ${name}`, ...neighbours);
      // Once it is up: NAPI also without an XDP program, or the veth takes no live frames.
      node.exec('ethtool', '-K', name, 'gro', 'on');
    }
    return place;
  }

  get genName(): string {
    return `g${this.number}`;
  }

  get sinkName(): string {
    return `s${this.number}`;
  }

  /** Where the way ends. */
  peer(way: Way): { namespace: Namespace; name: string } {
    return way === 'back' ? { namespace: this.gen, name: this.genName } : { namespace: this.sink, name: this.sinkName };
  }

  /** Packets that the sending interface handed over, and those that it could not. */
  generated(): { sent: number; notSent: number } {
    const { packets, dropped } = transmitted(this.gen, this.genName);
    return { sent: packets, notSent: dropped };
  }

  counts(way: Way): LinkCounts {
    const { namespace, name } = this.peer(way);
    return linkCounts(namespace, name, this.node, OUTLETS[way].name);
  }
}

/** A program of this folder, or another of ours, on one CPU. */
export function pinned(
  playground: Playground,
  on: Namespace,
  cpu: number,
  file: string,
  ...args: string[]
): ChildProgram {
  const command = ['-c', String(cpu), process.execPath, join(HERE, file), ...args];
  return playground.start(on, 'taskset', command, { label: file });
}
