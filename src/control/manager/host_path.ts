import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { formatMac } from '../../shared/addr.js';
import { native, type LinkInfo, type Tap } from '../../native.js';

const run = promisify(execFile);

/**
 * The way back into the host's own stack: a TAP device with the interface's hardware address and MTU. A frame that a
 * worker writes into it is received by the host as if it had come in on the interface. The host's answers leave by its
 * routes, never through the TAP: it has no address, no ARP and no carrier of its own to send to, so nothing can loop.
 *
 * One device an interface, one queue a worker. The queue opened here only keeps the device alive over worker restarts.
 */
export class HostPath {
  private constructor(
    readonly name: string,
    private readonly tap: Tap,
  ) {}

  static async open(link: LinkInfo): Promise<HostPath> {
    const name = `slh${link.ifindex}`;
    const tap = new (native().Tap)({ name });
    try {
      // Source addresses of what comes in here are routed elsewhere: strict reverse-path filtering would drop everything.
      await setting(`ipv4/conf/${name}/rp_filter`, '0');
      await setting(`ipv4/conf/${name}/arp_ignore`, '8');
      await setting(`ipv6/conf/${name}/accept_ra`, '0');
      await setting(`ipv6/conf/${name}/addr_gen_mode`, '1');
      const options = ['address', formatMac(link.address), 'mtu', String(link.mtu), 'arp', 'off', 'up'];
      await run('ip', ['link', 'set', 'dev', name, ...options]);
    } catch (error) {
      tap.close();
      throw error;
    }
    return new HostPath(name, tap);
  }

  close(): void {
    this.tap.close();
  }
}

/** A kernel without IPv6 has no such file; that is fine. */
async function setting(path: string, value: string): Promise<void> {
  try {
    await writeFile(`/proc/sys/net/${path}`, value);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
