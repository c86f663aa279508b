/** Prefixes of the allow list as a set of the kernel. They do not change: another list is other maps. */
import { native, type BpfMap } from '../../native.js';
import type { MitigationTables } from '../../shared/layout.js';
import { MapType, NO_PREALLOC } from '../ebpf/map_type.js';
import { keyBytes, valueBytes, writeKey, type KernelSet } from '../ebpf/offload/set_maps.js';

export type AllowTable = NonNullable<MitigationTables['allow']>;

const TYPE = 'hash:net';
const ANY = [-1, -1, -1, -1];
let ids = 0;

export class AllowMaps {
  readonly kernel: KernelSet;
  private readonly maps: BpfMap[] = [];

  /** @throws KernelError */
  constructor(readonly list: AllowTable) {
    try {
      const [ipv4, ipv6] = ([4, 6] as const).map((family) => {
        const map = this.filled(family);
        return map && { fd: map.fd, mask: ANY };
      });
      // Negative: no number of a SetMirror.
      this.kernel = { id: --ids, type: TYPE, ends: false, counts: false, slot: -1, ipv4, ipv6 };
    } catch (error) {
      this.close();
      throw error;
    }
  }

  close(): void {
    for (const map of this.maps) map.close();
  }

  private filled(family: 4 | 6): BpfMap | null {
    const prefixes = this.list.prefixes.filter((prefix) => prefix.family === family);
    if (prefixes.length === 0) return null;
    const [keySize, valueSize] = [keyBytes(TYPE, family), valueBytes(false)];
    const sizes = { keySize, valueSize, maxEntries: prefixes.length + 1 };
    const map = native().createMap({ type: MapType.lpmTrie, name: `allow_${family}`, flags: NO_PREALLOC, ...sizes });
    this.maps.push(map);
    const keys = new DataView(new ArrayBuffer(prefixes.length * keySize));
    prefixes.forEach(({ words, length }, i) => writeKey(keys, i * keySize, TYPE, family, words, length << 24));
    map.updateBatch(new Uint8Array(keys.buffer), new Uint8Array(prefixes.length * valueSize));
    return map;
  }
}
