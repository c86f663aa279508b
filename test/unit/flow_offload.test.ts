/** Flows in the kernel, as the control plane keeps them: which backends serve, what is taken in and when, what stands in the way. */
import { describe, expect, it, vi } from 'vitest';
import { drawFlowHashKeys, FlowHash } from '../../src/control/ebpf/flow_hash.js';
import { FLOW_BACKENDS, FLOW_WAYS, FLOW_WORDS, FlowGeneration, FlowWord } from '../../src/control/ebpf/flow_layout.js';
import {
  admissionKey,
  isCaptured,
  runsAllRules,
  standsInTheWay,
  type FlowTables,
  type RulesInKernel,
} from '../../src/control/manager/flow_admission.js';
import { FlowBackends } from '../../src/control/manager/flow_backends.js';
import { FlowCounts } from '../../src/control/manager/flow_counts.js';
import { DropWatch } from '../../src/control/manager/flow_drops.js';
import { FlowInstaller } from '../../src/control/manager/flow_installer.js';
import { filterWords } from '../../src/control/manager/flow_filter.js';
import { FlowSets } from '../../src/control/manager/flow_sets.js';
import { FlowProof } from '../../src/control/manager/flow_proof.js';
import { Verdict } from '../../src/dataplane/verdict.js';
import { FlowRecord, FlowSaying } from '../../src/shared/flow_ring.js';
import {
  BackendCounter,
  BackendField,
  BackendFlag,
  Counter,
  EncapKind,
  ServiceCounter,
  ServiceField,
  ServiceFlag,
} from '../../src/shared/layout.js';
import { Lab } from '../support/lab.js';

const USABLE = BackendFlag.valid | BackendFlag.active | BackendFlag.resolved;

/** Records of backends of service 0 with these flags. */
function backendsOf(...flags: number[]): Int32Array<ArrayBuffer> {
  const words = new Int32Array(flags.length * BackendField.STRIDE);
  flags.forEach((bits, number) => (words[number * BackendField.STRIDE + BackendField.flags] = bits));
  return words;
}
const SERVICES = new Int32Array(ServiceField.STRIDE);

describe('backends', () => {
  function kernel() {
    vi.useFakeTimers();
    const records = new Map<number, Uint8Array>();
    const backends = new FlowBackends(
      { setBackend: (number, record) => void records.set(number, record) },
      (port) => port,
    );
    const generation = (number: number): number => {
      const record = records.get(number);
      return record ? new DataView(record.buffer).getUint32(0, true) : 0;
    };
    return { backends, records, generation };
  }
  const use = (backends: FlowBackends, words: Int32Array): void => backends.use(words, SERVICES);

  it('that are active or draining and resolved serve at once; no other does, and nothing is written twice', () => {
    const { backends, generation, records } = kernel();
    const words = backendsOf(
      USABLE,
      BackendFlag.valid | BackendFlag.draining | BackendFlag.resolved,
      BackendFlag.valid | BackendFlag.resolved,
      BackendFlag.valid | BackendFlag.active,
      0,
      USABLE | BackendFlag.steered,
    );
    use(backends, words);
    expect([0, 1, 2, 3, 4, 5].map((number) => generation(number) > 0)).toEqual([
      true,
      true,
      false,
      false,
      false,
      false,
    ]);
    expect(backends.generationOf(0, 0)).toBe(generation(0));
    expect(backends.generationOf(0, 1)).toBe(0);
    expect(backends.generationOf(3, 0)).toBe(0);
    const before = records.get(0);
    use(backends, words);
    expect(records.get(0)).toBe(before);
    vi.useRealTimers();
  });

  it('that flows leave never serve them again; those that flows stay with do', () => {
    const { backends, generation } = kernel();
    use(backends, backendsOf(USABLE));
    const first = generation(0);
    for (const [flags, comesBack] of [
      [BackendFlag.valid | BackendFlag.draining | BackendFlag.resolved, true],
      [BackendFlag.valid | BackendFlag.active, true],
      [BackendFlag.valid | BackendFlag.resolved, false],
      [0, false],
    ] as const) {
      const was = generation(0);
      use(backends, backendsOf(flags));
      use(backends, backendsOf(USABLE));
      vi.runAllTimers();
      expect(generation(0) === was).toBe(comesBack);
      expect(generation(0)).toBeGreaterThan(0);
    }
    expect(generation(0)).toBeGreaterThan(first);
    const anew = backendsOf(USABLE);
    anew[BackendField.incarnation] = 1;
    const was = generation(0);
    use(backends, anew);
    vi.runAllTimers();
    expect(generation(0)).toBeGreaterThan(was);
    expect([backends.generationOf(0, 0), backends.generationOf(0, 1)]).toEqual([0, generation(0)]);
    // Another encapsulation: source port and label of its flows were made for the former.
    const gue = Int32Array.from(anew);
    gue[BackendField.encap] = EncapKind.gueVariant1;
    const before = generation(0);
    use(backends, gue);
    expect(generation(0)).toBe(0);
    vi.runAllTimers();
    expect(generation(0)).toBeGreaterThan(before);
    use(backends, new Int32Array(0));
    expect(generation(0)).toBe(0);
    vi.useRealTimers();
  });

  it('pause for 20 ms when the way to them changes, with the former record, and then have the same generation', () => {
    const { backends, generation, records } = kernel();
    use(backends, backendsOf(USABLE));
    const was = generation(0);
    const moved = backendsOf(USABLE);
    moved[BackendField.eth0] = 0x02030405;
    use(backends, moved);
    expect([generation(0), records.get(0)![16]]).toEqual([0, 0]);
    expect(backends.generationOf(0, 0)).toBe(0);
    // Published again meanwhile, and every flow void meanwhile.
    use(backends, moved);
    vi.advanceTimersByTime(19);
    expect(generation(0)).toBe(0);
    vi.advanceTimersByTime(1);
    expect([generation(0), records.get(0)![16]]).toEqual([was, 2]);
    moved[BackendField.eth0] = 0x0a030405;
    use(backends, moved);
    backends.renew();
    vi.advanceTimersByTime(20);
    expect([generation(0) > was, records.get(0)![16]]).toEqual([true, 10]);
    expect([backends.keeps(0, was), backends.keeps(0, generation(0)), backends.keeps(1, 0)]).toEqual([
      false,
      true,
      false,
    ]);
    vi.useRealTimers();
  });

  it('lose UDP flows at once when they drain, where the service says so, and are not served above the last number', () => {
    const { backends, generation, records } = kernel();
    const services = Int32Array.from(SERVICES);
    services[ServiceField.flags] = ServiceFlag.udpMoves;
    const words = backendsOf(...new Array<number>(FLOW_BACKENDS + 1).fill(USABLE));
    words[BackendField.flags] = BackendFlag.valid | BackendFlag.draining | BackendFlag.resolved;
    backends.use(words, services);
    expect([generation(0), generation(FLOW_BACKENDS - 1) > 0, records.has(FLOW_BACKENDS)]).toEqual([0, true, false]);
    vi.useRealTimers();
  });
});

describe('flows', () => {
  const offer = (ports: number, backend = 3): Int32Array => {
    const record = new Int32Array(FlowRecord.STRIDE);
    record[FlowRecord.what] = (FlowSaying.offer << 16) | 0x0411;
    record[FlowRecord.src0] = 0xc0000201 | 0;
    record[FlowRecord.dst0] = 0xc633640a | 0;
    record[FlowRecord.ports] = ports;
    record[FlowRecord.backend] = backend;
    record[FlowRecord.sportAndPort] = (0xc123 << 16) | 1;
    record[FlowRecord.label] = 0x54321;
    record[FlowRecord.host] = 0x3333;
    return record;
  };
  function cache(count = 64) {
    const words = new Int32Array(count * FLOW_WAYS * FLOW_WORDS[4]);
    const sets = new FlowSets(4, words, new Int32Array(filterWords(count)), new FlowHash(drawFlowHashKeys()));
    const installer = new FlowInstaller({
      flows: { 4: sets, 6: sets },
      generationOf: (backend) => (backend === 3 ? 7 : 0),
      keeps: () => true,
    });
    const record = new Int32Array(FlowRecord.STRIDE);
    const flows = () => {
      const all = [];
      for (let place = 0; place < words.length; place += sets.stride) {
        const generation = sets.generation(place);
        if (generation === (FlowGeneration.empty as number) || generation === (FlowGeneration.void as number)) continue;
        sets.read(place, record);
        const [backend, worker] = [sets.backend(place), sets.worker(place)];
        const [host, seenMs] = [words[place + FlowWord.host], words[place + FlowWord.seenMs]];
        const sport = words[place + FlowWord.outer] & 0xffff;
        const label = ((words[place + FlowWord.what] >>> 28) << 16) | (words[place + FlowWord.outer] >>> 16);
        all.push({ ports: record[FlowRecord.ports], backend, generation, worker, sport, label, host, seenMs });
      }
      return all.sort((one, other) => one.ports - other.ports);
    };
    /** As the program does. */
    const kill = (ports: number): void => sets.void(sets.find(offer(ports)));
    return { installer, flows, kill };
  }
  const { announced } = { announced: FlowGeneration.announced as number };

  it('are announced in one turn, and in force from the next', () => {
    const { installer, flows } = cache();
    installer.offer(2, offer(80));
    installer.offer(2, offer(81, 4));
    expect(flows()).toEqual([]);
    installer.turn(1050);
    expect(flows()).toMatchObject([{ ports: 80, generation: announced }]);
    installer.turn(1100);
    const outer = { sport: 0xc123, label: 0x54321, host: 0x3333 };
    expect(flows()).toEqual([{ ports: 80, backend: 3, generation: 7, worker: 2, ...outer, seenMs: 1100 }]);
    expect(installer.installed).toBe(1);
  });

  it('that ended between are not put in force: not after a SYN that the kernel saw, not after a word of the worker', () => {
    const { installer, flows, kill } = cache();
    for (const ports of [80, 81, 82]) installer.offer(0, offer(ports));
    installer.ended(offer(82));
    installer.turn(50);
    expect(flows()).toMatchObject([{ ports: 80 }, { ports: 81 }]);
    kill(80);
    installer.ended(offer(81));
    installer.turn(100);
    expect([flows(), installer.installed]).toEqual([[], 0]);
    // One that is in force is taken out.
    installer.offer(0, offer(83));
    installer.turn(150);
    installer.turn(200);
    expect(flows()).toMatchObject([{ generation: 7 }]);
    installer.ended(offer(83));
    expect(flows()).toEqual([]);
  });

  it('that two workers offer are put in force once', () => {
    const { installer, flows } = cache();
    installer.offer(0, offer(80));
    installer.offer(1, offer(80));
    installer.turn(50);
    installer.turn(100);
    expect(flows()).toMatchObject([{ ports: 80, generation: 7, worker: 1 }]);
    expect([installer.installed, installer.refused]).toEqual([1, 0]);
  });

  it('of former tables are not put in force', () => {
    const { installer, flows } = cache();
    installer.offer(0, offer(80));
    installer.turn(50);
    installer.offer(0, offer(81));
    installer.discard();
    installer.turn(100);
    installer.turn(150);
    expect([flows(), installer.installed]).toEqual([[], 0]);
  });

  it('that find their set full of others in use are refused', () => {
    const { installer, flows } = cache();
    for (let ports = 0; ports < 400; ports++) installer.offer(0, offer(ports));
    installer.turn(50);
    installer.turn(100);
    expect(installer.installed + installer.refused).toBe(400);
    expect(installer.refused).toBeGreaterThanOrEqual(400 - 64 * FLOW_WAYS);
    expect(flows()).toHaveLength(installer.installed);
  });

  it('are taken up to a rate', () => {
    const { installer } = cache(65_536);
    for (let i = 0; i < 2500; i++) installer.offer(0, offer(i));
    expect(installer.refused).toBe(500);
    installer.turn(10_000);
    installer.turn(10_001);
    for (let i = 0; i < 5000; i++) installer.offer(0, offer(5000 + i));
    expect(installer.refused).toBe(500 + 3000);
  });
});

describe('a veth', () => {
  const veth = { name: 'v', index: 0, driver: 'veth' };
  it('is tried with one flow first, each way by itself; other drivers are not', () => {
    for (const takes of [true, false]) {
      let sent = 100;
      let left = 50;
      const proof = new FlowProof((_, way) => (way === 'xdp_xmit' ? left : 0));
      expect(proof.admits({ ...veth, driver: 'ixgbe' }, true, () => 0)).toBe(true);
      expect([proof.admits(veth, true, () => sent), proof.admits(veth, true, () => sent)]).toEqual([true, false]);
      expect(proof.admits(veth, false, () => 0)).toBe(true);
      sent += 3;
      expect([proof.judge([veth]), proof.admits(veth, true, () => sent)]).toEqual([[], false]);
      sent += 1;
      if (takes) left += 4;
      expect(proof.judge([veth])).toEqual(takes ? [] : [veth]);
      expect([proof.drops(veth, true), proof.drops(veth, false)]).toEqual([!takes, false]);
      expect(proof.admits(veth, true, () => sent)).toBe(takes);
      proof.forget(veth);
      expect(proof.admits(veth, true, () => sent)).toBe(true);
    }
  });
});

describe('a driver', () => {
  it('is believed to drop when half of what it was given is counted as dropped, by some packets and once a second', () => {
    let sent = 0;
    let dropped = 70;
    const watch = new DropWatch('net0', () => dropped);
    const look = (nowMs: number, more: { sent: number; dropped: number }) => {
      sent += more.sent;
      dropped += more.dropped;
      return watch.look(() => sent, nowMs);
    };
    expect(look(1000, { sent: 7, dropped: 7 })).toBeNull();
    expect(look(1999, { sent: 10, dropped: 10 })).toBeNull();
    expect(look(2000, { sent: 0, dropped: 0 })).toEqual({ sent: 10, dropped: 10 });
    expect(look(3000, { sent: 1000, dropped: 499 })).toBeNull();
    expect(look(4000, { sent: 1000, dropped: 500 })).toEqual({ sent: 1000, dropped: 500 });
    expect(look(5000, { sent: 1000, dropped: 0 })).toBeNull();
  });
});

describe('counters', () => {
  it('are sums over all caches, by the backend’s service of the time, and do not go down when a cache goes', () => {
    const counts = new FlowCounts();
    const stats = { tx: 0, redirect: 0, rx_bytes: 0, tx_bytes: 0, ended: 0, stale: 0, idle: 0, too_big: 0 };
    const sent = [0, 0];
    const fake = { countsOf: () => [...sent], stats: () => ({ ...stats }) };
    const words = backendsOf(USABLE, USABLE);
    words[BackendField.STRIDE + BackendField.service] = 5;
    counts.use(words);
    counts.add(fake, () => [1]);
    sent[0] = 10;
    sent[1] = 1000;
    Object.assign(stats, { tx: 4, redirect: 6, rx_bytes: 1140, tx_bytes: 1340 });
    const moved = Int32Array.from(words);
    moved[BackendField.STRIDE + BackendField.service] = 6;
    counts.use(moved);
    sent[0] = 11;
    sent[1] = 1100;
    stats.tx = 5;
    counts.remove(fake);
    sent[0] = 99;
    expect([counts.backend(1, BackendCounter.packets), counts.backend(1, BackendCounter.bytes)]).toEqual([11, 1100]);
    expect([counts.backend(1, BackendCounter.newFlows), counts.backend(0, BackendCounter.packets)]).toEqual([0, 0]);
    expect([5, 6, 7].map((service) => counts.service(service, ServiceCounter.packets))).toEqual([10, 1, 0]);
    const total = [
      Counter.rx,
      Counter.tx,
      Counter.redirect,
      Counter.flowHit,
      Counter.rxBytes,
      Counter.txBytes,
      Counter.drop,
    ];
    expect(total.map((counter) => counts.total(counter))).toEqual([11, 5, 6, 11, 1140, 1340, 0]);
  });
});

describe('what stands in the way', () => {
  const inKernel: RulesInKernel = { status: { active: true, why: '' }, placement: () => ({ runs: 'kernel', why: '' }) };
  const inUserSpace: RulesInKernel = {
    status: { active: false, why: 'offload is off' },
    placement: () => ({ runs: 'user space', why: 'offload is off' }),
  };
  const of = (yaml: string): FlowTables =>
    new Lab(
      `interfaces: [net0]\nservices: [{ name: w, vip: 198.51.100.10, port: 80, protocol: tcp, backends: [10.0.0.11] }]\n${yaml}`,
    ).publisher.tables!;
  const rule = (more: string): string => `rules: [{ name: r, match: { protocol: udp }, ${more} }]`;

  it.each([
    ['', ''],
    ['allow: [192.0.2.0/24]', ''],
    [rule('action: drop'), ''],
    [rule('action: count'), ''],
    ['decapsulate: { addresses: [10.0.0.2], from: [10.0.0.0/8] }', ''],
    ['mitigation: { challenge: { mode: always } }', ''],
    ['mitigation: { tcp_state: { mode: monitor } }', 'TCP connections are tracked'],
    ['mitigation: { fair_share: { rate: 1000/s } }', 'fair share counts every packet'],
  ])('%s: %s', (yaml, why) => {
    expect(standsInTheWay(of(yaml), inUserSpace)).toBe(why);
  });

  it('sets that drop in user space, which have no tables of another generation when they change', () => {
    const tables = of('sets: [{ name: s, type: hash:ip, entries: [192.0.2.1], drop: src }]');
    expect(standsInTheWay(tables, inUserSpace)).toBe('sets drop in user space: offload is off');
    expect(standsInTheWay(tables, inKernel)).toBe('');
  });

  it.each([
    ['action: drop', true],
    ['action: count', false],
    ['action: pass', false],
    ['action: drop, mode: shadow', false],
    ['action: drop, probability: 50%', false],
    ['action: limit, limit: { rate: 1/s }', false],
  ])('for flows that a rule may match: %s', (more, runs) => {
    expect(runsAllRules(of(rule(more)), inKernel)).toBe(runs);
    expect(runsAllRules(of(rule(more)), inUserSpace)).toBe(false);
    expect(runsAllRules(of(''), inUserSpace)).toBe(true);
  });

  it('captures, of that port, that ask for packets which are sent', () => {
    const capture = { ports: 2, verdicts: 0, reasons: [] as number[], rules: null as number[] | null };
    const sees = (port: number, more: Partial<typeof capture> = {}): boolean =>
      isCaptured([{ ...capture, ...more } as never], port);
    expect([sees(0), sees(1)]).toEqual([false, true]);
    expect([isCaptured([], 1), sees(1, { verdicts: 1 << Verdict.Redirect })]).toEqual([false, true]);
    expect([sees(1, { verdicts: 1 << Verdict.Drop }), sees(1, { reasons: [3] }), sees(1, { rules: [0] })]).toEqual([
      false,
      false,
      false,
    ]);
  });

  it('former decisions, after filters or rules have changed; not after a backend has', () => {
    const key = (yaml: string): string => admissionKey(of(yaml));
    expect(key('')).not.toBe(key(rule('action: drop')));
    expect(key('')).not.toBe(key('filters: [{ sanity: { protocols: [tcp] } }]'));
    const lab = new Lab('interfaces: [net0]');
    const before = admissionKey(lab.publisher.tables!);
    lab.adopt(
      'interfaces: [net0]\nservices: [{ name: w, vip: 198.51.100.10, port: 80, protocol: tcp, backends: [10.0.0.11] }]',
    );
    expect(admissionKey(lab.publisher.tables!)).toBe(before);
  });
});
