/** The metrics of the stages of mitigation. */
import { Counter, RuleCounter } from '../../shared/layout.js';
import type { RuntimeView } from '../api/view.js';
import { labels } from './text.js';
import type { TextWriter } from './text.js';

const TOTALS: readonly [name: string, help: string, counter: Counter][] = [
  ['sluice_challenges_total', 'SYNs answered by a challenge.', Counter.challenges],
  [
    'sluice_challenge_admitted_syns_total',
    'SYNs that passed because their sender had answered.',
    Counter.challengeAdmitted,
  ],
  [
    'sluice_challenge_failed_resets_total',
    'RSTs that answered no challenge; those that end connections are among them.',
    Counter.challengeFailed,
  ],
  [
    'sluice_connection_evictions_total',
    'TCP connections that gave way to others: mitigation.tcp_state.connections is too small.',
    Counter.connectionEvict,
  ],
  [
    'sluice_limit_table_full_packets_total',
    'Packets that a limit dropped because its table was full.',
    Counter.limitTableFull,
  ],
];

const GAUGES: readonly [name: string, help: string, counter: Counter][] = [
  ['sluice_challenge_active', 'Destinations whose SYNs are challenged now; 1 in mode always.', Counter.challengeActive],
  ['sluice_connections', 'TCP connections that are remembered.', Counter.connections],
  [
    'sluice_tcp_learning',
    '1 while packets of unknown connections are taken for those of older ones.',
    Counter.tcpLearning,
  ],
];

/** Reasons of out-of-state packets, as among the drop reasons. */
export const TCP_REASONS: readonly [reason: string, counter: Counter][] = [
  ['tcp_unexpected', Counter.tcpUnexpected],
  ['tcp_not_found', Counter.tcpNotFound],
  ['tcp_out_of_sequence', Counter.tcpOutOfSequence],
  ['tcp_already_closed', Counter.tcpAlreadyClosed],
];

export function writeMitigation(out: TextWriter, view: RuntimeView): void {
  const workers = view.workers.map(({ queue }) => ({ queue, counters: view.counters.worker(queue) }));
  for (const [type, metrics] of [
    ['counter', TOTALS],
    ['gauge', GAUGES],
  ] as const) {
    for (const [name, help, counter] of metrics) {
      out.family(name, type, help);
      for (const { queue, counters } of workers) out.sample(labels({ queue }), counters.total(counter));
    }
  }
  out.family(
    'sluice_limit_table_full_kernel_packets_total',
    'counter',
    'Packets that a limit in the kernel dropped because its table was full.',
  );
  out.sample('', view.counters.limitTableFullInKernel());
  out.family(
    'sluice_tcp_out_of_state_packets_total',
    'counter',
    'TCP packets that no connection accounts for, dropped or not.',
  );
  for (const { queue, counters } of workers) {
    for (const [reason, counter] of TCP_REASONS) out.sample(labels({ reason, queue }), counters.total(counter));
  }
  out.family('sluice_programs', 'gauge', 'Match programs of rules, limits and captures, by what runs them.');
  for (const { queue, counters } of workers) {
    out.sample(labels({ engine: 'js', queue }), counters.total(Counter.programsCompiled));
    out.sample(labels({ engine: 'interpreter', queue }), counters.total(Counter.programsInterpreted));
  }
  const limits = view.limits.map((limit) => ({ ...limit, label: labels({ limit: limit.name }) }));
  out.family('sluice_limit_packets_total', 'counter', 'Packets that the limit matched.');
  for (const { key, label } of limits) out.sample(label, view.counters.rule(key, RuleCounter.packets));
  out.family('sluice_limit_dropped_packets_total', 'counter', 'Packets that were above the limit.');
  for (const { key, label } of limits) out.sample(label, view.counters.rule(key, RuleCounter.acted));
}
