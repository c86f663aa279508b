/** Frames put on the wire as they are, from the kernel: for what no socket would send. */
import { closeSync, openSync } from 'node:fs';
import { native } from '../../src/native.js';
import type { Namespace } from '../../src/playground/netns.js';

export { compileBpf, XDP_TX_SOURCE } from './bpf_child.js';

/** Runs something synchronous with this thread in a namespace, and comes back. Only for files in the `forks` pool. */
export function enterNamespaceOf<T>(namespace: Namespace, action: () => T): T {
  const home = openSync('/proc/thread-self/ns/net', 'r');
  native().enterNetns(`/run/netns/${namespace.name}`);
  try {
    return action();
  } finally {
    native().enterNetns(`/proc/self/fd/${home}`);
    closeSync(home);
  }
}
