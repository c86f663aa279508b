/**
 * The one typed boundary to the native addon. Every class and function that `native/` offers is declared here, and
 * nothing else in `src/` loads the addon.
 *
 * Conventions, for all of it:
 * - A failed system call throws an Error with `code` ("EBUSY"), `errno` (positive), `syscall` ("bind") and `remedy`
 *   (what to do next, one sentence). Wrong arguments throw TypeError or RangeError and name the value.
 * - `close()` is idempotent and releases the kernel's objects at once. Any other use after it throws.
 * - Objects belong to the thread that made them. Closing an environment (worker terminated, process exit) closes all.
 */
import { createRequire } from 'node:module';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SluiceError } from './errors.js';
import type { LiveFrames, LiveFramesOptions } from './native_live.js';

export type * from './native_live.js';

/** Frames by owner. Their sum is `total`, always: that is the conservation check. */
export interface FrameCounts {
  /** In the free list. */
  free: number;
  /** In a fill ring, the kernel's to write to (entries that the kernel has taken but not yet delivered included). */
  fill: number;
  /** Delivered to us and not handed back yet: the packets of the burst in hand. */
  rx: number;
  /** Handed to the kernel for transmission and not completed yet. */
  tx: number;
  /** Kept by the policy over the end of their burst (Verdict.Hold), neither resumed nor released yet. */
  held: number;
  total: number;
}

export interface UmemOptions {
  /** Number of chunks, a power of two is not needed. */
  frameCount: number;
  /** Bytes a chunk: 2048 or 4096 (aligned chunk mode). */
  chunkSize: 2048 | 4096;
  /** Back the area with 2 MiB pages; falls back to 4 KiB pages when none are free (see `hugepages`). */
  hugepages?: boolean;
}

/**
 * Packet memory that user space and kernel share: `frameCount` chunks in one mapping below 2 GiB, so that every byte
 * offset is a small integer. Owns the free list and each frame's state. Sockets of one UMEM can send each other's frames.
 */
export interface Umem {
  readonly buffer: ArrayBuffer;
  readonly frameCount: number;
  readonly chunkSize: number;
  /** True when huge pages back the area. */
  readonly hugepages: boolean;
  counts(): FrameCounts;
  /**
   * Waits until a socket of this UMEM has something to receive, at most `timeoutMs` milliseconds: looks at the rings for some 20 µs where that has paid
   * lately, then sleeps. 0 after the time is up or a signal, else at least 1. A deleted interface does not wake it.
   */
  wait(timeoutMs: number): number;
  /** Closes its sockets too. */
  close(): void;
}

export interface XskOptions {
  /** Interface name. */
  interface: string;
  queue: number;
  /** `auto` tries zero-copy, then copy. A forced mode that cannot be had throws EOPNOTSUPP. */
  mode: 'auto' | 'zero-copy' | 'copy';
  /** Position among the sockets of the UMEM: the number that a Redirect names as its target. 0-15. */
  index: number;
  /** Ring sizes in descriptors, powers of two. Defaults: 2048 each. */
  rxSize?: number;
  txSize?: number;
  fillSize?: number;
  completionSize?: number;
  /** Largest burst, in packets; default 64, at most 1024. */
  burst?: number;
  /** SO_PREFER_BUSY_POLL with these SO_BUSY_POLL (µs) and SO_BUSY_POLL_BUDGET (packets) values. */
  busyPoll?: { timeoutUs: number; budget: number };
  /** How long to go on trying while the queue answers EBUSY after an earlier owner's close; default 1000 ms. */
  busyRetryMs?: number;
}

/** Kernel's XDP_STATISTICS for one socket, cumulative. */
export interface XskStatistics {
  rxDropped: number;
  rxInvalidDescs: number;
  txInvalidDescs: number;
  rxRingFull: number;
  rxFillRingEmptyDescs: number;
  txRingEmptyDescs: number;
}

export interface RingState {
  producer: number;
  consumer: number;
  size: number;
}

/**
 * One AF_XDP socket bound to one queue, with its four rings and its burst.
 *
 * A burst is a structure of arrays that JavaScript and C++ both see; the arrays are the socket's for its whole life:
 * - `header[0]` number of packets in the burst in hand; `header[1]` monotonic clock in ms, wrapping int32, read once a
 *   burst; `header[2]` last errno of a send that failed for the whole socket (ENETDOWN, ENXIO), 0 when the last one worked;
 *   `header[3]` how many of the burst's packets, its first, were resumed rather than received;
 * - `offset[i]` byte offset in UMEM of the packet's first byte; `length[i]` bytes;
 * - `verdict[i]` what to do with it (a `Verdict`); `target[i]` socket index for Redirect.
 * The policy may move `offset[i]` and `length[i]` inside the packet's own chunk.
 */
export interface XskSocket {
  /** Its number among the sockets of this thread, for `exchangeSocket`. */
  readonly id: number;
  readonly fd: number;
  readonly ifindex: number;
  readonly queue: number;
  readonly zeroCopy: boolean;
  readonly header: Int32Array;
  readonly offset: Int32Array;
  readonly length: Int32Array;
  readonly verdict: Int32Array;
  readonly target: Int32Array;
  /** Running totals, see `PortCounter` in shared/layout.ts for the meaning of each index. Written by `exchange`. */
  readonly counters: Float64Array;
  /**
   * The one crossing of a burst. Settles the burst in hand by its verdicts (Tx and Redirect to the TX rings, Pass to the
   * tap, everything else back to the free list), drains completions, refills the fill ring, wakes the kernel when it
   * asks, and takes the next burst from the RX ring. Returns its number of packets.
   */
  exchange(): number;
  /**
   * Takes a packet that was held back into hand: it is among the first of the next burst, at `offset`, of `length` bytes, both
   * of which may differ from what they were within its chunk. Held are also packets in hand whose verdict is Hold. False, and
   * nothing changed, when that frame is not held by this socket.
   */
  resume(offset: number, length: number): boolean;
  /** Frees the held frame that `offset` lies in; it counts as dropped. False when that frame is not held by this socket. */
  release(offset: number): boolean;
  /** Takes up to `count` free frames into hand, behind the burst's packets, to write and send: length 0, verdict Drop. As many as there is room for. */
  compose(count: number): number;
  /** Where Pass goes: frames are written to the tap. null: passed frames are dropped and counted as `passLost`. */
  setTap(tap: Tap | null): void;
  statistics(): XskStatistics;
  rings(): { fill: RingState; rx: RingState; tx: RingState; completion: RingState };
  /** SO_ERROR of the socket, 0 when well; ENETDOWN once its interface is deleted. */
  error(): number;
  /** Drains what is under way for at most `drainMs` (default 0), unmaps the rings, closes the descriptor, returns its frames. */
  close(drainMs?: number): void;
}

/** One queue of a TAP device (IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE). Frames written to it appear as received by the host. */
export interface Tap {
  readonly name: string;
  readonly ifindex: number;
  /** Writes one frame; returns its length or throws. For tests: the data path writes natively. */
  write(frame: Uint8Array): number;
  /** Reads one frame that the host sent into the TAP, or null when there is none (never blocks). */
  read(): Uint8Array | null;
  /**
   * Has `callback` called from the event loop whenever there is something to read, again in each turn until it is read; null
   * ends that, and so does close(). Does not keep the process alive. One callback a Tap: another one takes its place.
   */
  onReadable(callback: (() => void) | null): void;
  close(): void;
}

/** An AF_PACKET socket that only sends, out of one interface. Needs CAP_NET_RAW. */
export interface PacketSocket {
  /** Sends one Ethernet frame, without waiting: ENOBUFS when the interface's queue is full, ENXIO when it is gone. */
  send(frame: Uint8Array): void;
  close(): void;
}

/**
 * A classic BPF program in the kernel's engine (SO_ATTACH_FILTER), for tests of ours. The constructor throws EINVAL for a program that the
 * kernel refuses.
 */
export interface SocketFilter {
  /** Bytes of the packet that the program keeps: what it returns as uint32, or the packet's length when that is less. */
  run(packet: Uint8Array): number;
  close(): void;
}

export interface BpfMapInfo {
  name: string;
  fd: number;
  type: number;
  keySize: number;
  /** Bytes of one value as user space sees it; for per-CPU maps the size of one CPU's value rounded up to 8. */
  valueSize: number;
  maxEntries: number;
}

export interface BpfMap extends BpfMapInfo {
  /** null when the key is absent. Per-CPU maps: all CPUs' values, one after the other. */
  lookup(key: Uint8Array): Uint8Array | null;
  /** `flags` as BPF_ANY (0), BPF_NOEXIST (1), BPF_EXIST (2). */
  update(key: Uint8Array, value: Uint8Array, flags?: number): void;
  /** False when the key was absent. */
  delete(key: Uint8Array): boolean;
  keys(): Uint8Array[];
  /** Many entries with one call, keys and values one after the other; in order. Those before one that the kernel refuses stay. Not for per-CPU maps. */
  updateBatch(keys: Uint8Array, values: Uint8Array): void;
  /** How many of them were there. */
  deleteBatch(keys: Uint8Array): number;
  /**
   * Deletes entries of a hash map whose value has a uint64 (host order) of at most `most` at byte `offset`; returns how many. Looks at `count` entries
   * (at most 2^20) and goes on from there the next time, round and round. Linux 5.6 and newer.
   */
  deleteUpTo(offset: number, most: number, count: number): number;
  /**
   * The values of an array that was made with BPF_F_MMAPABLE (1024), one after the other and each on a boundary of 8 bytes, as memory that programs read and write at
   * the same time. The same buffer each time, detached by close() of this map; closing its BpfObject leaves it usable. EINVAL for other maps, EPERM for frozen
   * ones. Linux 5.5 and newer.
   */
  memory(): ArrayBuffer;
  /** Releases a map of createMap, and detaches `memory()`. One of a BpfObject is that object's: here it only ends the use of this view. */
  close(): void;
}

export interface MapOptions {
  /** enum bpf_map_type of include/uapi/linux/bpf.h. */
  type: number;
  keySize: number;
  /** Of one CPU, in per-CPU maps. */
  valueSize: number;
  maxEntries: number;
  /** BPF_F_NO_PREALLOC (1) and the like. */
  flags?: number;
  /** At most 15 letters, digits, `_` and `.`. */
  name: string;
  /**
   * Types of key and value, which a map needs for values with a lock in them: a blob as BPF_BTF_LOAD takes it (Documentation/bpf/btf.rst), and
   * which of its types they are.
   */
  btf?: { types: Uint8Array; key: number; value: number };
}

export interface ProgramOptions {
  type: 'xdp';
  /** struct bpf_insn, 8 bytes each, in the machine's byte order. */
  instructions: Uint8Array;
  /** As in MapOptions. */
  name: string;
  license: string;
}

/** An eBPF program in the kernel. It stays there while this, a link or a map refers to it. */
export interface BpfProgram {
  readonly name: string;
  /** -1 once closed. */
  readonly fd: number;
  /**
   * The kernel's number of it; instructions as the verifier has rewritten them; bytes of machine code, 0 without a JIT; instructions that the
   * verifier walked through (0 before Linux 5.16), of which 1,000,000 are allowed.
   */
  info(): { id: number; instructions: number; machineBytes: number; verified: number };
  testRun(options: TestRunOptions): TestRunResult;
  /**
   * One test run a frame; what each returned, as int32. Frame i is the bytes from `ends[i - 1]` (0 for the first) to `ends[i]` of `frames`;
   * the first `metadata` bytes of each lie in front of the packet, where data_meta points. A packet has 14 bytes or more, and fits a page.
   */
  runFrames(frames: Uint8Array, ends: Uint32Array, metadata?: number): Int32Array;
  attachXdp(ifindex: number, mode: 'native' | 'generic'): BpfLink;
  close(): void;
}

export interface TestRunResult {
  /** What the program returned (an XDP action). */
  retval: number;
  /** The packet after the program. */
  data: Uint8Array;
  /** Mean run time in ns. */
  durationNs: number;
}

export interface TestRunOptions {
  data: Uint8Array;
  repeat?: number;
  /** ingress_ifindex and rx_queue_index of the xdp_md context. */
  ifindex?: number;
  queue?: number;
  /** BPF_F_TEST_XDP_LIVE_FRAMES: really send what the program returns; `data` is then empty. */
  liveFrames?: boolean;
  batchSize?: number;
}

/** A BPF object file through libbpf: open, set read-only data, load, then use its programs and maps. */
export interface BpfObject {
  /** Sets `const volatile` integers by name, before load(). Unknown names throw RangeError. */
  setRodata(values: Record<string, number>): void;
  /** Throws with the verifier's log in `verifierLog`. */
  load(): void;
  programs(): string[];
  programFd(name: string): number;
  map(name: string): BpfMap;
  maps(): string[];
  attachXdp(program: string, ifindex: number, mode: 'native' | 'generic'): BpfLink;
  testRun(program: string, options: TestRunOptions): TestRunResult;
  close(): void;
}

/** An XDP attachment that lives as long as its descriptor: when the process dies, the kernel detaches. */
export interface BpfLink {
  readonly id: number;
  readonly fd: number;
  /** Replaces the program atomically (BPF_LINK_UPDATE): no packet sees an interface without a program. */
  update(object: BpfObject, program: string): void;
  update(program: BpfProgram): void;
  /** Detaches now. */
  close(): void;
}

/** The XDP program on an interface, if any. */
export interface XdpQuery {
  programId: number;
  mode: 'native' | 'generic' | 'offload' | 'multi';
  programName: string;
  /** Program's tag as hex, to tell one of ours from a foreign one. */
  tag: string;
}

export interface LinkInfo {
  ifindex: number;
  /** "veth", "ixgbe", "mlx5_core" …; "" when the device does not say. */
  driver: string;
  mtu: number;
  /** Hardware address, 6 bytes. */
  address: Uint8Array;
  up: boolean;
  /** IFF_RUNNING: carrier. */
  running: boolean;
  rxQueues: number;
  txQueues: number;
}

export interface NativeAddon {
  Umem: new (options: UmemOptions) => Umem;
  XskSocket: new (umem: Umem, options: XskOptions) => XskSocket;
  /** `exchange()` of the socket with that `id`, in fewer instructions. Throws TypeError when there is none. */
  exchangeSocket(id: number): number;
  Tap: new (options: { name: string }) => Tap;
  PacketSocket: new (options: { interface: string }) => PacketSocket;
  /** `program`: four int32 an instruction, code, jt, jf, k. */
  SocketFilter: new (program: Int32Array) => SocketFilter;
  BpfObject: new (path: string) => BpfObject;
  /** Throws with the verifier's log in `verifierLog`. Needs CAP_BPF and CAP_NET_ADMIN. */
  loadProgram(options: ProgramOptions): BpfProgram;
  createMap(options: MapOptions): BpfMap;
  /** A map that another thread of this process has, by its descriptor, of which it makes one of its own. EINVAL for descriptors of other things. */
  mapByFd(fd: number): BpfMap;
  LiveFrames: new (options: LiveFramesOptions) => LiveFrames;
  /** null when no program is attached. Throws ENODEV for an interface that is not there. */
  queryXdp(ifindex: number): XdpQuery | null;
  linkInfo(interfaceName: string): LinkInfo;
  /** Zeroed memory of whole pages, on huge pages when asked and there; freed when the buffer is collected. */
  allocate(bytes: number, hugepages: boolean): ArrayBuffer;
  /** Monotonic clock as `header[1]` gives it: ms, wrapping int32. */
  nowMs(): number;
  /** CPU time of the calling thread, ns; a system call, some 200 ns. */
  threadCpuNs(): number;
  /** The same wrapping int32, to compare by difference: unlike most larger numbers it is no object on V8's heap. */
  threadCpuNs32(): number;
  /** setgroups([]), setgid, setuid for all threads, then PR_SET_NO_NEW_PRIVS. */
  dropPrivileges(uid: number, gid: number): void;
  /** Enters a network namespace by path, for the calling thread only. For tests and the demo's helpers. */
  enterNetns(path: string): void;
  /** Version of libbpf at run time, "1.1". */
  libbpfVersion(): string;
}

/** Folder of this package: the nearest one above this file that has a binding.gyp. Compiled code may lie in dist/ or deeper. */
export const packageRoot: string = findRoot(dirname(fileURLToPath(import.meta.url)));

function findRoot(from: string): string {
  for (let folder = from; folder !== dirname(folder); folder = dirname(folder)) {
    if (existsSync(join(folder, 'binding.gyp'))) return folder;
  }
  return join(from, '..');
}

/** Path of a compiled BPF object that ships beside the addon, for example "redirect". */
export function bpfObjectPath(name: string): string {
  return join(packageRoot, 'build', 'bpf', `${name}.bpf.o`);
}

let loaded: NativeAddon | undefined;

/** The addon; loads it on first use so that everything that needs no kernel works without it. */
export function native(): NativeAddon {
  if (loaded) return loaded;
  const candidates = ['Release', 'Debug'].map((kind) => join(packageRoot, 'build', kind, 'sluice.node'));
  const path = candidates.find((candidate) => existsSync(candidate));
  if (!path) {
    throw new SluiceError('SLUICE_NATIVE', `the native addon is not built: no ${candidates[0]}`, 'Run: npm run setup');
  }
  try {
    loaded = createRequire(import.meta.url)(path) as NativeAddon;
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause);
    throw new SluiceError(
      'SLUICE_NATIVE',
      `the native addon ${path} does not load: ${text}`,
      'Run: npm run setup (it installs libbpf and builds the addon for this Node)',
      { cause },
    );
  }
  return loaded;
}
