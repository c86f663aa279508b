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
  /** What to put before a command so that it runs where the peer is: "" or "ip netns exec NAME ". */
  prefix: string;
  /** How a person finds it, when we could not; '' when we did. */
  howToFind: string;
}

interface ShownLink {
  ifindex: number;
  ifname: string;
  link_index?: number;
  link_netnsid?: number;
  link?: string;
}

/** Looks for the peer of veth `name`; null when the pair does not say who it is. */
export function findPeer(system: DoctorSystem, name: string, ifindex: number): Peer | null {
  const shown = runJson<ShownLink[]>(system, 'ip', ['-j', 'link', 'show', 'dev', name])?.[0];
  const peerIndex = Number(system.readFile(`/sys/class/net/${name}/iflink`)?.trim() ?? shown?.link_index ?? 0);
  if (peerIndex === 0 || peerIndex === ifindex) return null;
  if (shown && shown.link_netnsid === undefined) {
    const peer = shown.link ?? nameOf(runJson<ShownLink[]>(system, 'ip', ['-j', 'link', 'show']), peerIndex);
    if (peer !== null)
      return {
        ifindex: peerIndex,
        name: peer,
        namespace: null,
        features: featuresOf(system, peer, []),
        prefix: '',
        howToFind: '',
      };
  }
  const howToFind = `for n in $(ip netns list | cut -d' ' -f1); do ip -n $n -o link | grep "^${peerIndex}:" && echo "in $n"; done`;
  const unseen: Peer = { ifindex: peerIndex, name: null, namespace: null, features: null, prefix: '', howToFind };
  const named = runJson<{ nsid: number; name?: string }[]>(system, 'ip', ['-j', 'netns', 'list-id']) ?? [];
  const namespace = named.find(({ nsid }) => nsid === shown?.link_netnsid)?.name;
  if (namespace === undefined) return unseen;
  const peer = nameOf(runJson<ShownLink[]>(system, 'ip', ['-n', namespace, '-j', 'link', 'show']), peerIndex);
  if (peer === null) return unseen;
  const features = featuresOf(system, peer, ['ip', 'netns', 'exec', namespace]);
  return { ifindex: peerIndex, name: peer, namespace, features, prefix: `ip netns exec ${namespace} `, howToFind: '' };
}

function nameOf(links: ShownLink[] | null, ifindex: number): string | null {
  return links?.find((link) => link.ifindex === ifindex)?.ifname ?? null;
}

function featuresOf(system: DoctorSystem, name: string, prefix: string[]): Features | null {
  const [file, ...args] = [...prefix, 'ethtool', '-k', name];
  const result = system.run(file, args);
  return result?.status === 0 ? parseFeatures(result.stdout) : null;
}
