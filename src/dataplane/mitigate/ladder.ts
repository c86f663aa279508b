import { maskWords } from './prefix_mask.js';

/** The nodes of one family's ladder, level by level (see src/shared/limits/fair_share.ts). */
export interface Ladder {
  /** Masks of the source by step, 4 words each: the address, the prefixes, any. */
  masks: Int32Array;
  steps: number;
  /** By node: step of the source, what it has of the ports (PortPart), level. */
  step: Int32Array;
  ports: Int32Array;
  level: Int32Array;
  /** By node: 1 when it says nothing of the source, so that everybody is in it. */
  everybody: Uint8Array;
  /** Nodes; those up to `judged` are judged by level, the rest, which everybody is in, each alone and after all others. */
  nodes: number;
  judged: number;
  levels: number;
}

export const enum PortPart {
  none = 0,
  destination = 1,
  source = 2,
  both = 3,
  COUNT = 4,
}

/** All combinations of source step and ports, in the order of their levels; `apart`: those that everybody is in last. */
export function ladder(prefixes: readonly number[], family: 4 | 6, apart: boolean): Ladder {
  const lengths = [family === 4 ? 32 : 128, ...prefixes, 0];
  const any = lengths.length - 1;
  const nodes: { step: number; ports: number; level: number; everybody: number }[] = [];
  for (let step = 0; step <= any; step++) {
    for (const [ports, generalised] of [
      [PortPart.both, 0],
      [PortPart.destination, 1],
      [PortPart.source, 1],
      [PortPart.none, 2],
    ]) {
      const everybody = step === any && (ports & PortPart.source) === 0 ? 1 : 0;
      nodes.push({ step, ports, level: step + generalised, everybody });
    }
  }
  nodes.sort((a, b) => (apart ? a.everybody - b.everybody : 0) || a.level - b.level);
  const masks = new Int32Array(4 * lengths.length);
  lengths.forEach((length, i) => masks.set(maskWords(length, family), 4 * i));
  return {
    masks,
    steps: lengths.length,
    step: Int32Array.from(nodes, ({ step }) => step),
    ports: Int32Array.from(nodes, ({ ports }) => ports),
    level: Int32Array.from(nodes, ({ level }) => level),
    everybody: Uint8Array.from(nodes, ({ everybody }) => everybody),
    nodes: nodes.length,
    judged: apart ? nodes.filter(({ everybody }) => everybody === 0).length : nodes.length,
    levels: any + 3,
  };
}
