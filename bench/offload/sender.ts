/**
 * The sending end: each line of standard input is a load of live frames, or several one after the other, each line out what came of it. Ends with its input.
 *
 *   {"interface":"g0","destinationMac":"02:…","destination":"198.51.100.10","source":"198.16.0.0/12","sourcePort":1024,"flows":64,"pick":"cycle",
 *    "durationMs":500,"packetsPerSecond":0,"packets":0,"loads":1}
 */
import { createInterface } from 'node:readline';
import type { LoadResult } from '../../src/generator/engine.js';
import { LiveEngine } from '../../src/generator/live.js';
import { native } from '../../src/native.js';
import { parseAddress, parseMac, parsePrefix } from '../../src/shared/addr.js';
import { FRAME_BYTES, PORT } from './cases.js';

export interface SenderRequest {
  interface: string;
  destinationMac: string;
  destination: string;
  source: string;
  sourcePort: number;
  flows: number;
  pick: 'cycle' | 'random';
  durationMs: number;
  packetsPerSecond: number;
  /** 0: as many as the time allows. */
  packets: number;
  /** So many loads, each of the flows of the next source port. */
  loads: number;
}

async function load(engine: LiveEngine, request: SenderRequest, sourcePort: number): Promise<LoadResult> {
  const running = await engine.start({
    interface: request.interface,
    template: 'udp',
    sourceMac: native().linkInfo(request.interface).address,
    destinationMac: parseMac(request.destinationMac),
    source: parsePrefix(request.source),
    destination: parseAddress(request.destination),
    sourcePort,
    destinationPort: PORT,
    tunnel: null,
    flows: request.flows,
    pick: request.pick,
    sizes: [{ bytes: FRAME_BYTES, weight: 1 }],
    packetsPerSecond: request.packetsPerSecond,
    packets: request.packets,
    durationMs: request.durationMs,
    cpu: 0,
  });
  return running.ended;
}

/** What comes of a request: sums over its loads. */
export type SenderResult = Pick<LoadResult, 'packets' | 'sent' | 'dropped' | 'elapsedMs' | 'cpuMs'>;

async function send(engine: LiveEngine, request: SenderRequest): Promise<SenderResult> {
  const sum: SenderResult = { packets: 0, sent: 0, dropped: 0, elapsedMs: 0, cpuMs: 0 };
  for (let i = 0; i < request.loads; i++) {
    const result = await load(engine, request, request.sourcePort + i);
    for (const name of Object.keys(sum) as (keyof SenderResult)[]) sum[name] += result[name];
  }
  return sum;
}

const engine = new LiveEngine();
const say = (value: object): void => void process.stdout.write(`${JSON.stringify(value)}\n`);
say({ ready: true });
createInterface({ input: process.stdin }).on('line', (line) => {
  send(engine, JSON.parse(line) as SenderRequest).then(
    (result) => say({ result }),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
});
process.stdin.on('end', () => process.exit(0));
