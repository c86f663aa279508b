/** Routes and links as the kernel has them, read through `ip`, and the way to a backend that is made from them. */
import { SluiceError } from '../errors.js';
import { parseAddress, parseMac } from '../shared/addr.js';
import type { Address } from '../shared/config.js';
import type { IpCommand } from './ip_command.js';

/** The way to one address: what `publish.ts` writes into a backend's record. */
export interface NextHop {
  /** Canonical text of the backend's address. */
  address: string;
  /** Interface that leads there; '' when there is no route. */
  interface: string;
  /** Router on the way, null when the address is on the link. Its family may differ from the address's (RFC 5549). */
  gateway: string | null;
  /** Source address that the kernel would use; null when it has none for this route. */
  source: Address | null;
  /** Hardware address of the interface, 6 bytes; null when it has none. */
  smac: Uint8Array | null;
  /** Hardware address of the gateway, or of the backend itself; null while unknown. */
  dmac: Uint8Array | null;
  /** Largest layer-3 packet, bytes: the route's own MTU or the interface's, whichever is less. */
  mtu: number;
  /** Packets can be sent: both hardware addresses are there and the interface is up. */
  resolved: boolean;
  /** Why not, one sentence that names the address; null when all is well or an answer is only awaited. */
  error: string | null;
}

/** What the routing table says of one destination. */
export type Route =
  { interface: string; gateway: string | null; source: Address | null; mtu: number | null } | { error: string };

export interface Link {
  name: string;
  /** Null when it is no Ethernet device. */
  mac: Uint8Array | null;
  mtu: number;
  /** Up, with carrier. */
  up: boolean;
}

/** Parts of `ip -json route get` (iproute2 6.1, ip/iproute.c print_route) that are read here. */
interface RouteJson {
  type?: string;
  dst?: string;
  gateway?: string;
  via?: { family: string; host: string };
  dev?: string;
  prefsrc?: string;
  metrics?: { mtu?: number }[];
}

/**
 * Asks the kernel for the route to each address, all in one run of `ip`. The answers are in the order of the addresses.
 *
 * @throws SluiceError SLUICE_DEVICE when `ip` answers something that it should not
 */
export async function readRoutes(ip: IpCommand, addresses: readonly Address[]): Promise<Route[]> {
  if (addresses.length === 0) return [];
  // The text of an Address is canonical, so no line can hold anything but an address.
  const batch = addresses.map(({ text }) => `route get ${text}\n`).join('');
  const { stdout, stderr } = await ip.run(['-json', '-force', '-batch', '-'], batch);
  const failures = failuresByLine(stderr);
  const answers = stdout.split('\n').filter((line) => line.trim() !== '');
  if (answers.length + failures.size !== addresses.length) {
    throw unexpected(`${answers.length} routes and ${failures.size} errors for ${addresses.length} addresses`, stderr);
  }
  let answered = 0;
  return addresses.map(({ text }, i) => {
    const failure = failures.get(i + 1);
    if (failure !== undefined) return { error: `ip route get ${text} says "${failure}"` };
    const [route] = parseJson<RouteJson>(answers[answered++]);
    return routeOf(text, route);
  });
}

/** Error text by line of the batch: what stands before each "Command failed -:4". */
function failuresByLine(stderr: string): Map<number, string> {
  const failures = new Map<number, string>();
  let text: string[] = [];
  for (const line of stderr.split('\n')) {
    const failed = /^Command failed \S*:(\d+)$/.exec(line.trim());
    if (failed) {
      failures.set(Number(failed[1]), text.join(' ') || 'unknown error');
      text = [];
    } else if (line.trim() !== '') {
      text.push(line.trim());
    }
  }
  return failures;
}

function routeOf(address: string, route: RouteJson | undefined): Route {
  if (!route?.dev) return { error: `ip route get ${address} names no interface` };
  // Anything but a unicast route: "local" is an address of this host itself.
  if (route.type !== undefined && route.type !== 'unicast') {
    return { error: `ip route get ${address} says it is "${route.type}"` };
  }
  const gateway = route.gateway ?? route.via?.host ?? null;
  const source = route.prefsrc === undefined ? null : parseAddress(route.prefsrc);
  const mtus = (route.metrics ?? []).flatMap(({ mtu }) => (typeof mtu === 'number' && mtu > 0 ? [mtu] : []));
  return { interface: route.dev, gateway, source, mtu: mtus.length > 0 ? Math.min(...mtus) : null };
}

interface LinkJson {
  ifname: string;
  flags: string[];
  mtu: number;
  link_type: string;
  address?: string;
}

/** All interfaces, by name. */
export async function readLinks(ip: IpCommand): Promise<Map<string, Link>> {
  const { stdout, stderr, code } = await ip.run(['-json', 'link', 'show']);
  if (code !== 0) throw unexpected(`exit status ${code} of ip link show`, stderr);
  const links = new Map<string, Link>();
  for (const { ifname, flags, mtu, link_type, address } of parseJson<LinkJson>(stdout)) {
    links.set(ifname, {
      name: ifname,
      mac: link_type === 'ether' && address !== undefined ? parseMac(address) : null,
      mtu,
      up: flags.includes('UP') && flags.includes('LOWER_UP'),
    });
  }
  return links;
}

/** A list as `ip -json` prints it; nothing at all is an empty list. */
export function parseJson<T>(text: string): T[] {
  if (text.trim() === '') return [];
  try {
    return JSON.parse(text) as T[];
  } catch (cause) {
    throw unexpected('output that is not JSON', text.slice(0, 200), cause);
  }
}

export function unexpected(what: string, detail: string, cause?: unknown): SluiceError {
  return new SluiceError(
    'SLUICE_DEVICE',
    `unexpected answer of ip: ${what}${detail.trim() ? ` (${detail.trim().split('\n')[0]})` : ''}`,
    'sluice needs iproute2 5.10 or newer with JSON output; see: ip -V',
    { cause },
  );
}
