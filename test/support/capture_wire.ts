/** Frames onto a wire and off it, besides what is under test. */
import { native } from '../../src/native.js';
import { readCapture } from '../../src/pcap/capture.js';
import type { Namespace, Playground } from '../../src/playground/netns.js';
import { enterNamespaceOf } from './daemon_frames.js';

/** Frames that are sent before the receiver gets the CPU. */
const BATCH = 32;

/** Sends frames as they are out of an interface, some thousands a second. */
export async function sendFrames(namespace: Namespace, name: string, frames: readonly Uint8Array[]): Promise<void> {
  const socket = enterNamespaceOf(namespace, () => new (native().PacketSocket)({ interface: name }));
  try {
    for (const [i, frame] of frames.entries()) {
      socket.send(frame);
      if (i % BATCH === BATCH - 1) await new Promise((resolve) => setTimeout(resolve, 5));
    }
  } finally {
    socket.close();
  }
}

/** tcpdump on an interface; `stop` gives the frames that came in there and match the filter. */
export async function sniff(
  playground: Playground,
  namespace: Namespace,
  name: string,
  filter: string,
): Promise<() => Promise<Buffer[]>> {
  const file = playground.path(`sniffed-${name}.pcap`);
  // Immediate mode has a slot of its ring for each frame, of the size that -s says.
  const args = ['-i', name, '-Q', 'in', '-U', '-n', '-s', '2048', '--immediate-mode', '-Z', 'root', '-w', file, filter];
  const program = playground.start(namespace, 'tcpdump', args);
  await new Promise<void>((resolve, reject) => {
    program.on('errorLine', (line) => {
      if (line.includes('listening on')) resolve();
    });
    void program.ended.then(() => reject(new Error(`tcpdump: ${program.errorOutput}`)));
  });
  return async () => {
    await program.stop();
    return Array.from(readCapture(file), ({ data }) => Buffer.from(data));
  };
}
