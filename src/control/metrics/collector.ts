import type { Registry } from 'prom-client';
import { missing } from '../api/view.js';
import type { RuntimeView } from '../api/view.js';
import type { Log } from '../log.js';
import { writeFamilies } from './families.js';
import { MonotoneCounts } from './monotone.js';
import { processRegistry } from './process.js';
import { TextWriter } from './text.js';

/** Makes the text of a scrape, from what the daemon is at that moment. Keeps no timer and no copy of a counter. */
export class MetricsCollector {
  /** prom-client's registry with the process's metrics; a library user may add to it. */
  readonly registry: Registry = processRegistry();
  private readonly kernel = new MonotoneCounts();

  constructor(
    private readonly view: () => RuntimeView,
    private readonly log?: Pick<Log, 'lost'>,
  ) {}

  get contentType(): string {
    return this.registry.contentType;
  }

  /** The text, UTF-8. */
  async render(): Promise<Buffer> {
    const out = new TextWriter();
    writeFamilies(out, this.view(), this.kernel);
    if (this.log !== undefined) {
      const lost = this.log.lost();
      out.family('sluice_log_lines_lost_total', 'counter', 'Log lines not written, by cause.');
      out.sample('cause="stalled"', lost.stalled).sample('cause="limited"', lost.limited);
    }
    return out.raw(await this.registry.metrics()).finish();
  }

  /** What keeps the daemon from serving, each in one line; [] when it is ready. */
  missing(): string[] {
    return missing(this.view());
  }
}
