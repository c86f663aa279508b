import { PassThrough } from 'node:stream';
import { createLog, type Log } from '../../src/control/log.js';
import { SetControl } from '../../src/control/manager/set_control.js';
import type { SetWorker } from '../../src/control/manager/set_readers.js';
import { SetShelf, type PublishedSets } from '../../src/control/set_tables.js';
import { parseAddress } from '../../src/shared/addr.js';
import type { Config } from '../../src/shared/config.js';
import { SetView } from '../../src/shared/sets/index.js';

/** What a daemon does with its sets, by hand. */
export class FakeSetDaemon {
  readonly control: SetControl;
  readonly shelf = new SetShelf();
  tables!: PublishedSets;
  generation = 0;
  publications = 0;
  refuses = false;
  nowMs = -5000;
  config: Config;
  readonly workers: SetWorker[] = [{ thread: {}, beats: 0, generation: 1 }];
  readonly log: Log;
  logged = '';
  private changes: Promise<unknown> = Promise.resolve();

  constructor(config: Config) {
    this.config = config;
    const stream = new PassThrough();
    stream.on('data', (chunk) => (this.logged += String(chunk)));
    this.log = createLog({ level: 'info', format: 'json', stream });
    this.control = new SetControl({
      log: this.log,
      serialize: <T>(change: () => Promise<T>): Promise<T> => {
        const next = this.changes.then(change);
        this.changes = next.catch(() => undefined);
        return next;
      },
      config: () => this.config,
      generation: () => this.generation,
      publish: async () => this.publish(),
      goBack: async () => {
        this.refuses = false;
        this.publish();
        return Promise.resolve();
      },
      workers: () => this.workers,
      kernelMatches: () => ({ packets: 0, bytes: 0 }),
      kernelPlacement: () => null,
      nowMs: () => this.nowMs,
    });
    this.control.prepare(config);
    this.publish();
    this.control.adopt();
  }

  publish(): void {
    this.publications++;
    const { tables } = this.shelf.build(this.control, this.config, [0, 2], ++this.generation);
    if (this.refuses) throw new Error('refused');
    this.tables = tables;
  }

  reload(config: Config): void {
    this.control.prepare(config);
    this.config = config;
    this.publish();
    this.control.adopt();
  }

  /** Whether a worker with the tables of now finds an address in a set. */
  finds(name: string, address: string): boolean {
    const table = this.tables.sets.find((set) => set.name === name)!;
    const [a0] = parseAddress(address).words;
    return new SetView(table.buffers, table.counters[2]).lookup4(a0, 0, this.control.clock.seconds()) > 0;
  }
}
