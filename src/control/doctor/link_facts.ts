/** What can be seen of one interface: gathered here, judged in link_checks.ts. */
import { findHolders } from './holders.js';
import { parseChannels, parseDriver, parseFeatures, type Features } from './offloads.js';
import { findPeer, type Peer } from './peer.js';
import { runJson, type DoctorSystem } from './system.js';

/** An XDP program that is on the interface now. */
export interface AttachedProgram {
  id: number;
  /** '' when the kernel does not tell us (needs CAP_SYS_ADMIN). */
  name: string;
  mode: string;
  /** Id of the bpf_link that holds it; null when it was attached by netlink, or when it could not be seen. */
  linkId: number | null;
  /** Processes that hold the link, as "name (pid)". */
  holders: string[];
}

export interface LinkFacts {
  name: string;
  ifindex: number;
  /** As `ethtool -i` names it; '' when nothing says. */
  driver: string;
  mtu: number;
  up: boolean;
  /** null while the interface is down: the kernel does not say. */
  carrier: boolean | null;
  rxQueues: number;
  txQueues: number;
  /** Most RX queues that the device takes; null when it does not say. */
  maxRxQueues: number | null;
  /** null when ethtool is not there or the device has no features. */
  features: Features | null;
  /** Fields that UDP over IPv4 is spread over the queues by, for example "sdfn"; null when the device does not say. */
  udpHash: string | null;
  /** For veth: the other end. */
  peer: Peer | null;
  /** null: none; undefined: could not be seen. */
  program: AttachedProgram | null | undefined;
  /** Bond or bridge that the interface belongs to; null for none. */
  master: string | null;
}

/** Names of all interfaces but lo, in the kernel's order of names. */
export function interfaceNames(system: DoctorSystem): string[] {
  // bonding_masters is a file in the same directory.
  return system.list('/sys/class/net').filter((name) => name !== 'lo' && name !== 'bonding_masters');
}

/** null when there is no such interface. */
export function readLinkFacts(system: DoctorSystem, name: string): LinkFacts | null {
  const sys = (file: string) => system.readFile(`/sys/class/net/${name}/${file}`)?.trim() ?? null;
  const ifindex = Number(sys('ifindex') ?? 0);
  if (ifindex === 0) return null;
  const ethtool = (option: string, ...more: string[]) => {
    const result = system.run('ethtool', [option, name, ...more]);
    return result?.status === 0 ? result.stdout : null;
  };
  const info = system.linkInfo(name);
  const driver =
    info?.driver ||
    parseDriver(ethtool('-i') ?? '') ||
    baseName(system.readLink(`/sys/class/net/${name}/device/driver`));
  const flags = Number(sys('flags') ?? 0);
  const carrier = sys('carrier');
  const queues = system.list(`/sys/class/net/${name}/queues`);
  const features = ethtool('-k');
  const channels = parseChannels(ethtool('-l') ?? '');
  return {
    name,
    ifindex,
    driver,
    mtu: Number(sys('mtu') ?? info?.mtu ?? 0),
    up: (flags & 1) === 1,
    carrier: carrier === null ? null : carrier === '1',
    rxQueues: channels?.rx ?? queues.filter((queue) => queue.startsWith('rx-')).length,
    txQueues: queues.filter((queue) => queue.startsWith('tx-')).length,
    maxRxQueues: channels?.maximum || null,
    features: features === null ? null : parseFeatures(features),
    udpHash: udpHash(system, name),
    peer: driver === 'veth' ? findPeer(system, name, ifindex) : null,
    program: readProgram(system, name, ifindex),
    master: baseName(system.readLink(`/sys/class/net/${name}/master`)) || null,
  };
}

function baseName(path: string | null): string {
  return path?.split('/').pop() ?? '';
}

/** `ethtool -n` prints one sentence a field; IP addresses and ports are what matters here. */
function udpHash(system: DoctorSystem, name: string): string | null {
  const result = system.run('ethtool', ['-n', name, 'rx-flow-hash', 'udp4']);
  if (result?.status !== 0 || !/IP SA/.test(result.stdout)) return null;
  const ports = /L4 bytes 0 & 1/.test(result.stdout) && /L4 bytes 2 & 3/.test(result.stdout);
  return ports ? 'sdfn' : 'sd';
}

/** Attachment modes in rtnetlink's IFLA_XDP_ATTACHED (include/uapi/linux/if_link.h). */
const XDP_MODES: Record<number, string> = { 1: 'native', 2: 'generic', 3: 'offload', 4: 'multi' };

interface IpLink {
  xdp?: { mode?: number; prog?: { id: number; name?: string } };
}
interface BpfLinkShow {
  id: number;
  type: string;
  prog_id: number;
}

function readProgram(system: DoctorSystem, name: string, ifindex: number): AttachedProgram | null | undefined {
  const query = system.queryXdp(ifindex);
  let program: { id: number; name: string; mode: string } | undefined;
  if (query) program = { id: query.programId, name: query.programName, mode: query.mode };
  else if (query === undefined) {
    const shown = runJson<IpLink[]>(system, 'ip', ['-j', '-d', 'link', 'show', 'dev', name]);
    if (!shown) return undefined;
    const xdp = shown[0]?.xdp;
    if (xdp?.prog) program = { id: xdp.prog.id, name: xdp.prog.name ?? '', mode: XDP_MODES[xdp.mode ?? 0] ?? 'native' };
  }
  if (!program) return null;
  const { linkId, holders } = findHolders(system, program.id);
  if (linkId !== null) return { ...program, linkId, holders };
  // A pinned link has no process; bpftool lists it.
  const links = runJson<BpfLinkShow[]>(system, 'bpftool', ['-j', 'link', 'show']) ?? [];
  const pinned = links.find((entry) => entry.type === 'xdp' && entry.prog_id === program.id);
  return { ...program, linkId: pinned?.id ?? null, holders };
}
