/** What leaves with flows in the kernel is, byte by byte, what leaves without. */
import { setTimeout as pause } from 'node:timers/promises';
import { readCapture } from '../../src/pcap/capture.js';
import { ChildError } from '../process.js';
import { since } from './account.js';
import type { Way } from './cases.js';
import type { OffloadRig } from './rig.js';
import { START_MS } from '../rig.js';

/** That of a sample are compared: each flow has some. */
const SAMPLE_FLOWS = 64;
const SAMPLE_PACKETS = 1024;
/** What tcpdump can keep. */
const SAMPLE_RATE = 20_000;

/** Frames that leave by a way for the packets of a sample, in hexadecimal, sorted. */
async function sample(rig: OffloadRig, mode: 'auto' | 'off', way: Way): Promise<string[]> {
  const { namespace, name } = rig.places[mode].peer(way);
  await rig.dropAtPeer(mode, way, false);
  try {
    const file = rig.playground.path(`${mode}-${way}.pcap`);
    const args = ['-i', name, '-Q', 'in', '-U', '-n', '-s', '2048', '--immediate-mode', '-Z', 'root', '-w', file, 'ip'];
    const program = rig.playground.start(namespace, 'tcpdump', args, { label: 'tcpdump' });
    await new Promise<void>((resolve, reject) => {
      program.on('errorLine', (line) => {
        if (line.includes('listening on')) resolve();
      });
      void program.ended.then(() => reject(new ChildError(`tcpdump: ${program.errorOutput}`)));
    });
    const from = await rig.daemons[mode].settled(way);
    await rig.send(mode, way, { flows: SAMPLE_FLOWS, packets: SAMPLE_PACKETS, packetsPerSecond: SAMPLE_RATE, durationMs: START_MS }); // prettier-ignore
    const did = since(from, await rig.daemons[mode].settled(way));
    await pause(50);
    await program.stop();
    const expected = mode === 'auto' ? 0 : SAMPLE_PACKETS;
    if (did.rx !== SAMPLE_PACKETS || did.inWorkers !== expected) {
      throw new ChildError(`${mode}, ${way}: of ${did.rx} packets ${did.inWorkers} went through user space`);
    }
    return Array.from(readCapture(file), ({ data }) => Buffer.from(data).toString('hex')).sort();
  } finally {
    await rig.dropAtPeer(mode, way, true);
  }
}

/** Needs the flows in the kernel. Returns how many packets were compared. @throws ChildError with the first two that differ */
export async function verify(rig: OffloadRig, way: Way): Promise<number> {
  const [auto, off] = [await sample(rig, 'auto', way), await sample(rig, 'off', way)];
  if (off.length !== SAMPLE_PACKETS)
    throw new ChildError(`${way}: ${off.length} of ${SAMPLE_PACKETS} packets were captured`);
  const at = off.findIndex((frame, i) => frame !== auto[i]);
  if (at >= 0 || auto.length !== off.length) {
    throw new ChildError(
      `${way}: the kernel does not write what user space does:\n  auto ${auto[at]}\n  off  ${off[at]}`,
    );
  }
  return auto.length;
}
