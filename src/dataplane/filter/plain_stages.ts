/** Stages that the short way asks itself, by what it has of a packet: the bytes, and no Packet. See plain_sets.ts. */

/** Prefixes of the allow list. */
export interface PlainPrefixes {
  has4(src: number): boolean;
  /** `at`: offset of the source address. */
  has6(view: DataView, at: number): boolean;
}

/** A set of IPv4 hosts without ports, to be read for a whole burst: HostView4. */
export interface PlainHosts {
  readonly seed: number;
  readonly mask0: number;
  readonly slots: Int32Array;
  readonly slotMask: number;
  readonly records: Int32Array;
}

/** A set. `find` returns as SetView's look-ups do and counts nothing; `count` counts what was found. `sides`: SetSides. */
export interface PlainSet {
  /** A burst's IPv4 look-ups wait for memory, unless `touch4` was called for all of them before. */
  readonly isLarge4: boolean;
  /** null: its entries are no hosts, or have ports. */
  readonly hosts4: PlainHosts | null;
  /** Each IPv4 entry counts for itself, so that `countAll` is not enough. */
  readonly countsEntries4: boolean;
  touch4(src: number, dst: number, protocol: number, ports: number, sides: number): number;
  find4(src: number, dst: number, protocol: number, ports: number, sides: number): number;
  /** `at`: offset of the source address; the destination and the ports follow. */
  find6(view: DataView, at: number, protocol: number, sides: number): number;
  /** `bytes`: of the IP packet. */
  count(found: number, family: 4 | 6, bytes: number): void;
  /** Counts packets that were found, all together. */
  countAll(packets: number, bytes: number): void;
}

/** In the order in which a packet meets them. */
export interface PlainStages {
  readonly prefixes: PlainPrefixes | null;
  /** On the allow list, by their source. */
  readonly allows: readonly PlainSet[];
  readonly drops: readonly { readonly set: PlainSet; readonly sides: number }[];
}
