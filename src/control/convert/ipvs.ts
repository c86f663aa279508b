/**
 * Reads what `ipvsadm -S` prints and `ipvsadm -R` takes (ipvsadm(8)): one command a line, with or without `ipvsadm` in front.
 * Commands are applied in order, as the kernel would.
 */
import type { ConvertInput, Draft, Notes, Place } from './draft.js';
import { ipvsService } from './ipvs_service.js';
import type { Forwarding, RealServer, VirtualService } from './ipvs_table.js';
import { type Option, type Options, cut, parseGetopt } from './options.js';
import { Unreadable, parsePlace, wholeNumber } from './places.js';
import { commandLines, isVariable, type CommandLine } from './words.js';

const flag = (key: string): Option => ({ key, takes: 0 });
const valued = (key: string): Option => ({ key, takes: 1 });

const LONGS: Readonly<Record<string, Option>> = {
  'add-service': flag('A'),
  'edit-service': flag('E'),
  'delete-service': flag('D'),
  'add-server': flag('a'),
  'edit-server': flag('e'),
  'delete-server': flag('d'),
  clear: flag('C'),
  restore: flag('quiet'),
  save: flag('quiet'),
  list: flag('quiet'),
  zero: flag('quiet'),
  help: flag('quiet'),
  set: { key: 'set', takes: 3 },
  'start-daemon': valued('daemon'),
  'stop-daemon': valued('quiet'),
  syncid: valued('sync'),
  'sync-maxlen': valued('sync'),
  'mcast-interface': valued('sync'),
  'mcast-group': valued('sync'),
  'mcast-port': valued('sync'),
  'mcast-ttl': valued('sync'),
  'tcp-service': valued('t'),
  'udp-service': valued('u'),
  'sctp-service': valued('sctp'),
  'fwmark-service': valued('f'),
  scheduler: valued('s'),
  persistent: { key: 'p', takes: 'number' },
  netmask: valued('M'),
  pe: valued('pe'),
  'sched-flags': valued('b'),
  'real-server': valued('r'),
  masquerading: flag('m'),
  gatewaying: flag('g'),
  ipip: flag('i'),
  'tun-type': valued('tun-type'),
  'tun-port': valued('tun-port'),
  'tun-nocsum': flag('tun-nocsum'),
  'tun-csum': flag('tun-csum'),
  'tun-remcsum': flag('tun-remcsum'),
  weight: valued('w'),
  'u-threshold': valued('x'),
  'l-threshold': valued('y'),
  ops: flag('o'),
  numeric: flag('n'),
  ipv6: flag('6'),
};

const SHORTS: Readonly<Record<string, Option>> = {
  ...Object.fromEntries('AEDCaedmgion6'.split('').map((letter) => [letter, flag(letter)])),
  ...Object.fromEntries('RSLlZhc'.split('').map((letter) => [letter, flag('quiet')])),
  ...Object.fromEntries('tufsMbrwxy'.split('').map((letter) => [letter, valued(letter)])),
  p: { key: 'p', takes: 'number' },
};

/** State of the virtual server table while it is read. */
interface Table {
  services: Map<string, VirtualService>;
  /** Firewall marks, with the number of their real servers. */
  marks: Map<string, { place: Place; reals: number }>;
  flows: Draft['flows'];
}

/** Reads the inputs one after the other as one script. Never throws: what is wrong is in the notes. */
export function readIpvs(inputs: readonly ConvertInput[], notes: Notes): Draft {
  const table: Table = { services: new Map(), marks: new Map(), flows: undefined };
  for (const line of inputs.flatMap(commandLines)) {
    try {
      apply(line, table, notes);
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      notes.lost(line, error.message, error.remedy);
    }
  }
  for (const [mark, { place, reals }] of table.marks) {
    notes.lost(
      place,
      `firewall mark ${cut(mark)} with its ${reals} real servers: packets have no mark when they reach XDP`,
      'Write a service for each address, protocol and port range that the firewall marks.',
    );
  }
  const taken = new Set<string>();
  const services = [...table.services.values()].flatMap((service) => ipvsService(service, taken, notes) ?? []);
  return { ...(table.flows && { flows: table.flows }), services };
}

function apply(line: CommandLine, table: Table, notes: Notes): void {
  const words = line.words.slice(line.words[0] === 'sudo' ? 1 : 0);
  if (/(^|\/)ipvsadm$/.test(words[0] ?? '') || (isVariable(words[0]) && words[1]?.startsWith('-'))) words.shift();
  else if (!words[0]?.startsWith('-')) {
    throw new Unreadable(`"${cut(line.text)}" is not a line of ipvsadm -S`, 'Give the output of: ipvsadm -S -n');
  }
  if (line.dynamic)
    throw new Unreadable('has variables in it', 'Give the output of ipvsadm -S -n, not the script that made it.');
  const options = parseGetopt(words, SHORTS, LONGS);
  for (const problem of options.problems) notes.lost(line, problem);
  const { values } = options;
  const commands = 'AEDaed'.split('').filter((letter) => values.has(letter));
  if (values.has('C')) {
    table.services.clear();
    table.marks.clear();
  } else if (values.has('set')) setTimeouts(values.get('set')!, line, table, notes);
  else if (values.has('daemon')) {
    notes.changed(
      line,
      'connections are not synchronised among nodes',
      'Nodes with the same configuration and hash_key send a flow to the same backend; for what moves when backends change, see hops.',
    );
  } else if (commands.length === 1) {
    if ('AED'.includes(commands[0])) applyService(commands[0], options, line, table);
    else applyServer(commands[0], options, line, table);
  } else if (!values.has('quiet') && options.problems.length === 0) {
    throw new Unreadable(commands.length === 0 ? 'names no command' : 'names more than one command');
  }
}

function serviceKey({ values }: Options): { key: string; mark: string | null } {
  const named = ['t', 'u', 'sctp', 'f'].filter((option) => values.has(option));
  if (named.length !== 1)
    throw new Unreadable('names no virtual service (-t, -u, --sctp-service or -f), or more than one');
  const text = values.get(named[0])!;
  if (named[0] === 'f') return { key: '', mark: text };
  const { address, port } = parsePlace(text);
  return { key: `${named[0]} ${address.text} ${port ?? 0}`, mark: null };
}

function applyService(command: string, options: Options, line: CommandLine, table: Table): void {
  const { key, mark } = serviceKey(options);
  const { values } = options;
  if (mark !== null) {
    if (command === 'D') table.marks.delete(mark);
    else if (command === 'A') table.marks.set(mark, { place: line, reals: 0 });
    return;
  }
  const before = table.services.get(key);
  if (command === 'D') return void table.services.delete(key);
  if (command === 'A' && before) throw new Unreadable(`the service is there already, from line ${before.place.line}`);
  if (command === 'E' && !before) throw new Unreadable('edits a service that is not there');
  const kind = ['t', 'u', 'sctp'].find((option) => values.has(option))!;
  const { address, port } = parsePlace(values.get(kind)!);
  table.services.set(key, {
    place: { file: line.file, line: line.line },
    protocol: ({ t: 'tcp', u: 'udp', sctp: 'sctp' } as const)[kind as 't' | 'u' | 'sctp'],
    address,
    port: port ?? 0,
    // ip_vs takes wlc when nothing is said.
    scheduler: values.get('s') ?? 'wlc',
    schedulerFlags: (values.get('b') ?? '').split(',').filter((name) => name !== ''),
    persistent: values.has('p') ? wholeNumber(values.get('p') || '300', 2 ** 31, 'a number of seconds') : null,
    netmask: values.get('M') ?? null,
    engine: values.get('pe') ?? null,
    onePacket: values.has('o'),
    reals: before?.reals ?? new Map<string, RealServer>(),
  });
}

function applyServer(command: string, options: Options, line: CommandLine, table: Table): void {
  const { key, mark } = serviceKey(options);
  const { values } = options;
  if (mark !== null) {
    const marked = table.marks.get(mark);
    if (marked) marked.reals += command === 'a' ? 1 : command === 'd' ? -1 : 0;
    else throw new Unreadable(`there is no service of firewall mark ${cut(mark)}`);
    return;
  }
  const service = table.services.get(key);
  if (!service)
    throw new Unreadable('belongs to a service that is not there', 'Its -A line is missing, or was not understood.');
  const server = values.get('r');
  if (server === undefined) throw new Unreadable('names no real server (-r)');
  const { address, port } = parsePlace(server);
  const name = `${address.text} ${port ?? service.port}`;
  const before = service.reals.get(name);
  if (command === 'd') return void service.reals.delete(name);
  if (command === 'a' && before)
    throw new Unreadable(`the real server is there already, from line ${before.place.line}`);
  if (command === 'e' && !before) throw new Unreadable('edits a real server that is not there');
  service.reals.set(name, {
    place: { file: line.file, line: line.line },
    address,
    port,
    forwarding: forwardingOf(values),
    tunnel: {
      port: wholeNumber(values.get('tun-port') ?? '0', 65535, 'a port'),
      checksum: values.has('tun-csum') || values.has('tun-remcsum'),
      remoteChecksum: values.has('tun-remcsum'),
    },
    weight: wholeNumber(values.get('w') ?? '1', 2 ** 31 - 1, 'a weight'),
    limited: [values.get('x'), values.get('y')].some((limit) => limit !== undefined && limit !== '0'),
  });
}

function forwardingOf(values: ReadonlyMap<string, string>): Forwarding {
  if (values.has('m')) return 'masquerading';
  if (!values.has('i')) return 'gatewaying';
  const type = values.get('tun-type') ?? 'ipip';
  if (type === 'ipip' || type === 'gue' || type === 'gre') return type;
  throw new Unreadable(`"${cut(type)}" is not a type of tunnel (ipip, gue, gre)`);
}

/** `--set tcp tcpfin udp`, in seconds; 0 leaves a timeout as it is. */
function setTimeouts(text: string, line: CommandLine, table: Table, notes: Notes): void {
  const keys = ['tcp_established', 'tcp_closing', 'udp'] as const;
  const seconds = text.split(' ').map((each) => wholeNumber(each, 2 ** 31, 'a number of seconds'));
  const timeouts = { ...table.flows?.timeouts };
  keys.forEach((key, i) => {
    if (seconds[i] === 0) return;
    if (seconds[i] > 86400) notes.changed(line, `${seconds[i]} s is more than the most that ${key} can be, 24h`);
    timeouts[key] = `${Math.min(seconds[i], 86400)}s`;
  });
  if (Object.keys(timeouts).length > 0) table.flows = { timeouts };
}
