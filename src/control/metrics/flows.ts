/** Metrics of flows in the kernel (docs/flow-offload.md). */
import type { RuntimeView } from '../api/view.js';
import { Counter } from '../../shared/layout.js';
import { labels, type TextWriter } from './text.js';

export function writeFlows(out: TextWriter, { counters, flowOffload }: RuntimeView): void {
  const kernel = counters.flowsInKernel;
  const sum = (...all: Counter[]): number => all.reduce((total, counter) => total + (kernel?.total(counter) ?? 0), 0);
  out.family(
    'sluice_flow_offload_packets_total',
    'counter',
    'Packets that the kernel sent to backends by itself. They are in the counters of services and backends, and in those of no worker.',
  );
  out.sample('', sum(Counter.tx, Counter.redirect));
  out.family('sluice_flow_offload_bytes_total', 'counter', 'Bytes of these packets as received.');
  out.sample('', sum(Counter.rxBytes));
  out.family('sluice_flow_offload_flows', 'gauge', 'Flows in the kernel, with those that have just left.');
  for (const { name, flows } of flowOffload?.interfaces ?? []) out.sample(labels({ interface: name }), flows);
}
