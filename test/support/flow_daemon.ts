/** A daemon with flows in the kernel, between a client and a backend. */
import type { Status } from '../../src/control/api/contract.js';
import type { StatusFlowInterface } from '../../src/control/api/contract_flows.js';
import {
  daemonConfig,
  pause,
  TestDaemon,
  Wire,
  type ConfigDocument,
  type Receiver,
  type StartOptions,
  type WireOptions,
} from './daemon.js';

/** Packets that the kernel sent. A status reads totals and workers one after the other, so under load it is off by some. */
export const inKernel = (status: Status): number =>
  status.totals.rx - status.workers.reduce((sum, { rx }) => sum + rx, 0);

/** `parts` replace top-level keys. Checksums are taken for complete, as they are with `ethtool -K eth0 tx off`. */
export function flowConfig(wire: Wire, parts: ConfigDocument = {}): ConfigDocument {
  const interfaces = ['in0', 'out0'].map((name) => ({ name, checksum: 'trust' }));
  return daemonConfig(wire, { flow_offload: 'auto', interfaces, ...parts });
}

export interface FlowRigOptions extends WireOptions, StartOptions {
  parts?: ConfigDocument;
  /** Before the daemon starts. */
  prepare?: (wire: Wire) => void;
}

export class FlowRig {
  private constructor(
    readonly wire: Wire,
    readonly receiver: Receiver,
    readonly daemon: TestDaemon,
    private readonly parts: ConfigDocument,
  ) {}

  static async start({ parts = {}, prepare, ...options }: FlowRigOptions = {}): Promise<FlowRig> {
    const wire = new Wire({ backend: true, ...options });
    wire.client.exec('ethtool', '-K', 'eth0', 'tx', 'off');
    prepare?.(wire);
    const receiver = await wire.receive();
    return new FlowRig(wire, receiver, await TestDaemon.start(wire, flowConfig(wire, parts), options), parts);
  }

  /** Again, with these keys instead. */
  async reload(parts: ConfigDocument): Promise<void> {
    this.daemon.configure(flowConfig(this.wire, { ...this.parts, ...parts }));
    const { applied } = await this.daemon.reload();
    if (!applied) throw new Error(`not applied:\n${this.daemon.tail()}`);
  }

  async flowsOn(name = 'in0'): Promise<StatusFlowInterface> {
    return (await this.daemon.status()).flowOffload!.interfaces.find((entry) => entry.name === name)!;
  }

  /** What share of the packets the kernel sends, over a third of a second. */
  async share(): Promise<number> {
    const before = await this.daemon.status();
    await pause(350);
    const after = await this.daemon.status();
    return (inKernel(after) - inKernel(before)) / (after.totals.rx - before.totals.rx);
  }

  /** Waits until the kernel sends nearly all, at most 20 s. */
  async offloaded(): Promise<void> {
    const deadline = performance.now() + 20_000;
    while (!((await this.share()) > 0.9)) {
      if (performance.now() > deadline)
        throw new Error(`not in the kernel: ${JSON.stringify(await this.flowsOn())}\n${this.daemon.tail()}`);
    }
  }

  /** Datagrams that the backend's host has got, in whatever encapsulation. */
  async received(): Promise<number> {
    const { decap } = await this.receiver.stats();
    return (decap.decap_4in4 ?? 0) + (decap.decap_gue1 ?? 0);
  }
}
