/**
 * A lab whose flows may be in the kernel: the real programs and maps by BPF_PROG_TEST_RUN, the real control plane over them, and a Lab behind. Beside it a lab
 * without, which must give the same. Timers are the test's (`useTimers`), the clock is the machine's, since the program reads it.
 */
import { PassThrough } from 'node:stream';
import { expect, vi } from 'vitest';
import { createLog } from '../../src/control/log.js';
import { FLOW_PROGRAM } from '../../src/control/ebpf/flow_layout.js';
import type { RulesInKernel } from '../../src/control/manager/flow_admission.js';
import type { FlowCache } from '../../src/control/manager/flow_cache.js';
import { FlowOffload, type FlowInterface, type FlowOffloadMode } from '../../src/control/manager/flow_offload.js';
import { FlowOffers } from '../../src/dataplane/flow_offers.js';
import { formatPrefix } from '../../src/shared/addr.js';
import type { CaptureSpec } from '../../src/shared/capture_spec.js';
import { BackendCounter, Counter, ServiceCounter } from '../../src/shared/layout.js';
import type { WorkerCommand } from '../../src/shared/worker_protocol.js';
import { vipsOf } from '../../src/control/manager/config_parts.js';
import { XDP } from './bpf.js';
import { nowMs } from './flow_cache.js';
import { Lab, type LabOptions } from './lab.js';

type Run = ReturnType<Lab['run']>;

/** Timers that only `pump` moves. */
export function useTimers(): void {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] });
}

const NO_RULES: RulesInKernel = {
  status: { active: false, why: 'offload is off' },
  placement: () => ({ runs: 'user space', why: 'offload is off' }),
};

/** Counters that must be the same, wherever a packet went. */
const TOTALS = [
  Counter.rx,
  Counter.rxBytes,
  Counter.tx,
  Counter.redirect,
  Counter.txBytes,
  Counter.drop,
  Counter.pass,
  Counter.aborted,
  Counter.flowHit,
  Counter.flowMiss,
  Counter.flowInsert,
  Counter.flowMoved,
  Counter.flowExpire,
  Counter.noService,
  Counter.icmpErrors,
  Counter.tooBigReplies,
  Counter.echoAnswered,
  Counter.decapsulated,
];

class Interface implements FlowInterface {
  attached = true;
  mode: 'native' | 'generic' | null = 'native';
  readonly driver = 'ixgbe';
  cache: FlowCache | null = null;

  constructor(
    readonly name: string,
    readonly index: number,
  ) {}

  get ifindex(): number {
    return 100 + this.index;
  }

  setFlowCache(cache: FlowCache | null): void {
    this.cache = cache;
  }
}

export class OffloadLab {
  /** Without and with flows in the kernel. */
  readonly off: Lab;
  readonly auto: Lab;
  readonly flows: FlowOffload;
  readonly interfaces: Interface[];
  captures: CaptureSpec[] = [];
  mode: FlowOffloadMode = 'auto';
  /** Packets that the kernel sent. */
  served = 0;
  private offers: FlowOffers | null = null;

  constructor(yaml: string, options: LabOptions = {}) {
    this.off = new Lab(yaml, options);
    this.auto = new Lab(yaml, options);
    this.interfaces = this.auto.config.interfaces.map(({ name }, index) => new Interface(name, index));
    const thread = {};
    this.flows = new FlowOffload({
      interfaces: this.interfaces,
      workers: () => [{ queue: 0, thread, post: (command) => this.obey(command) }],
      captures: () => this.captures,
      rules: NO_RULES,
      log: createLog({ level: 'error', format: 'json', stream: new PassThrough() }),
    });
    this.publish();
  }

  /** As Engine.obey. */
  private obey(command: WorkerCommand): boolean {
    if (command.kind !== 'offer-flows') throw new Error(command.kind);
    const { flows, flowHash, snapshot } = this.auto.balancer;
    this.offers = command.rings && new FlowOffers(flows, flowHash, command.rings, snapshot, command.ruled);
    this.auto.path.offerFlows(this.offers);
    return true;
  }

  /** Both labs have adopted: the control plane comes last, as in Fleet.publish. */
  private publish(): void {
    const { publisher, config } = this.auto;
    this.flows.use(publisher.tables!, this.mode, vipsOf(config).map(formatPrefix));
  }

  adopt(yaml?: string): void {
    for (const lab of [this.off, this.auto]) lab.adopt(yaml);
    this.publish();
  }

  /** What both labs are told. `change` must not publish. */
  change(change: (lab: Lab) => void): void {
    for (const lab of [this.off, this.auto]) change(lab);
    this.adopt();
  }

  setMode(mode: FlowOffloadMode): void {
    this.mode = mode;
    this.publish();
  }

  capture(captures: CaptureSpec[]): void {
    this.captures = captures;
    this.flows.apply();
  }

  /** Lets so much time go by for the control plane. */
  pump(ms = 200): void {
    vi.advanceTimersByTime(ms);
    this.offers?.hear(1024);
  }

  /** One packet through both; expects that the same comes of it, and returns it. */
  run(frame: Uint8Array, from = 0, what = ''): Run {
    this.off.nowMs = this.auto.nowMs = nowMs() | 0;
    const without = this.off.run([frame], from);
    const run = this.inKernel(frame, from) ?? this.auto.run([frame], from);
    expect(hex(run), what).toEqual(hex(without));
    return run;
  }

  private inKernel(frame: Uint8Array, from: number): Run | null {
    const { cache } = this.interfaces[from];
    if (cache === null) return null;
    const { retval, data } = cache.object.testRun(FLOW_PROGRAM, { data: frame });
    if (retval === XDP.PASS) {
      expect(Buffer.from(data).equals(Buffer.from(frame)), 'handed on untouched').toBe(true);
      return null;
    }
    this.served++;
    const port = retval === XDP.TX ? from : 1 - from;
    const sent = this.interfaces.map(({ index }) => (index === port ? [Uint8Array.from(data)] : []));
    return { sent, passed: [], dropped: [] };
  }

  /** All counters, of user space and kernel together. */
  expectSameCounters(what = ''): void {
    expect(this.figures(this.auto, true), what).toEqual(this.figures(this.off, false));
    expect(this.off.violations(), what).toEqual([]);
    expect(this.auto.violations(), what).toEqual([]);
  }

  private figures(lab: Lab, isAuto: boolean): unknown {
    // Counters are read from the kernel again after 20 ms.
    if (isAuto)
      this.flows.counts.use(new Int32Array(Uint8Array.from(new Uint8Array(lab.publisher.tables!.backends)).buffer));
    const { services, backends } = lab.publisher.numbers;
    return {
      totals: TOTALS.map((counter) => lab.total(counter) + (isAuto ? this.flows.total(counter) : 0)),
      drops: lab.drops(),
      flows: lab.flows.count,
      services: [...services].map(([name, { number }]) => {
        const { packets, bytes } = lab.service(name);
        const more = (counter: ServiceCounter): number => (isAuto ? this.flows.service(number, counter) : 0);
        return [name, packets + more(ServiceCounter.packets), bytes + more(ServiceCounter.bytes)];
      }),
      backends: [...backends].map(([key, { number }]) => {
        const [service, address] = key.split('/');
        const { packets, flows, newFlows } = lab.backend(service, address);
        return [key, packets + (isAuto ? this.flows.backend(number, BackendCounter.packets) : 0), flows, newFlows];
      }),
    };
  }

  [Symbol.dispose](): void {
    this.flows.close();
  }
}

function hex({ sent, passed, dropped }: Run): unknown {
  const texts = (frames: Uint8Array[]): string[] => frames.map((frame) => Buffer.from(frame).toString('hex'));
  return { sent: sent.map(texts), passed: texts(passed), dropped: texts(dropped) };
}
