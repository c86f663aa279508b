/** What must fit together among interfaces, frames, fragments and endpoints. */
import { isAbsolute, resolve } from 'node:path';
import { isLoopback, parseAddress } from '../../shared/addr.js';
import { MAX_PORTS } from '../../shared/layout.js';
import type { Findings } from './findings.js';
import { checkNames } from './names.js';
import { DEFAULT_HELD, HELD_SHARE, type Recovered } from './schema.js';

/** Offsets into packet memory are int32, so a worker's frames end below 2 GiB. */
const UMEM_LIMIT = 2 ** 31;
/** sun_path of struct sockaddr_un has 108 bytes with the closing NUL (unix(7)). */
const MAX_SOCKET_PATH = 107;

export function checkMachine(config: Recovered, directory: string, findings: Findings): void {
  checkInterfaces(config, findings);
  checkFrames(config, findings);
  checkFragments(config, findings);
  checkEndpoints(config, directory, findings);
}

function checkInterfaces(config: Recovered, findings: Findings): void {
  const interfaces = config.interfaces;
  if (interfaces === undefined) return;
  if (interfaces.length === 0)
    findings.error(['interfaces'], 'is an empty list', 'Name at least one: interfaces: [eth0]');
  if (interfaces.length > MAX_PORTS) {
    findings.error(['interfaces'], `there are ${interfaces.length} interfaces, at most ${MAX_PORTS} fit`);
  }
  checkNames(interfaces, ['interfaces'], 'interface', findings);
  const noServices = config.services?.length === 0;
  interfaces.forEach((entry, i) => {
    if (entry?.redirect === 'services' && noServices) {
      findings.warn(
        ['interfaces', i],
        'gets no packets: it redirects those to services, and there are no services',
        'Add a service, or write redirect: all.',
      );
    }
    if (entry?.redirect === 'all' && entry.host_path === false) {
      findings.warn(
        ['interfaces', i, 'host_path'],
        'nothing that comes in here reaches the host, not even ARP or SSH',
        'Write host_path: true unless the interface is for sluice alone.',
      );
    }
  });
}

function checkFrames(config: Recovered, findings: Findings): void {
  const { count, size, ring, burst } = config.frames ?? {};
  if (count !== undefined && size !== undefined && count * size >= UMEM_LIMIT) {
    findings.error(
      ['frames', 'count'],
      `${count} frames of ${size} bytes are ${mib(count * size)}, and must be less than 2 GiB a worker`,
      `Write at most ${UMEM_LIMIT / size - 1}.`,
    );
  }
  if (count !== undefined && ring !== undefined && size !== undefined) {
    const interfaces = config.interfaces?.length ?? 1;
    if (count < 2 * ring) {
      findings.error(
        ['frames', 'count'],
        `${count} frames (${mib(count * size)}) are too few for rings of ${ring}: a socket needs twice its ring, ${2 * ring} (${mib(2 * ring * size)})`,
        `Write count: ${2 * ring} or more, or a smaller ring.`,
      );
    } else if (count < 2 * ring * interfaces) {
      findings.warn(
        ['frames', 'count'],
        `${count} frames cannot fill the rings of ${interfaces} interfaces, which share them: that takes ${2 * ring * interfaces}`,
        `Write count: ${2 * ring * interfaces} (${mib(2 * ring * interfaces * size)} a worker).`,
      );
    }
  }
  if (burst !== undefined && ring !== undefined && burst > ring) {
    findings.error(
      ['frames', 'burst'],
      `a burst of ${burst} is larger than the rings (${ring})`,
      `Write at most ${ring}; 64 is usual.`,
    );
  }
}

/** A held frame is one that no packet can come in on. */
function checkFragments({ fragments, frames }: Recovered, findings: Findings): void {
  const held = fragments?.held;
  if (held === undefined || frames?.count === undefined || held === DEFAULT_HELD) return;
  const most = Math.floor(frames.count * HELD_SHARE);
  if (held <= most) return;
  findings.error(
    ['fragments', 'held'],
    `${held} frames that wait for a first fragment are more than a quarter of frames.count, ${frames.count}`,
    `Write at most ${most}, or more frames.`,
  );
}

function checkEndpoints(config: Recovered, directory: string, findings: Findings): void {
  const listen = config.metrics?.listen;
  if (listen && listen.host !== 'localhost' && !isLoopback(parseAddress(listen.host))) {
    findings.warn(
      ['metrics', 'listen'],
      `anyone who reaches ${listen.host} can read the metrics`,
      'Write 127.0.0.1 or [::1] unless the network in between is trusted.',
    );
  }
  const socket = config.control?.socket;
  if (socket === undefined) return;
  const path = isAbsolute(socket) ? socket : resolve(directory, socket);
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_SOCKET_PATH) {
    findings.error(
      ['control', 'socket'],
      `the path of a socket takes at most ${MAX_SOCKET_PATH} bytes, this one has ${bytes}`,
      `It is ${path.slice(0, 40)}…; take a shorter one, for example in /run.`,
    );
  }
}

function mib(bytes: number): string {
  return `${Number((bytes / 2 ** 20).toFixed(2))} MiB`;
}
