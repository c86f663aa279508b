/** Names for the numbers in the tables. */
import { CounterBlock, BackendCounter, RuleCounter, ServiceCounter } from '../../shared/layout.js';
import { DROP_REASONS } from '../../dataplane/verdict.js';
import type { Numbers } from '../registry.js';

/** By Counter, as far as a single packet changes them; what is not here (clocks, gauges) is not shown. */
const TOTALS: readonly string[] = [
  'rx', 'rx_bytes', 'drop', 'pass', 'tx', 'redirect', 'aborted', 'tx_bytes', '', '', '',
  'flow_hit', 'flow_miss', 'flow_insert', 'flow_bypass', 'flow_evict', 'flow_expire', '',
  'checksum_repaired', 'no_service', '', '', 'flow_moved', 'id_routed', 'id_unknown', 'source_routed',
  'icmp_errors', 'echo_answered', 'too_big_replies', 'icmp_limited', 'mss_clamped', 'fragments_followed',
  'fragments_held', 'decapsulated', 'frames_held', 'challenges', 'challenge_admitted', 'challenge_failed', '',
  'tcp_unexpected', 'tcp_not_found', 'tcp_out_of_sequence', 'tcp_already_closed', '', 'connection_evict', '',
  'limit_table_full',
]; // prettier-ignore

const RULE_COUNTERS = ['packets', 'bytes', 'acted', 'acted_bytes'];
const SERVICE_COUNTERS = ['packets', 'bytes'];
const BACKEND_COUNTERS = ['packets', 'bytes', 'flows', 'new_flows'];

export class TableNames {
  private readonly services: ReadonlyMap<number, string>;
  private readonly backends: ReadonlyMap<number, string>;
  private readonly rules: ReadonlyMap<number, string>;

  constructor(
    numbers: Numbers,
    private readonly filters: readonly { kind: string; name?: string }[],
  ) {
    this.services = inverse(numbers.services);
    this.backends = inverse(numbers.backends);
    this.rules = inverse(numbers.rules);
  }

  service(number: number): string {
    return this.services.get(number) ?? `service ${number}`;
  }

  /** "web/10.0.0.1", as backendKey() has it. */
  backendKey(number: number): string {
    return this.backends.get(number) ?? `backend ${number}`;
  }

  /** Its address. */
  backend(number: number): string {
    const key = this.backendKey(number);
    return key.slice(key.lastIndexOf('/') + 1);
  }

  /** Counters that differ between two states of a worker's block, in the order of the block. */
  changes(before: Float64Array, after: Float64Array): { name: string; change: number }[] {
    const found: { name: string; change: number }[] = [];
    const look = (name: string, at: number): void => {
      if (name !== '' && after[at] !== before[at]) found.push({ name, change: after[at] - before[at] });
    };
    TOTALS.forEach((name, i) => look(name, CounterBlock.totals + i));
    DROP_REASONS.forEach((name, i) => look(`reason ${name}`, CounterBlock.reasons + i));
    this.filters.forEach(({ name }, i) => look(`filter ${name ?? i}`, CounterBlock.filters + i));
    for (const [number, name] of this.rules) {
      const at = CounterBlock.rules + number * RuleCounter.SIZE;
      RULE_COUNTERS.forEach((counter, i) => look(`rule ${name} ${counter}`, at + i));
    }
    for (const [number, name] of this.services) {
      const at = CounterBlock.services + number * ServiceCounter.SIZE;
      SERVICE_COUNTERS.forEach((counter, i) => look(`service ${name} ${counter}`, at + i));
    }
    for (const [number, name] of this.backends) {
      const at = CounterBlock.backends + number * BackendCounter.SIZE;
      BACKEND_COUNTERS.forEach((counter, i) => look(`backend ${name} ${counter}`, at + i));
    }
    return found;
  }
}

function inverse(numbers: Numbers['rules']): Map<number, string> {
  return new Map([...numbers].map(([name, { number }]) => [number, name]));
}
