/** Builds capture files byte by byte, in either byte order: an independent second opinion to src/pcap. */

export class Bytes {
  readonly #parts: number[] = [];
  constructor(readonly little: boolean) {}

  get length(): number {
    return this.#parts.length;
  }
  u8(value: number): this {
    this.#parts.push(value & 0xff);
    return this;
  }
  u16(value: number): this {
    return this.#number(BigInt(value), 2);
  }
  u32(value: number): this {
    return this.#number(BigInt(value), 4);
  }
  u64(value: bigint): this {
    return this.#number(value, 8);
  }
  raw(bytes: Uint8Array | string): this {
    this.#parts.push(...Buffer.from(bytes as string));
    return this;
  }
  align(): this {
    while (this.#parts.length % 4 !== 0) this.#parts.push(0);
    return this;
  }
  done(): Uint8Array {
    return Uint8Array.from(this.#parts);
  }
  #number(value: bigint, size: number): this {
    for (let i = 0; i < size; i++) {
      const shift = BigInt(8 * (this.little ? i : size - 1 - i));
      this.#parts.push(Number((BigInt.asUintN(64, value) >> shift) & 0xffn));
    }
    return this;
  }
}

export interface ClassicPacket {
  seconds: number;
  fraction: number;
  data: Uint8Array;
  original?: number;
}

export function classicFile(
  options: { little: boolean; nanoseconds: boolean; linkType?: number; snapLength?: number },
  packets: ClassicPacket[],
): Uint8Array {
  const file = new Bytes(options.little);
  file
    .u32(options.nanoseconds ? 0xa1b23c4d : 0xa1b2c3d4)
    .u16(2)
    .u16(4)
    .u32(0)
    .u32(0);
  file.u32(options.snapLength ?? 65535).u32(options.linkType ?? 1);
  for (const packet of packets) {
    file.u32(packet.seconds).u32(packet.fraction).u32(packet.data.length);
    file.u32(packet.original ?? packet.data.length).raw(packet.data);
  }
  return file.done();
}

export type OptionBytes = [code: number, value: Uint8Array | string];

/** Blocks of one pcapng section; concatenate them with `join`. */
export class Section {
  constructor(readonly little: boolean) {}

  block(type: number, body: Uint8Array): Uint8Array {
    const length = 12 + Math.ceil(body.length / 4) * 4;
    return new Bytes(this.little).u32(type).u32(length).raw(body).align().u32(length).done();
  }
  header(sectionLength = -1n, options: OptionBytes[] = []): Uint8Array {
    const body = new Bytes(this.little).u32(0x1a2b3c4d).u16(1).u16(0).u64(sectionLength);
    return this.block(0x0a0d0d0a, this.#options(body, options));
  }
  interface(options: OptionBytes[] = [], linkType = 1, snapLength = 0): Uint8Array {
    return this.block(1, this.#options(new Bytes(this.little).u16(linkType).u16(0).u32(snapLength), options));
  }
  enhanced(
    iface: number,
    ticks: bigint,
    data: Uint8Array,
    options: OptionBytes[] = [],
    original = data.length,
  ): Uint8Array {
    const body = new Bytes(this.little)
      .u32(iface)
      .u32(Number(ticks >> 32n))
      .u32(Number(ticks & 0xffffffffn));
    body.u32(data.length).u32(original).raw(data).align();
    return this.block(6, this.#options(body, options));
  }
  simple(data: Uint8Array, original = data.length): Uint8Array {
    return this.block(3, new Bytes(this.little).u32(original).raw(data).done());
  }
  obsolete(iface: number, ticks: bigint, data: Uint8Array): Uint8Array {
    const body = new Bytes(this.little)
      .u16(iface)
      .u16(7)
      .u32(Number(ticks >> 32n))
      .u32(Number(ticks & 0xffffffffn));
    return this.block(2, body.u32(data.length).u32(data.length).raw(data).align().done());
  }
  u64(value: bigint): Uint8Array {
    return new Bytes(this.little).u64(value).done();
  }
  u32(value: number): Uint8Array {
    return new Bytes(this.little).u32(value).done();
  }
  #options(body: Bytes, options: OptionBytes[]): Uint8Array {
    for (const [code, value] of options)
      body
        .u16(code)
        .u16(Buffer.from(value as string).length)
        .raw(value)
        .align();
    if (options.length > 0) body.u16(0).u16(0);
    return body.done();
  }
}

export function join(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

/** A frame of `length` bytes, recognisable by `seed`. */
export function pattern(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + seed * 31) & 0xff);
}

/** Small fast random numbers that a seed repeats (mulberry32): 0 ≤ x < limit. */
export function seeded(seed: number): (limit: number) => number {
  let state = seed | 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * limit);
  };
}
