/** What the parser and the decapsulation make of a frame: the very functions of the path, on a copy of the frame. */
import { decapsulate } from '../../dataplane/packet/decap.js';
import { Packet, PacketFlag } from '../../dataplane/packet/packet.js';
import { parse } from '../../dataplane/packet/parse.js';
import { DROP_REASONS, DropReason } from '../../dataplane/verdict.js';
import type { Snapshot } from '../../dataplane/snapshot.js';
import { protocolName } from '../config/protocols.js';
import type { Step } from './document.js';
import { tcpFlagsText } from './headers.js';
import { destinationOf, sourceOf } from './rule_conditions.js';

/** A copy of the frame as a packet in memory of its own. */
export function copyOf(frame: Uint8Array, headroom: number, chunkSize: number): Packet {
  const memory = new Uint8Array(chunkSize);
  memory.set(frame, headroom);
  const packet = new Packet(new DataView(memory.buffer), chunkSize);
  packet.place(headroom, frame.length);
  return packet;
}

/** The steps before the filters. Leaves the packet as the filters get it, but for checksums to be repaired. */
export function explainParse(packet: Packet, { decap }: Snapshot): Step[] {
  const reason = parse(packet);
  const steps = [parseStep(packet, reason)];
  if (reason !== DropReason.none || !decap.active || !decap.isOurs(packet)) return steps;
  const outer = `${sourceOf(packet)} > ${destinationOf(packet)}`;
  if (!decap.admits(packet)) {
    return [...steps, opened(DropReason.decapSource, `${sourceOf(packet)} is none of decapsulate.from`)];
  }
  const failure = decapsulate(packet);
  if (failure !== DropReason.none) return [...steps, opened(failure, 'the outer headers cannot be taken off')];
  steps.push(opened(DropReason.none, `to an address of decapsulate.addresses: outer ${outer} taken off`));
  steps.push(parseStep(packet, parse(packet)));
  return steps;
}

function opened(reason: DropReason, why: string): Step {
  const result = reason === DropReason.none ? 'opened' : `drop ${DROP_REASONS[reason]}`;
  return { stage: 'decapsulate', result, because: [why], detail: {} };
}

function parseStep(packet: Packet, reason: DropReason): Step {
  const start = packet.data;
  const hasPorts = (packet.flags & PacketFlag.hasPorts) !== 0;
  const flag = (bit: PacketFlag): boolean => (packet.flags & bit) !== 0;
  if (reason !== DropReason.none) {
    const why = `what the parser says: ${DROP_REASONS[reason]} (docs/troubleshooting.md)`;
    return {
      stage: 'parse',
      result: `drop ${DROP_REASONS[reason]}`,
      because: [why],
      detail: { malformed: DROP_REASONS[reason] },
    };
  }
  const isTcp = packet.protocol === 6 && packet.l4 !== 0;
  const detail = {
    malformed: null,
    family: packet.family,
    etherType: packet.etherType,
    vlanTags: packet.vlanTags,
    l3: packet.l3 - start,
    l3Length: packet.l3Length,
    l4: packet.l4 === 0 ? null : packet.l4 - start,
    protocol: packet.family === 0 ? null : packet.protocol,
    src: packet.family === 0 ? null : sourceOf(packet),
    dst: packet.family === 0 ? null : destinationOf(packet),
    sport: hasPorts ? packet.sourcePort : null,
    dport: hasPorts ? packet.destinationPort : null,
    tcpFlags: isTcp ? tcpFlagsText(packet.tcpFlags) : null,
    ttl: packet.family === 0 ? null : packet.ttl,
    tos: packet.family === 0 ? null : packet.tos,
    fragment: flag(PacketFlag.fragment),
    laterFragment: flag(PacketFlag.laterFragment),
    options: flag(PacketFlag.options),
    dontFragment: flag(PacketFlag.dontFragment),
  };
  return {
    stage: 'parse',
    result: packet.family === 0 ? 'not IP' : 'well-formed',
    because: [textOf(packet, detail)],
    detail,
  };
}

function textOf(
  packet: Packet,
  {
    etherType,
    l3,
    l4,
    sport,
    dport,
    tcpFlags,
    laterFragment,
    fragment,
  }: {
    etherType: number;
    l3: number;
    l4: number | null;
    sport: number | null;
    dport: number | null;
    tcpFlags: string | null;
    laterFragment: boolean;
    fragment: boolean;
  },
): string {
  if (packet.family === 0) return `EtherType 0x${etherType.toString(16).padStart(4, '0')}, layer 3 at ${l3}`;
  const ports = sport === null ? 'no ports' : `ports ${sport} > ${dport}`;
  const words = [
    `IPv${packet.family} at ${l3}, ${packet.l3Length} bytes`,
    `${sourceOf(packet)} > ${destinationOf(packet)}`,
    protocolName(packet.protocol),
    ports,
  ];
  if (tcpFlags !== null) words.push(`flags ${tcpFlags}`);
  if (l4 !== null) words.push(`layer 4 at ${l4}`);
  if (laterFragment) words.push('later fragment');
  else if (fragment) words.push('first fragment');
  return words.join(', ');
}
