/**
 * One interface, several threads. The XDP program is attached once, by one thread; the sockets of the queues are opened by the
 * threads that serve them, each of which hands its socket's descriptor to the first. Descriptors belong to the process.
 */
import { BroadcastChannel, type MessagePort } from 'node:worker_threads';
import { ManagedInterface } from '../control/manager/managed_interface.js';
import { SluiceError } from '../errors.js';
import {
  attachSettings,
  checkAttachNames,
  interfaceName,
  type AttachOptions,
  type AttachSettings,
  type AttachmentHandle,
} from './options.js';

/** How long a thread waits for the one that attached, ms: that one need only turn its event loop. */
const BIND_MS = 5000;

let channels = 0;

/** A thread asks for its socket to be put into the XSKMAP; the owner answers under the same number. */
interface BindRequest {
  kind: 'bind';
  id: string;
  queue: number;
  fd: number;
  zeroCopy: boolean;
}

interface BindAnswer {
  kind: 'bound';
  id: string;
  /** Why not. */
  error: string | null;
}

/**
 * Attaches to an interface without opening a queue of it, so that several threads can serve its queues:
 *
 *     using nic = await attach({ interface: 'eth0' });
 *     for (const queue of nic.queues) new Worker(file, { workerData: { nic: nic.handle, queue } });
 *
 * and in each worker: `openPort({ interface: workerData.nic, queues: [workerData.queue] })`. A queue without a socket gives its
 * packets to the host (`fallback`), so threads may come and go. This thread's event loop must turn while they open.
 *
 * @throws SluiceError or a kernel error with `code`, `syscall` and `remedy`; nothing is left attached then
 */
export async function attach(options: AttachOptions & { interface: string }): Promise<Attachment> {
  checkAttachNames(options);
  const name = interfaceName(options.interface);
  const settings = attachSettings(options);
  const entry = await attachInterface(name, 0, 'all', settings);
  return new Attachment(entry, settings);
}

/** The redirect program on one interface. */
export async function attachInterface(
  name: string,
  index: number,
  queues: 'all' | readonly number[],
  settings: AttachSettings,
): Promise<ManagedInterface> {
  const entry = new ManagedInterface(
    {
      name,
      queues: queues === 'all' ? 'all' : [...queues],
      mode: settings.mode,
      poll: 'interrupt',
      checksum: settings.checksum,
      fallback: settings.fallback,
      redirect: settings.destinations === null ? 'all' : 'services',
      hostPath: settings.hostPath,
    },
    index,
    settings.destinations ?? [],
  );
  await entry.attach();
  return entry;
}

/** What `attach` gives. As long as it is open the program is attached; it need not outlive the ports of other threads. */
export class Attachment implements Disposable {
  /** For `openPort` in any thread of this process. */
  readonly handle: AttachmentHandle;
  private readonly channel: BroadcastChannel;

  constructor(
    private readonly entry: ManagedInterface,
    settings: AttachSettings,
  ) {
    const channel = `sluice-${process.pid}-${channels++}-${entry.ifindex}`;
    this.handle = handleOf(entry, settings, channel);
    this.channel = new BroadcastChannel(channel);
    this.channel.onmessage = ((event: { data: BindRequest | BindAnswer }) => {
      if (event.data.kind === 'bind') this.bind(event.data);
    }) as (message: unknown) => void;
    // Alone it is no reason for the process to stay. The types of Node 20 do not know that it has unref().
    (this.channel as unknown as MessagePort).unref();
  }

  /** RX queues of the interface. */
  get queues(): readonly number[] {
    return this.handle.queues;
  }

  private bind({ id, queue, fd, zeroCopy }: BindRequest): void {
    let error: string | null = null;
    try {
      this.entry.bindSocket(queue, fd, zeroCopy);
    } catch (cause) {
      error = cause instanceof Error ? cause.message : String(cause);
    }
    this.channel.postMessage({ kind: 'bound', id, error } satisfies BindAnswer);
  }

  /** Takes the program off: from now on the host's stack gets every packet. Ports of other threads go quiet. Idempotent. */
  close(): void {
    this.channel.close();
    this.entry.detach();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** What threads need to know of an attached interface. */
export function handleOf(entry: ManagedInterface, settings: AttachSettings, channel: string): AttachmentHandle {
  const { mode, tap } = entry.portSpec(0, 0);
  return {
    kind: 'sluice-attachment',
    interface: entry.name,
    ifindex: entry.ifindex,
    queues: entry.queues,
    mode,
    repairChecksums: entry.repairChecksums(settings.checksum),
    tap,
    channel,
  };
}

let requests = 0;

/** Has the owner of an attachment send a queue's packets to this thread's socket. */
export async function bindThrough(
  handle: AttachmentHandle,
  queue: number,
  fd: number,
  zeroCopy: boolean,
): Promise<void> {
  const channel = new BroadcastChannel(handle.channel);
  // The descriptor is unique in the process while the request is open, the count in this thread.
  const id = `${fd}.${requests++}`;
  try {
    const error = await new Promise<string | null>((resolve, reject) => {
      const late = setTimeout(() => reject(silent(handle)), BIND_MS);
      channel.onmessage = ((event: { data: BindRequest | BindAnswer }) => {
        if (event.data.kind !== 'bound' || event.data.id !== id) return;
        clearTimeout(late);
        resolve(event.data.error);
      }) as (message: unknown) => void;
      channel.postMessage({ kind: 'bind', id, queue, fd, zeroCopy } satisfies BindRequest);
    });
    if (error !== null) {
      throw new SluiceError('SLUICE_DEVICE', `queue ${queue} of ${handle.interface} cannot be redirected: ${error}`);
    }
  } finally {
    channel.close();
  }
}

function silent(handle: AttachmentHandle): SluiceError {
  return new SluiceError(
    'SLUICE_STATE',
    `the thread that attached to ${handle.interface} does not answer`,
    'Its attachment must be open, and its event loop must turn while other threads open their ports.',
  );
}
