/** A frame in a few words, as tcpdump would begin its line: for people who watch. What is cut or strange is shown as far as it goes. */
import { formatMac, formatWords } from '../shared/addr.js';

const ETHER_TYPES: Readonly<Record<number, string>> = { 0x0806: 'ARP', 0x88cc: 'LLDP', 0x8809: 'LACP' };
const PROTOCOLS: Readonly<Record<number, string>> = {
  1: 'icmp',
  6: 'tcp',
  17: 'udp',
  50: 'esp',
  58: 'icmp6',
  132: 'sctp',
};
/** IPv6 extension headers that have their length in their second byte. */
const EXTENSIONS = new Set([0, 43, 60]);
const FRAGMENT = 44;
const VLAN = new Set([0x8100, 0x88a8]);
/** Headers inside headers that are shown. */
const MOST_LAYERS = 4;

/** "vlan 5 192.0.2.1.1234 > 198.51.100.1.443: tcp [S] 60". Never throws. */
export function frameText(frame: Uint8Array): string {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  try {
    return ethernet(view);
  } catch {
    return `${frame.length} bytes, cut`;
  }
}

function ethernet(view: DataView): string {
  let at = 12;
  let tags = '';
  while (VLAN.has(view.getUint16(at))) {
    tags += `vlan ${view.getUint16(at + 2) & 0xfff} `;
    at += 4;
  }
  const type = view.getUint16(at);
  if (type === 0x0800 || type === 0x86dd) return tags + ip(view, at + 2, 1);
  const mac = (from: number): string => formatMac(new Uint8Array(view.buffer, view.byteOffset + from, 6));
  return `${tags}${mac(6)} > ${mac(0)}: ${ETHER_TYPES[type] ?? `ethertype 0x${type.toString(16).padStart(4, '0')}`}`;
}

function ip(view: DataView, at: number, layer: number): string {
  const version = view.getUint8(at) >>> 4;
  if (version !== 4 && version !== 6) return `ip version ${version}`;
  const four = version === 4;
  const address = (from: number): string => {
    const words = [0, 1, 2, 3].map((i) => (four && i > 0 ? 0 : view.getInt32(from + i * 4)));
    return formatWords(four ? 4 : 6, words as [number, number, number, number]);
  };
  const [source, destination] = four ? [address(at + 12), address(at + 16)] : [address(at + 8), address(at + 24)];
  const length = four ? view.getUint16(at + 2) : view.getUint16(at + 4) + 40;
  let protocol = view.getUint8(at + (four ? 9 : 6));
  let l4 = at + (four ? (view.getUint8(at) & 15) * 4 : 40);
  let offset = four ? view.getUint16(at + 6) & 0x1fff : 0;
  while (!four && (EXTENSIONS.has(protocol) || protocol === FRAGMENT)) {
    if (protocol === FRAGMENT) offset = view.getUint16(l4 + 2) >>> 3;
    const size = protocol === FRAGMENT ? 8 : (view.getUint8(l4 + 1) + 1) * 8;
    protocol = view.getUint8(l4);
    l4 += size;
  }
  const name = PROTOCOLS[protocol] ?? `protocol ${protocol}`;
  if (offset > 0) return `${source} > ${destination}: ${name} fragment at ${offset * 8} length ${length}`;
  if (protocol === 6 || protocol === 17 || protocol === 132) {
    const flags = protocol === 6 ? ` [${tcpFlags(view.getUint8(l4 + 13))}]` : '';
    return `${source}.${view.getUint16(l4)} > ${destination}.${view.getUint16(l4 + 2)}: ${name}${flags} length ${length}`;
  }
  if ((protocol === 4 || protocol === 41) && layer < MOST_LAYERS) {
    return `${source} > ${destination}: ${ip(view, l4, layer + 1)}`;
  }
  const kind = protocol === 1 || protocol === 58 ? ` type ${view.getUint8(l4)} code ${view.getUint8(l4 + 1)}` : '';
  return `${source} > ${destination}: ${name}${kind} length ${length}`;
}

/** As tcpdump writes them: [S.] is SYN and ACK. */
function tcpFlags(flags: number): string {
  const letters = ['F', 'S', 'R', 'P', '.', 'U', 'E', 'W'].filter((_, bit) => (flags & (1 << bit)) !== 0);
  return letters.length === 0 ? 'none' : letters.sort((a, b) => Number(a === '.') - Number(b === '.')).join('');
}
