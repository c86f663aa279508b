/** The kernel's neighbour tables (ARP and neighbour discovery): reading them, and asking the kernel to keep entries fresh. */
import { createSocket, type Socket } from 'node:dgram';
import { parseAddress, parseMac } from '../shared/addr.js';
import type { IpCommand } from './ip_command.js';
import { parseJson, unexpected } from './routes.js';

export interface Neighbour {
  /** Null unless the kernel holds it for valid. */
  mac: Uint8Array | null;
  /** NUD state as `ip neigh` names it: REACHABLE, STALE, DELAY, PROBE, INCOMPLETE, FAILED, PERMANENT, NOARP. */
  state: string;
}

/** Who is asked for: an address on an interface. */
export interface NeighbourName {
  address: string;
  interface: string;
}

interface NeighbourJson {
  dst: string;
  dev: string;
  lladdr?: string;
  state?: string[];
}

/** Key of an entry in the map that `readNeighbours` returns. Interface names have no slash. */
export function neighbourKey({ address, interface: name }: NeighbourName): string {
  return `${name}/${address}`;
}

/** All entries of both families, by `neighbourKey`. */
export async function readNeighbours(ip: IpCommand): Promise<Map<string, Neighbour>> {
  const { stdout, stderr, code } = await ip.run(['-json', 'neigh', 'show']);
  if (code !== 0) throw unexpected(`exit status ${code} of ip neigh show`, stderr);
  const neighbours = new Map<string, Neighbour>();
  for (const { dst, dev, lladdr, state } of parseJson<NeighbourJson>(stdout)) {
    const known = state?.[0] ?? '';
    const valid = lladdr !== undefined && known !== 'FAILED' && known !== 'INCOMPLETE';
    neighbours.set(neighbourKey({ address: canonical(dst), interface: dev }), {
      mac: valid ? macOrNull(lladdr) : null,
      state: known,
    });
  }
  return neighbours;
}

/** As our own addresses are written; inet_ntop differs from RFC 5952 for a few. */
function canonical(address: string): string {
  if (!address.includes(':')) return address;
  try {
    return parseAddress(address).text;
  } catch {
    return address;
  }
}

/** Tunnels have neighbours whose link-layer address is an IP address. */
function macOrNull(text: string): Uint8Array | null {
  try {
    return parseMac(text);
  } catch {
    return null;
  }
}

/** Characters that `ip -batch` would read as more than a part of a name. */
const UNSAFE_NAME = /["'\\#\s]/;
/** RFC 863: what arrives there is thrown away. */
const DISCARD_PORT = 9;

/**
 * Makes the kernel resolve neighbours and check that they are still there.
 *
 * `ip neigh … use` (NTF_USE) starts resolution as a packet would; `nud probe` has the kernel ask a known neighbour again, so
 * that one that went away or changed its address in silence is found out after 3 probes, a second apart. Both need
 * CAP_NET_ADMIN. Without it, a datagram of one byte to the neighbour's discard port is a packet that needs resolution.
 */
export class Solicitor {
  readonly #ip: IpCommand;
  readonly #sendDatagram: (name: NeighbourName) => void;
  #mayChange = true;

  /**
   * @param sendDatagram what to do without CAP_NET_ADMIN; default: send it
   * @param port UDP port that it goes to
   */
  constructor(
    ip: IpCommand,
    sendDatagram?: (name: NeighbourName) => void,
    private readonly port = DISCARD_PORT,
  ) {
    this.#ip = ip;
    this.#sendDatagram = sendDatagram ?? ((name) => this.#datagram(name));
  }

  /** Resolves those that are not known. Returns at once what the kernel said of the request, not of the neighbour. */
  async resolve(names: readonly NeighbourName[]): Promise<void> {
    await this.#change(names, ({ address, interface: dev }) => `neigh replace ${address} dev ${dev} nud none use\n`);
  }

  /** Verifies those that are known. Not for PERMANENT and NOARP entries: it would make them dynamic ones. */
  async verify(names: readonly NeighbourName[]): Promise<void> {
    await this.#change(names, ({ address, interface: dev }) => `neigh change ${address} dev ${dev} nud probe\n`);
  }

  async #change(names: readonly NeighbourName[], command: (name: NeighbourName) => string): Promise<void> {
    const safe = names.filter((name) => !UNSAFE_NAME.test(name.interface));
    if (safe.length === 0) return;
    if (this.#mayChange) {
      const { stderr } = await this.#ip.run(['-force', '-batch', '-'], safe.map(command).join(''));
      // An entry that vanished in between is one to resolve the next time: other errors are not ours to report.
      if (!stderr.includes('not permitted')) return;
      this.#mayChange = false;
    }
    for (const name of safe) this.#sendDatagram(name);
  }

  readonly #sockets = new Map<'udp4' | 'udp6', Socket>();

  #datagram({ address, interface: dev }: NeighbourName): void {
    const type = address.includes(':') ? 'udp6' : 'udp4';
    let socket = this.#sockets.get(type);
    if (!socket) {
      socket = createSocket(type);
      // ICMP errors come back as errors of the socket; they say that the neighbour is there.
      socket.on('error', () => undefined);
      socket.unref();
      this.#sockets.set(type, socket);
    }
    const host = address.startsWith('fe80:') ? `${address}%${dev}` : address;
    socket.send(new Uint8Array(1), this.port, host, () => undefined);
  }

  close(): void {
    for (const socket of this.#sockets.values()) socket.close();
    this.#sockets.clear();
  }
}
