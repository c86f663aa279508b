/**
 * A backend's agent: the decapsulator on its interfaces, VIPs that are the host's own without a word on the wire, next hops
 * whose hardware addresses stay known. All that it changes is taken back by `close`, or by the next agent after a kill -9.
 */
import { isKernelError } from '../../errors.js';
import { native } from '../../native.js';
import { systemIp, type IpCommand } from '../ip_command.js';
import { formatPrefix } from '../../shared/addr.js';
import { checkHost, destinations, sysctlNeeds } from './checks.js';
import { Decapsulator, type DecapStats, type HopCounts } from './decapsulator.js';
import { Host, sysctl } from './host.js';
import { DatagramAsker, HopKeeper } from './hops.js';
import { Journal } from './journal.js';
import type { AgentSettings } from './settings.js';

/** Hops are looked at this often: well below TCP's shortest retransmission timeout of 200 ms. */
const HOP_LOOK_MS = 50;
/** Interfaces are looked at this often, to attach again to one that came back. */
const LINK_LOOK_MS = 1000;
/** Addresses of the interfaces are read this often. */
const ADDRESS_LOOK_MS = 10_000;
/** How long the kernel may take to detach the program of an agent that was killed a moment ago. */
const BUSY_RETRY_MS = 1000;

/** Says what was done, one line; `warning`: something that a person should look at. */
export type Say = (text: string, level: 'info' | 'warning') => void;

export class BackendAgent {
  private readonly asker = new DatagramAsker();
  private readonly keeper = new HopKeeper(this.asker);
  private readonly timers: NodeJS.Timeout[] = [];
  private readonly absent = new Set<string>();
  private looking = false;

  private constructor(
    private readonly settings: AgentSettings,
    private readonly say: Say,
    private readonly host: Host,
    private readonly journal: Journal,
    private readonly decapsulator: Decapsulator,
  ) {}

  /**
   * Brings everything up. When it throws, nothing is left changed. SLUICE_USAGE, SLUICE_DEVICE, SLUICE_STATE or the kernel's
   * own error say what is wrong.
   */
  static async start(settings: AgentSettings, say: Say, ip: IpCommand = systemIp()): Promise<BackendAgent> {
    // Before anything is written down: these change nothing.
    for (const name of settings.interfaces) native().linkInfo(name);
    const { journal, leftovers } = Journal.open(settings.interfaces);
    const host = new Host(ip, journal);
    let decapsulator: Decapsulator | undefined;
    try {
      if (leftovers.length > 0) {
        say('an agent was killed here; taking back what it left', 'warning');
        for (const line of await host.undo()) say(line, 'info');
      }
      const addresses = await host.addresses();
      checkHost(settings, addresses);
      const ours = destinations(settings, addresses).map(({ text }) => text);
      decapsulator = new Decapsulator({
        destinations: ours,
        sources: settings.sources.map(formatPrefix),
        guePorts: settings.guePorts,
        secondHop: settings.secondHop,
        verifyUdpChecksum: settings.verifyUdpChecksum,
        mode: settings.mode,
      });
      const agent = new BackendAgent(settings, say, host, journal, decapsulator);
      await agent.prepareHost();
      for (const name of settings.interfaces) await agent.attach(name);
      say(`let in: ${agent.describe(ours)}`, 'info');
      agent.watch();
      return agent;
    } catch (error) {
      decapsulator?.close();
      for (const line of await host.undo()) say(line, 'info');
      journal.close();
      throw error;
    }
  }

  stats(): DecapStats {
    return this.decapsulator.stats();
  }

  hops(): HopCounts[] {
    return this.decapsulator.hops();
  }

  attachments(): { interface: string; mode: string }[] {
    return this.decapsulator.attachments();
  }

  /** Interfaces that are not served now, each in one line; [] when all are. */
  missing(): string[] {
    return [...this.absent].map((name) => `${name} is not served`);
  }

  /** Takes everything back. */
  async close(): Promise<void> {
    for (const timer of this.timers) clearInterval(timer);
    this.asker.close();
    // First: from now on nothing comes in for VIPs that are about to go.
    this.decapsulator.close();
    for (const line of await this.host.undo()) this.say(line, 'info');
    this.journal.close();
  }

  private async prepareHost(): Promise<void> {
    const tell = (done: string | null): void => {
      if (done !== null) this.say(done, 'info');
    };
    for (const vip of this.settings.vips) {
      const done = await this.host.own(vip);
      this.say(done ?? `${formatPrefix(vip)} is on lo already; it stays when this agent ends`, 'info');
    }
    if (this.settings.secondHop) {
      // bpf_fib_lookup() wants forwarding on the interface that the look-up starts from, which is lo: nothing is routed.
      for (const family of ['ipv4', 'ipv6']) {
        const key = `net/${family}/conf/lo/forwarding`;
        // IPv6 may be off.
        if (sysctl(key) !== '') tell(await this.host.set(key, 1));
      }
    }
    for (const { key, to, why } of sysctlNeeds(this.settings)) {
      if (this.settings.sysctl) tell(await this.host.set(key, to));
      else this.say(`${key.replaceAll('/', '.')} should be ${to}, or ${why}; --sysctl sets it`, 'warning');
    }
  }

  private async attach(name: string): Promise<void> {
    const deadline = performance.now() + BUSY_RETRY_MS;
    for (;;) {
      try {
        const { mode } = this.decapsulator.attach(name);
        this.say(`${name}: attached, ${mode} mode`, 'info');
        return;
      } catch (error) {
        // A killed agent's program goes with its last descriptor, which may take the kernel a moment.
        const dying = isKernelError(error) && error.code === 'EBUSY' && holderOf(name) === 'sluice_decap';
        if (!dying || performance.now() > deadline) throw error;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  }

  private describe(addresses: readonly string[]): string {
    const from = this.settings.sources.map(formatPrefix).join(', ');
    const hop = this.settings.secondHop ? 'second hop on' : 'second hop off';
    return `IPIP and GUE (UDP ${this.settings.guePorts.join(', ')}) to ${addresses.join(', ')} from ${from}; ${hop}`;
  }

  private watch(): void {
    const every = (ms: number, action: () => void): void => void this.timers.push(setInterval(action, ms));
    if (this.settings.secondHop) {
      every(HOP_LOOK_MS, () => this.keeper.look(this.decapsulator.hops(), performance.now()));
    }
    every(LINK_LOOK_MS, () => this.settings.interfaces.forEach((name) => this.lookAtLink(name)));
    if (this.settings.addresses.length === 0) every(ADDRESS_LOOK_MS, () => void this.lookAtAddresses());
  }

  /** An interface that was deleted took the program with it; one that is back gets it again. */
  private lookAtLink(name: string): void {
    const ifindex = ifindexOf(name);
    if (ifindex === 0) {
      if (!this.absent.has(name)) this.say(`${name} is gone; waiting for it`, 'warning');
      this.absent.add(name);
      return;
    }
    const attached = this.decapsulator.attachments().find((one) => one.interface === name);
    if (attached?.ifindex === ifindex) {
      this.absent.delete(name);
      return;
    }
    try {
      const { mode } = this.decapsulator.attach(name);
      this.absent.delete(name);
      this.say(`${name} is back: attached, ${mode} mode`, 'info');
    } catch (error) {
      if (!this.absent.has(name)) this.say(`${name}: ${(error as Error).message}`, 'warning');
      this.absent.add(name);
    }
  }

  private async lookAtAddresses(): Promise<void> {
    if (this.looking) return;
    this.looking = true;
    try {
      const now = destinations(this.settings, await this.host.addresses());
      // None at all is an interface that is just being set up again: what was known is better than nothing.
      if (now.length > 0) this.decapsulator.setDestinations(now);
    } catch (error) {
      this.say(`cannot read addresses: ${(error as Error).message}`, 'warning');
    } finally {
      this.looking = false;
    }
  }
}

/** 0 when there is no such interface. */
function ifindexOf(name: string): number {
  try {
    return native().linkInfo(name).ifindex;
  } catch {
    return 0;
  }
}

function holderOf(name: string): string {
  return native().queryXdp(native().linkInfo(name).ifindex)?.programName ?? '';
}
