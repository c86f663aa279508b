/**
 * A filter with a memory: lets each source open so many TCP connections a second, and drops its SYNs beyond that.
 *
 *     filters:
 *       - module: ./syn-limit-filter.ts
 *         options: { perSecond: 100 }
 *
 * Each worker has a table of its own, so a source whose connections spread over n queues gets up to n times as many. The table is
 * of fixed size, and sources that share a slot share a limit: a flood from forged sources costs no memory.
 */
import { defineFilter, FilterVerdict, IpProtocol, TcpFlag } from 'sluice';

/** A power of two: two int32 each, 1 MiB. */
const SLOTS = 131072;
const WINDOW_MS = 1000;

export default defineFilter({
  name: 'syn-limit',
  create({ options, nowMs }) {
    const { perSecond = 100 } = (options ?? {}) as { perSecond?: number };
    if (!Number.isInteger(perSecond) || perSecond < 1) throw new RangeError(`perSecond is ${perSecond}`);
    /** Start of each slot's window, and SYNs in it. */
    const table = new Int32Array(SLOTS * 2);
    // Where a source goes must not be for it to choose.
    const secret = Math.floor(Math.random() * 2 ** 32) | 1;

    return (packet) => {
      if (packet.protocol !== IpProtocol.tcp) return FilterVerdict.Continue;
      if ((packet.tcpFlags & (TcpFlag.syn | TcpFlag.ack)) !== TcpFlag.syn) return FilterVerdict.Continue;
      // An IPv4 address, or the /64 that one IPv6 subscriber has.
      const source = packet.src0 ^ Math.imul(packet.src1, 31);
      let hash = Math.imul(source ^ secret, 0x9e3779b1);
      hash = Math.imul(hash ^ (hash >>> 15), secret);
      const slot = (hash >>> 15) << 1;
      const now = nowMs();
      if (((now - table[slot]) | 0) >= WINDOW_MS || table[slot + 1] === 0) {
        table[slot] = now;
        table[slot + 1] = 0;
      }
      if (table[slot + 1] >= perSecond) return FilterVerdict.Drop;
      table[slot + 1]++;
      return FilterVerdict.Continue;
    };
  },
});
