import { SluiceError } from '../errors.js';
import { checkInterface } from '../generator/check_interface.js';
import { checkLoad, type Load } from '../generator/load.js';
import { XskSender } from '../generator/xsk_sender.js';
import { native } from '../native.js';
import type { BenchCounts, BenchSettings, Job } from './modes.js';

/** How often it looks whether its socket is well, in rounds. */
const HEALTH_ROUNDS = 65_536;

/** `txonly`: the generator's AF_XDP engine in this thread, as fast as it goes. */
export class TxJob implements Job {
  readonly way: string;
  private rounds = 0;
  private sent = 0;
  private last: BenchCounts | null = null;

  constructor(
    private readonly load: Load,
    private readonly settings: BenchSettings,
    private readonly sender: XskSender,
  ) {
    this.way = settings.xdp === 'generic' ? 'generic' : sender.zeroCopy ? 'zero-copy' : 'copy';
  }

  /** @throws SluiceError, KernelError */
  static open(settings: BenchSettings): TxJob {
    const { load, queue, batch, xdp } = settings;
    checkLoad(load!);
    checkInterface(load!);
    const sender = new XskSender(load!, { queue, batch, mode: xdp === 'generic' ? 'copy' : xdp });
    return new TxJob(load!, settings, sender);
  }

  get done(): boolean {
    return this.load.packets > 0 && this.sent >= this.load.packets;
  }

  round(): number {
    const { packets } = this.load;
    const { batch } = this.settings;
    if (++this.rounds % HEALTH_ROUNDS === 0 && this.sender.error() !== 0) {
      throw new SluiceError(
        'SLUICE_DEVICE',
        `interface ${this.load.interface} is gone`,
        'See what there is: ip -br link',
      );
    }
    const count = this.sender.send(packets > 0 ? Math.min(batch, packets - this.sent) : batch);
    this.sent += count;
    return count;
  }

  nowMs(): number {
    return native().nowMs();
  }

  counts(): BenchCounts {
    if (this.last) return this.last;
    const { bytes } = this.sender;
    return { rx: 0, rxBytes: 0, tx: this.sent, txBytes: bytes, dropped: 0, txLost: 0, missed: 0 };
  }

  close(): void {
    if (this.last) return;
    this.last = this.counts();
    this.sender.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
