/** The headers of a frame as text, from the outside in: Ethernet, VLAN, IP and what is in it. What is cut is shown as far as it goes. */
import { EtherType, IpProtocol, TcpFlag } from '../../dataplane/packet/wire.js';
import { formatMac, formatWords } from '../../shared/addr.js';
import { protocolName } from '../config/protocols.js';
import type { HeaderText } from './document.js';

/** IP headers inside each other that are shown. */
const MOST_IP_HEADERS = 4;

const EXTENSIONS: ReadonlySet<number> = new Set([
  IpProtocol.hopByHop,
  IpProtocol.routing,
  IpProtocol.destinationOptions,
]);

/** `guePorts`: UDP destination ports behind which GUE is looked for. */
export function headersOf(frame: Uint8Array, guePorts: ReadonlySet<number> = new Set()): HeaderText[] {
  const reader = new HeaderReader(frame, guePorts);
  try {
    reader.ethernet();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    reader.add('cut', frame.length - reader.at, 'the frame ends in the middle of this header');
  }
  return reader.headers;
}

class HeaderReader {
  readonly headers: HeaderText[] = [];
  at = 0;
  private readonly view: DataView;
  private ipHeaders = 0;

  constructor(
    private readonly frame: Uint8Array,
    private readonly guePorts: ReadonlySet<number>,
  ) {
    this.view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  }

  add(name: string, bytes: number, text: string): void {
    this.headers.push({ name, at: this.at, bytes, text });
    this.at += bytes;
  }

  ethernet(): void {
    const { view, frame } = this;
    let type = view.getUint16(12);
    this.add('ethernet', 14, `${formatMac(frame.subarray(6, 12))} > ${formatMac(frame.subarray(0, 6))} ${hex16(type)}`);
    while (type === EtherType.vlan || type === EtherType.serviceVlan) {
      const tag = view.getUint16(this.at);
      type = view.getUint16(this.at + 2);
      this.add('vlan', 4, `vlan ${tag & 0xfff} priority ${tag >>> 13} ${hex16(type)}`);
    }
    if (type === EtherType.ipv4) this.ipv4();
    else if (type === EtherType.ipv6) this.ipv6();
    else this.rest();
  }

  private ipv4(): void {
    const { view, at } = this;
    if (this.tooDeep()) return;
    const bytes = Math.max(20, (view.getUint8(at) & 15) << 2);
    const fragment = view.getUint16(at + 6);
    const protocol = view.getUint8(at + 9);
    const words = [
      `${this.address(4, at + 12)} > ${this.address(4, at + 16)}`,
      protocolName(protocol),
      `length ${view.getUint16(at + 2)}`,
      `ttl ${view.getUint8(at + 8)}`,
      `tos ${view.getUint8(at + 1)}`,
      `id ${view.getUint16(at + 4)}`,
    ];
    if ((fragment & 0x4000) !== 0) words.push('DF');
    if ((fragment & 0x2000) !== 0) words.push('MF');
    if ((fragment & 0x1fff) !== 0) words.push(`fragment at ${(fragment & 0x1fff) << 3}`);
    this.add('ipv4', bytes, words.join(' '));
    if ((fragment & 0x1fff) === 0) this.transport(protocol);
    else this.rest();
  }

  private ipv6(): void {
    const { view, at } = this;
    if (this.tooDeep()) return;
    const first = view.getUint32(at);
    let protocol = view.getUint8(at + 6);
    const words = [
      `${this.address(6, at + 8)} > ${this.address(6, at + 24)}`,
      protocolName(protocol),
      `payload ${view.getUint16(at + 4)}`,
      `hops ${view.getUint8(at + 7)}`,
      `class ${(first >>> 20) & 0xff}`,
    ];
    if ((first & 0xfffff) !== 0) words.push(`flow 0x${(first & 0xfffff).toString(16)}`);
    this.add('ipv6', 40, words.join(' '));
    while (EXTENSIONS.has(protocol) || protocol === IpProtocol.fragment) {
      const next = view.getUint8(this.at);
      if (protocol === IpProtocol.fragment) {
        const field = view.getUint16(this.at + 2);
        const text = `${protocolName(next)} at ${field & 0xfff8}${(field & 1) === 0 ? '' : ' more'} id ${view.getUint32(this.at + 4)}`;
        this.add('fragment', 8, text);
        if ((field & 0xfff8) !== 0) return this.rest();
      } else {
        this.add('extension', (view.getUint8(this.at + 1) + 1) << 3, `type ${protocol}, then ${protocolName(next)}`);
      }
      protocol = next;
    }
    this.transport(protocol);
  }

  private transport(protocol: number): void {
    const { view, at } = this;
    const ports = (): string => `${view.getUint16(at)} > ${view.getUint16(at + 2)}`;
    switch (protocol) {
      case IpProtocol.tcp: {
        const text = `${ports()} [${tcpFlagsText(view.getUint8(at + 13))}] seq ${view.getUint32(at + 4)} ack ${view.getUint32(at + 8)} window ${view.getUint16(at + 14)}`;
        this.add('tcp', Math.max(20, (view.getUint8(at + 12) >>> 4) << 2), text);
        return this.rest();
      }
      case IpProtocol.udp: {
        const gue = this.guePorts.has(view.getUint16(at + 2));
        this.add('udp', 8, `${ports()} length ${view.getUint16(at + 4)} checksum ${hex16(view.getUint16(at + 6))}`);
        return gue ? this.gue() : this.rest();
      }
      case IpProtocol.ipip:
        return this.ipv4();
      case IpProtocol.ipv6:
        return this.ipv6();
      case IpProtocol.icmp:
      case IpProtocol.icmpv6:
        this.add(
          protocol === IpProtocol.icmp ? 'icmp' : 'icmp6',
          8,
          `type ${view.getUint8(at)} code ${view.getUint8(at + 1)}`,
        );
        return this.rest();
      default:
        return this.rest();
    }
  }

  /** Both variants: draft-ietf-intarea-gue-09. */
  private gue(): void {
    const first = this.view.getUint8(this.at);
    if (first >>> 6 === 1) {
      if (first >>> 4 === 6) this.ipv6();
      else this.ipv4();
      return;
    }
    const words = first & 31;
    const protocol = this.view.getUint8(this.at + 1);
    this.add(
      'gue',
      4 + (words << 2),
      `variant 0, ${protocolName(protocol)}${words === 0 ? '' : `, ${words} more words`}`,
    );
    this.transport(protocol);
  }

  private rest(): void {
    if (this.at < this.frame.length)
      this.add('payload', this.frame.length - this.at, `${this.frame.length - this.at} bytes`);
  }

  private tooDeep(): boolean {
    if (++this.ipHeaders <= MOST_IP_HEADERS) return false;
    this.rest();
    return true;
  }

  private address(family: 4 | 6, at: number): string {
    const word = (i: number): number => this.view.getInt32(at + (i << 2));
    return formatWords(family, family === 4 ? [word(0), 0, 0, 0] : [word(0), word(1), word(2), word(3)]);
  }
}

const FLAG_LETTERS: readonly [TcpFlag | 64 | 128, string][] = [
  [TcpFlag.fin, 'F'],
  [TcpFlag.syn, 'S'],
  [TcpFlag.rst, 'R'],
  [TcpFlag.psh, 'P'],
  [TcpFlag.ack, 'A'],
  [TcpFlag.urg, 'U'],
  [64, 'E'],
  [128, 'W'],
];

/** "SA" for SYN and ACK; "none". The letters are those that a packet in words takes. */
export function tcpFlagsText(flags: number): string {
  return FLAG_LETTERS.map(([bit, letter]) => ((flags & bit) === 0 ? '' : letter)).join('') || 'none';
}

function hex16(value: number): string {
  return `0x${value.toString(16).padStart(4, '0')}`;
}

export function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}
