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

/** What is left of `waitMs`: packets that are never answered must not cost it again and again. */
let leftMs = waitMs;

/** Until no more than so many datagrams are without an answer. */
async function until(open) {
  const begin = performance.now();
  while (sent - answered > open && performance.now() - begin < leftMs) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  leftMs -= performance.now() - begin;
}

for (let i = 0; i < packets; i++) {
  // Connected sockets report the answer to an earlier packet as the failure of this one, which is then not sent: again.
  for (let failed = true; failed;) {
    failed = await new Promise((resolve) => sockets[i % count].send(Buffer.alloc(bytes, 0x5a), resolve));
  }
  sent++;
  // A socket's buffer has room for some 250 answers.
  if (sent - answered > 100 && leftMs > 0) await until(50);
}
leftMs = Math.max(leftMs, waitMs / 2);
await until(0);
process.stdout.write(JSON.stringify({ sent, answered }));
process.exit();
