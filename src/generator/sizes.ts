import { headerBytes } from './frame.js';
import { MOST_FRAME_BYTES, usage, type Load, type SizeShare } from './load.js';

/**
 * Simple IMIX: IP packets of 40, 576 and 1,500 bytes as 7 : 4 : 1 (RFC 6985 describes such mixes), as frames; the first is padded to what
 * Ethernet has at least, counted with its FCS.
 */
const IMIX: readonly SizeShare[] = [
  { bytes: 64, weight: 7 },
  { bytes: 590, weight: 4 },
  { bytes: 1514, weight: 1 },
];

/**
 * Reads a size: bytes of the frame, or `imix`. Sizes of the mix that the headers do not fit are raised to them; so is "64".
 *
 * @throws SluiceError SLUICE_USAGE
 */
export function parseSizes(text: string, load: Pick<Load, 'template' | 'destination' | 'tunnel'>): SizeShare[] {
  const least = headerBytes(load);
  if (text === 'imix') return IMIX.map(({ bytes, weight }) => ({ bytes: Math.max(bytes, least), weight }));
  const bytes = /^\d{1,5}$/.test(text) ? Number(text) : NaN;
  if (bytes === 64) return [{ bytes: Math.max(bytes, least), weight: 1 }];
  if (!(bytes >= least && bytes <= MOST_FRAME_BYTES)) {
    throw usage(
      `"${text}" is no size for these frames`,
      `Give --size bytes from ${least} (their headers) to ${MOST_FRAME_BYTES}, or imix.`,
    );
  }
  return [{ bytes, weight: 1 }];
}
