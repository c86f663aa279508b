/** Answers every UDP packet to port 7 (RFC 862) from user space; the host never sees them. sudo node udp-echo.ts veth0 */
import { IpProtocol, openPort, repairChecksum, Verdict, type Packet } from 'sluice';

const ECHO_PORT = 7;
const port = await openPort({ interface: process.argv[2] ?? 'veth0', hostPath: true });
const stop = new AbortController();
process.on('SIGINT', () => stop.abort());

/** Swaps two fields of 2 bytes. The sum over both stays the same, so no checksum changes. */
function swap(view: DataView, a: number, b: number, words: number): void {
  for (let i = 0; i < words * 2; i += 2) {
    const keep = view.getUint16(a + i);
    view.setUint16(a + i, view.getUint16(b + i));
    view.setUint16(b + i, keep);
  }
}

function echo(packet: Packet): Verdict {
  if (packet.protocol !== IpProtocol.udp || packet.destinationPort !== ECHO_PORT) return Verdict.Pass;
  // A veth peer leaves the checksum to a device that is not there.
  repairChecksum(packet);
  const { view, data, l3, l4 } = packet;
  swap(view, data, data + 6, 3);
  if (packet.family === 4) swap(view, l3 + 12, l3 + 16, 2);
  else swap(view, l3 + 8, l3 + 24, 8);
  swap(view, l4, l4 + 2, 1);
  return Verdict.Tx;
}

await port.run(echo, stop.signal);
console.log(port.totals());
port.close();
