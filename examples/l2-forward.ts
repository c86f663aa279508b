/**
 * Hands every IP packet from one interface to the other, both ways, untouched. The frames do not move: both interfaces share one
 * packet memory. ARP and neighbour discovery stay with the host, so the ends need static neighbours or the host's bridge.
 */
import { openPort, Verdict } from 'sluice';

const [left = 'veth0', right = 'veth1'] = process.argv.slice(2);
// A forwarder leaves checksums as they are: a hop in the middle does not complete what the ends have agreed on.
const port = await openPort({ interface: [left, right], hostPath: false, checksum: 'trust' });
const stop = new AbortController();
process.once('SIGINT', () => stop.abort());

await port.run((packet) => {
  packet.target = 1 - packet.port;
  return Verdict.Redirect;
}, stop);
port.close();
console.log(port.totals());
