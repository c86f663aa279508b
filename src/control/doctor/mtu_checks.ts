/** Sizes: what native XDP takes, what a chunk holds, and what encapsulation adds. */
import type { Findings } from './finding.js';
import type { LinkFacts } from './link_facts.js';
import type { XdpSupport } from './link_checks.js';

/** Bytes that encapsulation adds in front: IPv4 in IPv4 (RFC 2003), and anything in IPv6 (RFC 2473). */
const OVERHEAD_IPV4 = 20;
const OVERHEAD_IPV6 = 40;

/** MTU of clients on the Internet: the largest packet that will come in. */
const CLIENT_MTU = 1500;

/**
 * Largest frame in one chunk, bytes: the kernel keeps 256 (XDP_PACKET_HEADROOM) in front in copy mode. Frames are
 * MTU + 14, and 4 more for each VLAN tag. Larger ones are dropped by the kernel (measured: rx_dropped, no fragments).
 */
const HEADROOM = 256;
const ETHERNET_AND_VLAN = 14 + 4;
const mtuForChunk = (chunk: number) => chunk - HEADROOM - ETHERNET_AND_VLAN;

/** Two tags: the addon's own sum, see ChooseMode in native/xsk_socket.cc. */
const ETHERNET_AND_TAGS = 14 + 2 * 4;
/** What of a frame of 2048 bytes is left of 1792 where only whole KiB count. */
const WHOLE_KIB_OF_2048 = 1024;

/** `ip link set` for this interface, or for the other end of a veth pair, where that is what has to change. */
const setMtu = (prefix: string, name: string, mtu: number) => `${prefix}ip link set dev ${name} mtu ${mtu}`;

export function checkMtu(facts: LinkFacts, support: XdpSupport, findings: Findings): void {
  if (facts.mtu === 0) {
    findings.add('info', 'mtu', 'the MTU could not be seen');
    return;
  }
  const limit = support.native === 'yes' ? (support.driver?.maxMtu ?? null) : null;
  // On veth it is the other end's MTU that bounds what arrives, and that the kernel checks (veth_xdp_set).
  const { peer } = facts;
  const incoming =
    peer?.name && peer.mtu !== null ? { ...peer, name: peer.name, mtu: peer.mtu } : { ...facts, prefix: '' };
  const whose = incoming.name === facts.name ? 'MTU' : `the other end (${incoming.name}) has MTU`;
  checkIncoming(incoming, whose, limit, support.driver?.name ?? '', findings);
  checkZeroCopyBuffer(facts, support, findings);
  checkEncapsulation(facts, limit, findings);
}

function checkZeroCopyBuffer({ mtu }: LinkFacts, { driver, zeroCopy }: XdpSupport, findings: Findings): void {
  const most = WHOLE_KIB_OF_2048 - ETHERNET_AND_TAGS;
  if (!driver?.wholeKib || zeroCopy !== 'yes' || mtu <= most) return;
  const text = `MTU ${mtu}: this driver receives zero-copy into whole KiB, so frames of 2048 bytes would take an MTU of at most ${most}; with them packets are copied`;
  findings.add('info', 'zero-copy', text, 'frames: { size: 4096 }    # in the configuration');
}

interface Incoming {
  name: string;
  mtu: number;
  prefix: string;
}

function checkIncoming(
  incoming: Incoming,
  whose: string,
  limit: number | null,
  driver: string,
  findings: Findings,
): void {
  const { mtu, name, prefix } = incoming;
  if (limit !== null && mtu > limit) {
    const text = `${whose} ${mtu}, over what ${driver} takes with a native XDP program (about ${limit}): attaching would fail with ERANGE or EINVAL`;
    findings.add('bad', 'mtu', text, setMtu(prefix, name, Math.min(limit, mtuForChunk(4096))));
  } else if (mtu > mtuForChunk(4096)) {
    const text = `${whose} ${mtu}: packets over ${mtuForChunk(4096)} bytes do not fit into one chunk of 4096 and are dropped by the kernel`;
    findings.add('warn', 'mtu', text, setMtu(prefix, name, mtuForChunk(4096)));
  } else if (mtu > mtuForChunk(2048)) {
    const text = `${whose} ${mtu}: packets over ${mtuForChunk(2048)} bytes need frames of 4096 bytes`;
    findings.add('info', 'mtu', text, 'frames: { size: 4096 }    # in the configuration');
  } else findings.add('ok', 'mtu', `${whose} ${mtu}, which fits native XDP and frames of 2048 bytes`);
}

/** What comes in at 1500 goes out larger. The whole way to the backends must take it, the other end of a veth first. */
function checkEncapsulation(facts: LinkFacts, limit: number | null, findings: Findings): void {
  const mtu = Math.min(facts.mtu, facts.peer?.mtu ?? Infinity);
  const room = mtu - CLIENT_MTU;
  if (room >= OVERHEAD_IPV6) {
    findings.add('ok', 'encapsulation', `full-size packets of clients (${CLIENT_MTU}) still fit when encapsulated`);
    return;
  }
  const fits4 = room >= OVERHEAD_IPV4;
  const part = fits4
    ? 'fit over IPv4 (+20) but not over IPv6 (+40)'
    : 'do not fit when encapsulated (IPv4 +20, IPv6 +40)';
  const what = `packets of clients over ${mtu - (fits4 ? OVERHEAD_IPV6 : OVERHEAD_IPV4)} bytes ${part}: they are dropped as too_big`;
  const wanted = CLIENT_MTU + OVERHEAD_IPV6;
  if (limit !== null && wanted > limit) {
    const text = `${what}. This driver takes at most ${limit} with XDP, so lower the MSS at the backends`;
    findings.add(
      'warn',
      'encapsulation',
      text,
      `ip route change … advmss ${mtu - OVERHEAD_IPV6 - 40}    # on each backend`,
    );
    return;
  }
  const own = facts.mtu < wanted ? [setMtu('', facts.name, wanted)] : [];
  const others =
    facts.peer?.name && (facts.peer.mtu ?? wanted) < wanted ? [setMtu(facts.peer.prefix, facts.peer.name, wanted)] : [];
  const text = `${what}. Raise the MTU here and on the whole way to the backends, or lower the MSS at the backends`;
  findings.add('warn', 'encapsulation', text, [...own, ...others].join(' && '));
}
