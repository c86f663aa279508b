/** Where the data path does not do to a packet of Katran's tests what Katran does, and why. Any other case has to come out the same. */
import { expect } from 'vitest';
import type { Deviation } from './compatibility.js';
import { readIcmp } from './icmp_message.js';
import { katranFlow } from './katran_flow.js';
import type { KatranOutcome } from './katran_run.js';
import { readEncapsulated } from './outer_reader.js';

export interface Difference extends Deviation {
  /** `other`: what happens here. */
  verdict?: KatranOutcome['verdict'];
  /** `other`: the frame is as it came in. */
  untouched?: true;
  /** What of a frame is the same in Katran's and in ours. */
  common: (frame: Buffer) => unknown;
  /** Fails unless our frame is right where it differs. */
  check?: (frame: Buffer) => void;
}

/** The frame in hex, without some fields: offset and length in bytes. */
const blank = (frame: Buffer, ...fields: [at: number, bytes: number][]): string => {
  const copy = Buffer.from(frame);
  for (const [at, bytes] of fields) copy.fill(0, at, at + bytes);
  return copy.toString('hex');
};

const IP = 14;
const OUTER_UDP = { 4: IP + 20, 6: IP + 40 } as const;
/** Where the outer UDP header is. */
const guePlace = (frame: Buffer): number => OUTER_UDP[readEncapsulated(frame).version];

const udpRight = (frame: Buffer): void => expect(readEncapsulated(frame).udp?.checksumRight).toBe(true);

/** What a sender learns from an ICMP error: all but its length and checksums, and of the quoted packet addresses and ports. */
function lesson(frame: Buffer): string[] {
  const isIpv4 = frame[IP] >> 4 === 4;
  const header = isIpv4 ? 20 : 40;
  const addresses = isIpv4 ? 12 : 8;
  const icmp = IP + header;
  const quote = icmp + 8;
  return [
    frame.subarray(0, IP),
    frame.subarray(IP + addresses, IP + header),
    frame.subarray(icmp, icmp + 2),
    frame.subarray(icmp + 4, icmp + 8),
    frame.subarray(quote + addresses, quote + header + 4),
  ].map((part) => part.toString('hex'));
}

const OWN_ADDRESS =
  'Sent to the load balancer’s own address, for a VIP. Katran takes the tunnel off and hands the packet to the host’s stack; here the host gets it as ' +
  'it is, and [`sluice backend-agent`](backend-agent.md) takes the tunnel off.';
const OWN: Omit<Difference, 'cases'> = {
  kind: 'other',
  verdict: 'XDP_PASS',
  untouched: true,
  why: OWN_ADDRESS,
  common: katranFlow,
};
const TOO_BIG =
  'Type, code, MTU, addresses and the flow that it is about are the same. Katran quotes 84 or 248 bytes; here as many as fit into 576 or 1280 bytes ' +
  '(RFC 1812, RFC 4443), with TOS 0xc0 and DF.';
const WRONG_QUOTE =
  'Katran’s quote has lengths and checksums that the packet did not have, and its ICMP checksum is wrong, so that receivers drop it; this variant is not in ' +
  'its public source.';
const BY_ID_AND_PORT =
  'Which of the flow’s fields make the outer source (IPIP) or UDP port (GUE) of a VIP that hashes by the destination port alone: here never the ' +
  'client’s address; in Katran it counts where a server id decides, and not where the ring does.';

const MARKS =
  'Not asked of the data path: Katran puts outer headers on what sockets with a mark send, for a checker of somebody else’s. Here checks are part of the daemon ' +
  '(`health: {through: tunnel}`), and packets of other sockets never come near them.';

/** By suite. */
export const DIFFERENCES: Readonly<Record<string, Difference[]>> = {
  gue: [
    {
      cases: [8, 9],
      kind: 'part',
      why:
        'Outer UDP checksum of ICMP errors: Katran derives it from the TCP or UDP checksum inside and takes one where there is none. Its checksum is wrong, ' +
        'the one here is right.',
      common: (frame) => blank(frame, [guePlace(frame) + 6, 2]),
      check: udpRight,
    },
  ],
  tpr: [
    {
      cases: [15],
      kind: 'part',
      why: BY_ID_AND_PORT,
      common: (frame) => blank(frame, [IP + 10, 6]),
      check: readEncapsulated,
    },
  ],
  tpr_gue: [
    {
      cases: [15],
      kind: 'part',
      why: 'As `tpr` 15, with the checksum that follows from it.',
      common: (frame) => blank(frame, [guePlace(frame), 2], [guePlace(frame) + 6, 2]),
      check: udpRight,
    },
  ],
  icmp_toobig: [{ cases: [1, 2], kind: 'part', why: TOO_BIG, common: lesson, check: readIcmp }],
  gue_icmp_toobig: [
    { cases: [1], kind: 'part', why: `As \`icmp_toobig\`. ${WRONG_QUOTE}`, common: lesson, check: readIcmp },
    {
      cases: [2],
      kind: 'part',
      why: 'The same, and the MTU: Katran says 0, here it is what fits.',
      common: (frame) => lesson(frame).toSpliced(3, 1),
      check: (frame) => expect(readIcmp(frame).rest).toBe(1500 - 48),
    },
  ],
  decap_stats: [{ cases: [1, 2], ...OWN }],
  xpop_decap: [{ cases: [6], ...OWN, why: 'As `decap_stats` 1.' }],
  egress_decap: [
    {
      cases: [1, 2],
      kind: 'other',
      verdict: 'XDP_PASS',
      why:
        'Packets of backends to clients that leave through the load balancer. The tunnel is taken off in the same way; then Katran sends the packet back to ' +
        'the router that it came from, here the host routes it.',
      common: (frame) => blank(frame, [0, 12]),
    },
  ],
  hc: [
    { cases: [1], kind: 'other', why: MARKS, common: () => null },
    {
      cases: [2, 3],
      kind: 'part',
      why: 'DF of the outer header, and the checksum that follows: checks are wrapped with DF here, as nobody on the way is to fragment them.',
      common: (frame) => blank(frame, [IP + 6, 1], [IP + 10, 2]),
      check: readEncapsulated,
    },
  ],
};
