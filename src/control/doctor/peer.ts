/** The other end of a veth pair, which may be in another network namespace. */
import { parseFeatures, type Features } from './offloads.js';
import { runJson, type DoctorSystem } from './system.js';

export interface Peer {
  ifindex: number;
  /** null when it is in a namespace that we cannot look into. */
  name: string | null;
  /** Namespace by its name under /run/netns; null: ours, or one without a name. */
  namespace: string | null;
  features: Features | null;
  /** null when it could not be seen. */
  mtu: number | null;
  /** What to put before a command so that it runs where the peer is: "" or "ip netns exec NAME ". */
  prefix: string;
  /** How a person finds it, when we could not; '' when we did. */
  howToFind: string;
}

interface ShownLink {
  ifindex: number;
  ifname: string;
  mtu?: number;
  link_index?: number;
  link_netnsid?: number;
}

/** Looks for the peer of veth `name`; null when the pair does not say who it is. */
export function findPeer(system: DoctorSystem, name: string, ifindex: number): Peer | null {
  const shown = runJson<ShownLink[]>(system, 'ip', ['-j', 'link', 'show', 'dev', name])?.[0];
  const peerIndex = Number(system.readFile(`/sys/class/net/${name}/iflink`)?.trim() ?? shown?.link_index ?? 0);
  if (peerIndex === 0 || peerIndex === ifindex) return null;
  if (shown && shown.link_netnsid === undefined) {
    const links = runJson<ShownLink[]>(system, 'ip', ['-j', 'link', 'show']);
    const peer = links?.find((link) => link.ifindex === peerIndex);
    if (peer) return seen(system, peer, null);
  }
  const named = runJson<{ nsid: number; name?: string }[]>(system, 'ip', ['-j', 'netns', 'list-id']) ?? [];
  const namespace = named.find(({ nsid }) => nsid === shown?.link_netnsid)?.name;
  if (namespace !== undefined) {
    const links = runJson<ShownLink[]>(system, 'ip', ['-n', namespace, '-j', 'link', 'show']);
    const peer = links?.find((link) => link.ifindex === peerIndex);
    if (peer) return seen(system, peer, namespace);
  }
  const howToFind = `for n in $(ip netns list | cut -d' ' -f1); do ip -n $n -o link | grep "^${peerIndex}:" && echo "in $n"; done`;
  return { ifindex: peerIndex, name: null, namespace: null, features: null, mtu: null, prefix: '', howToFind };
}

function seen(system: DoctorSystem, link: ShownLink, namespace: string | null): Peer {
  const inside = namespace === null ? [] : ['ip', 'netns', 'exec', namespace];
  const [file, ...args] = [...inside, 'ethtool', '-k', link.ifname];
  const shown = system.run(file, args);
  return {
    ifindex: link.ifindex,
    name: link.ifname,
    namespace,
    features: shown?.status === 0 ? parseFeatures(shown.stdout) : null,
    mtu: link.mtu ?? null,
    prefix: inside.map((word) => `${word} `).join(''),
    howToFind: '',
  };
}
