/** Sets of addresses, networks and ports: what workers need. The control plane's side is src/control/sets/. */
export { hashEntry4 } from './host_view.js';
export { RecordField, SlotWord } from './layout.js';
export type { SetBuffers, SetCounters, SetType } from './layout.js';
export { portKeyOf, PortProtocol, SetSides, type SetPacket } from './packet_key.js';
export { clockFrom, SecondsClock } from './seconds_clock.js';
export { entryOf, NO_ENTRY, SetView } from './set_view.js';
export { SetClockWord, type SetDrop, type SetTable } from './tables.js';
