import { addressToBytes } from '../shared/addr.js';
import type { Address } from '../shared/config.js';
import { usage, type Load, type Template } from './load.js';

/** A checksum that differs with the flow. */
export interface VariedChecksum {
  /** Offset of its field in the frame. */
  at: number;
  /** Ones-complement sum of all that it covers but the source's low 32 bits and port, folded to 16 bits, not inverted. */
  sum: number;
  /** What of a flow it covers. */
  address: boolean;
  port: boolean;
  /** 0 would say that there is none (RFC 768): 0xffff instead. */
  neverZero: boolean;
}

/** A frame whose flow is still open: low 32 bits of the source address, source port and checksums are 0. */
export interface FrameTemplate {
  bytes: Uint8Array;
  headerBytes: number;
  /** Offset of the low 32 bits of the (inner) source address. */
  addressAt: number;
  /** Offset of the source port, or the echo identifier. */
  portAt: number;
  checksums: readonly VariedChecksum[];
}

const ETHERNET_BYTES = 14;
const ETHERTYPE = { 4: 0x0800, 6: 0x86dd } as const;
const IP_BYTES = { 4: 20, 6: 40 } as const;
const PROTOCOL = { icmp: 1, tcp: 6, udp: 17, icmp6: 58, inner4: 4, inner6: 41 } as const;
const TRANSPORT_BYTES: Record<Template, number> = { udp: 8, 'tcp-syn': 24, 'tcp-ack': 20, icmp: 8 };
const TTL = 64;
/** RFC 9293 section 3.7.1: what Ethernet leaves for data over IPv4 and over IPv6. */
const MSS = { 4: 1460, 6: 1440 } as const;
const TCP_SYN = 0x02;
const TCP_ACK = 0x10;

/** Bytes of all headers of a load's frames: none can be smaller. */
export function headerBytes({
  template,
  destination,
  tunnel,
}: Pick<Load, 'template' | 'destination' | 'tunnel'>): number {
  const outer = tunnel ? IP_BYTES[tunnel.destination.family] : 0;
  return ETHERNET_BYTES + outer + IP_BYTES[destination.family] + TRANSPORT_BYTES[template];
}

/** A load's frame of this size. The payload is zeros. @throws SluiceError SLUICE_USAGE when the headers alone are larger */
export function frameTemplate(load: Load, bytes: number): FrameTemplate {
  const { template, destination, tunnel } = load;
  const { family } = destination;
  const headers = headerBytes(load);
  if (bytes < headers) {
    throw usage(
      `a frame of ${bytes} bytes has no room for its ${headers} bytes of headers`,
      'Ask for a larger --size.',
    );
  }
  const frame = new Uint8Array(bytes);
  const view = new DataView(frame.buffer);
  frame.set(load.destinationMac, 0);
  frame.set(load.sourceMac, 6);
  view.setUint16(12, ETHERTYPE[tunnel ? tunnel.destination.family : family]);
  let ip = ETHERNET_BYTES;
  if (tunnel) {
    writeIp(view, ip, family === 4 ? PROTOCOL.inner4 : PROTOCOL.inner6, tunnel);
    if (tunnel.destination.family === 4) view.setUint16(ip + 10, ~sumOf(view, ip, ip + IP_BYTES[4]) & 0xffff);
    ip += IP_BYTES[tunnel.destination.family];
  }
  const protocol = protocolOf(template, family);
  writeIp(view, ip, protocol, load);
  const l4 = ip + IP_BYTES[family];
  const addressAt = ip + (family === 4 ? 12 : 20);
  view.setInt32(addressAt, 0);
  writeTransport(view, l4, load);

  const pseudo = template !== 'icmp' || family === 6;
  const covered = sumOf(view, l4, bytes);
  const checksums: VariedChecksum[] = [
    {
      at: l4 + CHECKSUM_AT[template],
      sum: pseudo ? fold(covered + sumOf(view, ip + (family === 4 ? 12 : 8), l4) + protocol + bytes - l4) : covered,
      address: pseudo,
      port: true,
      neverZero: template === 'udp',
    },
  ];
  if (family === 4)
    checksums.push({ at: ip + 10, sum: sumOf(view, ip, l4), address: true, port: false, neverZero: false });
  return { bytes: frame, headerBytes: headers, addressAt, portAt: l4 + (template === 'icmp' ? 4 : 0), checksums };
}

const CHECKSUM_AT: Record<Template, number> = { udp: 6, 'tcp-syn': 16, 'tcp-ack': 16, icmp: 2 };

function protocolOf(template: Template, family: 4 | 6): number {
  if (template === 'udp') return PROTOCOL.udp;
  if (template === 'icmp') return family === 4 ? PROTOCOL.icmp : PROTOCOL.icmp6;
  return PROTOCOL.tcp;
}

/** An IP header up to the end of the frame; its checksum stays 0. */
function writeIp(
  view: DataView,
  at: number,
  protocol: number,
  { source, destination }: { source: Address; destination: Address },
): void {
  const length = view.byteLength - at;
  const addresses = Uint8Array.of(...addressToBytes(source), ...addressToBytes(destination));
  if (destination.family === 4) {
    view.setUint16(at, 0x4500);
    view.setUint16(at + 2, length);
    // DF; an identification of 0 is right for what is never fragmented (RFC 6864).
    view.setUint16(at + 6, 0x4000);
    view.setUint8(at + 8, TTL);
    view.setUint8(at + 9, protocol);
  } else {
    view.setUint32(at, 0x60000000);
    view.setUint16(at + 4, length - IP_BYTES[6]);
    view.setUint8(at + 6, protocol);
    view.setUint8(at + 7, TTL);
  }
  new Uint8Array(view.buffer).set(addresses, at + (destination.family === 4 ? 12 : 8));
}

function writeTransport(view: DataView, at: number, { template, destination, destinationPort }: Load): void {
  switch (template) {
    case 'udp':
      view.setUint16(at + 2, destinationPort);
      view.setUint16(at + 4, view.byteLength - at);
      return;
    case 'icmp':
      view.setUint8(at, destination.family === 4 ? 8 : 128);
      return;
    case 'tcp-syn':
    case 'tcp-ack': {
      const syn = template === 'tcp-syn';
      view.setUint16(at + 2, destinationPort);
      view.setUint32(at + 4, 1);
      view.setUint32(at + 8, syn ? 0 : 1);
      view.setUint8(at + 12, TRANSPORT_BYTES[template] << 2);
      view.setUint8(at + 13, syn ? TCP_SYN : TCP_ACK);
      view.setUint16(at + 14, 65535);
      if (syn) view.setUint32(at + 20, 0x02040000 | MSS[destination.family]);
    }
  }
}

/** Ones-complement sum (RFC 1071) of the bytes from `begin` to `end`, folded to 16 bits; an odd last byte is a word's high half. */
function sumOf(view: DataView, begin: number, end: number): number {
  let sum = 0;
  for (let at = begin; at < end; at += 2) sum += at + 1 < end ? view.getUint16(at) : view.getUint8(at) << 8;
  return fold(sum);
}

export function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x10000);
  return folded;
}
