import type { Source } from './format.js';
import type { InterfaceStatistics } from './pcapng_options.js';

/** An interface of a capture: what a pcapng interface description says, or a classic file's header. */
export interface CaptureInterface {
  /** Position in `Capture.interfaces`; counts on over the sections of a pcapng file. */
  readonly id: number;
  /** if_name, or ''. */
  readonly name: string;
  /** if_description, or ''. */
  readonly description: string;
  /** LINKTYPE number; 1 is Ethernet. */
  readonly linkType: number;
  /** Bytes that the capture kept of a packet at most; 0: no limit. */
  readonly snapLength: number;
  /** Byte order of the section that it is in. */
  readonly littleEndian: boolean;
  /** Byte offset of its description. */
  readonly position: number;
  /** A timestamp is `ticks * tickNumerator / tickDenominator + offsetNs` ns since the epoch. */
  readonly tickNumerator: bigint;
  readonly tickDenominator: bigint;
  readonly offsetNs: bigint;
}

/** One captured packet. `data` is a view of the file's bytes, not a copy. */
export interface CapturedPacket {
  /** Position in the file, from 0. */
  readonly index: number;
  /** Nanoseconds since the epoch; 0n where the file has none (pcapng's simple packet block). */
  readonly timestampNs: bigint;
  /** Position in `Capture.interfaces`. */
  readonly interfaceId: number;
  /** Bytes on the wire; more than `data.length` when the capture cut the packet. */
  readonly originalLength: number;
  readonly data: Uint8Array;
  /** opt_comment; several are joined by line feeds. */
  readonly comment?: string;
  /** epb_flags: bits 0-1 are 1 for inbound, 2 for outbound. */
  readonly flags?: number;
  /** epb_packetid. */
  readonly packetId?: bigint;
  /** epb_queue. */
  readonly queue?: number;
  /** epb_verdict of XDP: enum xdp_action. */
  readonly verdict?: number;
}

/**
 * Where each packet is: two numbers a packet, not an object, so that a file of millions of packets costs 12 bytes
 * for each. Every position in it was checked when it was added, so that reading it again cannot fail.
 */
export class PacketIndex {
  #positions = new Float64Array(256);
  #interfaces = new Uint32Array(256);
  length = 0;

  add(position: number, interfaceId: number): void {
    if (this.length === this.#positions.length) this.#grow();
    this.#positions[this.length] = position;
    this.#interfaces[this.length] = interfaceId;
    this.length++;
  }

  /** Byte offset of the packet's record or block. */
  position(index: number): number {
    return this.#positions[index]!;
  }

  interfaceId(index: number): number {
    return this.#interfaces[index]!;
  }

  #grow(): void {
    const positions = new Float64Array(this.length * 2);
    positions.set(this.#positions);
    this.#positions = positions;
    const interfaces = new Uint32Array(this.length * 2);
    interfaces.set(this.#interfaces);
    this.#interfaces = interfaces;
  }
}

/** Nanoseconds of a tick count on an interface's clock. */
export function timestampNs(iface: CaptureInterface, ticks: bigint): bigint {
  return (ticks * iface.tickNumerator) / iface.tickDenominator + iface.offsetNs;
}

/** What one of the two formats offers to `Capture`. */
export interface FormatReader {
  readonly format: 'pcap' | 'pcapng';
  readonly source: Source;
  readonly interfaces: CaptureInterface[];
  readonly index: PacketIndex;
  /** Interface statistics blocks, in file order; classic pcap has none. */
  readonly statistics: readonly InterfaceStatistics[];
  /**
   * Walks the file once and fills `interfaces` and `index`. Throws SLUICE_FORMAT at the first damage; what was found
   * before it stays valid.
   */
  scan(): void;
  /** The packet at a position in `index`. */
  packet(index: number): CapturedPacket;
}
