/** Receives and drops everything, and says how fast. sudo node rx-drop.ts veth0 */
import { openPort, Verdict } from 'sluice';

const port = await openPort({ interface: process.argv[2] ?? 'veth0' });
const stop = new AbortController();
process.on('SIGINT', () => stop.abort());

let before = port.totals().rx;
setInterval(() => {
  const { rx } = port.totals();
  console.log(`${rx - before} packets/s`);
  before = rx;
}, 1000).unref();

await port.run(() => Verdict.Drop, stop.signal);
console.log(`${port.totals().rx} packets received and dropped`);
port.close();
