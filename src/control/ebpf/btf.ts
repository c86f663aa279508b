/** Types of a map in the kernel's format, Documentation/bpf/btf.rst: as few as a value with a lock in it needs. */
import { endianness } from 'node:os';

/** BTF_KIND_*. */
const enum Kind {
  INT = 1,
  ARRAY = 3,
  STRUCT = 4,
}

const MAGIC = 0xeb9f;
const VERSION = 1;
const HEADER_BYTES = 24;

export interface Member {
  name: string;
  /** Id of its type. */
  type: number;
  /** Bytes from the start. */
  offset: number;
}

/** Collects types; their ids count up from 1. */
export class BtfBuilder {
  readonly #types: number[] = [];
  #strings = '\0';
  #count = 0;

  /** An unsigned integer. */
  int(name: string, bytes: number): number {
    return this.#add(name, Kind.INT, 0, bytes, [bytes * 8]);
  }

  /** `index`: type of an index, an integer. */
  array(element: number, index: number, length: number): number {
    return this.#add('', Kind.ARRAY, 0, 0, [element, index, length]);
  }

  struct(name: string, bytes: number, members: readonly Member[]): number {
    const words = members.flatMap((member) => [this.#string(member.name), member.type, member.offset * 8]);
    return this.#add(name, Kind.STRUCT, members.length, bytes, words);
  }

  /** The blob that BPF_BTF_LOAD takes. */
  build(): Uint8Array {
    const little = endianness() === 'LE';
    const typeBytes = this.#types.length * 4;
    const strings = Buffer.from(this.#strings, 'latin1');
    const view = new DataView(new ArrayBuffer(HEADER_BYTES + typeBytes + strings.length));
    view.setUint16(0, MAGIC, little);
    view.setUint8(2, VERSION);
    // Flags, then the two sections: offset behind the header, and length.
    [HEADER_BYTES, 0, typeBytes, typeBytes, strings.length].forEach((word, i) =>
      view.setUint32(4 + i * 4, word, little),
    );
    this.#types.forEach((word, i) => view.setUint32(HEADER_BYTES + i * 4, word, little));
    const bytes = new Uint8Array(view.buffer);
    bytes.set(strings, HEADER_BYTES + typeBytes);
    return bytes;
  }

  /** struct btf_type and what follows it. */
  #add(name: string, kind: Kind, members: number, size: number, rest: readonly number[]): number {
    this.#types.push(name === '' ? 0 : this.#string(name), (kind << 24) | members, size, ...rest);
    return ++this.#count;
  }

  #string(text: string): number {
    const at = this.#strings.length;
    this.#strings += `${text}\0`;
    return at;
  }
}
