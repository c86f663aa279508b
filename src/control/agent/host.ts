/** Addresses, routes and settings of the host that the agent changes, and takes back. What was there before is left alone. */
import { readFileSync, writeFileSync } from 'node:fs';
import { SluiceError } from '../../errors.js';
import { formatPrefix } from '../../shared/addr.js';
import type { Prefix } from '../../shared/config.js';
import type { IpCommand } from '../ip_command.js';
import { parseJson, unexpected } from '../routes.js';
import type { Change, Journal } from './journal.js';

/** An address of an interface. */
export interface HostAddress {
  interface: string;
  /** Canonical text. */
  address: string;
  length: number;
  family: 4 | 6;
  /** Not link-local, not loopback. */
  global: boolean;
}

interface AddressJson {
  ifname: string;
  addr_info: { family: string; local?: string; prefixlen: number; scope: string }[];
}

export class Host {
  constructor(
    private readonly ip: IpCommand,
    private readonly journal: Journal,
  ) {}

  async addresses(): Promise<HostAddress[]> {
    const { stdout, stderr, code } = await this.ip.run(['-json', 'address', 'show']);
    if (code !== 0) throw unexpected(`exit status ${code} of ip address show`, stderr);
    return parseJson<AddressJson>(stdout).flatMap(({ ifname, addr_info }) =>
      addr_info.flatMap(({ family, local, prefixlen, scope }) =>
        local === undefined || (family !== 'inet' && family !== 'inet6')
          ? []
          : [
              {
                interface: ifname,
                address: local,
                length: prefixlen,
                family: family === 'inet' ? (4 as const) : (6 as const),
                global: scope === 'global',
              },
            ],
      ),
    );
  }

  /**
   * Makes a VIP the host's own without a word on the wire: one address goes onto lo, a prefix becomes a local route there
   * (AnyIP). Returns what was done, or null when it was so already.
   */
  async own(vip: Prefix): Promise<string | null> {
    const text = formatPrefix(vip);
    if (vip.length === (vip.family === 4 ? 32 : 128)) {
      const present = await this.addresses();
      if (present.some((one) => one.interface === 'lo' && one.address === vip.text)) return null;
      await this.apply({ kind: 'address', address: `${vip.text}/${vip.length}` });
      return `${text} added to lo`;
    }
    const { stdout } = await this.ip.run(['-json', `-${vip.family}`, 'route', 'show', 'table', 'local', 'dev', 'lo']);
    if (parseJson<{ type?: string; dst?: string }>(stdout).some(({ type, dst }) => type === 'local' && dst === text)) {
      return null;
    }
    await this.apply({ kind: 'route', prefix: text });
    return `${text} made local on lo`;
  }

  /** Sets a value below /proc/sys. Returns what was done, or null when it was so already. */
  async set(key: string, to: number): Promise<string | null> {
    const from = sysctl(key);
    if (from === String(to)) return null;
    await this.apply({ kind: 'sysctl', key, from, to: String(to) });
    return `${key.replaceAll('/', '.')} ${from} -> ${to}`;
  }

  /** Takes back all changes, the last one first. Returns a line for each; those that cannot be taken back stay in the journal. */
  async undo(): Promise<string[]> {
    const lines: string[] = [];
    for (const change of [...this.journal.changes()].reverse()) {
      try {
        lines.push(await this.takeBack(change));
        this.journal.remove(change);
      } catch (error) {
        lines.push(
          `could not take back ${describe(change)}: ${error instanceof Error ? error.message : String(error)}`,
        );
      }
    }
    return lines;
  }

  private async apply(change: Change): Promise<void> {
    this.journal.add(change);
    try {
      if (change.kind === 'sysctl') writeSysctl(change.key, change.to);
      else await this.command(...words('add', change));
    } catch (error) {
      this.journal.remove(change);
      throw error;
    }
  }

  private async takeBack(change: Change): Promise<string> {
    if (change.kind !== 'sysctl') {
      const { code, stderr } = await this.ip.run(words('del', change));
      if (code === 0) return `${describe(change)} removed`;
      if (/Cannot assign requested address|No such process/.test(stderr)) return `${describe(change)} was gone`;
      throw new Error(stderr.trim());
    }
    const now = sysctl(change.key);
    if (now !== change.to) return `${describe(change)} left at ${now}: somebody else has set it`;
    writeSysctl(change.key, change.from);
    return `${describe(change)} back to ${change.from}`;
  }

  private async command(...args: string[]): Promise<void> {
    const { code, stderr } = await this.ip.run(args);
    if (code === 0) return;
    const refused = /not permitted/.test(stderr);
    throw new SluiceError(
      refused ? 'SLUICE_PERMISSION' : 'SLUICE_DEVICE',
      `ip ${args.join(' ')}: ${stderr.trim()}`,
      refused ? 'It needs CAP_NET_ADMIN: run as root or grant the capability.' : '',
    );
  }
}

/** A value below /proc/sys, without the line's end; "" when the kernel has no such setting. */
export function sysctl(key: string): string {
  try {
    return readFileSync(`/proc/sys/${key}`, 'utf8').trim();
  } catch {
    return '';
  }
}

function writeSysctl(key: string, value: string): void {
  try {
    writeFileSync(`/proc/sys/${key}`, value);
  } catch (cause) {
    throw new SluiceError(
      'SLUICE_PERMISSION',
      `cannot set ${key.replaceAll('/', '.')} to ${value}: ${(cause as Error).message}`,
      'Values below /proc/sys/net take root, and a /proc/sys that is not mounted read-only.',
      { cause },
    );
  }
}

function words(verb: 'add' | 'del', change: Exclude<Change, { kind: 'sysctl' }>): string[] {
  if (change.kind === 'route') return ['route', verb, 'local', change.prefix, 'dev', 'lo'];
  // Nobody can have a second one of these: it is no address of the link.
  const nodad = verb === 'add' && change.address.includes(':') ? ['nodad'] : [];
  return ['address', verb, change.address, 'dev', 'lo', ...nodad];
}

function describe(change: Change): string {
  if (change.kind === 'address') return `${change.address} on lo`;
  if (change.kind === 'route') return `local route ${change.prefix}`;
  return change.key.replaceAll('/', '.');
}
