/** DPDK's testpmd between two interfaces, over AF_XDP: one forwarding core, as the other programs. */
import type { ChildProgram } from '../../src/playground/process.js';
import { ChildError } from '../process.js';

/** What it says when it ends. */
export interface TestpmdCounts {
  received: number;
  /** By XDP_STATISTICS: no frame was there to put them in. A full RX ring is not in it. */
  missed: number;
  sent: number;
  /** Received, and for want of room not sent. */
  dropped: number;
}

const READY = /^Press enter to exit/;
const START_MS = 20_000;

/**
 * Its command line. Memory without huge pages, since few machines have them set up; the main thread sleeps, the other one forwards. Two queues of the PMD's own choice
 * of size (2,048), need_wakeup and zero-copy where the driver has it, which veth has not.
 */
export function testpmdCommand(forward: 'io' | 'mac', interfaces: readonly [string, string]): [string, string[]] {
  const devices = interfaces.flatMap((name, i) => ['--vdev', `net_af_xdp${i},iface=${name},busy_budget=0`]);
  const memory = ['--no-pci', '--no-huge', '--no-shconf', '--no-telemetry', '-m', '512'];
  const drivers = ['-d', 'librte_net_af_xdp.so', '-d', 'librte_mempool_ring.so'];
  const own = [`--forward-mode=${forward}`, '--auto-start', '--nb-cores=1', '--total-num-mbufs=16384', '--burst=64'];
  // Its output comes to a pipe only when 4 KiB are full, unless told otherwise.
  return ['stdbuf', ['-oL', 'dpdk-testpmd', ...drivers, ...memory, '--lcores', '0@1,1@1', ...devices, '--', ...own]];
}

/** Resolves once it forwards. */
export function testpmdReady(program: ChildProgram): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (why: string): void => reject(new ChildError(`${program.label} ${why}:\n${program.errorOutput}`));
    const timer = setTimeout(() => fail('does not start'), START_MS);
    program.on('line', (line) => {
      if (!READY.test(line)) return;
      clearTimeout(timer);
      resolve();
    });
    void program.ended.then(() => (clearTimeout(timer), fail('ended')));
  });
}

/** Reads the sum of all ports out of what it prints at its end; null where that is not there. */
export function readTestpmd(output: readonly string[]): TestpmdCounts | null {
  const from = output.findIndex((line) => line.includes('Accumulated forward statistics'));
  const text = from < 0 ? '' : output.slice(from).join('\n');
  const rx = /RX-packets: (\d+)\s+RX-dropped: (\d+)/.exec(text);
  const tx = /TX-packets: (\d+)\s+TX-dropped: (\d+)/.exec(text);
  if (!rx || !tx) return null;
  return { received: Number(rx[1]), missed: Number(rx[2]), sent: Number(tx[1]), dropped: Number(tx[2]) };
}
