/** Kernel versions as far as features go: major and minor. */
export interface KernelVersion {
  major: number;
  minor: number;
}

/** Reads "6.18.44-fc-v669" or "4.19"; null when it does not start with two numbers. */
export function parseVersion(text: string): KernelVersion | null {
  const match = /^(\d+)\.(\d+)/.exec(text.trim());
  return match ? { major: Number(match[1]), minor: Number(match[2]) } : null;
}

/** Whether `kernel` is `since` or newer. Distributions backport, so "no" means "not in the kernel.org version of that number". */
export function atLeast(kernel: KernelVersion, since: string): boolean {
  const wanted = parseVersion(since);
  if (!wanted) throw new RangeError(`not a kernel version: ${since}`);
  return kernel.major !== wanted.major ? kernel.major > wanted.major : kernel.minor >= wanted.minor;
}
