import { SluiceError } from '../errors.js';
import { readCapture } from '../pcap/capture.js';
import { MOST_FRAME_BYTES, usage, type Replay } from './load.js';

const LEAST_FRAME_BYTES = 14;
/** Packet memory of a capture: it is held twice, here and in the thread that sends. */
const MOST_BYTES = 256 << 20;

/** Hardware addresses that frames get in place of their own. */
export interface Addresses {
  source: Uint8Array;
  destination: Uint8Array;
}

/**
 * The frames of a capture file, as a load without its limits.
 *
 * @param addresses null: frames keep their own
 * @throws SluiceError SLUICE_FORMAT, SLUICE_USAGE: no such file, no frames, one that was cut by the capture or cannot be sent
 */
export function readReplay(path: string, addresses: Addresses | null): Pick<Replay, 'frames' | 'ends' | 'sizes'> {
  const capture = readCapture(path);
  if (capture.length === 0) throw new SluiceError('SLUICE_FORMAT', `${path} has no packets`);
  const ends = new Uint32Array(capture.length);
  const lengths = new Map<number, number>();
  let total = 0;
  for (const { index, data, originalLength } of capture) {
    const refuse = (what: string, remedy: string): SluiceError => usage(`packet ${index} of ${path} ${what}`, remedy);
    if (data.length < originalLength) {
      throw refuse(`has ${data.length} of its ${originalLength} bytes`, 'Capture whole packets: tcpdump -s 0.');
    }
    if (data.length < LEAST_FRAME_BYTES || data.length > MOST_FRAME_BYTES) {
      const bounds = `${LEAST_FRAME_BYTES} to ${MOST_FRAME_BYTES} bytes`;
      throw refuse(`has ${data.length} bytes, which cannot be sent`, `Frames have ${bounds}; turn off segmentation offload where they were captured.`); // prettier-ignore
    }
    ends[index] = total += data.length;
    if (total > MOST_BYTES)
      throw usage(`${path} has more than ${MOST_BYTES >> 20} MiB of packets`, 'Take a part of it.');
    lengths.set(data.length, (lengths.get(data.length) ?? 0) + 1);
  }
  const frames = new Uint8Array(total);
  for (const { index, data } of capture) {
    const begin = ends[index] - data.length;
    frames.set(data, begin);
    if (addresses) {
      frames.set(addresses.destination, begin);
      frames.set(addresses.source, begin + 6);
    }
  }
  const sizes = [...lengths].sort(([a], [b]) => a - b).map(([bytes, weight]) => ({ bytes, weight }));
  return { frames, ends, sizes };
}
