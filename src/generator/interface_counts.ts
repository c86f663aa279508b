import { SluiceError } from '../errors.js';
import type { IpCommand } from '../control/ip_command.js';

/** Of an interface, on the way out. A veth counts as dropped what its peer's ring had no room for. */
export interface InterfaceCounts {
  sent: number;
  dropped: number;
}

interface LinkJson {
  stats64: { tx: { packets: number; dropped: number } };
}

/** @throws SluiceError SLUICE_DEVICE when `ip` does not know the interface */
export async function interfaceCounts(ip: IpCommand, name: string): Promise<InterfaceCounts> {
  const { stdout, stderr, code } = await ip.run(['-json', '-statistics', 'link', 'show', 'dev', name]);
  const [link] = code === 0 ? (JSON.parse(stdout) as LinkJson[]) : [];
  if (!link) throw new SluiceError('SLUICE_DEVICE', `no counters of ${name}: ${stderr.trim()}`, 'See `ip link`.');
  return { sent: link.stats64.tx.packets, dropped: link.stats64.tx.dropped };
}
