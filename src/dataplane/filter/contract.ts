import type { Packet } from '../packet/packet.js';

/**
 * What a filter says of a packet. `Continue` hands it to the next filter, and after the last one to the load balancer.
 * The other values are final and equal to the Verdict of the same name.
 */
export const enum FilterVerdict {
  Continue = -1,
  Aborted = 0,
  Drop = 1,
  Pass = 2,
  Tx = 3,
}

/**
 * Judges one packet. Called for every packet, so: no allocation, no clock, no I/O. May change the packet's bytes. If it
 * throws, the packet is dropped and counted as aborted, and the next packet goes on.
 */
export type PacketFilter = (packet: Packet) => FilterVerdict;

/** What a filter gets when a worker makes it. */
export interface FilterContext {
  /** Queue number of the worker. */
  readonly worker: number;
  /** `options` of the filter's entry in the config, as they are there. */
  readonly options: unknown;
  /** Monotonic clock of the burst in hand in milliseconds, wrapping int32. */
  nowMs(): number;
}

/**
 * A user's own policy, default export of the module that `filters: [{ module: … }]` names. `create` is called once in each worker;
 * state that it keeps is that worker's alone.
 */
export interface FilterModule {
  name: string;
  create(context: FilterContext): PacketFilter;
}

/** Gives the default export of a filter module its type. */
export function defineFilter(filter: FilterModule): FilterModule {
  return filter;
}
