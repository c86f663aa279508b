import { nearest } from '../control/config/nearest.js';
import { SluiceError } from '../errors.js';
import type { Packet } from '../dataplane/packet/packet.js';
import { parsePrefix } from '../shared/addr.js';
import type { Prefix, XdpMode } from '../shared/config.js';

/** How to take packets from an interface; fixed while the program is attached. */
export interface AttachOptions {
  /** Default 'auto': native XDP with zero-copy, else native with copies, else generic XDP. */
  mode?: XdpMode;
  /**
   * Only packets to these addresses or prefixes come to user space, "198.51.100.0/24"; the host's stack keeps all others at
   * full speed. Default: every IP packet. ARP, neighbour discovery and link housekeeping always stay with the host.
   */
  destinations?: readonly string[];
  /** Where Verdict.Pass goes: the host's stack, through a TAP device (true, default), or nowhere, counted (false). */
  hostPath?: boolean;
  /** Queues without a socket: their packets go to the host ('pass', default) or nowhere ('drop'). */
  fallback?: 'pass' | 'drop';
  /**
   * TCP and UDP checksums that the sender left to a device: 'repair' completes them before the policy sees the packet,
   * 'trust' does not look. Default 'auto': repair on veth, whose peers always leave them, trust elsewhere.
   */
  checksum?: 'auto' | 'trust' | 'repair';
}

/** What `Attachment.handle` gives: plain data that may be posted to other threads of the process. */
export interface AttachmentHandle {
  readonly kind: 'sluice-attachment';
  readonly interface: string;
  readonly ifindex: number;
  /** All RX queues of the device at the time. */
  readonly queues: readonly number[];
  /** How sockets bind. */
  readonly mode: 'auto' | 'zero-copy' | 'copy';
  readonly repairChecksums: boolean;
  /** TAP device of the host path, null without one. */
  readonly tap: string | null;
  /** Name of the BroadcastChannel on which the owner takes sockets. */
  readonly channel: string;
}

export interface OpenPortOptions extends AttachOptions {
  /**
   * Name of the interface, or the handle of an attachment that another thread made (`attach`); or several of either, which
   * then share packet memory, so that packets can be redirected from one to the other.
   */
  interface: string | AttachmentHandle | readonly (string | AttachmentHandle)[];
  /** RX queues to serve, of each interface; default 'all'. */
  queues?: 'all' | readonly number[];
  /** Frames of packet memory, shared by all queues; default 4096 a queue. Costs `frames` × `frameSize` bytes, locked. */
  frames?: number;
  /** Bytes of a frame: 2048 (default) takes packets up to 1792 bytes, 4096 up to 3840. Larger packets never arrive. */
  frameSize?: 2048 | 4096;
  /** Back packet memory with 2 MiB pages where there are any; default false. */
  hugepages?: boolean;
  /** Descriptors in each of a queue's rings, a power of two; default 2048. As many packets wait while the thread is busy. */
  ring?: number;
  /** Most packets that one poll takes from a queue, 1-1024; default 64. */
  burst?: number;
  /**
   * Whether headers are read before the policy is asked, default true. False for policies that need no more of a packet than its bytes: `view`, `data`, `dataEnd`,
   * `length`, where it came from and `target` are set, all else of the Packet means nothing; checksums are not repaired.
   */
  parse?: boolean;
  /**
   * Called when the policy threw, or returned something that is no Verdict: the packet is dropped and counted as aborted.
   * Default: a process warning, at most one a second. What this throws comes out of `poll`: throw to stop at the first error.
   */
  onAbort?: (error: unknown, packet: Packet) => void;
}

/** Options with defaults filled in and checked. */
export interface Settings {
  interfaces: readonly (string | AttachmentHandle)[];
  queues: 'all' | readonly number[];
  frames: number | null;
  frameSize: 2048 | 4096;
  hugepages: boolean;
  ring: number;
  burst: number;
  parse: boolean;
  onAbort: ((error: unknown, packet: Packet) => void) | null;
}

export interface AttachSettings {
  mode: XdpMode;
  destinations: readonly Prefix[] | null;
  hostPath: boolean;
  fallback: 'pass' | 'drop';
  checksum: 'auto' | 'trust' | 'repair';
}

const ATTACH_NAMES: readonly (keyof AttachOptions)[] = ['mode', 'destinations', 'hostPath', 'fallback', 'checksum'];
const PORT_NAMES = [
  'interface',
  'queues',
  'frames',
  'frameSize',
  'hugepages',
  'ring',
  'burst',
  'parse',
  'onAbort',
] as const;
const MODES: readonly XdpMode[] = ['auto', 'zero-copy', 'copy', 'generic'];

function refuse(message: string, remedy = ''): never {
  throw new SluiceError('SLUICE_USAGE', message, remedy);
}

function show(value: unknown): string {
  return typeof value === 'string' ? `"${value}"` : typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** Refuses names that are no option, with the one that was probably meant. */
function checkNames(caller: string, options: object, known: readonly string[]): void {
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    const meant = nearest(name, known);
    refuse(`${caller} has no option "${name}"`, meant ? `Did you mean "${meant}"?` : `It has ${known.join(', ')}.`);
  }
}

function oneOf<T>(name: string, value: T | undefined, allowed: readonly T[], preset: T): T {
  if (value === undefined) return preset;
  if (!allowed.includes(value)) refuse(`${name} is one of ${allowed.map(show).join(', ')}, not ${show(value)}`);
  return value;
}

function integer(name: string, value: number | undefined, least: number, most: number, preset: number): number {
  if (value === undefined) return preset;
  if (!Number.isInteger(value) || value < least || value > most) {
    refuse(`${name} is a whole number from ${least} to ${most}, not ${show(value)}`);
  }
  return value;
}

/** @throws SluiceError SLUICE_USAGE that names the option and the value */
export function attachSettings(options: AttachOptions): AttachSettings {
  const { destinations } = options;
  if (destinations !== undefined && (!Array.isArray(destinations) || destinations.length === 0)) {
    refuse(`destinations is a list of addresses or prefixes, not ${show(destinations)}`, 'Leave it out to take all.');
  }
  return {
    mode: oneOf('mode', options.mode, MODES, 'auto'),
    destinations: destinations?.map(destination) ?? null,
    hostPath: oneOf('hostPath', options.hostPath, [true, false], true),
    fallback: oneOf('fallback', options.fallback, ['pass', 'drop'], 'pass'),
    checksum: oneOf('checksum', options.checksum, ['auto', 'trust', 'repair'], 'auto'),
  };
}

function destination(text: unknown): Prefix {
  try {
    return parsePrefix(String(text));
  } catch (error) {
    return refuse(`destinations: ${(error as Error).message}`);
  }
}

/** Options of `attach`: names too. */
export function checkAttachNames(options: object): void {
  checkNames('attach', options, ['interface', ...ATTACH_NAMES]);
}

export function interfaceName(value: unknown): string {
  // IFNAMSIZ is 16 with its terminator; '/' and blanks are what the kernel refuses (dev_valid_name).
  if (typeof value === 'string' && /^[^\s/:]{1,15}$/.test(value) && value !== '.' && value !== '..') return value;
  return refuse(`${show(value)} is no interface name`, 'See what there is: ip -br link');
}

/** @throws SluiceError SLUICE_USAGE that names the option and the value */
export function portSettings(options: OpenPortOptions): Settings {
  checkNames('openPort', options, [...PORT_NAMES, ...ATTACH_NAMES]);
  const ring = integer('ring', options.ring, 64, 65536, 2048);
  if ((ring & (ring - 1)) !== 0) refuse(`ring is a power of two, not ${ring}`);
  if (options.onAbort !== undefined && typeof options.onAbort !== 'function') refuse('onAbort is a function');
  const parse = oneOf('parse', options.parse, [true, false], true);
  if (!parse && options.checksum === 'repair')
    refuse("checksum 'repair' needs headers that are read, and parse is false");
  return {
    interfaces: interfacesOf(options),
    queues: queuesOf(options.queues),
    frames: options.frames === undefined ? null : integer('frames', options.frames, 64, 1 << 19, 0),
    frameSize: oneOf('frameSize', options.frameSize, [2048, 4096], 2048),
    hugepages: oneOf('hugepages', options.hugepages, [true, false], false),
    ring,
    burst: integer('burst', options.burst, 1, 1024, 64),
    parse,
    onAbort: options.onAbort ?? null,
  };
}

function queuesOf(queues: OpenPortOptions['queues']): 'all' | readonly number[] {
  if (queues === undefined || queues === 'all') return 'all';
  if (!Array.isArray(queues) || queues.length === 0)
    refuse(`queues is 'all' or a list of numbers, not ${show(queues)}`);
  for (const queue of queues) integer('a queue', queue as number, 0, 1023, 0);
  if (new Set(queues).size !== queues.length) refuse(`queues has a number twice: ${show(queues)}`);
  return [...(queues as readonly number[])];
}

function interfacesOf(options: OpenPortOptions): (string | AttachmentHandle)[] {
  const given = Array.isArray(options.interface) ? options.interface : [options.interface];
  if (given.length === 0) refuse('openPort needs at least one interface');
  const interfaces = (given as readonly (string | AttachmentHandle)[]).map((one) =>
    isHandle(one) ? one : interfaceName(one),
  );
  const names = interfaces.map((one) => (typeof one === 'string' ? one : one.interface));
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) refuse(`openPort has interface ${twice} twice`);
  const fixed = ATTACH_NAMES.find((name) => options[name] !== undefined);
  if (fixed !== undefined && interfaces.every(isHandle)) {
    refuse(`${fixed} is for the thread that attaches`, 'Give it to attach(), whose handle this is.');
  }
  return interfaces;
}

function isHandle(value: unknown): value is AttachmentHandle {
  return typeof value === 'object' && value !== null && (value as AttachmentHandle).kind === 'sluice-attachment';
}
