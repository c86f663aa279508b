/** Sets of addresses, networks and ports: the control plane's side. Workers have src/shared/sets/. */
export type { AddFields, SetEntry } from './entry_extras.js';
export { readEntry } from './entry_line.js';
export { restoreSets, saveSet, type RestoreResult, type SaveNote } from './ipset_save.js';
export { IpSet, type SetObserver, type SetSurroundings } from './ip_set.js';
export { MAXELEM_DEFAULT, TIMEOUT_MOST, type SetOptions } from './options.js';
export { addList } from './plain_list.js';
export { CountingReaders, NO_READERS, type Readers } from './reclaim.js';
export { SetRegistry } from './registry.js';
