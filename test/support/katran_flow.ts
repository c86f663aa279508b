import { addressFromBytes, parseAddress, parsePrefix, prefixContains } from '../../src/shared/addr.js';
import type { Address } from '../../src/shared/config.js';
import { GUE_PORT, type KatranSetup, type KatranVip } from './katran_setup.js';

/** The flow that Katran files a packet under. */
export interface KatranFlow {
  protocol: number;
  src: Address;
  dst: Address;
  sport: number;
  dport: number;
}

/** Flow of a frame: of the packet inside GUE, and for an ICMP error of the packet in it, turned round. */
export function katranFlow(frame: Uint8Array): KatranFlow {
  return flowOfPacket(frame.subarray(14), false);
}

function flowOfPacket(packet: Uint8Array, turned: boolean): KatranFlow {
  const ipv4 = packet[0] >> 4 === 4;
  const protocol = packet[ipv4 ? 9 : 6];
  const first = addressFromBytes(ipv4 ? packet.subarray(12, 16) : packet.subarray(8, 24));
  const second = addressFromBytes(ipv4 ? packet.subarray(16, 20) : packet.subarray(24, 40));
  const rest = packet.subarray(ipv4 ? 20 : 40);
  if (protocol === 1 || protocol === 58) return flowOfPacket(rest.subarray(8), true);
  const ports = [(rest[0] << 8) | rest[1], (rest[2] << 8) | rest[3]];
  if (turned) return { protocol, src: second, dst: first, sport: ports[1], dport: ports[0] };
  if (protocol === 17 && ports[1] === GUE_PORT) return flowOfPacket(rest.subarray(8), false);
  return { protocol, src: first, dst: second, sport: ports[0], dport: ports[1] };
}

/** The VIP of a flow, by Katran's order of look-ups; `anyPort` says whether Katran forgets the destination port. */
export function vipOf(setup: KatranSetup, flow: KatranFlow): { vip: KatranVip; anyPort: boolean } | null {
  const matches = (one: KatranVip, byPrefix: boolean, port: number): boolean =>
    one.protocol === flow.protocol &&
    one.port === port &&
    (byPrefix
      ? one.prefixLength !== undefined && prefixContains(parsePrefix(`${one.address}/${one.prefixLength}`), flow.dst)
      : one.prefixLength === undefined && parseAddress(one.address).text === flow.dst.text);
  for (const [port, byPrefix] of [
    [flow.dport, false],
    [flow.dport, true],
    [0, false],
    [0, true],
  ] as const) {
    const vip = setup.vips.find((one) => matches(one, byPrefix, port));
    if (!vip) continue;
    const exact = !byPrefix && port !== 0;
    return { vip, anyPort: !exact && !vip.flags.includes('dport-hash') };
  }
  return null;
}
