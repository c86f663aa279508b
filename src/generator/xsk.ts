import { Worker } from 'node:worker_threads';
import { SluiceError } from '../errors.js';
import { systemIp, type IpCommand } from '../control/ip_command.js';
import { checkInterface } from './check_interface.js';
import type { Engine, LoadResult, Progress, RunningLoad } from './engine.js';
import { interfaceCounts, type InterfaceCounts } from './interface_counts.js';
import { checkLimits, checkLoad, type Load, type Replay } from './load.js';
import type { XskSenderOptions } from './xsk_sender.js';
import { XskWord, type XskThreadData, type XskThreadEnd } from './xsk_words.js';

const threadFile = new URL('./xsk_thread.js', import.meta.url);

/**
 * Sends from an AF_XDP socket, on a thread of its own: slower than live frames where packets have to be copied into skbs, but it works with every driver, needs
 * nothing of a veth's other end, and on a driver with zero-copy it is the fastest there is. Needs root, and a queue that nobody else has a socket on.
 */
export class XskEngine implements Engine {
  constructor(
    private readonly options: Partial<XskSenderOptions> = {},
    private readonly ip: IpCommand = systemIp(),
  ) {}

  async start(load: Load | Replay): Promise<RunningLoad> {
    if ('frames' in load) checkLimits(load);
    else checkLoad(load);
    checkInterface(load);
    return new XskLoad(load, this.options, this.ip, await interfaceCounts(this.ip, load.interface));
  }
}

class XskLoad implements RunningLoad {
  readonly ended: Promise<LoadResult>;
  private readonly control = new Int32Array(new SharedArrayBuffer(4));
  private readonly words: Float64Array;

  constructor(
    private readonly load: Load | Replay,
    { queue = 0, mode = 'auto', batch = 64 }: Partial<XskSenderOptions>,
    private readonly ip: IpCommand,
    private readonly before: InterfaceCounts,
  ) {
    this.words = new Float64Array(new SharedArrayBuffer(8 * (XskWord.bySize + load.sizes.length)));
    const workerData: XskThreadData = {
      load,
      queue,
      mode,
      batch,
      control: this.control.buffer as SharedArrayBuffer,
      progress: this.words.buffer as SharedArrayBuffer,
    };
    this.ended = this.watch(new Worker(threadFile, { workerData, name: 'sluice-gen' }));
    // Who does not wait for the end need not hear of it.
    this.ended.catch(() => undefined);
  }

  progress(): Progress {
    const packets = this.bySize().reduce((sum, size) => sum + size.packets, 0);
    return { packets, elapsedMs: this.words[XskWord.elapsedMs] };
  }

  stop(): void {
    Atomics.store(this.control, 0, 1);
    Atomics.notify(this.control, 0);
  }

  private async watch(thread: Worker): Promise<LoadResult> {
    const { ended } = await new Promise<XskThreadEnd>((resolve, reject) => {
      let end: XskThreadEnd | undefined;
      thread.on('message', (message: XskThreadEnd) => (end = message));
      thread.on('error', reject);
      thread.on('exit', (code) =>
        end ? resolve(end) : reject(new SluiceError('SLUICE_STATE', `the thread that sends ended with ${code}`)),
      );
    });
    const bySize = this.bySize();
    const after = await interfaceCounts(this.ip, this.load.interface);
    return {
      packets: bySize.reduce((sum, size) => sum + size.packets, 0),
      bytes: bySize.reduce((sum, size) => sum + size.bytes * size.packets, 0),
      bySize,
      elapsedMs: this.words[XskWord.elapsedMs],
      cpuMs: this.words[XskWord.cpuMs],
      ended,
      sent: after.sent - this.before.sent,
      dropped: after.dropped - this.before.dropped,
    };
  }

  private bySize(): { bytes: number; packets: number }[] {
    return this.load.sizes.map(({ bytes }, i) => ({ bytes, packets: this.words[XskWord.bySize + i] }));
  }
}
