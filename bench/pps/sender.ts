/**
 * The sending end: each line of standard input is a load of live frames, each line out what came of it. Ends with its input.
 *
 *   {"interface":"g0","destinationMac":"02:…","destinationPort":9,"durationMs":500,"packetsPerSecond":0}
 *   {"stop":true}   ends it before its time
 */
import { createInterface } from 'node:readline';
import type { RunningLoad } from '../../src/generator/engine.js';
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
  /** That makes them; default 0. veth's queue follows from it. */
  cpu?: number;
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
    cpu: request.cpu ?? 0,
  };
}

/** The last load, which may not have begun yet. */
let running: Promise<RunningLoad> | null = null;

async function send(engine: LiveEngine, request: SenderRequest): Promise<void> {
  running = engine.start(loadOf(request, native().linkInfo(request.interface).address));
  process.stdout.write(`${JSON.stringify({ result: await (await running).ended })}\n`);
}

if (process.argv[2] === '--serve') {
  const engine = new LiveEngine();
  process.stdout.write(`${JSON.stringify({ ready: true })}\n`);
  createInterface({ input: process.stdin }).on('line', (line) => {
    const request = JSON.parse(line) as SenderRequest | { stop: true };
    // One that cannot begin says so by itself.
    if ('stop' in request) return void running?.then((load) => load.stop()).catch(() => undefined);
    send(engine, request).catch((error: unknown) => {
      console.error(error);
      process.exit(1);
    });
  });
  process.stdin.on('end', () => process.exit(0));
}
