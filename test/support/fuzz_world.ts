/** One random world: a configuration that changes, traffic, and two data paths that must agree, one of them without the short way. */
import { backendKey } from '../../src/control/registry.js';
import type { BackendOverride } from '../../src/control/service_plan.js';
import { FlowField } from '../../src/dataplane/balance/flow_entry.js';
import { BackendCounter, Counter, CounterBlock, MAX_BACKENDS } from '../../src/shared/layout.js';
import { ConfigFuzz, type FuzzConfig } from './fuzz_config.js';
import { FlowMemory } from './fuzz_flows.js';
import { expectInner, opened, Oracle, type Sent } from './fuzz_oracle.js';
import { readFrame, type Read } from './fuzz_reader.js';
import { TrafficFuzz } from './fuzz_traffic.js';
import { Lab } from './lab.js';
import { PacketBuilder } from './packet_builder.js';
import { random } from './packets.js';

const ROUNDS = 12;
type Run = ReturnType<Lab['run']>;

export class World {
  readonly labs: [Lab, Lab];
  /** Frames that went through. */
  frames = 0;
  private config: FuzzConfig;
  private readonly fuzz: ConfigFuzz;
  private readonly traffic: TrafficFuzz;
  private readonly oracle: Oracle;
  private readonly unresolved: string[] = [];
  private readonly flows: FlowMemory;
  /** Judged one by one, or in bursts. */
  private readonly deep: boolean;

  constructor(seed: number) {
    this.fuzz = new ConfigFuzz(random(seed));
    this.config = this.fuzz.config();
    const options = { flowSlots: this.fuzz.pick([64, 1024, 1024, 1024]), unresolved: this.unresolved };
    const text = JSON.stringify(this.config);
    this.labs = [new Lab(text, options), new Lab(text, options)];
    this.labs[1].path.takesShortWay = false;
    this.traffic = new TrafficFuzz(this.fuzz, () => this.config);
    this.oracle = new Oracle(this.labs[0]);
    this.flows = new FlowMemory(this.labs[0], this.oracle);
    this.deep = this.fuzz.chance(0.6);
  }

  run(): void {
    for (let round = 0; round < ROUNDS; round++) {
      if (round > 0) this.change();
      const frames = Array.from({ length: 1 + this.fuzz.below(40) }, () => this.traffic.frame());
      const from = this.fuzz.chance(0.2) ? 1 : 0;
      if (this.deep) for (const frame of frames) this.one(frame, from);
      else for (const sent of this.both(frames, from).sent.flat()) this.judge(sent.frame, sent.port);
      this.expectSound();
    }
  }

  private change(): void {
    const { fuzz, labs } = this;
    const elapsed = fuzz.pick([0, 1, 50, 50, 400, 3000, 100_000, -20]);
    for (const lab of labs) {
      lab.nowMs += elapsed;
      if (elapsed > 50) lab.balancer.sweep(lab.nowMs);
    }
    const service = fuzz.pick(this.config.services);
    const backend = service.backends.length > 0 ? fuzz.pick(service.backends).address : null;
    const kind = fuzz.below(8);
    if (kind < 2) this.config = fuzz.changed(this.config);
    if (kind === 2 && backend !== null)
      this.say(service.name, backend, { state: fuzz.pick(['active', 'draining', 'inactive']) });
    if (kind === 3 && backend !== null) this.say(service.name, backend, { weight: fuzz.pick([0, 1, 2, 100]) });
    if (kind === 4 && backend !== null) {
      if (this.unresolved.includes(backend)) this.unresolved.splice(this.unresolved.indexOf(backend), 1);
      else this.unresolved.push(backend);
    }
    if (kind === 5 && backend !== null) {
      const key = backendKey(service.name, backend);
      for (const { down } of labs) if (!down.delete(key)) down.set(key, 'refused');
    }
    if (kind > 5) return;
    const text = JSON.stringify(this.config);
    const keys = new Set(this.config.services.flatMap((s) => s.backends.map((b) => backendKey(s.name, b.address))));
    for (const lab of labs) {
      // As the manager does after a reload.
      for (const map of [lab.overrides, lab.down]) for (const key of map.keys()) if (!keys.has(key)) map.delete(key);
      lab.adopt(text);
    }
    this.flows.configured();
  }

  private say(service: string, backend: string, override: BackendOverride): void {
    for (const { overrides } of this.labs) {
      const key = backendKey(service, backend);
      overrides.set(key, { ...overrides.get(key), ...override });
    }
  }

  /** Through both paths, which have to agree in frames and counters. */
  private both(frames: Uint8Array[], from: number) {
    this.frames += frames.length;
    const [short, steps] = this.labs.map((lab) => through(lab, frames, from)) as [Run, Run];
    const same = (a: Uint8Array[], b: Uint8Array[]): boolean =>
      a.length === b.length && a.every((frame, i) => Buffer.compare(frame, b[i]!) === 0);
    if (!short.sent.every((sent, port) => same(sent, steps.sent[port]!)))
      throw new Error('the short way sends otherwise');
    if (!same(short.passed, steps.passed) || !same(short.dropped, steps.dropped))
      throw new Error('the short way drops or passes otherwise');
    const sent = short.sent.map((of, port) => of.map((frame) => ({ frame, port })));
    return { sent, passed: short.passed, dropped: short.dropped };
  }

  private judge(frame: Uint8Array, port: number): Sent {
    const judged = this.oracle.judge(frame, port);
    if (judged.kind === 'backend' && this.traffic.outers.length < 40) {
      const read = readFrame(frame)!;
      if (judged.inner !== read.packet) this.traffic.outers.push(read.packet.slice());
    }
    return judged;
  }

  private one(frame: Uint8Array, from: number): void {
    const lab = this.labs[0];
    const before = this.flows.note();
    const reasons = lab.drops();
    const { sent, passed, dropped } = this.both([frame], from);
    const judged = sent.flat().map(({ frame: out, port }) => ({ out, sent: this.judge(out, port) }));
    const read = readFrame(frame);
    const outcomes = judged.length + passed.length + dropped.length;
    // With frames that waited for this one it is more; which is which, the bytes inside would have to say.
    if (read === null || outcomes !== 1) return;
    const came = this.packetOf(read, frame);
    if (came === null) return;
    if (passed.length === 1) {
      if (came === read && Buffer.compare(passed[0]!, frame) !== 0) throw new Error('passed and not as it came');
      this.flows.passed(came);
      return;
    }
    if (dropped.length === 1) {
      const reason = Object.keys(lab.drops()).find((name) => lab.drops()[name] !== reasons[name]);
      this.flows.dropped(came, reason ?? '?');
      return;
    }
    const { out, sent: what } = judged[0]!;
    const left = readFrame(out)!;
    if (left.tags !== read.tags) throw new Error(`tags ${read.tags} became ${left.tags}`);
    if (what.kind === 'reply') {
      if (left.dmac !== read.smac || left.smac !== read.dmac) throw new Error('a reply to somebody else');
      return;
    }
    const clamps = lab.config.services.some(({ mssClamp }) => mssClamp !== 'off');
    expectInner(came.packet, what.inner, came, clamps);
    this.flows.sent(came, what.backends, before);
  }

  /** What is balanced: the packet in the frame, or the one in that where it is a tunnel that ends here. Null: not to be opened. */
  private packetOf(read: Read, frame: Uint8Array): Read | null {
    const { addresses, guePorts } = this.labs[0].config.decapsulate;
    const isTunnel =
      read.protocol === 4 ||
      read.protocol === 41 ||
      (read.ports !== null && read.protocol === 17 && guePorts.includes(read.ports.dport));
    if (!isTunnel || !addresses.some(({ text }) => text === read.dst)) return read;
    const inside = opened(frame);
    return (
      inside &&
      readFrame(
        new PacketBuilder()
          .ethernet({ type: inside[0]! >> 4 === 4 ? 0x0800 : 0x86dd })
          .payload(inside)
          .build(),
      )
    );
  }

  private expectSound(): void {
    const [short, steps] = this.labs;
    for (const lab of this.labs) {
      const problems = lab.violations();
      if (lab.aborts.length > 0) throw new Error('a policy threw', { cause: lab.aborts[0] });
      if (problems.length > 0) throw new Error(problems.join('\n'));
    }
    const counted = (lab: Lab): Float64Array => {
      const counters = lab.counters.slice(0, CounterBlock.backends + 64 * BackendCounter.SIZE);
      counters[CounterBlock.totals + Counter.sampledNs] = counters[CounterBlock.totals + Counter.sampledPackets] = 0;
      return counters;
    };
    const [a, b] = [counted(short), counted(steps)];
    const at = a.findIndex((value, i) => value !== b[i]);
    if (at >= 0) throw new Error(`counter ${at}: ${a[at]} on the short way, ${b[at]} by the steps`);
    this.expectGauges(short);
  }

  /** The flows of each backend, as counted and as the flow table has them. */
  private expectGauges({ flows, counters }: Lab): void {
    const held = new Map<number, number>();
    for (let at = 0; at < flows.words.length; at += FlowField.STRIDE) {
      const backend = flows.words[at + FlowField.backend]!;
      if (flows.words[at + FlowField.state] !== 0) held.set(backend, (held.get(backend) ?? 0) + 1);
    }
    for (let backend = 0; backend < Math.min(64, MAX_BACKENDS); backend++) {
      const gauge = counters[CounterBlock.backends + backend * BackendCounter.SIZE + BackendCounter.flows];
      if (gauge !== (held.get(backend) ?? 0))
        throw new Error(`backend ${backend}: ${gauge} flows counted, ${held.get(backend) ?? 0} held`);
    }
  }
}

/** What comes of the frames, with those of the other port that waited for one of them. */
function through(lab: Lab, frames: Uint8Array[], from: number): Run {
  const first = lab.run(frames, from);
  const then = lab.run([], 1 - from);
  return {
    sent: first.sent.map((of, port) => [...of, ...then.sent[port]!]),
    passed: [...first.passed, ...then.passed],
    dropped: [...first.dropped, ...then.dropped],
  };
}
