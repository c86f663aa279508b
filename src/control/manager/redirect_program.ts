import { bpfObjectPath, native, type BpfMap, type BpfObject } from '../../native.js';
import type { Behind } from '../ebpf/offload/front.js';
import type { InterfaceConfig, Prefix } from '../../shared/config.js';
import { formatPrefix } from '../../shared/addr.js';
import { BPF_PROGRAMS, encodeLpmKey, encodeU32, MatchAll, REDIRECT_STATS, sumPerCpu } from '../bpf_layout.js';

/** Name of the program in the object, and prefix of its name in the kernel: how another sluice is told from a foreign program. */
export const REDIRECT_PROGRAM = BPF_PROGRAMS.redirect;

/** `match_all` of bpf/redirect.bpf.c. */
const MATCH = { services: MatchAll.vips, all: MatchAll.traffic } as const;
/** `fallback_action`: enum xdp_action. */
const FALLBACK = { drop: 1, pass: 2 } as const;

const NO_FLAGS = new Uint8Array(4);

/** One loaded copy of the redirect program with its maps, for one interface. Settings are fixed at load. */
export class RedirectProgram {
  readonly object: BpfObject;
  private readonly sockets: BpfMap;
  private readonly vips: BpfMap;
  private readonly stats: BpfMap;
  /** Highest value of `rules` in counts(). */
  private byRules = 0;
  private readonly present = new Map<string, Prefix>();

  constructor(readonly settings: Pick<InterfaceConfig, 'redirect' | 'fallback'>) {
    this.object = new (native().BpfObject)(bpfObjectPath('redirect'));
    try {
      this.object.setRodata({
        match_all: MATCH[settings.redirect],
        fallback_action: FALLBACK[settings.fallback],
      });
      this.object.load();
      this.sockets = this.object.map('xsks_map');
      this.vips = this.object.map('vip_map');
      this.stats = this.object.map('stats');
    } catch (error) {
      this.object.close();
      throw error;
    }
  }

  /** Sends a queue's packets to a socket. The kernel removes the entry when the socket closes. */
  setSocket(queue: number, fd: number): void {
    this.sockets.update(encodeU32(queue), encodeU32(fd));
  }

  removeSocket(queue: number): void {
    this.sockets.delete(encodeU32(queue));
  }

  /** The destinations that come to user space now. */
  get destinations(): Prefix[] {
    return [...this.present.values()];
  }

  /** Adds destinations. Those that are there already stay as they are. */
  addVips(prefixes: readonly Prefix[]): void {
    for (const prefix of prefixes) {
      const text = formatPrefix(prefix);
      if (this.present.has(text)) continue;
      this.vips.update(encodeLpmKey(prefix), NO_FLAGS);
      this.present.set(text, prefix);
    }
  }

  /** Removes every destination that is not in the list. */
  keepOnlyVips(prefixes: readonly Prefix[]): void {
    const wanted = new Set(prefixes.map(formatPrefix));
    for (const [text, prefix] of this.present) {
      if (wanted.has(text)) continue;
      this.vips.delete(encodeLpmKey(prefix));
      this.present.delete(text);
    }
  }

  /** For rules in front of it. */
  get behind(): Behind {
    const { redirect } = this.settings;
    const program = this.object.programFd(REDIRECT_PROGRAM);
    return { program, stats: this.stats, vips: redirect === 'services' ? this.vips : null };
  }

  /**
   * Packets by name of enum redirect_stat, summed over CPUs, since the program was loaded; and `rules`: of those in `drop`, dropped by rules and sets in front
   * of the program. It drops packets itself only by its fallback, for want of a socket.
   */
  counts(): Record<string, number> {
    const value = this.stats.lookup(encodeU32(0));
    const sums = value ? sumPerCpu(value, REDIRECT_STATS.length) : [];
    const counts = Object.fromEntries(REDIRECT_STATS.map((name, i) => [name, sums[i] ?? 0]));
    // A packet may be between its two counters: what was seen of them goes up only.
    const own = this.settings.fallback === 'drop' ? counts.no_socket : 0;
    this.byRules = Math.max(this.byRules, counts.drop - own);
    return { ...counts, rules: this.byRules };
  }

  close(): void {
    this.object.close();
  }
}
