/**
 * The flow table by load: how many live flows are lost, what an insertion and a look-up cost, and how many packets find their flow
 * when more flows send than there are slots. A million slots, so each look-up waits for memory unless the burst's prefetch hides it.
 *
 *   node dist-bench/bench/flow_table.js [SLOTS]    one line a load; about a minute
 *
 * For comparing two versions run them in turn; single figures differ by 10 % from run to run.
 */
import { FlowField, FlowTable } from '../src/dataplane/balance/flow_table.js';
import { FlowHash } from '../src/dataplane/balance/hash.js';
import { Packet } from '../src/dataplane/packet/packet.js';
import { IpProtocol, TcpFlag } from '../src/dataplane/packet/wire.js';

const SLOTS = Number(process.argv[2] ?? 1 << 20);
const LOADS = [50, 80, 90, 95, 100, 110, 200];
const BURST = 64;
/** Bursts that a time is the mean of. */
const BURSTS = 4000;
const TIMEOUTS = { tcpSyn: 3600, tcpEstablished: 3600, tcpClosing: 3600, udp: 3600, other: 3600 };
/** Of flows that never come into the table. */
const ABSENT = 0x40000000;

const hash = new FlowHash([0x1234567, 0x2345678, 0x3456789, 0x456789a]);
const bytes = new DataView(new ArrayBuffer(256));
bytes.setUint8(34 + 13, TcpFlag.ack);
const packets = Array.from({ length: BURST }, () =>
  Object.assign(new Packet(bytes, 256), { family: 4, protocol: IpProtocol.tcp, dst0: 0x0a000001, l4: 34 }),
);

/** Makes `packet` one of flow number n. */
function fill(packet: Packet, n: number): void {
  packet.src0 = n;
  packet.ports = Math.imul(n, 0x9e3779b1);
  packet.flowHash = hash.ipv4(n, packet.dst0, packet.ports, packet.protocol);
}

/** Flow numbers 0 to count − 1 in an order without a pattern: an odd multiplier, modulo the next power of two. */
function* shuffled(count: number): Generator<number> {
  const mask = 2 ** Math.ceil(Math.log2(count)) - 1;
  for (let i = 0; i <= mask; i++) {
    const n = (Math.imul(i, 0x27d4eb2f) ^ 0x155555) & mask;
    if (n < count) yield n;
  }
}

/** CPU time of this process: what other programs take does not count. */
function cpuNs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1000;
}

class Trial {
  private readonly table: FlowTable;
  private nowMs = 0;
  private readonly flows: number;

  constructor(load: number) {
    // 48 bytes on: large allocations start 16 bytes into a page, and an entry should be one cache line.
    const words = new Int32Array(new ArrayBuffer(SLOTS * 64 + 64), 48, SLOTS * FlowField.STRIDE);
    this.table = new FlowTable(words, TIMEOUTS);
    this.flows = Math.round((SLOTS * load) / 100);
  }

  /** A flow's first and second packet; a thousand flows a millisecond. */
  private add(n: number): void {
    fill(packets[0], n);
    const at = this.table.insert(packets[0], n & 0xffff, 1, this.nowMs);
    this.table.touch(at, packets[0], this.nowMs);
    if (n % 1000 === 0) this.nowMs++;
  }

  /** Fills the table; returns ns for each of the last 2 % of insertions. */
  fillUp(): number {
    const last = Math.floor(this.flows * 0.98);
    for (let n = 0; n < last; n++) this.add(n);
    const start = cpuNs();
    for (let n = last; n < this.flows; n++) this.add(n);
    return (cpuNs() - start) / (this.flows - last);
  }

  /** SYNs of flows that were never there, three times the slots. Returns ns for each, with the look-up before it. */
  flood(): number {
    const syns = 3 * SLOTS;
    bytes.setUint8(34 + 13, TcpFlag.syn);
    const start = cpuNs();
    for (let n = 0; n < syns; n++) {
      fill(packets[0], n | ABSENT);
      if (this.table.find(packets[0]) < 0) this.table.insert(packets[0], 0, 1, this.nowMs);
      if (n % 1000 === 0) this.nowMs++;
    }
    const ns = (cpuNs() - start) / syns;
    bytes.setUint8(34 + 13, TcpFlag.ack);
    return ns;
  }

  /** Numbers of the flows that the table still has, as it is now. */
  present(): number[] {
    const there: number[] = [];
    for (const n of shuffled(this.flows)) {
      fill(packets[0], n);
      if (this.table.find(packets[0]) >= 0) there.push(n);
    }
    return there;
  }

  /** Share of flows that were given up while alive. */
  lost(present: number): number {
    return 1 - present / this.flows;
  }

  /** ns a packet: fields, prefetch and look-up of bursts, median of nine. */
  find(numbers: readonly number[], found: boolean): number {
    const times: number[] = [];
    let next = 0;
    for (let round = 0; round < 9; round++) {
      let hits = 0;
      const start = cpuNs();
      for (let burst = 0; burst < BURSTS; burst++) {
        if (next + BURST > numbers.length) next = 0;
        for (let i = 0; i < BURST; i++) fill(packets[i], numbers[next++]);
        this.table.prefetch(packets, BURST);
        for (let i = 0; i < BURST; i++) if (this.table.find(packets[i]) >= 0) hits++;
      }
      times.push((cpuNs() - start) / (BURSTS * BURST));
      if (hits !== (found ? BURSTS * BURST : 0)) throw new Error(`${hits} hits`);
    }
    return times.sort((a, b) => a - b)[4];
  }

  /** All flows send in turn; those that the table does not know are put in. Share of packets that found their flow, sixth round. */
  turns(): number {
    let hits = 0;
    for (let round = 0; round < 6; round++) {
      hits = 0;
      for (const n of shuffled(this.flows)) {
        fill(packets[0], n);
        const at = this.table.find(packets[0]);
        if (n % 1000 === 0) this.nowMs++;
        if (at >= 0) {
          hits++;
          this.table.touch(at, packets[0], this.nowMs);
        } else {
          this.table.insert(packets[0], 0, 1, this.nowMs);
        }
      }
    }
    return hits / this.flows;
  }
}

const percent = (share: number): string => `${(share * 100).toFixed(3)} %`;
console.log('load  lost  insert ns  hit ns  miss ns  packets that find their flow');
for (const load of LOADS) {
  const trial = new Trial(load);
  const insert = trial.fillUp();
  const present = trial.present();
  const absent = present.map((n) => n | ABSENT);
  const times = [insert, trial.find(present, true), trial.find(absent, false)].map((ns) => ns.toFixed(0));
  console.log([`${load} %`, percent(trial.lost(present.length)), ...times, percent(trial.turns())].join('  '));
}
const flooded = new Trial(70);
flooded.fillUp();
const ns = flooded.flood();
const kept = 1 - flooded.lost(flooded.present().length);
console.log(
  `flood of SYNs, 3 × the slots, onto 70 %: ${ns.toFixed(0)} ns a SYN, ${percent(kept)} of silent connections kept`,
);
