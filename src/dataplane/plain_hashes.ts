/** Loops of PlainHeaders that hash five-tuples. */
import { FlowField } from './balance/flow_entry.js';
import type { FlowHash } from './balance/hash.js';
import { Heading } from './plain_heading.js';

/** Of PlainHeaders. */
interface Tuples {
  home: Int32Array;
  heading: Int32Array;
  src0: Int32Array;
  src1: Int32Array;
  src2: Int32Array;
  src3: Int32Array;
  dst0: Int32Array;
  dst1: Int32Array;
  dst2: Int32Array;
  dst3: Int32Array;
  ports: Int32Array;
  ringHashes: Int32Array;
}

/** Hashes the first `count` packets. */
export type HashLoop = (count: number) => void;

export function homeHasher4(hash: FlowHash, mask: number, { home, heading, src0, dst0, ports }: Tuples): HashLoop {
  return (count) => {
    const end = count | 0;
    for (let i = 0; i < end; i++) {
      const head = heading[i];
      if (home[i] < 0 || head < 0) continue;
      const flowHash = hash.ipv4(src0[i], dst0[i], ports[i], head >>> Heading.PROTOCOL_SHIFT);
      home[i] = (flowHash << FlowField.STRIDE_SHIFT) & mask;
    }
  };
}

export function homeHasher6(hash: FlowHash, mask: number, headers: Tuples): HashLoop {
  const { home, heading, src0, src1, src2, src3, dst0, dst1, dst2, dst3, ports } = headers;
  return (count) => {
    const end = count | 0;
    for (let i = 0; i < end; i++) {
      const head = heading[i];
      if (home[i] < 0 || head >= 0) continue;
      const protocol = (head >>> Heading.PROTOCOL_SHIFT) & Heading.PROTOCOL_MASK;
      const flowHash = hash.ipv6(
        src0[i],
        src1[i],
        src2[i],
        src3[i],
        dst0[i],
        dst1[i],
        dst2[i],
        dst3[i],
        ports[i],
        protocol,
      );
      home[i] = (flowHash << FlowField.STRIDE_SHIFT) & mask;
    }
  };
}

export function ringHasher4(hash: FlowHash, { home, heading, src0, dst0, ports, ringHashes }: Tuples): HashLoop {
  return (count) => {
    const end = count | 0;
    for (let i = 0; i < end; i++) {
      const head = heading[i];
      if (home[i] < 0 || head < 0) continue;
      ringHashes[i] = hash.ipv4(src0[i], dst0[i], ports[i], head >>> Heading.PROTOCOL_SHIFT);
    }
  };
}

export function ringHasher6(hash: FlowHash, headers: Tuples): HashLoop {
  const { home, heading, src0, src1, src2, src3, dst0, dst1, dst2, dst3, ports, ringHashes } = headers;
  return (count) => {
    const end = count | 0;
    for (let i = 0; i < end; i++) {
      const head = heading[i];
      if (home[i] < 0 || head >= 0) continue;
      const protocol = (head >>> Heading.PROTOCOL_SHIFT) & Heading.PROTOCOL_MASK;
      ringHashes[i] = hash.ipv6(
        src0[i],
        src1[i],
        src2[i],
        src3[i],
        dst0[i],
        dst1[i],
        dst2[i],
        dst3[i],
        ports[i],
        protocol,
      );
    }
  };
}
