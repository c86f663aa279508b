export class Unavailable extends Error {}
export interface Parts {
  kernel: string;
  modules: string[];
  root: string;
  release: string;
  qemu: string;
}
export function obtain(directory: string, say: (line: string) => void): Parts;
export function loadOrder(wanted: string[], read: (name: string) => Buffer | null): { name: string; bytes: Buffer }[];
