/** The packet to explain: a frame of a capture, a packet in words, or bytes in hexadecimal. */
import { SluiceError } from '../../errors.js';
import { readCapture, type Capture } from '../../pcap/capture.js';
import { frameFromWords } from './words.js';

export interface ExplainInput {
  text: string;
  file: string | null;
  /** 0-based position in the file. */
  frame: number;
  /** What goes through the path: frames before, then the packet. */
  capture: Capture;
  /** Where in `capture` the packet is. */
  position: number;
}

export interface InputOptions {
  /** Frames of the file, from its first, that go through the path before; left out: all before it. */
  after?: number;
  /** false: what is before the damage of a damaged capture will do. */
  strict?: boolean;
  /** Makes a path of the command line absolute. */
  resolve?: (path: string) => string;
}

const FORMS =
  "Write FILE.pcap#N (N: 0-based frame number), a packet in words ('tcp 192.0.2.1:1234 > 198.51.100.1:443 flags S'), or hex:0200….";

/** @throws SluiceError SLUICE_USAGE for what is none of the forms, SLUICE_FORMAT for a damaged capture */
export function readInput(
  text: string,
  { after, strict = true, resolve = (path) => path }: InputOptions = {},
): ExplainInput {
  const inFile = /^(.+)#(\d+)$/.exec(text);
  if (inFile !== null) return frameOfFile(text, resolve(inFile[1]), Number(inFile[2]), after, strict);
  if (after !== undefined && after > 0) {
    throw new SluiceError('SLUICE_USAGE', '--after needs a capture: this packet has no frames before it', FORMS);
  }
  const file = /^(\S+\.p?cap(?:ng)?)(?:#(.*))?$/i.exec(text);
  if (file !== null) {
    const wrong = file[2] === undefined ? 'does not say which frame' : `${JSON.stringify(file[2])} is no frame number`;
    throw new SluiceError('SLUICE_USAGE', `${text}: ${wrong}`, `${file[1]}#0 is its first frame.`);
  }
  const frame = text.startsWith('hex:') ? frameFromHex(text.slice(4)) : frameFromWords(text, FORMS);
  return { text, file: null, frame: 0, capture: captureOf([{ data: frame, timestampNs: 0n }]), position: 0 };
}

function frameOfFile(
  text: string,
  file: string,
  frame: number,
  after: number | undefined,
  strict: boolean,
): ExplainInput {
  const capture = readCapture(file, { strict });
  if (frame >= capture.length) {
    const last = capture.length === 0 ? 'it has none' : `they are 0 to ${capture.length - 1}`;
    throw new SluiceError(
      'SLUICE_USAGE',
      `${file} has no frame ${frame}: ${last}`,
      'Frames count from 0, as sluice match prints them.',
    );
  }
  const before = after ?? frame;
  if (before > frame) {
    throw new SluiceError(
      'SLUICE_USAGE',
      `--after ${before} is beyond frame ${frame}`,
      `At most ${frame}: the frames before it.`,
    );
  }
  if (before === frame) return { text, file, frame, capture, position: frame };
  const frames = [...Array(before).keys(), frame].map((i) => capture.packet(i));
  return { text, file, frame, capture: captureOf(frames), position: before };
}

function frameFromHex(text: string): Uint8Array {
  const digits = text.replace(/[\s:]/g, '');
  const wrong = /[^0-9a-f]/i.exec(digits);
  if (wrong !== null) throw new SluiceError('SLUICE_USAGE', `"${wrong[0]}" in hex: is no hexadecimal digit`, FORMS);
  if (digits.length === 0 || digits.length % 2 !== 0) {
    throw new SluiceError('SLUICE_USAGE', `hex: has ${digits.length} digits, which are no whole bytes`, FORMS);
  }
  return Uint8Array.from(Buffer.from(digits, 'hex'));
}

const HEADER_BYTES = 24;
const RECORD_BYTES = 16;

/** A classic capture file with nanoseconds in memory. */
export function captureOf(
  frames: readonly { data: Uint8Array; timestampNs: bigint; originalLength?: number }[],
): Capture {
  const total = frames.reduce((sum, { data }) => sum + RECORD_BYTES + data.length, HEADER_BYTES);
  const bytes = new Uint8Array(total);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0xa1b23c4d);
  view.setUint16(4, 2);
  view.setUint16(6, 4);
  view.setUint32(16, 262_144);
  view.setUint32(20, 1);
  let at = HEADER_BYTES;
  for (const { data, timestampNs, originalLength } of frames) {
    view.setUint32(at, Number(timestampNs / 1_000_000_000n));
    view.setUint32(at + 4, Number(timestampNs % 1_000_000_000n));
    view.setUint32(at + 8, data.length);
    view.setUint32(at + 12, originalLength ?? data.length);
    bytes.set(data, at + RECORD_BYTES);
    at += RECORD_BYTES + data.length;
  }
  return readCapture(bytes);
}
