import { describe, expect, it } from 'vitest';
import { allocateWorkerBlocks, DROP_REASONS, WorkerCounters } from '../../src/control/counters.js';
import { CounterBook } from '../../src/control/metrics/book.js';
import { CounterLedger } from '../../src/control/metrics/ledger.js';
import {
  BackendCounter,
  ControlWord,
  Counter,
  CounterBlock,
  PortCounter,
  RuleCounter,
  ServiceCounter,
} from '../../src/shared/layout.js';
import { DropReason } from '../../src/dataplane/verdict.js';
import { fakeBackend, fakeService } from '../support/fake_view.js';

/** The worker's side of a block. */
function writer(counters: WorkerCounters): Float64Array {
  return new Float64Array(counters.block);
}

describe('the blocks of a worker', () => {
  it('have the layout’s sizes, are shared and zeroed', () => {
    const { counters, control } = allocateWorkerBlocks();
    expect(counters).toBeInstanceOf(SharedArrayBuffer);
    expect(counters.byteLength).toBe(CounterBlock.SIZE * 8);
    expect(control.byteLength).toBe(ControlWord.SIZE * 4);
    expect(new Float64Array(counters).every((value) => value === 0)).toBe(true);
  });

  it('are refused when too small', () => {
    expect(() => new WorkerCounters(0, new SharedArrayBuffer(64))).toThrow(/4592768 bytes, not 64/);
  });

  it('are read where the layout says, without asking the worker', () => {
    const counters = new WorkerCounters(0);
    const block = writer(counters);
    block[Counter.rx] = 10;
    block[CounterBlock.reasons + DropReason.rule] = 11;
    block[CounterBlock.ports + 2 * PortCounter.SIZE + PortCounter.txFull] = 12;
    block[CounterBlock.services + 5 * ServiceCounter.SIZE + ServiceCounter.bytes] = 13;
    block[CounterBlock.backends + 9 * BackendCounter.SIZE + BackendCounter.flows] = 14;
    block[CounterBlock.rules + 4095 * RuleCounter.SIZE + RuleCounter.bytes] = 15;
    block[CounterBlock.filters + 63] = 16;
    expect([
      counters.total(Counter.rx),
      counters.reason(DropReason.rule),
      counters.port(2, PortCounter.txFull),
      counters.service(5, ServiceCounter.bytes),
      counters.backend(9, BackendCounter.flows),
      counters.rule(4095, RuleCounter.bytes),
      counters.filter(63),
    ]).toEqual([10, 11, 12, 13, 14, 15, 16]);
  });

  it('have room for every drop reason', () => {
    expect(DROP_REASONS).toHaveLength(DropReason.SIZE);
    expect(DROP_REASONS.length).toBeLessThanOrEqual(CounterBlock.ports - CounterBlock.reasons);
  });
});

describe('a worker’s restart', () => {
  it('keeps sums, forgets gauges, and no longer reads the old block', () => {
    const counters = new WorkerCounters(0);
    const old = writer(counters);
    old[Counter.rx] = 100;
    old[Counter.flows] = 7;
    old[Counter.generation] = 3;
    old[Counter.framesHeld] = 4;
    old[CounterBlock.ports + PortCounter.rxPackets] = 50;
    old[CounterBlock.ports + PortCounter.framesFree] = 60;
    old[CounterBlock.ports + PortCounter.framesHeld] = 4;
    old[CounterBlock.ports + PortCounter.framesTotal] = 64;
    old[CounterBlock.backends + BackendCounter.packets] = 40;
    old[CounterBlock.backends + BackendCounter.flows] = 5;

    const block = counters.renew();
    old[Counter.rx] = 1_000_000;
    expect(block).not.toBe(old.buffer);
    expect(counters.block).toBe(block);
    expect(counters.total(Counter.rx)).toBe(100);
    expect(counters.total(Counter.flows)).toBe(0);
    expect(counters.total(Counter.generation)).toBe(0);
    expect(counters.total(Counter.framesHeld)).toBe(0);
    expect(counters.port(0, PortCounter.rxPackets)).toBe(50);
    expect(counters.frames()).toEqual({ free: 0, fill: 0, rx: 0, tx: 0, held: 0, total: 0 });
    expect(counters.port(0, PortCounter.framesHeld)).toBe(0);
    expect(counters.backend(0, BackendCounter.packets)).toBe(40);
    expect(counters.backend(0, BackendCounter.flows)).toBe(0);

    writer(counters)[Counter.rx] = 1;
    writer(counters)[Counter.flows] = 2;
    counters.renew();
    writer(counters)[Counter.rx] = 1;
    expect(counters.total(Counter.rx)).toBe(102);
    expect(counters.total(Counter.flows)).toBe(0);
  });
});

describe('the consistency check', () => {
  function consistent(): WorkerCounters {
    const counters = new WorkerCounters(1);
    const block = writer(counters);
    block.set([102, 6400, 40, 10, 20, 25, 5], Counter.rx);
    block[Counter.framesHeld] = 2;
    block[CounterBlock.reasons + DropReason.rule] = 40;
    block[CounterBlock.reasons + DropReason.policyThrew] = 5;
    const port = CounterBlock.ports;
    block[port + PortCounter.framesFree] = 1000;
    block[port + PortCounter.framesFill] = 2048;
    block[port + PortCounter.framesTx] = 1046;
    block[port + PortCounter.framesHeld] = 2;
    block[port + PortCounter.framesTotal] = 4096;
    return counters;
  }

  it('finds nothing when all adds up', () => {
    expect(consistent().check()).toEqual([]);
  });

  it.each<[string, number, string]>([
    ['a packet without a verdict', Counter.rx, 'queue 1: rx = drop + pass + tx + redirect + aborted + held: 103 ≠ 102'],
    [
      'a drop without a reason',
      CounterBlock.reasons + DropReason.rule,
      'sum of drop reasons = drop + aborted: 46 ≠ 45',
    ],
    [
      'a lost frame',
      CounterBlock.ports + PortCounter.framesTotal,
      'frames free + fill + rx + tx + held = total: 4096 ≠ 4097',
    ],
    ['a frame on a port unused', CounterBlock.ports + PortCounter.SIZE * 3 + PortCounter.framesTx, 'port 3: frames'],
  ])('names %s', (_, index, text) => {
    const counters = consistent();
    writer(counters)[index] += 1;
    const violations = counters.check();
    expect(violations).toHaveLength(1);
    expect(violations[0]).toContain(text);
  });

  it('does not blame a worker for what its killed predecessor left half written', () => {
    const counters = consistent();
    writer(counters)[Counter.rx] += 1;
    counters.renew();
    expect(counters.check()).toEqual([]);
  });
});

describe('counters by name', () => {
  it('follow a name that gets another number, and never go down', () => {
    const sums = [0, 0, 0];
    const ledger = new CounterLedger(1, (slot) => sums[slot]);
    ledger.assign([{ key: 'a', slot: 0 }]);
    sums[0] = 10;
    ledger.assign([{ key: 'a', slot: 1 }]);
    expect(ledger.value('a', 0)).toBe(10);
    sums[1] = 5;
    expect(ledger.value('a', 0)).toBe(15);
    ledger.assign([{ key: 'b', slot: 1 }]);
    sums[1] = 8;
    expect([ledger.value('a', 0), ledger.value('b', 0)]).toEqual([15, 3]);
    ledger.assign([
      { key: 'b', slot: 1 },
      { key: 'a', slot: 2 },
    ]);
    sums[2] = 1;
    expect([ledger.value('a', 0), ledger.value('b', 0)]).toEqual([16, 3]);
  });

  it('keep counting for a removed name until its number goes to another', () => {
    const sums = [0];
    const ledger = new CounterLedger(1, (slot) => sums[slot]);
    ledger.assign([{ key: 'a', slot: 0 }]);
    ledger.assign([]);
    sums[0] = 4;
    ledger.assign([{ key: 'a', slot: 0 }]);
    expect(ledger.value('a', 0)).toBe(4);
  });

  it('give what a number counted before anybody looked to its first owner', () => {
    const sums = [7];
    const ledger = new CounterLedger(1, (slot) => sums[slot]);
    ledger.assign([{ key: 'a', slot: 0 }]);
    ledger.assign([{ key: 'b', slot: 0 }]);
    sums[0] = 9;
    expect([ledger.value('a', 0), ledger.value('b', 0)]).toEqual([7, 2]);
  });

  it('survive two names that swap their numbers', () => {
    const sums = [0, 0];
    const ledger = new CounterLedger(1, (slot) => sums[slot]);
    ledger.assign([
      { key: 'a', slot: 0 },
      { key: 'b', slot: 1 },
    ]);
    sums[0] = 3;
    sums[1] = 5;
    ledger.assign([
      { key: 'a', slot: 1 },
      { key: 'b', slot: 0 },
    ]);
    expect([ledger.value('a', 0), ledger.value('b', 0)]).toEqual([3, 5]);
    sums[0] += 10;
    expect([ledger.value('a', 0), ledger.value('b', 0)]).toEqual([3, 15]);
  });

  it('hold under random reloads: every packet is counted once, for the name that had the number', () => {
    const sums = new Array<number>(8).fill(0);
    const ledger = new CounterLedger(1, (slot) => sums[slot]);
    const expected = new Map<string, number>();
    let seed = 12345;
    const random = (below: number): number => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) % below;
    for (let reload = 0; reload < 2000; reload++) {
      const free = [0, 1, 2, 3, 4, 5, 6, 7];
      const list = ['a', 'b', 'c', 'd', 'e', 'f']
        .filter(() => random(3) > 0)
        .map((key) => ({ key, slot: free.splice(random(free.length), 1)[0] }));
      ledger.assign(list);
      for (const { key, slot } of list) {
        const packets = random(100);
        sums[slot] += packets;
        expected.set(key, (expected.get(key) ?? 0) + packets);
      }
      for (const [key, packets] of expected) expect(ledger.value(key, 0)).toBe(packets);
    }
  });

  it('forget the oldest removed names above a bound', () => {
    const sums = new Map<number, number>();
    const ledger = new CounterLedger(1, (slot) => sums.get(slot) ?? 0);
    ledger.assign([{ key: 'first', slot: 0 }]);
    sums.set(0, 9);
    for (let batch = 0; batch < 20; batch++) {
      ledger.assign(Array.from({ length: 1000 }, (_, i) => ({ key: `${batch}/${i}`, slot: 1000 * (batch % 2) + i })));
    }
    expect(ledger.value('first', 0)).toBe(0);
    expect((ledger as unknown as { entries: Map<string, unknown> }).entries.size).toBeLessThanOrEqual(16384 + 1000);
  });
});

describe('the counter book', () => {
  it('adds workers up, restarted ones included, by service, backend and rule name', () => {
    const book = new CounterBook();
    const numbering = {
      services: [fakeService(2, 'web', [fakeBackend(4), fakeBackend(5)])],
      rules: [{ name: 'flood', id: 1 }],
      filters: [{ name: 'mine', position: 1 }],
    };
    book.assign(numbering);
    for (const queue of [1, 0]) {
      const block = writer(book.worker(queue));
      block[Counter.rx] = 10;
      block[CounterBlock.services + 2 * ServiceCounter.SIZE] = 20;
      block[CounterBlock.backends + 5 * BackendCounter.SIZE] = 30;
      block[CounterBlock.backends + 5 * BackendCounter.SIZE + BackendCounter.flows] = 2;
      block[CounterBlock.rules + RuleCounter.SIZE] = 40;
      block[CounterBlock.filters + 1] = 50;
      block[CounterBlock.reasons + DropReason.rule] = 60;
    }
    book.worker(0).renew();
    expect(book.workers().map((worker) => worker.queue)).toEqual([0, 1]);
    expect(book.total(Counter.rx)).toBe(20);
    expect(book.service('web', ServiceCounter.packets)).toBe(40);
    expect(book.backend('web', '10.1.0.5', BackendCounter.packets)).toBe(60);
    expect(book.backend('web', '10.1.0.4', BackendCounter.packets)).toBe(0);
    expect(book.backendFlows(5)).toBe(2);
    expect(book.rule('flood', RuleCounter.packets)).toBe(80);
    expect(book.filter('mine')).toBe(100);
    expect(book.reason(DropReason.rule)).toBe(120);
  });

  it('keeps the same backend of two services apart', () => {
    const book = new CounterBook();
    book.assign({
      services: [
        fakeService(0, 'a', [fakeBackend(0, { address: '10.0.0.1' })]),
        fakeService(1, 'b', [fakeBackend(1, { address: '10.0.0.1' })]),
      ],
      rules: [],
      filters: [],
    });
    writer(book.worker(0))[CounterBlock.backends + BackendCounter.SIZE] = 3;
    expect(book.backend('a', '10.0.0.1', BackendCounter.packets)).toBe(0);
    expect(book.backend('b', '10.0.0.1', BackendCounter.packets)).toBe(3);
  });
});
