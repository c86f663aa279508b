/** Sends datagrams and counts their echoes; prints {sent, answered}. Argument: UdpOptions of library.ts as JSON. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';

const { address, port, packets, bytes, sockets: count, waitMs } = JSON.parse(process.argv[2]);
let answered = 0;
const sockets = Array.from({ length: count }, () => {
  const socket = createSocket('udp4');
  socket.on('message', (message) => {
    if (message.length === bytes && message.every((byte) => byte === 0x5a)) answered++;
  });
  // Port unreachable, from a host that nobody listens on.
  socket.on('error', () => undefined);
  return socket;
});
for (const socket of sockets) {
  socket.connect(port, address);
  await once(socket, 'connect');
}
let sent = 0;

/** Until no more than so many datagrams are without an answer, for `waitMs` at most. */
async function until(open) {
  for (const end = performance.now() + waitMs; performance.now() < end && sent - answered > open;) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

for (let i = 0; i < packets; i++) {
  // Connected sockets report the answer to an earlier packet as the failure of this one, which is then not sent: again.
  for (let failed = true; failed;) {
    failed = await new Promise((resolve) => sockets[i % count].send(Buffer.alloc(bytes, 0x5a), resolve));
  }
  sent++;
  // A socket's buffer has room for some 250 answers.
  if (sent - answered > 100 && waitMs > 0) await until(50);
}
await until(0);
process.stdout.write(JSON.stringify({ sent, answered }));
process.exit();
