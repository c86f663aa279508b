/**
 * The sending end: each line of standard input is a load, each line out what came of it. Ends with its input.
 *
 *   {"interface":"g0","destinationMac":"02:…","durationMs":500,"packetsPerSecond":0}
 */
import { createInterface } from 'node:readline';
import { LiveEngine } from '../../src/generator/live.js';
import { native } from '../../src/native.js';
import { parseAddress, parseMac, parsePrefix } from '../../src/shared/addr.js';
import { FLOWS, PORT, SOURCES, VIP } from './cases.js';

export interface SenderRequest {
  interface: string;
  destinationMac: string;
  durationMs: number;
  packetsPerSecond: number;
}

const engine = new LiveEngine();
const say = (value: object): void => void process.stdout.write(`${JSON.stringify(value)}\n`);

async function send(request: SenderRequest): Promise<void> {
  const running = await engine.start({
    interface: request.interface,
    template: 'udp',
    sourceMac: native().linkInfo(request.interface).address,
    destinationMac: parseMac(request.destinationMac),
    source: parsePrefix(SOURCES),
    destination: parseAddress(VIP),
    sourcePort: 1024,
    destinationPort: PORT,
    tunnel: null,
    flows: FLOWS,
    pick: 'cycle',
    sizes: [{ bytes: 64, weight: 1 }],
    packetsPerSecond: request.packetsPerSecond,
    packets: 0,
    durationMs: request.durationMs,
    cpu: 0,
  });
  say({ result: await running.ended });
}

say({ ready: true });
createInterface({ input: process.stdin }).on('line', (line) => {
  send(JSON.parse(line) as SenderRequest).catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  });
});
process.stdin.on('end', () => process.exit(0));
