import type { Config } from '../shared/config.js';
import { BackendCounter, Counter, RuleCounter, ServiceCounter } from '../shared/layout.js';
import { DROP_REASONS, type WorkerCounters } from './counters.js';
import { backendKey, type Numbers } from './registry.js';

/** What a configuration does to the packets of a capture. Packets, unless the name says otherwise. */
export interface ReplayReport {
  /** Packets in the capture. */
  captured: number;
  /** Of these, cut by the capture's snapshot length: the data path takes what is there for the whole frame. */
  cut: number;
  /** Of these, received: all but those that no frame could hold. */
  packets: number;
  bytes: number;
  /** Captured packets longer than a frame of the config takes; a device would not have delivered them either. */
  tooLong: number;
  /** Sum: `packets`. */
  verdicts: { tx: number; redirect: number; pass: number; drop: number; aborted: number };
  /** By name of the DropReason; only those that occurred. Sum: drop + aborted. */
  reasons: Record<string, number>;
  /** To no service: part of `pass`. */
  noService: number;
  services: { name: string; packets: number; bytes: number }[];
  backends: { service: string; address: string; packets: number; bytes: number; newFlows: number }[];
  rules: { name: string; packets: number; bytes: number; acted: number; actedBytes: number }[];
  /** Packets dropped by each module filter. */
  filters: { name: string; dropped: number }[];
  flows: { hit: number; miss: number; inserted: number; bypassed: number; evicted: number; expired: number };
  /** Packets in the output file. */
  written: number;
  /** What a policy threw, with the number of the packet in the capture (from 1); the first ten. */
  errors: { packet: number; message: string }[];
  /** What is wrong with the capture, when it was read leniently; else null. */
  damage: string | null;
  /** Capture time from the first packet to the last, ms. */
  durationMs: number;
  /** Identities of counters and frames that do not hold, in words; always [] unless sluice has a bug. */
  violations: string[];
}

/** The part of the report that is in the data path's counters. */
export function countersReport(config: Config, numbers: Numbers, counters: WorkerCounters) {
  const reasons: Record<string, number> = {};
  for (let reason = 0; reason < DROP_REASONS.length; reason++) {
    const packets = counters.reason(reason);
    if (packets > 0) reasons[DROP_REASONS[reason]] = packets;
  }
  return {
    packets: counters.total(Counter.rx),
    bytes: counters.total(Counter.rxBytes),
    verdicts: {
      tx: counters.total(Counter.tx),
      redirect: counters.total(Counter.redirect),
      pass: counters.total(Counter.pass),
      drop: counters.total(Counter.drop),
      aborted: counters.total(Counter.aborted),
    },
    reasons,
    noService: counters.total(Counter.noService),
    services: config.services.map(({ name }) => {
      const { number } = numbers.services.get(name)!;
      return {
        name,
        packets: counters.service(number, ServiceCounter.packets),
        bytes: counters.service(number, ServiceCounter.bytes),
      };
    }),
    backends: config.services.flatMap(({ name, backends }) =>
      backends.map(({ address }) => {
        const { number } = numbers.backends.get(backendKey(name, address.text))!;
        return {
          service: name,
          address: address.text,
          packets: counters.backend(number, BackendCounter.packets),
          bytes: counters.backend(number, BackendCounter.bytes),
          newFlows: counters.backend(number, BackendCounter.newFlows),
        };
      }),
    ),
    rules: config.rules.map(({ name }) => {
      const { number } = numbers.rules.get(name)!;
      return {
        name,
        packets: counters.rule(number, RuleCounter.packets),
        bytes: counters.rule(number, RuleCounter.bytes),
        acted: counters.rule(number, RuleCounter.acted),
        actedBytes: counters.rule(number, RuleCounter.actedBytes),
      };
    }),
    filters: config.filters.flatMap((filter, position) =>
      filter.kind === 'module' ? [{ name: filter.name, dropped: counters.filter(position) }] : [],
    ),
    flows: {
      hit: counters.total(Counter.flowHit),
      miss: counters.total(Counter.flowMiss),
      inserted: counters.total(Counter.flowInsert),
      bypassed: counters.total(Counter.flowBypass),
      evicted: counters.total(Counter.flowEvict),
      expired: counters.total(Counter.flowExpire),
    },
  };
}

/** A counter that has a name, and where it stood when it was last looked at. */
interface Watched {
  text: string;
  read: () => number;
  last: number;
}

/**
 * Tells what happened to the one packet that was judged since the last call, by the counters that moved:
 * "reason=rule rule=flood", "service=web backend=10.0.0.1".
 */
export class PacketWords {
  readonly #watched: Watched[] = [];

  constructor(config: Config, numbers: Numbers, counters: WorkerCounters) {
    const watch = (text: string, read: () => number): void => {
      this.#watched.push({ text, read, last: 0 });
    };
    DROP_REASONS.forEach((name, reason) => watch(`reason=${name}`, () => counters.reason(reason)));
    for (const { name, number } of named(config.rules, numbers.rules)) {
      watch(`rule=${name}`, () => counters.rule(number, RuleCounter.packets));
    }
    config.filters.forEach((filter, position) => {
      if (filter.kind === 'module') watch(`filter=${filter.name}`, () => counters.filter(position));
    });
    for (const { name, number } of named(config.services, numbers.services)) {
      watch(`service=${name}`, () => counters.service(number, ServiceCounter.packets));
    }
    for (const { name, backends } of config.services) {
      for (const { address } of backends) {
        const { number } = numbers.backends.get(backendKey(name, address.text))!;
        watch(`backend=${address.text}`, () => counters.backend(number, BackendCounter.packets));
      }
    }
  }

  /** Call it once after each packet. */
  next(): string {
    const words: string[] = [];
    for (const watched of this.#watched) {
      const value = watched.read();
      if (value === watched.last) continue;
      watched.last = value;
      words.push(watched.text);
    }
    return words.join(' ');
  }
}

function named(list: readonly { name: string }[], numbers: Numbers['services']): { name: string; number: number }[] {
  return list.map(({ name }) => ({ name, number: numbers.get(name)!.number }));
}
