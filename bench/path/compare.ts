import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

/** Read at a time from each file. */
const BLOCK = 1 << 20;

/** Compares two files. `difference` says where they first differ, null when they are equal; `bytes` is the first one's size. */
export function compareFiles(first: string, second: string): { bytes: number; difference: string | null } {
  const files = [openSync(first, 'r'), openSync(second, 'r')];
  try {
    const [bytes, others] = files.map((file) => fstatSync(file).size);
    if (bytes !== others) return { bytes, difference: `${bytes} bytes against ${others}` };
    const blocks = files.map(() => Buffer.alloc(BLOCK));
    for (let at = 0; at < bytes; at += BLOCK) {
      const [a, b] = blocks.map((block, i) => block.subarray(0, readSync(files[i], block, 0, BLOCK, at)));
      if (a.equals(b)) continue;
      const within = a.findIndex((byte, i) => byte !== b[i]);
      return { bytes, difference: `byte ${at + within} is 0x${hex(a[within])} against 0x${hex(b[within])}` };
    }
    return { bytes, difference: null };
  } finally {
    for (const file of files) closeSync(file);
  }
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, '0');
}
