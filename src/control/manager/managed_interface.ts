import { SluiceError, isKernelError } from '../../errors.js';
import { native, type BpfLink, type LinkInfo, type XdpQuery } from '../../native.js';
import type { InterfaceConfig, Prefix } from '../../shared/config.js';
import type { PortSpec } from '../../shared/worker_protocol.js';
import type { XdpCounts } from '../api/view.js';
import type { Front, FrontRules } from '../ebpf/offload/front.js';
import { SET_DROPS } from '../ebpf/offload/rules_program.js';
import { FLOW_PROGRAM } from '../ebpf/flow_layout.js';
import type { FlowCache } from './flow_cache.js';
import { HostPath } from './host_path.js';
import { KernelRules } from './kernel_rules.js';
import { REDIRECT_PROGRAM, RedirectProgram } from './redirect_program.js';

type AttachMode = 'native' | 'generic';

/** From the update of a link until no CPU runs the former program any more, ms; a grace period of the kernel's takes a tenth. */
const RETIRE_MS = 200;

/** How long a sluice that was killed may take to lose its program, ms: the kernel frees it after the process is gone. */
const DYING_MS = 1000;

/**
 * One interface that sluice serves: the redirect program on it, the XSKMAP entries of its workers' sockets, and the TAP of
 * its host path. The attachment is a bpf_link: when this process dies, the kernel takes the program off.
 */
export class ManagedInterface {
  private program: RedirectProgram | null = null;
  private link: BpfLink | null = null;
  private hostPath: HostPath | null = null;
  private info: LinkInfo | null = null;
  /** Counts of programs that are gone. */
  private countsBefore: Record<string, number> = {};
  /** Programs just replaced: other CPUs may still be in them. */
  private readonly retiring = new Map<RedirectProgram, NodeJS.Timeout>();
  private readonly rules = new KernelRules();
  private flowCache: FlowCache | null = null;
  /** Highest value of `rules` in xdpCounts(). */
  private byRules = 0;
  private readonly sockets = new Map<number, { fd: number; zeroCopy: boolean }>();
  mode: AttachMode | null = null;

  constructor(
    readonly config: InterfaceConfig,
    /** Position in the config: the port number in every worker. */
    readonly index: number,
    private vips: readonly Prefix[],
  ) {}

  get name(): string {
    return this.config.name;
  }

  /** True while a program is attached to the interface that was there at `attach`. */
  get attached(): boolean {
    return this.link !== null;
  }

  get ifindex(): number {
    return this.info?.ifindex ?? 0;
  }

  /** Of the device; "" while it is not there, and when it does not say. */
  get driver(): string {
    return this.info?.driver ?? '';
  }

  get zeroCopy(): boolean | null {
    const sockets = [...this.sockets.values()];
    return sockets.length === 0 ? null : sockets.every((socket) => socket.zeroCopy);
  }

  /** Looks at the device now; null when it is not there. */
  static look(name: string): LinkInfo | null {
    try {
      return native().linkInfo(name);
    } catch (error) {
      if (isKernelError(error) && error.code === 'ENODEV') return null;
      throw error;
    }
  }

  /** Loads and attaches the program, opens the host path. Nothing is left behind when it throws. */
  async attach(): Promise<void> {
    const info = ManagedInterface.look(this.name);
    if (!info) throw missingInterface(this.name);
    this.checkQueues(info);
    await refuseForeign(info, this.name);
    this.info = info;
    try {
      this.program = new RedirectProgram(this.config);
      this.program.addVips(this.vips);
      this.link = this.attachLink(this.program, info.ifindex);
      if (this.config.hostPath) this.hostPath = await HostPath.open(info);
    } catch (error) {
      this.detach();
      throw error;
    }
  }

  private checkQueues(info: LinkInfo): void {
    if (this.config.queues === 'all') return;
    const outside = this.config.queues.find((queue) => queue >= info.rxQueues);
    if (outside === undefined) return;
    throw new SluiceError(
      'SLUICE_DEVICE',
      `interface ${this.name} has ${info.rxQueues} RX queues, so there is no queue ${outside}`,
      `Use queues below ${info.rxQueues}, or give the device more: ethtool -L ${this.name} combined ${outside + 1}`,
    );
  }

  private attachLink(program: RedirectProgram, ifindex: number): BpfLink {
    const forced = this.config.mode;
    if (forced !== 'generic') {
      try {
        const link = program.object.attachXdp(REDIRECT_PROGRAM, ifindex, 'native');
        this.mode = 'native';
        return link;
      } catch (error) {
        const unsupported = isKernelError(error) && (error.code === 'EOPNOTSUPP' || error.code === 'ENOTSUP');
        if (forced !== 'auto' || !unsupported) throw error;
      }
    }
    const link = program.object.attachXdp(REDIRECT_PROGRAM, ifindex, 'generic');
    this.mode = 'generic';
    return link;
  }

  /** The queues to serve, once attached. */
  get queues(): number[] {
    if (this.config.queues !== 'all') return [...this.config.queues];
    return Array.from({ length: this.info?.rxQueues ?? 0 }, (_, queue) => queue);
  }

  /** Queues of the device that no socket serves: their packets take the fallback action. */
  get unboundQueues(): number[] {
    const count = this.info?.rxQueues ?? 0;
    return Array.from({ length: count }, (_, queue) => queue).filter((queue) => !this.sockets.has(queue));
  }

  get rxQueues(): number {
    return this.info?.rxQueues ?? 0;
  }

  /** Whether L4 checksums have to be completed: always on veth, whose peers leave them to a device that is not there. */
  repairChecksums(setting: InterfaceConfig['checksum']): boolean {
    return setting === 'auto' ? this.info?.driver === 'veth' : setting === 'repair';
  }

  /** What a worker needs to serve one of the queues. */
  portSpec(queue: number, ring: number): PortSpec {
    const { mode, poll } = this.config;
    return {
      index: this.index,
      interface: this.name,
      queue,
      mode: this.mode === 'generic' || mode === 'generic' ? 'copy' : mode,
      poll,
      ring,
      tap: this.hostPath?.name ?? null,
    };
  }

  bindSocket(queue: number, fd: number, zeroCopy: boolean): void {
    this.program?.setSocket(queue, fd);
    this.sockets.set(queue, { fd, zeroCopy });
  }

  /** The socket is closed, or about to be: the queue's packets take the fallback action from now on. */
  unbindSocket(queue: number): void {
    if (!this.sockets.delete(queue)) return;
    this.program?.removeSocket(queue);
  }

  /** Before new tables are published: packets to new destinations start to come up. */
  addVips(vips: readonly Prefix[]): void {
    this.program?.addVips(vips);
  }

  /** After they are adopted: what is no longer a destination stays with the host. */
  setVips(vips: readonly Prefix[]): void {
    this.vips = vips;
    this.program?.keepOnlyVips(vips);
  }

  /**
   * Replaces the program by one with other settings, by link update: there is no moment without a program, and no packet is
   * lost. Does nothing when the settings are the same. Throws with the former program in place.
   */
  replaceProgram({ redirect, fallback }: Pick<InterfaceConfig, 'redirect' | 'fallback'>): void {
    if (this.config.redirect === redirect && this.config.fallback === fallback) return;
    const before = this.program;
    if (before && this.link) {
      const next = new RedirectProgram({ redirect, fallback });
      try {
        next.addVips(before.destinations);
        for (const [queue, { fd }] of this.sockets) next.setSocket(queue, fd);
        this.rules.put(this.link, next, this.rules.inForce, this.flowCache);
      } catch (error) {
        this.rules.retire(next);
        next.close();
        throw error;
      }
      this.program = next;
      this.retiring.set(
        before,
        setTimeout(() => this.retire(before), RETIRE_MS),
      );
    }
    this.config.redirect = redirect;
    this.config.fallback = fallback;
  }

  /**
   * Has these rules run in the kernel, or none (null), by link update. null as the answer: none, or there is no program attached. Throws with the
   * former in place.
   */
  setRules(rules: FrontRules | null): Front | null {
    if (!this.program || !this.link || (rules === null && this.rules.inForce === null)) return null;
    return this.rules.put(this.link, this.program, rules, this.flowCache);
  }

  /**
   * Puts a cache of flows in front of the redirect program and behind the rules, or takes it out (null), by link update. Throws with the former in
   * place. The caller closes the former when no CPU runs it any more.
   */
  setFlowCache(cache: FlowCache | null): void {
    if (this.program && this.link) this.rules.put(this.link, this.program, this.rules.inForce, cache);
    else if (cache) throw missingInterface(this.name);
    this.flowCache = cache;
  }

  /** Loads the rules and throws them away. @throws KernelError when the kernel does not take them */
  tryRules(rules: FrontRules): Front {
    return this.rules.tryOut(this.program!, rules);
  }

  /** What a rule has counted in the kernel, in the order of RuleCounter. */
  ruleCounts(rule: number): number[] {
    return this.rules.counts(rule);
  }

  /** Its counts are final now. */
  private retire(program: RedirectProgram): void {
    clearTimeout(this.retiring.get(program));
    if (!this.retiring.delete(program)) return;
    this.countsBefore = add(this.countsBefore, program.counts());
    this.rules.retire(program);
    program.close();
  }

  /** Packets by XDP action and more, see enum redirect_stat; null while no program is attached. */
  xdpCounts(): XdpCounts | null {
    if (!this.program) return null;
    const counts = [...this.retiring.keys(), this.program].reduce(
      (sum, one) => add(sum, one.counts()),
      this.countsBefore,
    );
    const sets = this.rules.counts(SET_DROPS)[0];
    // A packet may be between its two counters.
    this.byRules = Math.max(this.byRules, (counts.rules ?? 0) - sets);
    return { ...counts, rules: this.byRules, sets };
  }

  /** Takes the program off: packets go to the host's stack. Workers may still empty their rings. Idempotent. */
  detach(): void {
    this.link?.close();
    this.link = null;
    this.mode = null;
    this.rules.detached();
    this.flowCache = null;
    for (const program of [...this.retiring.keys()]) this.retire(program);
    if (this.program) {
      this.countsBefore = add(this.countsBefore, this.program.counts());
      this.rules.retire(this.program);
      this.program.close();
      this.program = null;
    }
    this.hostPath?.close();
    this.hostPath = null;
    this.sockets.clear();
  }
}

function add(a: Record<string, number>, b: Record<string, number>): Record<string, number> {
  const sum = { ...a };
  for (const [name, count] of Object.entries(b)) sum[name] = (sum[name] ?? 0) + count;
  return sum;
}

function missingInterface(name: string): SluiceError {
  return new SluiceError(
    'SLUICE_DEVICE',
    `there is no interface ${name} in this network namespace`,
    'See what there is: ip -br link',
  );
}

/** A program that somebody else attached is never replaced. One of ours may be a dead instance's, about to go. */
async function refuseForeign(info: LinkInfo, name: string): Promise<void> {
  const start = performance.now();
  for (;;) {
    const program: XdpQuery | null = native().queryXdp(info.ifindex);
    if (!program) return;
    const ours =
      [REDIRECT_PROGRAM, FLOW_PROGRAM].some((name) => name.startsWith(program.programName)) &&
      program.programName !== '';
    if (!ours || performance.now() - start > DYING_MS) throw taken(name, program, ours);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function taken(name: string, program: XdpQuery, ours: boolean): SluiceError {
  const who = ours
    ? `another sluice runs on it (XDP program id ${program.programId})`
    : `XDP program "${program.programName}" (id ${program.programId}) is on it`;
  return new SluiceError(
    'SLUICE_DEVICE',
    `interface ${name} is taken: ${who} in ${program.mode} mode`,
    ours
      ? 'Stop the other instance first'
      : `sluice does not replace a foreign program. If it is not needed: ip link set dev ${name} xdp off, or detach its link with bpftool`,
  );
}
