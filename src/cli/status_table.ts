/** A Status as a page of text, cut to a width. */
import type { Status, StatusBackend, StatusService } from '../control/api/contract.js';
import { flowOffloadLines } from './status_flows.js';
import { mitigationLines } from './status_mitigation.js';
import { bytes, count, cut, duration, paint, plain, plural, table } from './output.js';
import type { Column, Paint } from './output.js';

export interface StatusTableOptions {
  /** An earlier reading of the same daemon, to make rates from; null: no rates. */
  before: Status | null;
  /** Characters of a line, Infinity for no limit; 60 at least. */
  width: number;
  colour: boolean;
  /** Rows of a table; Infinity for all. */
  maxRows: number;
  /** Unix time, ms. */
  nowMs: number;
}

/** Lines of the page. */
export function statusTable(status: Status, options: StatusTableOptions): string[] {
  const page = new Page(status, options);
  return [
    ...page.head(),
    ...page.totals(),
    ...page.interfaces(),
    ...page.workers(),
    ...page.services(),
    ...page.rules(),
    ...page.mitigation(),
    ...flowOffloadLines(status.flowOffload),
    ...page.drops(),
  ];
}

const RIGHT = 'right' as const;

/** Six characters at most: a worker's row has many numbers. */
const short = (value: number): string => count(value, 1e5);

class Page {
  private readonly ink: Paint;
  private readonly width: number;
  private readonly before: Status | null;
  private readonly seconds: number;

  constructor(
    private readonly status: Status,
    private readonly options: StatusTableOptions,
  ) {
    this.ink = paint(options.colour);
    this.width = Math.max(options.width, 60);
    const { before } = options;
    // Another process, or one that was started again, has other counters: no rate to be made from them.
    const same = before !== null && before.pid === status.pid && before.clockMs < status.clockMs;
    this.before = same ? before : null;
    this.seconds = same ? (status.clockMs - before.clockMs) / 1000 : 1;
  }

  head(): string[] {
    const { status, ink } = this;
    const { lastReload } = status;
    const ago = duration((this.options.nowMs - lastReload.atMs) / 1000);
    const loaded = lastReload.success ? `loaded ${ago} ago` : ink.red(`last reload failed ${ago} ago`);
    const lines = [
      `${ink.bold(`sluice ${plain(status.version)}`)}  pid ${status.pid}  up ${duration(status.uptimeSeconds)}  ` +
        `generation ${status.generation}  ${status.ready ? ink.green('ready') : ink.red('not ready')}`,
      `config ${cut(plain(status.configPath || 'none'), this.width - 43)}  ${loaded}`,
    ];
    if (!lastReload.success) lines.push(ink.red(`  ${cut(plain(lastReload.error), this.width - 2)}`));
    for (const line of status.missing) lines.push(ink.yellow(`  ${cut(plain(line), this.width - 2)}`));
    for (const line of status.violations) {
      lines.push(ink.red(cut(`  counters do not add up: ${plain(line)}`, this.width)));
    }
    return lines;
  }

  totals(): string[] {
    const { totals } = this.status;
    const keys = ['rx', 'drop', 'pass', 'tx', 'redirect', 'aborted'] as const;
    const rows = [['packets', ...keys.map((key) => count(totals[key])), count(totals.flows)]];
    if (this.before !== null) {
      const before = this.before.totals;
      rows.push(['a second', ...keys.map((key) => this.rate(totals[key], before[key])), '']);
    }
    const lines = this.section(
      [{ title: '' }, ...[...keys, 'flows'].map((key): Column => ({ title: key.toUpperCase(), align: RIGHT }))],
      rows,
    );
    const sampled = totals.sampledPackets - (this.before?.totals.sampledPackets ?? 0);
    if (sampled > 0) {
      const ns = (totals.sampledNs - (this.before?.totals.sampledNs ?? 0)) / sampled;
      lines.push(this.ink.dim(`${ns.toFixed(0)} ns a packet in user space`));
    }
    return lines;
  }

  interfaces(): string[] {
    return this.section(
      [
        { title: 'INTERFACE' },
        { title: 'STATE', colour: (text) => (text === 'up' ? this.ink.green : this.ink.red) },
        { title: 'XDP' },
        { title: 'QUEUES', align: RIGHT },
        { title: 'UNBOUND', colour: (text) => (text === '-' ? this.ink.dim : this.ink.yellow) },
        { title: 'XDP ACTIONS', shrinkTo: 12 },
      ],
      this.status.interfaces.map((iface) => [
        iface.name,
        iface.up ? 'up' : 'down',
        iface.mode === null ? 'detached' : `${iface.mode} ${iface.zeroCopy ? 'zero-copy' : 'copy'}`,
        count(iface.queues),
        iface.unboundQueues.join(',') || '-',
        Object.entries(iface.xdp ?? {})
          .filter(([, packets]) => packets > 0)
          .map(([action, packets]) => `${action} ${count(packets)}`)
          .join('  '),
      ]),
    );
  }

  workers(): string[] {
    const numbers = ['RX', 'DROP', 'PASS', 'TX', 'REDIRECT', 'FLOWS', 'LOST', 'RESTARTS'];
    return this.section(
      [
        { title: 'QUEUE', align: RIGHT },
        { title: 'WORKER', colour: (text) => (text === 'up' ? this.ink.green : this.ink.red) },
        ...numbers.map((title): Column => ({ title, align: RIGHT })),
        { title: 'FRAMES FREE', align: RIGHT },
      ],
      this.status.workers.map((worker) => [
        String(worker.queue),
        worker.up ? 'up' : 'down',
        ...[worker.rx, worker.drop, worker.pass, worker.tx, worker.redirect].map(short),
        ...[worker.flows, worker.kernelLost, worker.restarts].map(short),
        `${short(worker.frames.free)}/${short(worker.frames.total)}`,
      ]),
    );
  }

  services(): string[] {
    const before = new Map(this.before?.services.map((service) => [service.name, service]));
    return this.section(
      [
        { title: 'SERVICE / BACKEND', shrinkTo: 14, last: true },
        { title: 'ADDRESS / STATE', shrinkTo: 15, colour: (text) => this.stateColour(text) },
        { title: 'WEIGHT', align: RIGHT },
        { title: 'NEXT HOP', shrinkTo: 8, colour: (text) => (text === 'unknown' ? this.ink.red : this.ink.dim) },
        { title: 'PACKETS', align: RIGHT },
        ...(this.before === null ? [] : [{ title: 'A SECOND', align: RIGHT }]),
        { title: 'FLOWS', align: RIGHT },
      ],
      this.status.services.flatMap((service) => {
        const former = before.get(service.name);
        const backends = new Map(former?.backends.map((backend) => [backend.address, backend]));
        return [
          this.serviceRow(service, former),
          ...service.backends.map((backend) => this.backendRow(backend, backends.get(backend.address))),
        ];
      }),
    );
  }

  private serviceRow(service: StatusService, former: StatusService | undefined): string[] {
    const { vip, ports, protocols } = service;
    const address = `${vip.includes(':') ? `[${vip}]` : vip}:${ports} ${protocols}`;
    const flows = service.backends.reduce((sum, backend) => sum + backend.flows, 0);
    return [service.name, address, '', '', count(service.packets), ...this.rateCell(service, former), count(flows)];
  }

  private backendRow(backend: StatusBackend, former: StatusBackend | undefined): string[] {
    const { address, state, weight, nextHop, packets, flows } = backend;
    const rate = this.rateCell(backend, former);
    return [`  ${address}`, state, count(weight), nextHop ?? 'unknown', count(packets), ...rate, count(flows)];
  }

  private stateColour(text: string): (text: string) => string {
    if (text === 'active') return this.ink.green;
    return text === 'draining' || text === 'inactive' ? this.ink.yellow : (same) => same;
  }

  rules(): string[] {
    const before = new Map(this.before?.rules.map((rule) => [rule.name, rule]));
    const filters = new Map(this.before?.filters.map((filter) => [filter.name, filter.drops]));
    return this.section(
      [
        { title: 'RULE / FILTER', shrinkTo: 20, last: true },
        { title: 'ACTION' },
        { title: 'PACKETS', align: RIGHT },
        ...(this.before === null ? [] : [{ title: 'A SECOND', align: RIGHT }]),
        { title: 'BYTES', align: RIGHT },
      ],
      [
        ...this.status.rules.map((rule) => [
          rule.name,
          rule.mode === 'shadow' ? `${rule.action} (shadow)` : rule.action,
          count(rule.packets),
          ...this.rateCell(rule, before.get(rule.name)),
          bytes(rule.bytes),
        ]),
        ...this.status.filters.map(({ name, drops }) => [
          name,
          'module',
          count(drops),
          ...this.rateCell({ packets: drops }, { packets: filters.get(name) ?? drops }),
          '',
        ]),
      ],
    );
  }

  mitigation(): string[] {
    const lines = mitigationLines(this.status.mitigation);
    return lines.length === 0 ? [] : ['', ...lines.map((line) => cut(plain(line), this.width))];
  }

  drops(): string[] {
    const rows = Object.entries(this.status.drops).sort(([, a], [, b]) => b - a);
    return this.section(
      [
        { title: 'DROPPED FOR' },
        { title: 'PACKETS', align: RIGHT },
        ...(this.before === null ? [] : [{ title: 'A SECOND', align: RIGHT }]),
      ],
      rows.map(([reason, packets]) => [
        reason,
        count(packets),
        ...this.rateCell({ packets }, { packets: this.before?.drops[reason] ?? 0 }),
      ]),
    );
  }

  /** A blank line and a table, or nothing when it has no rows. */
  private section(columns: readonly Column[], rows: readonly (readonly string[])[]): string[] {
    if (rows.length === 0) return [];
    const { maxRows } = this.options;
    const lines = ['', ...table(columns, rows.slice(0, maxRows), this.width, this.ink)];
    const rest = rows.length - maxRows;
    if (rest > 0) lines.push(this.ink.dim(`… and ${plural(rest, 'row')} more (--all shows them)`));
    return lines;
  }

  /** The cell "A SECOND", or none when there are no rates. */
  private rateCell(now: { packets: number }, before: { packets: number } | undefined): string[] {
    if (this.before === null) return [];
    return [before === undefined ? '-' : this.rate(now.packets, before.packets)];
  }

  private rate(now: number, before: number): string {
    return count(Math.max(0, now - before) / this.seconds);
  }
}
