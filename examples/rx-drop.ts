/** Receives and drops everything, and says how fast. */
import { openPort, Verdict } from 'sluice';

const port = await openPort({ interface: process.argv[2] ?? 'veth0', hostPath: false });
const stop = new AbortController();
process.once('SIGINT', () => stop.abort());

let before = 0;
setInterval(() => {
  const { rx, missed } = port.totals();
  console.log(`${rx - before} packets/s, ${missed} missed so far`);
  before = rx;
}, 1000).unref();

await port.run(() => Verdict.Drop, stop);
port.close();
console.log(port.totals());
