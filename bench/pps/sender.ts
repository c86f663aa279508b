/**
 * The sending end: each line of standard input is a load of live frames, each line out what came of it. Ends with its input.
 *
 *   {"interface":"g0","destinationMac":"02:…","destinationPort":9,"durationMs":500,"packetsPerSecond":0}
 */
import { createInterface } from 'node:readline';
import { LiveEngine } from '../../src/generator/live.js';
import type { Load } from '../../src/generator/load.js';
import { native } from '../../src/native.js';
import { parseAddress, parseMac, parsePrefix } from '../../src/shared/addr.js';
import { FLOWS, FRAME_BYTES, SOURCES, VIP } from './cases.js';

export interface SenderRequest {
  interface: string;
  destinationMac: string;
  destinationPort: number;
  durationMs: number;
  packetsPerSecond: number;
}

/** The load of a request; also what `txonly` sends, and what the tests take apart. */
export function loadOf(request: SenderRequest, sourceMac: Uint8Array): Load {
  return {
    interface: request.interface,
    template: 'udp',
    sourceMac,
    destinationMac: parseMac(request.destinationMac),
    source: parsePrefix(SOURCES),
    destination: parseAddress(VIP),
    sourcePort: 1024,
    destinationPort: request.destinationPort,
    tunnel: null,
    flows: FLOWS,
    pick: 'cycle',
    sizes: [{ bytes: FRAME_BYTES, weight: 1 }],
    packetsPerSecond: request.packetsPerSecond,
    packets: 0,
    durationMs: request.durationMs,
    cpu: 0,
  };
}

async function send(engine: LiveEngine, request: SenderRequest): Promise<void> {
  const running = await engine.start(loadOf(request, native().linkInfo(request.interface).address));
  process.stdout.write(`${JSON.stringify({ result: await running.ended })}\n`);
}

if (process.argv[2] === '--serve') {
  const engine = new LiveEngine();
  process.stdout.write(`${JSON.stringify({ ready: true })}\n`);
  createInterface({ input: process.stdin }).on('line', (line) => {
    send(engine, JSON.parse(line) as SenderRequest).catch((error: unknown) => {
      console.error(error);
      process.exit(1);
    });
  });
  process.stdin.on('end', () => process.exit(0));
}
