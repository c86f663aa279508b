/**
 * Backends that are there: accepts connections on a port of all addresses, and closes them. Says {"accepted":N} at the start and for each line of its input.
 *
 *   node listener.js PORT
 */
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';

let accepted = 0;
const say = (): void => void process.stdout.write(`${JSON.stringify({ accepted })}\n`);

const server = createServer((socket) => {
  accepted++;
  socket.on('error', () => undefined);
  socket.end();
});
server.listen(Number(process.argv[2]), '0.0.0.0', say);
createInterface({ input: process.stdin }).on('line', say);
process.stdin.on('end', () => process.exit(0));
