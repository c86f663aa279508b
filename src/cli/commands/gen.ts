/** `sluice gen`: a load of packets, by the fastest sender that the kernel has. */
import { resolve } from 'node:path';
import { Command } from 'commander';
import { systemIp } from '../../control/ip_command.js';
import { SluiceError } from '../../errors.js';
import type { Engine, LoadResult } from '../../generator/engine.js';
import { LiveEngine } from '../../generator/live.js';
import { TEMPLATES, type Load, type Replay } from '../../generator/load.js';
import { nextHopMac } from '../../generator/next_hop.js';
import { readReplay } from '../../generator/replay.js';
import { XskEngine } from '../../generator/xsk.js';
import { native } from '../../native.js';
import { formatPrefix } from '../../shared/addr.js';
import { processEnv, type Env } from '../env.js';
import { count, plural, print, printJson } from '../output.js';
import { ENGINES, readEngine, readLoad, readReplayPlan, type EngineChoice, type GenOptions } from './gen_options.js';

const HELP = `
Flows differ in source address and source port (echo identifier with icmp): flow i has address i of --src, and the next port after all its addresses.
Sizes are of the frame from the Ethernet header on, without FCS. imix: 64, 590 and 1514 bytes as 7 : 4 : 1. Where headers are larger than 64
bytes, 64 means as small as possible.
It sends from the kernel (BPF_PROG_TEST_RUN with live frames, Linux 5.18, root). Out of a veth, the other end needs an XDP program in native mode, or
GRO. --engine xsk sends from an AF_XDP socket instead: any driver, and with zero-copy a NIC at its full speed; slower than live frames over veth.
--pcap sends the frames of a capture in their order, not at their times: once through, or --count, or again and again for a --duration. They keep their bytes; with
--dst-mac their hardware addresses are that and the interface's. Its packets look like those of others: send them only where all who could get them expect that.

Examples:
  sluice gen -i g0 --dst 198.51.100.10 --duration 10s                       UDP, 64 bytes, as fast as it goes
  sluice gen -i g0 --dst 198.51.100.10 --template tcp-syn --flows 1M --rate 500k --duration 1m
  sluice gen -i g0 --dst 2001:db8::10 --dport 443 --size imix --count 1M --json
  sluice gen -i g0 --pcap attack.pcap --rate 200k --duration 10s --dst-mac 02:00:00:00:00:02
  sluice gen -i g0 --dst 198.51.100.10 --outer-src 192.0.2.1 --outer-dst 192.0.2.80 --count 1000 --rate 100
`;

function engineOf({ name, queue }: EngineChoice): Engine {
  return name === 'live' ? new LiveEngine() : new XskEngine({ queue });
}

/** The command. `engine` is for tests. */
export function genCommand(env: Env = processEnv(), engine: (choice: EngineChoice) => Engine = engineOf): Command {
  return new Command('gen')
    .description('send packets, as many and as fast as asked, until a time or a count is reached')
    .option('-i, --interface <name>', 'interface to send by')
    .option('--dst <address>', 'destination, IPv4 or IPv6')
    .option('--dport <port>', 'destination port (default: 9 for udp, 80 for tcp)')
    .option('--src <prefix>', 'sources (default: 198.18.0.0/15 or 2001:2::/48, which are for measurements)')
    .option('--sport <port>', 'first source port', '1024')
    .option('--template <name>', `what to send: ${TEMPLATES.join(', ')}`, 'udp')
    .option('--flows <number>', 'how many distinct sources', '1')
    .option('--random', 'a flow by chance for each packet, instead of one after the other')
    .option('--size <bytes>', 'bytes of a frame, or imix', '64')
    .option('--outer-src <address>', 'put IP in IP around it, from this address')
    .option('--outer-dst <address>', 'and to this one')
    .option('--dst-mac <mac>', 'hardware address to send to (default: what the host knows of the next hop)')
    .option('--rate <pps>', 'packets a second, as 100, 10k or 1.5M (default: as fast as it goes)')
    .option('--duration <time>', 'stop after 500ms, 10s, 5m')
    .option('--count <packets>', 'stop after so many')
    .option('--cpu <number>', 'send from this CPU; a veth peer in XDP works there too')
    .option('--pcap <file>', 'frames of this capture instead')
    .option('--engine <name>', `what sends: ${ENGINES.join(' or ')} (default: live; xsk with --pcap)`)
    .option('-q, --queue <number>', 'queue of the AF_XDP socket, with --engine xsk (default: 0)')
    .option('--json', 'print the result as JSON')
    .addHelpText('after', HELP)
    .action(async (options: GenOptions) => {
      const choice = readEngine(options);
      const load =
        options.pcap === undefined
          ? await completeLoad(options)
          : replayOf({ ...options, pcap: resolve(env.cwd, options.pcap) });
      const running = await ('frames' in load
        ? new XskEngine({ queue: choice.queue }).start(load)
        : engine(choice).start(load));
      const stop = (): void => running.stop();
      env.signal.addEventListener('abort', stop);
      if (env.signal.aborted) stop();
      try {
        const result = await running.ended;
        if (options.json) printJson(env, { ...described(load), ...result });
        else print(env, ...lines(load, result));
        if (choice.name === 'live' && result.sent + result.dropped < result.packets / 2)
          env.stderr.write(notTaken(load, result));
        if (load.packets > 0 && result.ended === 'time') {
          throw new SluiceError(
            'SLUICE_STATE',
            `the time was up after ${count(result.packets)} of ${count(load.packets)} packets`,
            'Ask for a lower --count, a longer --duration, or a --rate that this machine can do.',
          );
        }
      } finally {
        env.signal.removeEventListener('abort', stop);
      }
    });
}

async function completeLoad(options: GenOptions): Promise<Load> {
  const plan = readLoad(options);
  const { address } = native().linkInfo(plan.interface);
  const next = (plan.tunnel ?? { destination: plan.destination }).destination.text;
  const destinationMac = plan.destinationMac ?? (await nextHopMac(systemIp(), plan.interface, next));
  return { ...plan, sourceMac: address, destinationMac };
}

function replayOf(options: GenOptions & { pcap: string }): Replay {
  const { path, destinationMac, ...limits } = readReplayPlan(options);
  const { address } = native().linkInfo(limits.interface);
  const frames = readReplay(path, destinationMac && { source: address, destination: destinationMac });
  const once = limits.packets === 0 && options.duration === undefined;
  return { ...limits, ...frames, packets: once ? frames.ends.length : limits.packets };
}

function described(load: Load | Replay): object {
  if ('frames' in load) return { interface: load.interface, frames: load.ends.length, asked: load.packetsPerSecond };
  const { interface: name, template, flows, destinationPort, packetsPerSecond: asked } = load;
  const { source, destination } = load;
  return {
    interface: name,
    template,
    source: formatPrefix(source),
    destination: destination.text,
    destinationPort,
    flows,
    asked,
  };
}

/** Such frames are in no counter of the interface (ndo_xdp_xmit answered with an error for all of a bulk). */
function notTaken({ interface: name }: Load | Replay, { packets, sent, dropped }: LoadResult): string {
  return `sluice gen: ${name} took ${count(sent + dropped)} of ${plural(packets, 'packet')}
  Its driver cannot send frames of XDP, or it is a veth: then give the other end an XDP program in native mode, or run there: ethtool -K IF gro on
`;
}

function lines(load: Load | Replay, result: LoadResult): string[] {
  const seconds = result.elapsedMs / 1000;
  const perSecond = (value: number): string => count(value / seconds, 1e4);
  const sizes = result.bySize.map(({ bytes, packets }) => `${count(packets)} of ${bytes} bytes`);
  const what =
    'frames' in load
      ? `${plural(load.ends.length, 'frame')} of a capture in turn, ${load.sizes[0].bytes} to ${load.sizes.at(-1)!.bytes} bytes`
      : `${load.template} from ${plural(load.flows, 'flow')} of ${formatPrefix(load.source)} to ${load.destination.text}: ${sizes.join(', ')}`;
  const why = { count: 'count reached', time: 'time up', stopped: 'stopped' }[result.ended];
  return [
    `${load.interface}: ${plural(result.packets, 'packet')} in ${seconds.toFixed(2)} s (${why}), ` +
      `${perSecond(result.packets)} packets/s, ${perSecond(result.bytes * 8)}bit/s`,
    `  ${what}`,
    `  interface: ${count(result.sent)} sent, ${count(result.dropped)} dropped; ${(result.cpuMs / 1000).toFixed(2)} s of CPU`,
  ];
}
