import { isIP } from 'node:net';
import type { IpCommand } from '../control/ip_command.js';
import { neighbourKey, readNeighbours } from '../control/neighbours.js';
import { parseAddress } from '../shared/addr.js';
import { usage } from './load.js';

interface RouteJson {
  gateway?: string;
}

/** Hardware address that packets to `destination` have when they leave by `name`, as the host would send them. @throws SluiceError SLUICE_USAGE */
export async function nextHopMac(ip: IpCommand, name: string, destination: string): Promise<Uint8Array> {
  const remedy = `Give --dst-mac, or have the host resolve it first: ping -c 1 -I ${name} ${destination}`;
  const { stdout, code } = await ip.run(['-json', 'route', 'get', destination, 'oif', name]);
  if (code !== 0) throw usage(`there is no route to ${destination} by ${name}`, 'Give --dst-mac, or add a route.');
  const [route] = JSON.parse(stdout) as RouteJson[];
  const { gateway } = route;
  const address = gateway !== undefined && isIP(gateway) ? parseAddress(gateway).text : destination;
  const mac = (await readNeighbours(ip)).get(neighbourKey({ address, interface: name }))?.mac;
  if (!mac) throw usage(`the hardware address of ${address} on ${name} is not known`, remedy);
  return mac;
}
