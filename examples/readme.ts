import { IpProtocol, openPort, turnAround, Verdict } from 'sluice';

// Echoes UDP to port 7 (RFC 862), drops UDP to port 9999, leaves everything else to the host.
const port = await openPort({ interface: process.argv[2] ?? 'veth0' });
const stop = new AbortController();
process.once('SIGINT', () => stop.abort());

await port.run((packet) => {
  if (packet.protocol !== IpProtocol.udp) return Verdict.Pass;
  if (packet.destinationPort === 9999) return Verdict.Drop;
  if (packet.destinationPort === 7 && turnAround(packet)) return Verdict.Tx;
  return Verdict.Pass;
}, stop);

port.close();
console.log(port.totals());
