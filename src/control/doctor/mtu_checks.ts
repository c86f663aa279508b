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

export function checkMtu(facts: LinkFacts, support: XdpSupport, findings: Findings): void {
  const { mtu, name } = facts;
  if (mtu === 0) {
    findings.add('info', 'mtu', 'the MTU could not be seen');
    return;
  }
  const limit = support.native === 'yes' ? (support.driver?.maxMtu ?? null) : null;
  if (limit !== null && mtu > limit) {
    const text = `MTU ${mtu} is over what ${support.driver?.name} takes with a native XDP program (about ${limit}): attaching would fail with ERANGE or EINVAL`;
    findings.add('bad', 'mtu', text, `ip link set dev ${name} mtu ${Math.min(limit, mtuForChunk(4096))}`);
  } else if (mtu > mtuForChunk(4096)) {
    const text = `MTU ${mtu}: packets over ${mtuForChunk(4096)} bytes do not fit into one chunk of 4096 and are dropped by the kernel`;
    findings.add('warn', 'mtu', text, `ip link set dev ${name} mtu ${mtuForChunk(4096)}`);
  } else if (mtu > mtuForChunk(2048)) {
    const text = `MTU ${mtu}: packets over ${mtuForChunk(2048)} bytes need frames of 4096 bytes`;
    findings.add('info', 'mtu', text, 'frames: { size: 4096 }    # in the configuration');
  } else findings.add('ok', 'mtu', `MTU ${mtu} fits native XDP and frames of 2048 bytes`);
  checkEncapsulation(facts, limit, findings);
}

/** What comes in at 1500 goes out larger. The whole way to the backends must take it. */
function checkEncapsulation(facts: LinkFacts, limit: number | null, findings: Findings): void {
  const { mtu, name } = facts;
  const room = mtu - CLIENT_MTU;
  if (room >= OVERHEAD_IPV6) {
    findings.add('ok', 'encapsulation', `full-size packets of clients (${CLIENT_MTU}) still fit when encapsulated`);
    return;
  }
  const wanted = CLIENT_MTU + OVERHEAD_IPV6;
  const limited = limit !== null && wanted > limit;
  const part =
    room >= OVERHEAD_IPV4
      ? 'fit over IPv4 (+20) but not over IPv6 (+40)'
      : `do not fit when encapsulated (IPv4 +20, IPv6 +40)`;
  const text =
    `packets of clients over ${mtu - (room >= OVERHEAD_IPV4 ? OVERHEAD_IPV6 : OVERHEAD_IPV4)} bytes ${part}: they are dropped as too_big. ` +
    `Raise the MTU on this interface and on the whole way to the backends` +
    (limited
      ? `; this driver takes at most ${limit} with XDP, so lower the MSS at the backends instead`
      : ', or lower the MSS at the backends');
  const mss = `ip route change … advmss ${mtu - OVERHEAD_IPV6 - 40}    # on each backend`;
  findings.add('warn', 'encapsulation', text, limited ? mss : `ip link set dev ${name} mtu ${wanted}`);
}
