/** Everything that the doctor touches of the machine, behind one interface, so that tests run on canned data. */
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import os from 'node:os';
import { isKernelError } from '../../errors.js';
import { native, type LinkInfo, type NativeAddon, type XdpQuery } from '../../native.js';

/** Outcome of trying to make an AF_XDP socket. `untested`: no addon, or not the rights to try. */
export type SocketProbe =
  { result: 'ok' } | { result: 'failed'; code: string; text: string } | { result: 'untested'; why: string };

export interface CommandResult {
  status: number;
  stdout: string;
  stderr: string;
}

export interface DoctorSystem {
  /** Kernel release, as `uname -r`. */
  readonly kernel: string;
  /** Machine type, as `uname -m`. */
  readonly machine: string;
  readonly cpus: number;
  readonly uid: number;
  readonly nodeVersion: string;
  /** Content of a file; null when it is absent or may not be read. */
  readFile(path: string): string | null;
  /** Names in a directory; [] when it is absent or may not be read. */
  list(path: string): string[];
  /** Where a symbolic link points; null when there is none. */
  readLink(path: string): string | null;
  /** Runs a program, never through a shell; null when there is no such program. */
  run(file: string, args: readonly string[]): CommandResult | null;
  /** What the addon says of an interface; null when there is no addon or it cannot say. */
  linkInfo(name: string): LinkInfo | null;
  /** The XDP program on an interface: null for none, undefined when there is no addon or it cannot say. */
  queryXdp(ifindex: number): XdpQuery | null | undefined;
  /** Version of libbpf that the addon loads; null without the addon. */
  libbpfVersion(): string | null;
  /** Makes an AF_XDP socket and closes it at once. */
  probeXdpSocket(): SocketProbe;
}

/** A command that takes longer than this is hung (a driver that does not answer ethtool), ms. */
const COMMAND_LIMIT_MS = 5000;

/** The machine that we run on. */
export function realSystem(): DoctorSystem {
  const addon = loadAddon();
  return {
    kernel: os.release(),
    machine: os.machine(),
    cpus: os.availableParallelism(),
    uid: process.getuid?.() ?? -1,
    nodeVersion: process.versions.node,
    readFile: (path) => attempt(() => readFileSync(path, 'utf8')),
    list: (path) => attempt(() => readdirSync(path)) ?? [],
    readLink: (path) => attempt(() => readlinkSync(path)),
    run,
    linkInfo: (name) => (addon ? attempt(() => addon.linkInfo(name)) : null),
    queryXdp: (ifindex) => {
      try {
        return addon?.queryXdp(ifindex);
      } catch {
        return undefined;
      }
    },
    libbpfVersion: () => (addon ? attempt(() => addon.libbpfVersion()) : null),
    probeXdpSocket: () => probeXdpSocket(addon),
  };
}

function attempt<T>(read: () => T): T | null {
  try {
    return read();
  } catch {
    return null;
  }
}

function loadAddon(): NativeAddon | null {
  return attempt(() => native());
}

function run(file: string, args: readonly string[]): CommandResult | null {
  // Debian keeps ethtool, ip and bpftool in sbin, which is not in an ordinary user's PATH.
  const env = { ...process.env, LC_ALL: 'C', PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` };
  const result = spawnSync(file, args, {
    env,
    encoding: 'utf8',
    timeout: COMMAND_LIMIT_MS,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  if (result.error) return null;
  return { status: result.status ?? -1, stdout: result.stdout, stderr: result.stderr };
}

/**
 * Binds a small socket to queue 0 of lo and closes it: no program leads packets to it, so nothing that runs is disturbed.
 * Any answer of bind(2) about lo itself means that the socket was made, which is what is asked here.
 */
function probeXdpSocket(addon: NativeAddon | null): SocketProbe {
  if (!addon) return { result: 'untested', why: 'the native addon is not built (npm run setup)' };
  try {
    const umem = new addon.Umem({ frameCount: 64, chunkSize: 2048 });
    try {
      const sizes = { rxSize: 16, txSize: 16, fillSize: 16, completionSize: 16, burst: 16 };
      new addon.XskSocket(umem, {
        interface: 'lo',
        queue: 0,
        mode: 'copy',
        index: 0,
        busyRetryMs: 0,
        ...sizes,
      }).close();
    } finally {
      umem.close();
    }
    return { result: 'ok' };
  } catch (error) {
    if (!isKernelError(error))
      return { result: 'untested', why: error instanceof Error ? error.message : String(error) };
    if (error.syscall === 'bind' && error.code !== 'EPERM') return { result: 'ok' };
    return { result: 'failed', code: error.code, text: error.remedy || error.message };
  }
}

/** Runs a program that prints JSON; null when it fails. */
export function runJson<T>(system: DoctorSystem, file: string, args: string[]): T | null {
  const result = system.run(file, args);
  if (result?.status !== 0) return null;
  try {
    return JSON.parse(result.stdout || '[]') as T;
  } catch {
    return null;
  }
}
