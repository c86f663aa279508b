export function writeInitramfs(path: string, modules: string[], command: string[]): void;
export function cpio(entries: { name: string; mode: number; bytes?: Buffer }[]): Buffer;
