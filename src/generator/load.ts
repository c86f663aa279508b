/** What a load of packets is: what `sluice gen` reads from its command line, and every engine sends alike. */
import { SluiceError } from '../errors.js';
import { addressBits, formatPrefix } from '../shared/addr.js';
import type { Address, Prefix } from '../shared/config.js';

/** `udp`; `tcp-syn` with an MSS option, as a client begins; `tcp-ack`, a bare ACK of no connection; `icmp`, echo requests. */
export const TEMPLATES = ['udp', 'tcp-syn', 'tcp-ack', 'icmp'] as const;
export type Template = (typeof TEMPLATES)[number];

/** Frames of one size, and how many of them for each so many of the other sizes. */
export interface SizeShare {
  /** Of the frame from the Ethernet header on, without the FCS that a NIC adds. */
  bytes: number;
  weight: number;
}

/** How much of a load, how fast, and by what. */
export interface LoadLimits {
  interface: string;
  sizes: readonly SizeShare[];
  /** 0: as fast as the engine can. */
  packetsPerSecond: number;
  /** 0: as many as the time allows. */
  packets: number;
  durationMs: number;
  /** CPU to send from; null: wherever. */
  cpu: number | null;
}

/** Frames as they are, in their order, again and again. `sizes` has each length that there is. */
export interface Replay extends LoadLimits {
  /** One after the other. */
  frames: Uint8Array;
  /** Where each ends. */
  ends: Uint32Array;
}

/**
 * Flows differ in source address and source port (in the echo identifier with `icmp`): flow i has address `source` + i mod n and port `sourcePort` +
 * i / n, n being the prefix's addresses, or `flows` when these are fewer.
 */
export interface Load extends LoadLimits {
  template: Template;
  sourceMac: Uint8Array;
  destinationMac: Uint8Array;
  source: Prefix;
  destination: Address;
  sourcePort: number;
  destinationPort: number;
  /** Addresses of an IP header around each packet (RFC 2003, RFC 2473). */
  tunnel: { source: Address; destination: Address } | null;
  flows: number;
  /** Which flow a packet is of: one after the other, or by chance. */
  pick: 'cycle' | 'random';
}

/** An hour: what nobody ends does not go on for days. */
export const LONGEST_MS = 3_600_000;
/** A page less the headroom and the kernel's own data at its two ends. */
export const MOST_FRAME_BYTES = 3000;

/** Addresses that the flows of a load have: 2^31 at most, of which only the low 32 bits differ. */
export function sourceAddresses({ source, flows }: Pick<Load, 'source' | 'flows'>): number {
  return Math.min(flows, 2 ** Math.min(addressBits(source.family) - source.length, 31));
}

/** Refuses what makes no sense. @throws SluiceError SLUICE_USAGE with what to do */
export function checkLoad(load: Load): void {
  const { source, destination, tunnel, flows, sourcePort } = load;
  if (source.family !== destination.family) {
    throw usage(
      `sources ${formatPrefix(source)} and destination ${destination.text} are of two families`,
      'Give --src a prefix of the family of --dst.',
    );
  }
  if (tunnel && tunnel.source.family !== tunnel.destination.family) {
    throw usage(
      `outer source ${tunnel.source.text} and outer destination ${tunnel.destination.text} are of two families`,
      'Give both of one family.',
    );
  }
  const most = sourceAddresses({ source, flows: 2 ** 31 }) * (65536 - sourcePort);
  if (flows > most) {
    throw usage(
      `${flows} flows are more than the ${most} that ${formatPrefix(source)} has with ports from ${sourcePort}`,
      'Give --src a shorter prefix, or ask for fewer --flows.',
    );
  }
  checkLimits(load);
}

/** What loads of any kind may not be. @throws SluiceError SLUICE_USAGE */
export function checkLimits(load: LoadLimits): void {
  if (load.durationMs > LONGEST_MS) {
    throw usage(
      `${load.durationMs / 1000} s are longer than a load may be: ${LONGEST_MS / 1000} s`,
      'Run it again when it has ended.',
    );
  }
}

export function usage(message: string, remedy: string): SluiceError {
  return new SluiceError('SLUICE_USAGE', message, remedy);
}
