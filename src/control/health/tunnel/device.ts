/**
 * What the tunnel needs of the host: a TAP device, and rules and routes that lead the checks' packets, and nothing else, into it.
 *
 *   rule   from this host itself, TCP or UDP, source port of a check  →  table
 *   table  each VIP  →  the device
 *
 * The device and its routes go with its descriptor. Rules and settings outlive a kill; the next start replaces them.
 */
import { SluiceError } from '../../../errors.js';
import { native, type Tap } from '../../../native.js';
import type { Address, PortRange } from '../../../shared/config.js';
import type { IpCommand } from '../../ip_command.js';
import { readRoutes } from '../../routes.js';
import { withReserved } from './reserved_ports.js';
import type { Settings } from './settings.js';
import { read } from './settings.js';

export interface DeviceOptions {
  ip: IpCommand;
  name: string;
  /** Number of the routing table, and preference of the rules. */
  table: number;
  ports: PortRange;
  settings: Settings;
}

/** The least MTU of IPv6: what a check sends, and asks to be sent, fits every way with an outer header or two. */
const MTU = 1280;
const FAMILIES = [4, 6] as const;
/** No more rules than this were ever ours. */
const MAX_RULES = 16;

interface VipState {
  /** Why it cannot be checked; '' when it can. */
  problem: string;
  /** Interface of the host's own route to it; null when there is none. */
  via: string | null;
  /** Interfaces by which answers may come in. */
  admitted: Set<string>;
}

export class TunnelDevice {
  /** By text of its address. */
  private states: ReadonlyMap<string, VipState> = new Map();
  private readonly ruled = new Set<4 | 6>();

  private constructor(
    private readonly options: DeviceOptions,
    readonly tap: Tap,
  ) {}

  /** Makes the device. Leaves nothing behind when it throws. */
  static async open(options: DeviceOptions): Promise<TunnelDevice> {
    const { ip, name, settings, ports } = options;
    if (isThere(name)) {
      throw new SluiceError(
        'SLUICE_STATE',
        `the device ${name} is there already: another process checks through the tunnel here`,
        'One sluice a network namespace can do that.',
      );
    }
    const device = new TunnelDevice(options, new (native().Tap)({ name }));
    try {
      settings.begin();
      await device.removeRules();
      const key = 'net/ipv4/ip_local_reserved_ports';
      settings.set(key, withReserved(read(key) ?? '', ports));
      // No address of its own, so that the host speaks to nobody through it but for us.
      await command(ip, ['link', 'set', 'dev', name, 'addrgenmode', 'none']);
      await command(ip, ['link', 'set', 'dev', name, 'mtu', `${MTU}`, 'arp', 'off', 'multicast', 'off', 'up']);
    } catch (error) {
      await device.close();
      throw error;
    }
    return device;
  }

  /** Takes away what a process that died has left, when there is nothing to set up. */
  static async sweep(options: DeviceOptions): Promise<void> {
    if (!options.settings.hasLeftovers() || isThere(options.name)) return;
    options.settings.begin();
    await removeRules(options);
    options.settings.end();
  }

  /** Leads packets to these addresses through the device, and to no others. */
  async setVips(vips: readonly Address[]): Promise<void> {
    const { ip, name, table } = this.options;
    for (const family of FAMILIES) {
      if (vips.some((vip) => vip.family === family) && !this.ruled.has(family)) await this.addRules(family);
    }
    // Asked without a port: what the host's own table says.
    const routes = await readRoutes(ip, vips);
    const lines: string[] = [];
    const gone = new Map(this.states);
    const states = new Map<string, VipState>();
    vips.forEach((vip, i) => {
      gone.delete(vip.text);
      const route = routes[i];
      const state: VipState = { problem: '', via: null, admitted: new Set() };
      states.set(vip.text, state);
      if ('error' in route && /says it is/.test(route.error)) {
        state.problem = `${vip.text} is an address of this host: a check of it would not leave the host`;
        return;
      }
      if (!('error' in route)) state.via = route.interface;
      const source = 'error' in route || route.source === null ? '' : ` src ${route.source.text}`;
      lines.push(routeLine('replace', vip, name, table) + source);
    });
    for (const [text, { problem }] of gone) {
      if (problem === '') lines.push(routeLine('del', { text, family: text.includes(':') ? 6 : 4 }, name, table));
    }
    if (lines.length > 0) await command(ip, ['-batch', '-'], `${lines.join('\n')}\n`);
    // Only now: a check must not leave by the host's own route, where it might reach any backend.
    this.states = states;
  }

  /** Why this VIP cannot be checked by a backend behind this interface; '' when it can. */
  problemOf(vip: Address, name: string): string {
    const state = this.states.get(vip.text);
    if (state === undefined) return 'the tunnel is being set up';
    if (state.problem !== '' || vip.family === 6 || state.admitted.has(name)) return state.problem;
    const problem = this.letAnswersIn(vip, state.via, name);
    if (problem === '') state.admitted.add(name);
    return problem;
  }

  /**
   * A backend's answer comes from the VIP, by the interface that leads to the backend. IPv4's reverse-path filter asks the host's
   * own table about that (our rules are for what the host sends): strict (1), it wants the route to the VIP by the same interface;
   * loose (2), any route.
   */
  private letAnswersIn(vip: Address, via: string | null, name: string): string {
    const filter = ['all', name].reduce(
      (most, one) => Math.max(most, Number(read(`net/ipv4/conf/${one}/rp_filter`))),
      0,
    );
    if (filter === 0 || via === name) return '';
    if (via === null)
      return `no answer from ${vip.text} would pass the reverse-path filter of ${name}: there is no route to it`;
    if (filter === 1) this.options.settings.set(`net/ipv4/conf/${name}/rp_filter`, '2');
    return '';
  }

  /** Everything back as it was. */
  async close(): Promise<void> {
    this.tap.close();
    await this.removeRules();
    this.options.settings.end();
  }

  private async addRules(family: 4 | 6): Promise<void> {
    const { ip, table, ports } = this.options;
    this.ruled.add(family);
    for (const protocol of ['tcp', 'udp']) {
      // iif lo: what this host sends itself. Clients' packets that it forwards may have any source port.
      const selector = ['iif', 'lo', 'ipproto', protocol, 'sport', `${ports.first}-${ports.last}`];
      await command(ip, [`-${family}`, 'rule', 'add', 'pref', `${table}`, ...selector, 'lookup', `${table}`]);
    }
  }

  private async removeRules(): Promise<void> {
    await removeRules(this.options);
    this.ruled.clear();
  }
}

/** Ours, and those of a process that died. */
async function removeRules({ ip, table }: DeviceOptions): Promise<void> {
  for (const family of FAMILIES) {
    for (let i = 0; i < MAX_RULES; i++) {
      const { code } = await ip.run([`-${family}`, 'rule', 'del', 'pref', `${table}`, 'lookup', `${table}`]);
      if (code !== 0) break;
    }
  }
}

function isThere(name: string): boolean {
  try {
    native().linkInfo(name);
    return true;
  } catch {
    return false;
  }
}

function routeLine(
  verb: 'replace' | 'del',
  { text, family }: Pick<Address, 'text' | 'family'>,
  name: string,
  table: number,
): string {
  return `route ${verb} ${text}/${family === 4 ? 32 : 128} dev ${name} table ${table}`;
}

async function command(ip: IpCommand, args: readonly string[], input?: string): Promise<void> {
  const { code, stderr } = await ip.run(args, input);
  if (code === 0) return;
  const refused = /not permitted/.test(stderr);
  throw new SluiceError(
    refused ? 'SLUICE_PERMISSION' : 'SLUICE_DEVICE',
    `ip ${args.join(' ')}: ${stderr.trim()}`,
    refused ? 'Health checks through the tunnel need CAP_NET_ADMIN and CAP_NET_RAW: run as root, or grant them.' : '',
  );
}
