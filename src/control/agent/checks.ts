/** What must be right on a backend's host before and while tunnel packets are let in. */
import { SluiceError } from '../../errors.js';
import { formatPrefix, isLoopback, parseAddress, prefixContains } from '../../shared/addr.js';
import type { Address } from '../../shared/config.js';
import { native } from '../../native.js';
import { sysctl, type HostAddress } from './host.js';
import type { AgentSettings } from './settings.js';

/** Outer destinations: those that were named, or the global addresses of the interfaces but for VIPs. */
export function destinations(settings: AgentSettings, host: readonly HostAddress[]): Address[] {
  if (settings.addresses.length > 0) return [...settings.addresses];
  return host
    .filter((one) => one.global && settings.interfaces.includes(one.interface))
    .map((one) => parseAddress(one.address))
    .filter((address) => !settings.vips.some((vip) => prefixContains(vip, address)));
}

/** Throws SLUICE_USAGE or SLUICE_DEVICE when these settings cannot work on this host. */
export function checkHost(settings: AgentSettings, host: readonly HostAddress[]): void {
  for (const name of settings.interfaces) {
    if (name === 'lo') throw new SluiceError('SLUICE_USAGE', 'lo is no interface that tunnel packets come in on');
    // Throws ENODEV with what to do for an interface that is not there.
    native().linkInfo(name);
  }
  if (!native().linkInfo('lo').up) {
    throw new SluiceError('SLUICE_DEVICE', 'lo is down, so no VIP on it can be reached', 'Run: ip link set lo up');
  }
  for (const vip of settings.vips) {
    const text = formatPrefix(vip);
    const taken = settings.addresses.find((address) => prefixContains(vip, address));
    if (taken) {
      throw new SluiceError(
        'SLUICE_USAGE',
        `the VIP ${text} has the backend's own address ${taken.text}`,
        'Balancers send tunnel packets to the one and clients mean the other: they must differ.',
      );
    }
    const own = host.find((one) => one.interface !== 'lo' && prefixContains(vip, parseAddress(one.address)));
    if (own) {
      throw new SluiceError(
        'SLUICE_USAGE',
        `the VIP ${text} has ${own.address}, an address of ${own.interface}, which answers ARP for it`,
        `Take it away first (ip address del ${own.address}/${own.length} dev ${own.interface}), or name another VIP.`,
      );
    }
    if (isLoopback(vip) || vip.length === 0) {
      throw new SluiceError('SLUICE_USAGE', `${text} cannot be a VIP`, 'Name an address or a prefix of some.');
    }
  }
  if (destinations(settings, host).length === 0) {
    throw new SluiceError(
      'SLUICE_DEVICE',
      `${settings.interfaces.join(', ')} ${settings.interfaces.length > 1 ? 'have' : 'has'} no global address`,
      'Give it one, or name the addresses that balancers send to: --address 10.0.0.11',
    );
  }
}

/** A setting that direct server return needs: the kernel takes the larger of `all` and the interface's own. */
export interface Need {
  /** The interface's key, with slashes. */
  key: string;
  to: number;
  /** What happens without. */
  why: string;
}

/** What `--sysctl` would set on this host. */
export function sysctlNeeds(settings: AgentSettings): Need[] {
  const effective = (name: string, setting: string): number =>
    Math.max(...['all', name].map((where) => Number(sysctl(`net/ipv4/conf/${where}/${setting}`))));
  const hidden = settings.vips.some((vip) => vip.family === 4);
  return settings.interfaces.flatMap((name) => {
    const key = (setting: string): string => `net/ipv4/conf/${name}/${setting}`;
    const needs: Need[] = [];
    // 2 is larger than 1: loose wins over strict, whatever `all` says.
    if (effective(name, 'rp_filter') === 1) {
      needs.push({ key: key('rp_filter'), to: 2, why: 'clients that are reached by another interface are dropped' });
    }
    if (hidden && effective(name, 'arp_ignore') < 1) {
      needs.push({ key: key('arp_ignore'), to: 1, why: 'the host answers ARP for VIPs on lo' });
    }
    if (hidden && effective(name, 'arp_announce') < 2) {
      needs.push({ key: key('arp_announce'), to: 2, why: 'the host names VIPs as sender in its ARP requests' });
    }
    return needs;
  });
}
