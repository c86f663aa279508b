/** An `ip` command that answers from fields, and what it is given to say. */
import type { IpCommand, IpResult, MonitorEvents } from '../../src/control/ip_command.js';

const ok = (stdout: string): IpResult => ({ stdout, stderr: '', code: 0 });

// Output of iproute2 6.1.0 on Debian 12, as it printed it.
export const LINKS =
  '[{"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP","LOWER_UP"],"mtu":65536,"qdisc":"noqueue","operstate":"UNKNOWN","linkmode":"DEFAULT","group":"default","txqlen":1000,"link_type":"loopback","address":"00:00:00:00:00:00","broadcast":"00:00:00:00:00:00"},' +
  '{"ifindex":2,"link_index":2,"ifname":"a0","flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],"mtu":1500,"qdisc":"noqueue","operstate":"UP","linkmode":"DEFAULT","group":"default","txqlen":1000,"link_type":"ether","address":"3e:13:55:c3:d8:7d","broadcast":"ff:ff:ff:ff:ff:ff","link_netnsid":0},' +
  '{"ifindex":3,"ifname":"tun0","flags":["POINTOPOINT","MULTICAST","NOARP","UP","LOWER_UP"],"mtu":1400,"operstate":"UNKNOWN","link_type":"none"}]\n';
export const ROUTES: Record<string, string> = {
  '10.77.0.2': '[{"dst":"10.77.0.2","dev":"a0","prefsrc":"10.77.0.1","flags":[],"uid":0,"cache":[]}]',
  '10.89.0.5':
    '[{"dst":"10.89.0.5","gateway":"10.77.0.2","dev":"a0","prefsrc":"10.77.0.1","flags":[],"uid":0,"cache":[],"metrics":[{"mtu":1300}]}]',
  '10.92.0.1':
    '[{"dst":"10.92.0.1","via":{"family":"inet6","host":"fd77::2"},"dev":"a0","prefsrc":"10.77.0.1","flags":[],"uid":0,"cache":[]}]',
  'fd77::2':
    '[{"dst":"fd77::2","from":"::","dev":"a0","protocol":"kernel","prefsrc":"fd77::1","metric":256,"flags":[],"pref":"medium"}]',
  '10.77.0.1':
    '[{"type":"local","dst":"10.77.0.1","dev":"lo","prefsrc":"10.77.0.1","flags":[],"uid":0,"cache":["local"]}]',
  '10.55.0.1': '[{"dst":"10.55.0.1","dev":"tun0","prefsrc":"10.55.0.2","flags":[],"uid":0,"cache":[]}]',
};
export const FAILURES: Record<string, string> = {
  '10.90.0.1': 'RTNETLINK answers: No route to host',
  '203.0.113.1': 'RTNETLINK answers: Network is unreachable',
};

export interface FakeNeighbour {
  dst: string;
  dev: string;
  lladdr?: string;
  state: string[];
}

/** `ip` on a host that is these fields. */
export class FakeIp implements IpCommand {
  links = LINKS;
  routes = { ...ROUTES };
  neighbours: FakeNeighbour[] = [];
  /** Commands of batches other than route get. */
  commands: string[] = [];
  /** Runs of the program, by first word. */
  runs: string[] = [];
  error: Error | null = null;
  permitted = true;
  monitors: { events: MonitorEvents; closed: boolean }[] = [];
  /** What a `neigh … use` brings about. */
  onUse: (address: string) => void = () => undefined;

  run(args: readonly string[], input = ''): Promise<IpResult> {
    this.runs.push(args.join(' '));
    if (this.error) return Promise.reject(this.error);
    if (args.includes('link')) return Promise.resolve(ok(this.links));
    if (args.includes('neigh')) return Promise.resolve(ok(`${JSON.stringify(this.neighbours)}\n`));
    const lines = input.split('\n').filter((line) => line !== '');
    return Promise.resolve(args.includes('-json') ? this.#routeBatch(lines) : this.#neighbourBatch(lines));
  }

  #routeBatch(lines: string[]): IpResult {
    const stdout: string[] = [];
    const stderr: string[] = [];
    lines.forEach((line, i) => {
      const address = line.replace('route get ', '');
      const failure = FAILURES[address];
      if (this.routes[address]) stdout.push(`${this.routes[address]}\n`);
      else stderr.push(`${failure ?? 'RTNETLINK answers: Network is unreachable'}\nCommand failed -:${i + 1}\n`);
    });
    return { stdout: stdout.join(''), stderr: stderr.join(''), code: stderr.length > 0 ? 1 : 0 };
  }

  #neighbourBatch(lines: string[]): IpResult {
    if (!this.permitted)
      return { stdout: '', stderr: 'RTNETLINK answers: Operation not permitted\nCommand failed -:1\n', code: 1 };
    for (const line of lines) {
      this.commands.push(line);
      if (line.endsWith(' use')) this.onUse(line.split(' ')[2]);
    }
    return ok('');
  }

  monitor(_objects: readonly string[], events: MonitorEvents) {
    const monitor = { events, closed: false };
    this.monitors.push(monitor);
    return { close: () => (monitor.closed = true) };
  }

  event(text: string): void {
    this.monitors.at(-1)!.events.onText(text);
  }
}

export const MAC = 'b2:45:7f:66:12:35';
export const known = (dst: string, lladdr = MAC, state = 'REACHABLE'): FakeNeighbour => ({
  dst,
  dev: 'a0',
  lladdr,
  state: [state],
});
