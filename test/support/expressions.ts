/**
 * pcap-filter(7) expressions, and what tcpdump says of them.
 *
 * expressions/taken.txt and refused.txt, one a line: every primitive of pcap-filter(7) for Ethernet with its qualifiers, and
 * ways to put them together; what `tcpdump -d` takes, and what it refuses. What they mean is for tcpdump to say.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../src/native.js';

export const EXPRESSIONS_FILE = join(packageRoot, 'test/support/expressions/taken.txt');

const read = (path: string): string[] => readFileSync(path, 'utf8').replace(/\n$/, '').split('\n');

export const EXPRESSIONS: readonly string[] = read(EXPRESSIONS_FILE);
export const REFUSED: readonly string[] = [
  ...read(join(packageRoot, 'test/support/expressions/refused.txt')),
  // Not for a file of lines.
  ...['tcp\u0001', '\u007f', '\ud800', 'tcp \udfff and udp', 'tcp\u2028udp', '\r\u000b'],
];

/** `tcpdump -d` takes them because the kernel has the answer when it captures; `tcpdump -r` refuses them, and so do we. */
export const METADATA: readonly string[] = [
  'inbound',
  'outbound',
  'ifindex 3',
  'not inbound and tcp',
  'tcp or ifindex 1',
];

/** What asks a name service elsewhere. tcpdump finds "localhost" in /etc/hosts and "loopback" in /etc/networks. */
export const NAMES: readonly string[] = [
  ...[
    'host localhost',
    'src host localhost',
    'ip6 host localhost',
    'arp host localhost',
    'host example.com',
    'host a.b',
  ],
  ...[
    'net loopback',
    'src net loopback',
    'ether host foo',
    'ether src localhost',
    'gateway localhost',
    'tcp and host foo',
  ],
];

/** Two cores, and tcpdump starts slowly. */
const AT_ONCE = 4;

export interface Finished {
  readonly status: number;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** Runs tcpdump once a list of arguments, some at a time; answers in the order of the lists. */
export async function tcpdump(argumentLists: readonly (readonly string[])[]): Promise<Finished[]> {
  const answers: Finished[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < argumentLists.length) {
      const i = next++;
      answers[i] = await runOnce(argumentLists[i]);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return answers;
}

function runOnce(args: readonly string[]): Promise<Finished> {
  return new Promise((resolve, reject) => {
    execFile('tcpdump', args, { encoding: 'buffer', maxBuffer: 64 << 20, timeout: 20_000 }, (error, stdout, stderr) => {
      const status = error === null ? 0 : error.code;
      if (typeof status === 'number') resolve({ status, stdout, stderr: stderr.toString() });
      else reject(error ?? new Error('no status'));
    });
  });
}
