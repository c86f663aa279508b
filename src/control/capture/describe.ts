import { DROP_REASONS, DropReason, VERDICTS } from '../../dataplane/verdict.js';
import type { RuntimeView } from '../api/view.js';

/** Numbers of a record that have names. −1: there is none. */
export interface Described {
  verdict: number;
  reason: number;
  rule: number;
  service: number;
  backend: number;
  queue: number;
}

/** What captures need of the runtime's view. */
export type NamesView = Pick<RuntimeView, 'services' | 'rules'>;

/** Says in words what became of a packet, as comments of a capture have it. */
export class Describer {
  private view: NamesView | null = null;
  private rules = new Map<number, string>();
  private services = new Map<number, string>();
  private backends = new Map<number, string>();

  /** `now`: the view in force, a new object whenever names change. */
  constructor(private readonly now: () => NamesView) {}

  /** "drop rule=ntp reason=rule service=web backend=10.0.0.11 queue=0": what there is of it, in this order. */
  describe({ verdict, reason, rule, service, backend, queue }: Described): string {
    this.refresh();
    let text = VERDICTS[verdict] ?? `verdict-${verdict}`;
    if (rule >= 0) text += ` rule=${this.rules.get(rule) ?? `#${rule}`}`;
    if (reason !== (DropReason.none as number)) text += ` reason=${DROP_REASONS[reason] ?? reason}`;
    if (service >= 0) text += ` service=${this.services.get(service) ?? `#${service}`}`;
    if (backend >= 0) text += ` backend=${this.backends.get(backend) ?? `#${backend}`}`;
    return `${text} queue=${queue}`;
  }

  private refresh(): void {
    const view = this.now();
    if (view === this.view) return;
    this.view = view;
    this.rules = new Map(view.rules.map(({ id, name }) => [id, name]));
    this.services = new Map(view.services.map(({ number, name }) => [number, name]));
    const backends = view.services.flatMap((service) => service.backends);
    this.backends = new Map(backends.map(({ number, address }) => [number, address]));
  }
}
