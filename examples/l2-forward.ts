/** Hands every packet from one interface to the other, untouched. sudo node l2-forward.ts veth0 veth1 */
import { openPort, Verdict } from 'sluice';

const [, , left = 'veth0', right = 'veth1'] = process.argv;
const port = await openPort({ interface: [left, right] });
const stop = new AbortController();
process.on('SIGINT', () => stop.abort());

await port.run((packet) => {
  packet.target = 1 - packet.port;
  return Verdict.Redirect;
}, stop.signal);
console.log(port.totals());
port.close();
