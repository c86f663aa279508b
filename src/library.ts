/**
 * sluice as a library: open a port, judge packets. Everything is in the calling thread; to serve an interface by several
 * threads see `attach`.
 */
import type { ManagedInterface } from './control/manager/managed_interface.js';
import { Packet } from './dataplane/packet/packet.js';
import { XskPort } from './dataplane/ports/xsk.js';
import { SluiceError } from './errors.js';
import { native, type Tap, type Umem } from './native.js';
import { attachInterface, bindThrough, handleOf } from './library/attachment.js';
import {
  attachSettings,
  portSettings,
  type AttachmentHandle,
  type OpenPortOptions,
  type Settings,
} from './library/options.js';
import { PacketPort, type OpenQueue } from './library/packet_port.js';

export { attach, type Attachment } from './library/attachment.js';
export type { AttachOptions, AttachmentHandle, OpenPortOptions } from './library/options.js';
export type { PacketPort, Policy, QueueInfo } from './library/packet_port.js';
export type { PortTotals } from './library/totals.js';

/** Sockets that share one packet memory, at most. */
const MAX_SOCKETS = 16;

/** One interface of a port: how its sockets bind, and how they get their packets. */
interface Source {
  handle: AttachmentHandle;
  /** Null when another thread attached. */
  own: ManagedInterface | null;
  queues: readonly number[];
}

/**
 * Attaches the redirect program to each interface, opens an AF_XDP socket on each queue, and hands every IP packet to user
 * space (or those to `destinations`). ARP and neighbour discovery stay with the host. The kernel undoes all of it when the
 * process ends, however it ends.
 *
 *     using port = await openPort({ interface: 'veth0' });
 *     await port.run((packet) => (packet.destinationPort === 9 ? Verdict.Drop : Verdict.Pass));
 *
 * Needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF (root has them), and as much locked memory as the frames take.
 *
 * @throws SluiceError (SLUICE_USAGE: an option; SLUICE_DEVICE: no such interface or queue, or somebody has it) or a kernel
 *   error with `code`, `syscall` and `remedy` (EPERM, EBUSY, ENOBUFS …). Nothing is left attached or open then.
 */
export async function openPort(options: OpenPortOptions): Promise<PacketPort> {
  const settings = portSettings(options);
  const attaching = attachSettings(options);
  const sources: Source[] = [];
  const taps: Tap[] = [];
  let umem: Umem | null = null;
  const detach = (): void => sources.forEach(({ own }) => own?.detach());
  try {
    for (const [position, one] of settings.interfaces.entries()) {
      if (typeof one !== 'string') {
        sources.push({ handle: one, own: null, queues: chosenQueues(one, settings.queues) });
        continue;
      }
      const own = await attachInterface(one, position, settings.queues, attaching);
      sources.push({ handle: handleOf(own, attaching, ''), own, queues: own.queues });
    }
    umem = memoryFor(sources, settings);
    const queues = openQueues(sources, umem, settings, taps);
    for (const queue of queues) await bind(queue, sources[queue.position]);
    return new PacketPort({ umem, queues, taps, detach, parse: settings.parse, onAbort: settings.onAbort });
  } catch (error) {
    detach();
    // Closes its sockets, too.
    umem?.close();
    for (const tap of taps) tap.close();
    throw error;
  }
}

function chosenQueues(handle: AttachmentHandle, wanted: Settings['queues']): readonly number[] {
  if (wanted === 'all') return handle.queues;
  const outside = wanted.find((queue) => !handle.queues.includes(queue));
  if (outside === undefined) return wanted;
  throw new SluiceError('SLUICE_DEVICE', `interface ${handle.interface} has no queue ${outside}`);
}

function memoryFor(sources: readonly Source[], { frames, frameSize, hugepages }: Settings): Umem {
  const sockets = sources.reduce((sum, { queues }) => sum + queues.length, 0);
  if (sockets > MAX_SOCKETS) {
    throw new SluiceError(
      'SLUICE_USAGE',
      `one port serves at most ${MAX_SOCKETS} queues, not ${sockets}`,
      'Choose with `queues`, and serve the others from other threads: see attach().',
    );
  }
  return new (native().Umem)({ frameCount: frames ?? 4096 * sockets, chunkSize: frameSize, hugepages });
}

function openQueues(
  sources: readonly Source[],
  umem: Umem,
  { ring, burst, parse }: Settings,
  taps: Tap[],
): OpenQueue[] {
  const view = new DataView(umem.buffer);
  const opened: OpenQueue[] = [];
  for (const [position, { handle, queues }] of sources.entries()) {
    for (const queue of queues) {
      const port = new XskPort(umem, {
        interface: handle.interface,
        queue,
        index: opened.length,
        mode: handle.mode,
        rxSize: ring,
        txSize: ring,
        fillSize: ring,
        completionSize: ring,
        burst,
      });
      if (handle.tap !== null) {
        const tap = new (native().Tap)({ name: handle.tap });
        taps.push(tap);
        port.setTap(tap);
      }
      const next = (): Packet => packetOf(view, umem.chunkSize, port, position);
      const packets = parse ? Array.from({ length: burst }, next) : new Array<Packet>(burst).fill(next());
      const routes = new Int32Array(sources.length);
      opened.push({ port, position, repair: handle.repairChecksums, routes, packets });
    }
  }
  for (const from of opened) {
    for (let to = 0; to < sources.length; to++) from.routes[to] = socketOf(opened, to, from.port.queue);
  }
  return opened;
}

function packetOf(view: DataView, chunkSize: number, port: XskPort, position: number): Packet {
  const packet = new Packet(view, chunkSize);
  packet.ifindex = port.ifindex;
  packet.queue = port.queue;
  packet.port = position;
  return packet;
}

/** The same queue of the other interface, or one of those that it has. */
function socketOf(opened: readonly OpenQueue[], position: number, queue: number): number {
  const there = opened.filter((one) => one.position === position);
  return (there.find(({ port }) => port.queue === queue) ?? there[queue % there.length]).port.index;
}

async function bind({ port }: OpenQueue, { handle, own }: Source): Promise<void> {
  // The first exchange fills the fill ring, so that the kernel has frames before the first packet comes.
  port.exchange();
  const { fd, zeroCopy } = port.socket;
  if (own) own.bindSocket(port.queue, fd, zeroCopy);
  else await bindThrough(handle, port.queue, fd, zeroCopy);
}
