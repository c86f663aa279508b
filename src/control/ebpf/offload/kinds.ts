/** The kinds of packet that the rules are written for, each with its own copy of the records that can match, and where their headers are. */
import type { Assembler, Label } from '../assembler.js';
import { Alu, Jump, Reg, Size } from '../instruction.js';

export interface PacketKind {
  /** 0: not IP. */
  readonly family: 4 | 6 | 0;
  /** TCP 6 or UDP 17, with its header. null: every packet that has neither; Copy.protocol says what it is. */
  readonly protocol: 6 | 17 | null;
  /** Its headers are read in the frame, where they always are; those of others from their copies. */
  readonly plain: boolean;
  /** What the next two are relative to: DATA or COPIES. */
  readonly base: Reg;
  /** Byte offset of the IP header, and of the transport header. */
  readonly l3: number;
  readonly l4: number;
}

/**
 * Value of a map (BPF_MAP_TYPE_PERCPU_ARRAY, one entry), for the packet in hand when it is not plain: its headers as they are in the frame, and words in host
 * order. Not on the stack: of a map's value the verifier knows nothing, so it goes through the rules once for all places that a header can be at.
 */
export const enum Copy {
  /** 60 bytes: the IP header; IPv4 options only while they are summed up. */
  header = 0,
  /** 20 bytes: the TCP header; 8 of UDP, 2 of ICMP, 4 of others with ports. */
  transport = 60,
  /** 8 bytes: the start of an IPv6 extension header. */
  extension = 80,
  /** IP protocol, behind IPv6 extension headers. */
  protocol = 88,
  /** Not 0: it is a fragment. IPv4: more fragments, and the offset in units of 8 bytes; IPv6: the same word of the fragment header. */
  fragment = 92,
  /** Bytes of the packet behind the header that has this. */
  fragmentBytes = 96,
  /** Each port of a packet that is neither TCP nor UDP; NO_PORT: it has none. */
  sport = 100,
  dport = 104,
  /** Both in one word; 0: it has none. */
  ports = 108,
  /** Offset of the IP header in the frame. */
  l3 = 112,
  SIZE = 120,
}

/** Above all ports. */
export const NO_PORT = -1;

/** Byte offsets in a frame without tags and, for l4, without IPv4 options or IPv6 extension headers. */
export const enum At {
  etherType = 12,
  l3 = 14,
  l4Ipv4 = 34,
  l4Ipv6 = 54,
}

export const DATA = Reg.r6;
export const END = Reg.r7;
export const FRAME = { base: DATA } as const;
/** In the place of DATA where the packet is not plain; a classic program has the frame's pointers instead, as everywhere. */
export const COPIES = Reg.r6;

function plain(family: 4 | 6, protocol: 6 | 17): PacketKind {
  return { family, protocol, plain: true, base: DATA, l3: At.l3, l4: family === 4 ? At.l4Ipv4 : At.l4Ipv6 };
}

function copied(family: 4 | 6 | 0, protocol: 6 | 17 | null): PacketKind {
  return { family, protocol, plain: false, base: COPIES, l3: Copy.header, l4: Copy.transport };
}

/** Untagged, IPv4 without options and not a fragment, or IPv6 without extension headers. */
export const PLAIN: readonly PacketKind[] = [plain(4, 17), plain(4, 6), plain(6, 17), plain(6, 6)];
/** All others that the data plane's parser takes (src/dataplane/packet/parse.ts). */
export const NOT_IP = copied(0, null);
export const IPV4: readonly PacketKind[] = [copied(4, 17), copied(4, 6), copied(4, null)];
export const IPV6: readonly PacketKind[] = [copied(6, 17), copied(6, 6), copied(6, null)];

export const KINDS: readonly PacketKind[] = [...PLAIN, NOT_IP, ...IPV4, ...IPV6];

/** Where a packet of a kind goes on. */
export type WayTo = (family: PacketKind['family'], protocol: PacketKind['protocol']) => Label;

/** reg = the number of `size` at byte `at` from `base`, in host order. */
export function field(asm: Assembler, { base }: Pick<PacketKind, 'base'>, reg: Reg, size: Size, at: number): void {
  asm.load(size, reg, base, at);
  if (size !== Size.B) asm.networkOrder(reg, size === Size.H ? 16 : 32);
}

/** reg = the port at byte `offset` of the transport header: source 0, destination 2. */
export function port(asm: Assembler, kind: PacketKind, reg: Reg, offset: 0 | 2): void {
  if (kind.protocol !== null) field(asm, kind, reg, Size.H, kind.l4 + offset);
  else asm.load(Size.W, reg, COPIES, offset === 0 ? Copy.sport : Copy.dport);
}

/** reg = source port << 16 | destination port; 0 where there are none. */
export function ports(asm: Assembler, kind: PacketKind, reg: Reg): void {
  if (kind.protocol !== null) field(asm, kind, reg, Size.W, kind.l4);
  else asm.load(Size.W, reg, COPIES, Copy.ports);
}

/** Byte offsets from `base` of the addresses, and their length in 32-bit words. */
export function addressesOf({ family, l3 }: PacketKind): { src: number; dst: number; words: number } {
  return family === 4 ? { src: l3 + 12, dst: l3 + 16, words: 1 } : { src: l3 + 8, dst: l3 + 24, words: 4 };
}

/** Bytes that every packet of a plain kind has. */
export function least(kind: PacketKind): number {
  return kind.l4 + (kind.protocol === 6 ? 20 : 8);
}

/** The packet has `bytes` bytes from here on. */
export function emitReach(asm: Assembler, bytes: number, leave: Label): void {
  asm.alu64X(Alu.MOV, Reg.r1, DATA);
  asm.alu64(Alu.ADD, Reg.r1, bytes);
  asm.jump64X(Jump.JGT, Reg.r1, END, leave);
}
