import { PassThrough } from 'node:stream';
import type { OffloadStatus } from '../../src/control/api/contract_rules.js';
import { parseConfig } from '../../src/control/config/index.js';
import type { Placement } from '../../src/control/ebpf/offload/placement.js';
import { createLog, type Log } from '../../src/control/log.js';
import { RuleControl, type RuleHost } from '../../src/control/manager/rule_control.js';
import type { Config, RuleConfig } from '../../src/shared/config.js';
import type { RuleCounter } from '../../src/shared/layout.js';

/** A daemon without packets: takes tables as workers would, counts what a test says, and has a clock that a test moves. */
export class FakeRuleDaemon implements RuleHost {
  readonly control: RuleControl;
  readonly log: Log;
  logged = '';
  clockMs = 0;
  /** Rules of each table that was published. */
  readonly published: RuleConfig[][] = [];
  /** Thrown by the next publication. */
  refusal: Error | null = null;
  readonly counters = new Map<string, number[]>();
  private current: Config;
  private queue: Promise<unknown> = Promise.resolve();

  constructor(rules = '[]') {
    const stream = new PassThrough();
    stream.on('data', (chunk) => (this.logged += String(chunk)));
    this.log = createLog({ level: 'info', format: 'json', stream });
    this.current = configOf(rules);
    this.control = new RuleControl(this, () => this.clockMs);
    this.control.adopt(this.current);
    this.published.push(this.control.effective(this.current).rules);
  }

  /** As a reload of a configuration with these rules. */
  reload(rules: string): void {
    this.current = configOf(rules);
    this.published.push(this.control.effective(this.current).rules);
    this.control.adopt(this.current);
  }

  /** Names of the rules in the tables. */
  get names(): string[] {
    return this.published.at(-1)!.map(({ name }) => name);
  }

  config = (): Config => this.current;
  generation = (): number => this.published.length;
  counter = (rule: string, counter: RuleCounter): number => this.counters.get(rule)?.[counter] ?? 0;

  offload = (): OffloadStatus => ({ mode: 'off', active: false, why: 'offload is off' });
  placement = (): Placement => ({ runs: 'user space', why: 'offload is off' });
  kernelCounter = (): number => 0;

  serialize<T>(change: () => Promise<T>): Promise<T> {
    const next = this.queue.then(change);
    this.queue = next.catch(() => undefined);
    return next;
  }

  async publish(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    const { refusal } = this;
    this.refusal = null;
    if (refusal !== null) throw refusal;
    this.published.push(this.control.effective(this.current).rules);
  }

  goBack(): Promise<void> {
    this.published.push(this.control.effective(this.current).rules);
    return Promise.resolve();
  }
}

function configOf(rules: string): Config {
  return parseConfig(`interfaces: [eth0]\nrules: ${rules}`);
}
