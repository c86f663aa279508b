import { fold, frameTemplate, type FrameTemplate } from './frame.js';
import { sourceAddresses, type Load } from './load.js';

/** No template has been written there. */
const NONE = 255;

/** Writes frames into packet memory. */
export interface Writer {
  /** Frames written, by size. */
  readonly written: Float64Array;
  /** Writes the next frame at `offset` of the memory; returns its length. */
  write(offset: number): number;
  /** Somebody else has written to the chunk that `offset` lies in. */
  forget(offset: number): void;
}

/**
 * Writes the frames of a load into packet memory, one after the other: sizes by their weights, flows in turn or by chance. A chunk that has a template
 * already gets only what differs with the flow. The same bytes as the program of `varyProgram` makes.
 */
export class FrameWriter implements Writer {
  /** Bytes of each size's frame. */
  readonly lengths: Int32Array;
  /** Frames written, by size. */
  readonly written: Float64Array;
  private readonly templates: readonly FrameTemplate[];
  private readonly bytes: Uint8Array;
  private readonly view: DataView;
  /** By chunk: the size whose template it has, NONE for none. */
  private readonly holds: Uint8Array;
  /** Sizes in the order that they are sent, again and again. */
  private readonly order: Uint8Array;
  private readonly addresses: number;
  private readonly firstAddress: number;
  private turn = 0;
  private flow = 0;
  private address = 0;
  private port = 0;
  /** Of the xorshift generator (Marsaglia 2003), never 0. */
  private state = 0;

  /** @throws SluiceError SLUICE_USAGE when headers do not fit a size */
  constructor(
    private readonly load: Load,
    memory: ArrayBuffer,
    private readonly chunkSize: number,
  ) {
    this.templates = load.sizes.map(({ bytes }) => frameTemplate(load, bytes));
    this.lengths = Int32Array.from(load.sizes, ({ bytes }) => bytes);
    this.written = new Float64Array(load.sizes.length);
    this.bytes = new Uint8Array(memory);
    this.view = new DataView(memory);
    this.holds = new Uint8Array(memory.byteLength / chunkSize).fill(NONE);
    this.order = inTurn(load.sizes.map(({ weight }) => weight));
    this.addresses = sourceAddresses(load);
    this.firstAddress = load.source.words[load.source.family === 4 ? 0 : 3];
    this.state = (Math.random() * 0x7fffffff) | 1;
  }

  /** Somebody else has written to the chunk that `offset` lies in. */
  forget(offset: number): void {
    this.holds[Math.floor(offset / this.chunkSize)] = NONE;
  }

  /** Writes the next frame at `offset` of the memory; returns its length. */
  write(offset: number): number {
    const size = this.order[this.turn];
    if (++this.turn === this.order.length) this.turn = 0;
    const template = this.templates[size];
    const chunk = Math.floor(offset / this.chunkSize);
    const fresh = this.holds[chunk] !== size;
    if (fresh) {
      this.bytes.set(template.bytes, offset);
      this.holds[chunk] = size;
    }
    // A single flow's frames are all alike.
    if (fresh || this.load.flows > 1) this.vary(template, offset);
    this.written[size]++;
    return this.lengths[size];
  }

  private vary({ addressAt, portAt, checksums }: FrameTemplate, offset: number): void {
    if (this.load.pick === 'random') this.byChance();
    const address = (this.firstAddress + this.address) | 0;
    const port = this.load.sourcePort + this.port;
    this.view.setInt32(offset + addressAt, address);
    this.view.setUint16(offset + portAt, port);
    for (let i = 0; i < checksums.length; i++) {
      const checksum = checksums[i];
      let sum = checksum.sum;
      if (checksum.port) sum += port;
      if (checksum.address) sum += (address >>> 16) + (address & 0xffff);
      let value = ~fold(sum) & 0xffff;
      if (value === 0 && checksum.neverZero) value = 0xffff;
      this.view.setUint16(offset + checksum.at, value);
    }
    if (this.load.pick === 'cycle') this.next();
  }

  private next(): void {
    if (++this.flow === this.load.flows) {
      this.flow = this.address = this.port = 0;
    } else if (++this.address === this.addresses) {
      this.address = 0;
      this.port++;
    }
  }

  private byChance(): void {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x;
    const flow = (x >>> 0) % this.load.flows;
    this.address = flow % this.addresses;
    this.port = Math.floor(flow / this.addresses);
  }
}

/** Positions of weights, each as often as its weight says and as evenly as that can be (smooth weighted round robin). */
function inTurn(weights: readonly number[]): Uint8Array {
  const sum = weights.reduce((total, weight) => total + weight, 0);
  const credit = weights.map(() => 0);
  return Uint8Array.from({ length: sum }, () => {
    weights.forEach((weight, i) => (credit[i] += weight));
    const most = credit.indexOf(Math.max(...credit));
    credit[most] -= sum;
    return most;
  });
}
