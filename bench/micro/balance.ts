/** balance/: hash, flow table, service table, Maglev ring. */
import { FlowField, FlowTable } from '../../src/dataplane/balance/flow_table.js';
import { FlowHash } from '../../src/dataplane/balance/hash.js';
import type { Packet } from '../../src/dataplane/packet/packet.js';
import { IpProtocol } from '../../src/dataplane/packet/wire.js';
import type { Snapshot } from '../../src/dataplane/snapshot.js';
import { BURST, measure, SMOKE, type MicroCase } from './harness.js';
import { parsedBurst, SERVICE_PORT } from './packets.js';
import { snapshotOf } from './tables.js';

const KEY = [0x1234567, 0x2345678, 0x3456789, 0x456789a];
const UDP = { family: 4, protocol: IpProtocol.udp, bytes: 64 } as const;

function hashCase(name: string, packets: readonly Packet[], hashOf: (packet: Packet) => number): MicroCase {
  const body = (): number => {
    let sum = 0;
    for (let i = 0; i < BURST; i++) sum = (sum + hashOf(packets[i])) | 0;
    return sum;
  };
  const hashes = new Set(packets.map(hashOf));
  if (hashes.size !== BURST) throw new Error(`${name}: ${BURST} flows have ${hashes.size} hashes`);
  return { name, body, expected: packets.reduce((sum, packet) => (sum + hashOf(packet)) | 0, 0) };
}

function hashCases(): MicroCase[] {
  const hash = new FlowHash(KEY);
  return [
    hashCase('flow hash, IPv4', parsedBurst(UDP), (p) => hash.ipv4(p.src0, p.dst0, p.ports, p.protocol)),
    hashCase('flow hash, IPv6', parsedBurst({ family: 6, protocol: IpProtocol.tcp, bytes: 78 }), (p) =>
      hash.ipv6(p.src0, p.src1, p.src2, p.src3, p.dst0, p.dst1, p.dst2, p.dst3, p.ports, p.protocol),
    ),
  ];
}

/**
 * A table with `flows` flows, and the burst's packet objects, which get the next 64 flows' fields before each look-up: that is what
 * the row "fields" costs, and it is part of the rows that find.
 */
class FlowBench {
  private readonly hash = new FlowHash(KEY);
  private readonly packets = parsedBurst(UDP);
  private readonly table: FlowTable;
  /** Of the flows that the bodies look up, and their hashes. */
  private ports: Int32Array;
  private hashes: Int32Array;
  private next = 0;

  constructor(flows: number, slots: number) {
    // 48 bytes on: large allocations start 16 bytes into a page, and an entry should be one cache line.
    const words = new Int32Array(new ArrayBuffer(slots * 64 + 64), 48, slots * FlowField.STRIDE);
    this.table = new FlowTable(words, { tcpSyn: 10, tcpEstablished: 900, tcpClosing: 10, udp: 30, other: 30 });
    for (let flow = 0; flow < flows; flow++) {
      this.fill(this.packets[0], flow);
      this.table.insert(this.packets[0], flow & 0xffff, 1, 1000);
    }
    // Of a million, one or two found their 32 slots taken and pushed out another.
    this.ports = Int32Array.from({ length: flows }, (_, flow) => flow).filter((flow) => this.isThere(flow));
    if (this.ports.length < flows * 0.9999) throw new Error(`of ${flows} flows, ${this.ports.length} are in the table`);
    this.hashes = this.ports.map((ports) => this.fill(this.packets[0], ports));
  }

  /** Any 32 bits of ports will do: the table only compares them. Returns the hash. */
  private fill(packet: Packet, ports: number): number {
    packet.ports = ports;
    packet.flowHash = this.hash.ipv4(packet.src0, packet.dst0, ports, packet.protocol);
    return packet.flowHash;
  }

  private isThere(ports: number): boolean {
    this.fill(this.packets[0], ports);
    return this.table.find(this.packets[0]) >= 0;
  }

  /** The same ports with the top bit set are flows that are not there. */
  becomeAbsent(): void {
    this.ports = this.ports.map((ports) => ports | (1 << 31));
    this.hashes = this.ports.map((ports) => this.fill(this.packets[0], ports));
  }

  fields(): number {
    const { packets, ports, hashes } = this;
    const next = this.next;
    for (let i = 0; i < BURST; i++) {
      const packet = packets[i];
      packet.ports = ports[next + i];
      packet.flowHash = hashes[next + i];
    }
    this.next = next + 2 * BURST > ports.length ? 0 : next + BURST;
    return BURST;
  }

  /** How many of the next 64 are where they should be. */
  find(): number {
    this.fields();
    const { packets, table } = this;
    let found = 0;
    for (let i = 0; i < BURST; i++) {
      const at = table.find(packets[i]);
      if (at >= 0 && table.words[at + FlowField.ports] === packets[i].ports) found++;
    }
    return found;
  }
}

function* flowCases(): Generator<MicroCase> {
  const sizes = [
    [64, 65_536],
    [65_536, 262_144],
    [1_000_000, 2_097_152],
  ];
  for (const [flows, slots] of SMOKE ? sizes.slice(0, 2) : sizes) {
    const text = flows.toLocaleString('en');
    const bench = new FlowBench(flows, slots);
    if (flows === 64)
      yield { name: 'flow table, fields of the next flows', body: () => bench.fields(), expected: BURST };
    yield { name: `flow table, find, ${text} flows, hit`, body: () => bench.find(), expected: BURST };
    bench.becomeAbsent();
    yield { name: `flow table, find, ${text} flows, miss`, body: () => bench.find(), expected: 0 };
  }
}

const BACKENDS = Array.from({ length: 16 }, (_, i) => `10.0.0.${10 + i}`).join(', ');

function servicesYaml(count: number): string {
  // The VIP of the packets is the first; the others are 198.51.101.0 and on.
  const vip = (i: number): string => (i === 0 ? '198.51.100.10' : `198.51.${101 + (i >> 8)}.${i & 255}`);
  const lines = Array.from(
    { length: count },
    (_, i) => `  - { name: s${i}, vip: ${vip(i)}, port: 443, protocol: udp, backends: [${BACKENDS}] }`,
  );
  return `services:\n${lines.join('\n')}`;
}

/** The ring's answer for each packet: hash, remainder, ring, backend list. */
function maglevCase(snapshot: Snapshot): MicroCase {
  const { ringHash, rings, backendList } = snapshot;
  const ring = rings[0];
  const packets = parsedBurst(UDP);
  const body = (): number => {
    let sum = 0;
    for (let i = 0; i < BURST; i++) {
      const { src0, dst0, ports, protocol } = packets[i];
      const hash = ringHash.ipv4(src0, dst0, ports, protocol);
      sum = (sum + backendList[ring[(hash >>> 0) % ring.length]]) | 0;
    }
    return sum;
  };
  const expected = packets.reduce((sum, p) => {
    const hash = BigInt.asUintN(32, BigInt(ringHash.ipv4(p.src0, p.dst0, p.ports, p.protocol)));
    return sum + backendList[ring[Number(hash % BigInt(ring.length))]];
  }, 0);
  return { name: `Maglev look-up with its hash, ring of ${ring.length}`, body, expected };
}

function serviceCase(name: string, { serviceTable }: Snapshot, miss: boolean): MicroCase {
  const packets = parsedBurst(UDP);
  if (miss) for (const packet of packets) packet.dst0 ^= 1;
  const body = (): number => {
    let sum = 0;
    for (let i = 0; i < BURST; i++) {
      const packet = packets[i];
      sum = (sum + serviceTable.find4(packet.dst0, packet.protocol, packet.ports & 0xffff)) | 0;
    }
    return sum;
  };
  const service = serviceTable.find4(packets[0].dst0, IpProtocol.udp, SERVICE_PORT);
  if (service >= 0 === miss) throw new Error(`${name}: found service ${service}`);
  return { name, body, expected: miss ? -BURST : service * BURST };
}

measure(hashCases());
for (const each of flowCases()) measure([each]);
const one = snapshotOf(servicesYaml(1));
const thousand = snapshotOf(servicesYaml(1000));
measure([
  maglevCase(one),
  serviceCase('service look-up, 1 service', one, false),
  serviceCase('service look-up, 1,000 services', thousand, false),
  serviceCase('service look-up, 1,000 services, not ours', thousand, true),
]);
