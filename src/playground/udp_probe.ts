/**
 * Asks the UDP echo behind the VIP from many fixed source ports who answers each: the same flows before and after a
 * change of backends, so that the flows that moved can be counted.
 */
import { createSocket, type Socket } from 'node:dgram';
import { childOptions, emit, serve } from './child.js';

export interface UdpProbeOptions {
  address: string;
  port: number;
  /** Flows, each a source port that the kernel chose once. */
  flows: number;
  /** How long to wait for the missing answers before asking again, ms; asked three times in all. */
  timeoutMs: number;
}

export interface UdpProbeResult {
  type: 'probe';
  /** Name of the backend that answered, by flow; "" when nobody did. */
  backends: string[];
  /** Questions asked again. */
  repeated: number;
}

const ATTEMPTS = 3;
/** Questions asked before the event loop runs again, see udp_flood.ts. */
const BURST = 32;

const options = childOptions<UdpProbeOptions>();
let round = 0;
let answers: string[] = [];

function openFlow(index: number): Promise<Socket> {
  const socket = createSocket(options.address.includes(':') ? 'udp6' : 'udp4');
  socket.on('message', (message) => {
    const [name, asked] = message.toString('latin1').split(' ');
    // An answer to an earlier round says nothing about this one.
    if (Number(asked) === round) answers[index] = name;
  });
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.connect(options.port, options.address, () => {
      socket.off('error', reject);
      socket.on('error', () => undefined);
      resolve(socket);
    });
  });
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function probe(flows: readonly Socket[]): Promise<UdpProbeResult> {
  round++;
  answers = flows.map(() => '');
  let repeated = 0;
  for (let attempt = 0; attempt < ATTEMPTS && answers.includes(''); attempt++) {
    const missing = flows.map((_, index) => index).filter((index) => answers[index] === '');
    if (attempt > 0) repeated += missing.length;
    const question = Buffer.from(String(round));
    for (let i = 0; i < missing.length; i++) {
      flows[missing[i]].send(question, () => undefined);
      if (i % BURST === BURST - 1) await pause(1);
    }
    const deadline = performance.now() + options.timeoutMs;
    while (answers.includes('') && performance.now() < deadline) await pause(5);
  }
  return { type: 'probe', backends: answers, repeated };
}

const flows: Socket[] = [];
for (let i = 0; i < options.flows; i++) flows.push(await openFlow(i));
let queue: Promise<void> = Promise.resolve();
serve((request) => {
  if (request.op !== 'probe') return;
  queue = queue.then(async () => emit(await probe(flows)));
});
emit({ type: 'ready' });
