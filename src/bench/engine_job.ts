import { MessageChannel } from 'node:worker_threads';
import type { ManagedInterface } from '../control/manager/managed_interface.js';
import { Engine } from '../dataplane/engine.js';
import { DropReason } from '../dataplane/verdict.js';
import { SluiceError } from '../errors.js';
import { attachInterface } from '../library/attachment.js';
import { attachSettings } from '../library/options.js';
import { native } from '../native.js';
import { ControlWord, Counter, CounterBlock, PortCounter, type Tables } from '../shared/layout.js';
import type { WorkerEvent } from '../shared/worker_protocol.js';
import type { BenchCounts, BenchSettings, Job } from './modes.js';
import { balancingTables, filterTables } from './tables.js';

const RING = 2048;
const FRAMES_A_PORT = 4096;
const FLOW_SLOTS = 65_536;
/** How long `close` goes on with packets that are there already, ms. */
const DRAIN_MS = 50;
/** As the worker's loop: so many rounds without packets, then it may sleep. */
const EMPTY_ROUNDS_BEFORE_SLEEP = 8;

/** `lb` and `filter`: what a worker of the daemon runs, with tables of its own, in this thread. */
export class EngineJob implements Job {
  readonly done = false;
  readonly way: string;
  private empty = 0;
  private closed = false;

  private constructor(
    private readonly engine: Engine,
    private readonly attached: readonly ManagedInterface[],
    private readonly counters: Float64Array,
    private readonly settings: BenchSettings,
  ) {
    const zeroCopy = attached.every((entry) => entry.zeroCopy === true);
    this.way = settings.xdp === 'generic' ? 'generic' : zeroCopy ? 'zero-copy' : 'copy';
  }

  /** @throws SluiceError, KernelError; nothing is left attached then */
  static async open(settings: BenchSettings & { mode: 'lb' | 'filter' }): Promise<EngineJob> {
    const { interfaces, queue, xdp } = settings;
    const attached: ManagedInterface[] = [];
    try {
      const attaching = attachSettings({
        mode: xdp,
        hostPath: false,
        checksum: 'trust',
        ...(settings.service && { destinations: [settings.service.vip.text] }),
      });
      for (const [position, name] of interfaces.entries()) {
        attached.push(await attachInterface(name, position, [queue], attaching));
      }
      const counters = new SharedArrayBuffer(CounterBlock.SIZE * 8);
      const engine = startEngine(settings, attached, counters);
      return new EngineJob(engine, attached, new Float64Array(counters), settings);
    } catch (error) {
      for (const entry of attached) entry.detach();
      throw error;
    }
  }

  round(sleepMs: number): number {
    const { engine } = this;
    const packets = engine.pollAll();
    if (packets > 0) {
      this.empty = 0;
    } else if (++this.empty >= EMPTY_ROUNDS_BEFORE_SLEEP) {
      engine.housekeep(true);
      if (engine.ports.length < this.attached.length) {
        throw new SluiceError('SLUICE_DEVICE', 'an interface is gone', 'See what there is: ip -br link');
      }
      if (sleepMs > 0) engine.sleep(sleepMs);
    }
    return packets;
  }

  nowMs(): number {
    return native().nowMs();
  }

  counts(): BenchCounts {
    const c = this.counters;
    let txLost = 0;
    let missed = 0;
    for (let i = 0; i < this.attached.length; i++) {
      const at = CounterBlock.ports + i * PortCounter.SIZE;
      txLost += c[at + PortCounter.txFull] + c[at + PortCounter.txInvalid];
      missed += c[at + PortCounter.kernelRxDropped] + c[at + PortCounter.kernelRxRingFull];
    }
    return {
      rx: c[Counter.rx],
      rxBytes: c[Counter.rxBytes],
      tx: c[Counter.tx] + c[Counter.redirect] - txLost,
      txBytes: c[Counter.txBytes],
      dropped: this.settings.mode === 'filter' ? c[CounterBlock.reasons + DropReason.rule] : c[Counter.drop],
      txLost,
      missed,
    };
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    for (const entry of this.attached) entry.detach();
    this.engine.drain(DRAIN_MS);
    this.engine.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function tablesOf({ mode, interfaces, service, rules }: BenchSettings): Tables {
  if (mode === 'filter') return filterTables(rules, interfaces);
  const out = native().linkInfo(interfaces[interfaces.length - 1]);
  return balancingTables(service!, interfaces, out.address);
}

/** Opens the sockets and has their packets come. @throws SluiceError SLUICE_DEVICE with the reason of the first that cannot be opened */
function startEngine(
  settings: BenchSettings,
  attached: readonly ManagedInterface[],
  counters: SharedArrayBuffer,
): Engine {
  const { queue, batch } = settings;
  let ready: Extract<WorkerEvent, { kind: 'ready' }> | undefined;
  const engine = new Engine(
    {
      worker: 0,
      frames: { count: FRAMES_A_PORT * attached.length, size: 2048, hugepages: false, burst: batch },
      flowSlots: FLOW_SLOTS,
      ports: attached.map((entry) => entry.portSpec(queue, RING)),
      tables: tablesOf(settings),
      counters,
      control: new SharedArrayBuffer(ControlWord.SIZE * 4),
      commands: new MessageChannel().port1,
    },
    (event) => {
      if (event.kind === 'ready') ready = event;
    },
  );
  engine.open();
  const [fault] = ready!.faults;
  if (fault) {
    engine.close();
    throw new SluiceError('SLUICE_DEVICE', fault.fault.message, fault.fault.remedy);
  }
  for (const { index, fd, zeroCopy } of ready!.ports) attached[index].bindSocket(queue, fd, zeroCopy);
  return engine;
}
