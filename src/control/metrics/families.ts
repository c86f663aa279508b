/** The sluice_* metrics: what each is called, what it means, and where it is read. docs/metrics.md says the same for people. */
import { BackendCounter, Counter, RuleCounter, ServiceCounter } from '../../shared/layout.js';
import { BACKEND_STATES, missing } from '../api/view.js';
import type { BackendView, RuntimeView } from '../api/view.js';
import { DROP_REASONS } from '../counters.js';
import { backendKey } from './book.js';
import { PORT_COUNTERS, WORKER_COUNTERS } from './counters.js';
import { writeMitigation } from './mitigation.js';
import type { MonotoneCounts } from './monotone.js';
import { labels } from './text.js';
import { writeFlows } from './flows.js';
import type { TextWriter } from './text.js';

const VERDICT_COUNTERS: readonly [verdict: string, counter: Counter][] = [
  ['aborted', Counter.aborted],
  ['drop', Counter.drop],
  ['pass', Counter.pass],
  ['tx', Counter.tx],
  ['redirect', Counter.redirect],
];

/** Writes everything but the process's own metrics. */
export function writeFamilies(out: TextWriter, view: RuntimeView, kernel: MonotoneCounts): void {
  view.counters.assign(view);
  writeDaemon(out, view);
  writeWorkers(out, view);
  writeFlows(out, view);
  writePorts(out, view);
  writeInterfaces(out, view, kernel);
  writePolicy(out, view);
  writeMitigation(out, view);
  writeBalance(out, view);
}

function writeDaemon(out: TextWriter, view: RuntimeView): void {
  const { version, lastReload, generation } = view;
  out.family('sluice_build_info', 'gauge', 'Always 1; the labels say what runs.');
  out.sample(labels({ version, node: process.versions.node }), 1);
  out
    .family('sluice_start_time_seconds', 'gauge', 'Unix time of the daemon’s start.')
    .sample('', view.startedAtMs / 1000);
  out
    .family('sluice_ready', 'gauge', '1 when all workers and interfaces serve.')
    .sample('', missing(view).length ? 0 : 1);
  out.family('sluice_config_generation', 'gauge', 'Generation of the tables published last.').sample('', generation);
  out.family('sluice_config_last_reload_success', 'gauge', '1 when the last configuration loaded was right.');
  out.sample('', lastReload.success ? 1 : 0);
  out.family('sluice_config_last_reload_timestamp_seconds', 'gauge', 'Unix time of the last load of a configuration.');
  out.sample('', lastReload.atMs / 1000);
  out.family('sluice_counter_violations', 'gauge', 'Counter identities that do not hold now. Not 0: a bug in sluice.');
  out.sample('', view.counters.check().length);
}

function writeWorkers(out: TextWriter, view: RuntimeView): void {
  const workers = view.workers.map((worker) => ({
    view: worker,
    counters: view.counters.worker(worker.queue),
    label: labels({ queue: worker.queue }),
  }));
  out.family('sluice_worker_up', 'gauge', '1 while the worker serves its queue.');
  for (const worker of workers) out.sample(worker.label, worker.view.up ? 1 : 0);
  out.family('sluice_worker_restarts_total', 'counter', 'Restarts of the worker since the daemon’s start.');
  for (const worker of workers) out.sample(worker.label, worker.view.restarts);
  out.family('sluice_worker_generation', 'gauge', 'Generation of the tables that the worker has adopted.');
  for (const worker of workers) out.sample(worker.label, worker.counters.total(Counter.generation));

  out.family(
    'sluice_verdict_packets_total',
    'counter',
    'Packets by what was decided; their sum is the packets judged.',
  );
  for (const { counters, view: worker } of workers) {
    for (const [verdict, counter] of VERDICT_COUNTERS) {
      out.sample(labels({ verdict, queue: worker.queue }), counters.total(counter));
    }
  }
  out.family('sluice_drop_packets_total', 'counter', 'Packets dropped or aborted, by reason.');
  for (const { counters, view: worker } of workers) {
    DROP_REASONS.forEach((reason, index) => {
      const packets = counters.reason(index);
      // A drop without a reason is a bug, and a series that is always 0 is noise.
      if (index > 0 || packets > 0) out.sample(labels({ reason, queue: worker.queue }), packets);
    });
  }
  for (const [name, help, counter] of WORKER_COUNTERS) {
    out.family(name, 'counter', help);
    for (const worker of workers) out.sample(worker.label, worker.counters.total(counter));
  }
  out.family(
    'sluice_sampled_seconds_total',
    'counter',
    'Processing time of the sampled packets, all of them together.',
  );
  for (const worker of workers) out.sample(worker.label, worker.counters.total(Counter.sampledNs) / 1e9);
  out.family('sluice_flows', 'gauge', 'Flows in the flow table.');
  for (const worker of workers) out.sample(worker.label, worker.counters.total(Counter.flows));
  out.family('sluice_frames', 'gauge', 'Frames of the worker’s UMEM by owner. The sum never changes.');
  for (const { counters, view: worker } of workers) {
    const { total, ...owners } = counters.frames();
    if (total === 0) continue;
    for (const [owner, frames] of Object.entries(owners)) out.sample(labels({ owner, queue: worker.queue }), frames);
  }
}

function writePorts(out: TextWriter, view: RuntimeView): void {
  const ports = view.workers.flatMap((worker) =>
    worker.ports.map((port) => ({
      index: port.index,
      counters: view.counters.worker(worker.queue),
      label: labels({ interface: port.interface, queue: port.queue }),
    })),
  );
  for (const [name, help, counter] of PORT_COUNTERS) {
    out.family(name, 'counter', help);
    for (const port of ports) out.sample(port.label, port.counters.port(port.index, counter));
  }
}

function writeInterfaces(out: TextWriter, view: RuntimeView, kernel: MonotoneCounts): void {
  out.family('sluice_interface_up', 'gauge', '1 while the interface is up.');
  for (const iface of view.interfaces) out.sample(labels({ interface: iface.name }), iface.up ? 1 : 0);
  out.family(
    'sluice_interface_info',
    'gauge',
    'Always 1; how the XDP program is attached and whether frames are copied.',
  );
  for (const { name, mode, zeroCopy } of view.interfaces) {
    out.sample(labels({ interface: name, mode: mode ?? 'detached', zero_copy: String(zeroCopy ?? false) }), 1);
  }
  out.family(
    'sluice_interface_unbound_queues',
    'gauge',
    'Receive queues without a worker: the fallback action takes them.',
  );
  for (const iface of view.interfaces) out.sample(labels({ interface: iface.name }), iface.unboundQueues.length);
  const failed: string[] = [];
  out.family('sluice_xdp_packets_total', 'counter', 'Packets that the XDP program saw, by its action.');
  for (const iface of view.interfaces) {
    try {
      for (const [action, packets] of Object.entries(iface.xdp() ?? {})) {
        const label = labels({ interface: iface.name, action });
        out.sample(label, kernel.read(label, packets));
      }
    } catch {
      failed.push(iface.name);
    }
  }
  out.family('sluice_xdp_read_failed', 'gauge', '1 when the XDP program’s counters could not be read in this scrape.');
  for (const { name } of view.interfaces) out.sample(labels({ interface: name }), failed.includes(name) ? 1 : 0);
}

function writePolicy(out: TextWriter, view: RuntimeView): void {
  const rules = view.rules.map(({ name, mode }) => ({ name, mode, label: labels({ rule: name }) }));
  out.family('sluice_rule_packets_total', 'counter', 'Packets that matched the rule.');
  for (const rule of rules) out.sample(rule.label, view.counters.rule(rule.name, RuleCounter.packets));
  out.family('sluice_rule_bytes_total', 'counter', 'Bytes of the packets that matched the rule.');
  for (const rule of rules) out.sample(rule.label, view.counters.rule(rule.name, RuleCounter.bytes));
  out.family(
    'sluice_rule_acted_packets_total',
    'counter',
    'Packets that the rule dropped, limited, sampled or challenged, or in shadow mode would have.',
  );
  for (const rule of rules) out.sample(rule.label, view.counters.rule(rule.name, RuleCounter.acted));
  out.family('sluice_rule_acted_bytes_total', 'counter', 'Bytes of these packets.');
  for (const rule of rules) out.sample(rule.label, view.counters.rule(rule.name, RuleCounter.actedBytes));
  out.family(
    'sluice_rule_kernel_packets_total',
    'counter',
    'Packets that matched the rule and were dropped in the kernel.',
  );
  for (const rule of rules) out.sample(rule.label, view.counters.kernelRule(rule.name, RuleCounter.packets));
  out.family('sluice_rule_enforced', 'gauge', '1 when the rule does what it says, 0 in shadow mode.');
  for (const rule of rules) out.sample(rule.label, rule.mode === 'enforce' ? 1 : 0);
  out.family('sluice_rules_expired_total', 'counter', 'Rules whose time to live was over.');
  out.sample('', view.rulesExpired);
  writeSets(out, view);
  out.family('sluice_filter_drop_packets_total', 'counter', 'Packets dropped by the module filter.');
  for (const { name } of view.filters) out.sample(labels({ filter: name }), view.counters.filter(name));
}

function writeSets(out: TextWriter, { sets }: RuntimeView): void {
  const labelled = sets.map((set) => ({ ...set, label: labels({ set: set.name }) }));
  out.family('sluice_set_entries', 'gauge', 'Entries of the set.');
  for (const { label, entries } of labelled) out.sample(label, entries);
  out.family('sluice_set_memory_bytes', 'gauge', 'Shared memory that the set uses.');
  for (const { label, bytes } of labelled) out.sample(label, bytes);
  out.family('sluice_set_match_packets_total', 'counter', 'Look-ups of packets that were in the set.');
  for (const { label, packets } of labelled) out.sample(label, packets);
  out.family('sluice_set_match_bytes_total', 'counter', 'Bytes of these packets.');
  for (const { label, packetBytes } of labelled) out.sample(label, packetBytes);
}

function writeBalance(out: TextWriter, view: RuntimeView): void {
  const book = view.counters;
  const services = view.services.map(({ name }) => ({ name, label: labels({ service: name }) }));
  out.family('sluice_service_packets_total', 'counter', 'Packets balanced over the service’s backends.');
  for (const { name, label } of services) out.sample(label, book.service(name, ServiceCounter.packets));
  out.family(
    'sluice_service_bytes_total',
    'counter',
    'Bytes balanced over the service’s backends, before encapsulation.',
  );
  for (const { name, label } of services) out.sample(label, book.service(name, ServiceCounter.bytes));

  const backends = view.services.flatMap((service) =>
    service.backends.map((backend) => ({
      key: backendKey(service.name, backend.address),
      backend,
      label: labels({ service: service.name, backend: backend.address }),
    })),
  );
  const counters = [
    ['sluice_backend_packets_total', 'Packets sent to the backend.', BackendCounter.packets],
    ['sluice_backend_bytes_total', 'Bytes sent to the backend, before encapsulation.', BackendCounter.bytes],
    ['sluice_backend_new_flows_total', 'Flows given to the backend.', BackendCounter.newFlows],
  ] as const;
  for (const [name, help, counter] of counters) {
    out.family(name, 'counter', help);
    for (const { key, label } of backends) out.sample(label, book.backendByKey(key, counter));
  }
  out.family('sluice_backend_flows', 'gauge', 'Flows that lead to the backend now: what is left to drain.');
  for (const { backend, label } of backends) out.sample(label, book.backendFlows(backend.number));
  out.family('sluice_backend_weight', 'gauge', 'Weight of the backend.');
  for (const { backend, label } of backends) out.sample(label, backend.weight);
  out.family('sluice_backend_state', 'gauge', '1 for the state that the backend is in, 0 for the others.');
  for (const { backend, label } of backends) {
    for (const state of BACKEND_STATES) out.sample(`${label},state="${state}"`, backend.state === state ? 1 : 0);
  }
  out.family('sluice_backend_resolved', 'gauge', '1 while the hardware address of the backend’s next hop is known.');
  for (const { backend, label } of backends) out.sample(label, backend.nextHop === null ? 0 : 1);
  writeHealth(out, backends);
}

/** What health checks say, of backends that are checked. */
function writeHealth(out: TextWriter, backends: readonly { backend: BackendView; label: string }[]): void {
  const checked = backends.flatMap(({ backend: { health }, label }) => (health === null ? [] : [{ health, label }]));
  out.family('sluice_backend_health_up', 'gauge', '1 while health checks find the backend up, or know nothing yet.');
  for (const { health, label } of checked) out.sample(label, health.up === false ? 0 : 1);
  out.family('sluice_backend_health_held', 'gauge', '1 while the backend is held back because it changes too often.');
  for (const { health, label } of checked) out.sample(label, health.held ? 1 : 0);
  out.family('sluice_backend_health_checks_total', 'counter', 'Health checks of the backend, by result.');
  for (const { health, label } of checked) {
    out.sample(`${label},result="ok"`, health.ok);
    out.sample(`${label},result="failed"`, health.failed);
  }
}
