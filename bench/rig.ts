/** What the rigs have in common: rights and CPUs asked for first, a playground that does not outlive a failure, namespaces in which nothing but the bench talks. */
import { availableParallelism } from 'node:os';
import { Playground, type Namespace } from '../src/playground/netns.js';
import type { ChildProgram } from '../src/playground/process.js';
import type { PeerRequest } from './offload/peer.js';
import type { KernelRequest } from './pps/kernel.js';
import { ChildError } from './process.js';

/**
 * Has `build` make a rig in a playground, which is closed when it fails. `cpus`: how many the bench cannot do without.
 * @throws ChildError where there is no root, or too few CPUs
 */
export async function startRig<Rig>(
  bench: string,
  cpus: number,
  build: (playground: Playground) => Promise<Rig>,
): Promise<Rig> {
  if (process.geteuid?.() !== 0) throw new ChildError(`${bench} makes network namespaces: run it as root`);
  const there = availableParallelism();
  if (there < cpus) throw new ChildError(`${bench} needs ${cpus} CPUs, here it may use ${there}`);
  const playground = new Playground();
  try {
    return await build(playground);
  } catch (error) {
    await playground.close();
    throw error;
  }
}

/** No packets of its own. */
export function quiet(namespace: Namespace): void {
  namespace.sysctl({ 'net/ipv6/conf/all/disable_ipv6': 1, 'net/ipv6/conf/default/disable_ipv6': 1 });
}

/** Ends of the line of three namespaces. */
export type LineEnd = 'g0' | 'd0' | 'd1' | 's0';

/**
 * gen g0 ── d0 node d1 ── s0 sink, without addresses and ARP.
 */
export function line(
  playground: Playground,
  macs: Readonly<Record<LineEnd, string>>,
  queues = 1,
): { gen: Namespace; node: Namespace; sink: Namespace } {
  const [gen, node, sink] = ['gen', 'node', 'sink'].map((role) => playground.namespace(role));
  for (const namespace of [gen, node, sink]) quiet(namespace);
  playground.veth({ namespace: gen, name: 'g0', queues }, { namespace: node, name: 'd0', queues });
  playground.veth({ namespace: node, name: 'd1', queues }, { namespace: sink, name: 's0', queues });
  const up = (namespace: Namespace, name: LineEnd): void =>
    namespace.ip(`link set ${name} address ${macs[name]} arp off up`);
  up(gen, 'g0');
  up(node, 'd0');
  up(node, 'd1');
  up(sink, 's0');
  return { gen, node, sink };
}

/** Longest time that a child of a bench takes to answer, ms; for one that runs for a while, beside that while. */
export const START_MS = 20_000;

/** Waits until a child of a bench says that it is ready. */
export async function ready(program: ChildProgram): Promise<void> {
  await program.message<{ ready?: boolean }>((message) => message.ready === true, START_MS);
}

/** Has a child (pps/kernel.ts, offload/peer.ts) change an interface's XDP program, and waits until it is done. */
export async function attach(program: ChildProgram, request: KernelRequest | PeerRequest): Promise<void> {
  const wanted = 'program' in request && request.program === null ? null : request.interface;
  const attached = program.message<{ attached?: string | null }>((message) => message.attached === wanted, START_MS);
  program.send(request);
  await attached;
}
