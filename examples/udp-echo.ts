/** Answers every UDP packet to port 7 (RFC 862) from user space, by IPv4 and IPv6; the host gets all others. */
import { IpProtocol, openPort, turnAround, Verdict, type Packet } from 'sluice';

const ECHO_PORT = 7;
/** Below are services, other echo servers among them: answering those would never end (CERT CA-1996-01). */
const FIRST_CLIENT_PORT = 1024;

function echo(packet: Packet): Verdict {
  if (packet.protocol !== IpProtocol.udp || packet.destinationPort !== ECHO_PORT) return Verdict.Pass;
  if (packet.sourcePort < FIRST_CLIENT_PORT || packet.isFragment) return Verdict.Drop;
  return turnAround(packet) ? Verdict.Tx : Verdict.Drop;
}

const port = await openPort({ interface: process.argv[2] ?? 'veth0' });
const stop = new AbortController();
process.once('SIGINT', () => stop.abort());

// The same as port.run(echo, stop), by hand: bursts, and a turn of the event loop in between.
while (!stop.signal.aborted) {
  port.poll(echo, 20);
  await new Promise((resolve) => setImmediate(resolve));
}
port.close();
console.log(port.totals());
