/** DNS messages (RFC 1035 §4), as much as a check needs: a query with one question, and the answers of a response as text. */
import { addressFromBytes } from '../../../shared/addr.js';

export interface Response {
  id: number;
  rcode: number;
  /** TC: answers were left out. */
  truncated: boolean;
  /** Data of the records in the answer section, as `dig +short` shows it; types that are not known here as hex. */
  answers: string[];
}

const HEADER_BYTES = 12;
const FLAG_QR = 0x8000;
const FLAG_TC = 0x0200;
const FLAG_RD = 0x0100;
const CLASS_IN = 1;
/** A name has at most 255 bytes (§2.3.4), so at most 127 labels; each pointer leads to at least one, or is a loop. */
const MAX_JUMPS = 127;
/** More answers than fit a datagram of 64 KiB at 12 bytes a record are a lie. */
const MAX_ANSWERS = 5461;

/** @param name without a dot at the end; '' is the root */
export function encodeQuery(id: number, name: string, record: number): Uint8Array {
  const labels = name === '' ? [] : name.split('.').map((label) => Buffer.from(label, 'latin1'));
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt16BE(id, 0);
  header.writeUInt16BE(FLAG_RD, 2);
  header.writeUInt16BE(1, 4);
  const end = Buffer.alloc(5);
  end.writeUInt16BE(record, 1);
  end.writeUInt16BE(CLASS_IN, 3);
  return Buffer.concat([header, ...labels.flatMap((label) => [Buffer.of(label.length), label]), end]);
}

/** What it says, or what is wrong with it. Never throws, whatever the bytes. */
export function readResponse(bytes: Uint8Array): Response | string {
  try {
    return read(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  } catch (error) {
    // Buffer's readers throw RangeError beyond the end.
    if (error instanceof RangeError) return 'it ends too early';
    throw error;
  }
}

function read(message: Buffer): Response | string {
  if (message.length < HEADER_BYTES) return `${message.length} bytes`;
  const flags = message.readUInt16BE(2);
  if ((flags & FLAG_QR) === 0) return 'it is a query';
  let at = HEADER_BYTES;
  for (let i = message.readUInt16BE(4); i > 0; i--) at = readName(message, at).end + 4;
  const count = message.readUInt16BE(6);
  if (count > MAX_ANSWERS) return `${count} answers`;
  const truncated = (flags & FLAG_TC) !== 0;
  const answers: string[] = [];
  for (let i = 0; i < count; i++) {
    const { end } = readName(message, at);
    const length = message.readUInt16BE(end + 8);
    const start = end + 10;
    if (start + length > message.length) throw new RangeError();
    answers.push(dataText(message, message.readUInt16BE(end), start, length));
    at = start + length;
  }
  return { id: message.readUInt16BE(0), rcode: flags & 15, truncated, answers };
}

/** A name that may be compressed (§4.1.4), and where what follows it begins. */
function readName(message: Buffer, start: number): { text: string; end: number } {
  const labels: string[] = [];
  let at = start;
  let end = -1;
  for (let jumps = 0, bytes = 0; ;) {
    const length = message.readUInt8(at);
    if (length === 0) break;
    if (length >= 0xc0) {
      if (end < 0) end = at + 2;
      at = message.readUInt16BE(at) & 0x3fff;
      if (++jumps > MAX_JUMPS) throw new RangeError();
      continue;
    }
    bytes += length + 1;
    if (length > 63 || bytes > 255 || at + 1 + length > message.length) throw new RangeError();
    labels.push(message.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { text: `${labels.join('.')}.`, end: end < 0 ? at + 1 : end };
}

function dataText(message: Buffer, type: number, at: number, length: number): string {
  const name = (from: number): string => readName(message, from).text;
  switch (type) {
    case 1: // A
    case 28: // AAAA
      if (length === (type === 1 ? 4 : 16)) return addressFromBytes(message.subarray(at, at + length)).text;
      break;
    case 2: // NS
    case 5: // CNAME
    case 12: // PTR
      return name(at);
    case 6: // SOA: primary and mailbox
      return `${name(at)} ${name(readName(message, at).end)}`;
    case 15: // MX
      return `${message.readUInt16BE(at)} ${name(at + 2)}`;
    case 16: // TXT
      return strings(message.subarray(at, at + length));
    case 33: // SRV
      return `${[0, 2, 4].map((offset) => message.readUInt16BE(at + offset)).join(' ')} ${name(at + 6)}`;
  }
  return message.toString('hex', at, at + length);
}

/** Character strings (§3.3.14), joined, as a long text is cut into several. */
function strings(data: Buffer): string {
  let text = '';
  for (let at = 0; at < data.length; at += 1 + data[at]) {
    text += data.toString('utf8', at + 1, Math.min(at + 1 + data[at], data.length));
  }
  return text;
}
