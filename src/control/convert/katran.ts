/**
 * Reads how Katran was set up: command lines of its example client (`katran_goclient`, also as `katranc`; flags as in
 * example_grpc/goclient/src/katranc/main/main.go), applied in order, and what the client prints for -l and -list_qm.
 */
import type { Prefix } from '../../shared/config.js';
import type { ConvertInput, Draft, Notes, Place } from './draft.js';
import { readListing } from './katran_listing.js';
import { katranServices } from './katran_service.js';
import { localReal, vipFlags, vipOf, type KatranState, type VipFlag } from './katran_state.js';
import { type Option, type Options, cut, parseGoFlags } from './options.js';
import { Unreadable, parsePlace, wholeNumber } from './places.js';
import { commandLines, isVariable, type CommandLine } from './words.js';

const flag = (key: string): Option => ({ key, takes: 0 });
const valued = (key: string): Option => ({ key, takes: 1 });

const FLAGS: Readonly<Record<string, Option>> = {
  ...Object.fromEntries(
    'A E D a e d s sum lru icmp l unset del_hc list_hc list_mac C list_qm del_qm'
      .split(' ')
      .map((name) => [name, flag(name)]),
  ),
  ...Object.fromEntries(
    't u r w vf rf new_hc somark change_mac quic_mapping server'.split(' ').map((name) => [name, valued(name)]),
  ),
  // What -vf is often written as.
  f: valued('vf'),
};

/** Commands in the order in which the client looks for them: the first that is there is done. */
const COMMANDS = 'change_mac list_mac A l D E a e d del_qm quic_mapping list_qm C new_hc del_hc list_hc s'.split(' ');

/** Reads the inputs one after the other as one script. Never throws: what is wrong is in the notes. */
export function readKatran(inputs: readonly ConvertInput[], notes: Notes): Draft {
  const state: KatranState = { vips: new Map(), serverIds: new Map(), checked: new Map() };
  for (const input of inputs) {
    const listed = readListing(input, state, notes);
    for (const line of commandLines(input)) {
      if (listed.has(line.line)) continue;
      try {
        apply(line, state, notes);
      } catch (error) {
        if (!(error instanceof Unreadable)) throw error;
        notes.lost(line, error.message, error.remedy);
      }
    }
  }
  return { services: katranServices(state, notes) };
}

/** Programs of the client, by its names in builds and packages. */
const CLIENT = /(^|\/)(katran\w*|main)$/i;
/** The daemon and what starts it. */
const SERVER = /(^|\/)(katran_server\w*|start_katran)$/i;

function apply(line: CommandLine, state: KatranState, notes: Notes): void {
  const words = [...line.words];
  while (words[0] === 'sudo' || /^\w+=/.test(words[0] ?? '')) words.shift();
  // KC=./katran_goclient: what $KC is to be.
  if (words.length === 0 && line.words.every((word) => CLIENT.test(word.replace(/^\w+=/, '')))) return;
  if (SERVER.test(words[0] ?? '')) {
    throw new Unreadable(
      `"${cut(line.text)}" starts Katran itself: its flags are not read`,
      'The interface is --interface here; ring_size, flow_table and workers are in docs/configuration.md.',
    );
  }
  if (CLIENT.test(words[0] ?? '') || (isVariable(words[0]) && words[1]?.startsWith('-'))) words.shift();
  else if (!words[0]?.startsWith('-')) {
    throw new Unreadable(
      `"${cut(line.text)}" is no call of Katran’s client`,
      'Give the calls one a line, or the output of: katran_goclient -l',
    );
  }
  if (line.dynamic)
    throw new Unreadable('has variables in it', 'Write it out, or give the output of: katran_goclient -l');
  const options = parseGoFlags(words, FLAGS);
  for (const problem of options.problems) notes.lost(line, problem);
  const command = COMMANDS.find((name) => options.values.has(name));
  if (command !== undefined) run(command, options, line, state, notes);
}

function run(command: string, options: Options, line: CommandLine, state: KatranState, notes: Notes): void {
  const place: Place = { file: line.file, line: line.line };
  const { values } = options;
  switch (command) {
    case 'A':
    case 'E':
      return changeVip(options, command === 'E', place, state);
    case 'D':
      return void state.vips.delete(vipKey(options).key);
    case 'a':
    case 'e':
    case 'd':
      return changeReal(options, command, place, state, notes);
    case 'quic_mapping':
    case 'del_qm':
      return changeServerId(values.get('quic_mapping') ?? '', command === 'del_qm', place, state);
    case 'C':
      state.vips.clear();
      return state.checked.clear();
    case 'new_hc':
      return void state.checked.set(values.get('somark') ?? '0', place);
    case 'del_hc':
      return void state.checked.delete(values.get('somark') ?? '0');
    case 'change_mac':
      return notes.changed(
        place,
        'the hardware address of the router is found by route and neighbour table, not given',
      );
    default:
    // It only shows something.
  }
}

function vipKey({ values }: Options): { key: string; protocol: 'tcp' | 'udp'; address: Prefix; port: number } {
  const text = values.get('t') ?? values.get('u');
  if (text === undefined) throw new Unreadable('names no VIP (-t or -u)');
  const { address, port } = parsePlace(text);
  if (port === null) throw new Unreadable(`"${cut(text)}" has no port`, 'The client wants one; 0 is any.');
  // As in the client, -t goes before -u.
  return vipOf(values.has('t') ? 'tcp' : 'udp', address, port);
}

function changeVip(options: Options, edit: boolean, place: Place, state: KatranState): void {
  const { key, ...vip } = vipKey(options);
  const before = state.vips.get(key);
  if (edit && !before) throw new Unreadable('edits a VIP that is not there');
  if (!edit && before) throw new Unreadable(`the VIP is there already, from line ${before.place.line}`);
  const flags = before?.flags ?? new Set<VipFlag>();
  for (const each of vipFlags(options.values.get('vf') ?? '')) {
    if (options.values.has('unset')) flags.delete(each);
    else flags.add(each);
  }
  if (!before) state.vips.set(key, { ...vip, place, flags, reals: new Map() });
}

function changeReal(options: Options, command: string, place: Place, state: KatranState, notes: Notes): void {
  const vip = state.vips.get(vipKey(options).key);
  if (!vip)
    throw new Unreadable('belongs to a VIP that is not there', 'Its -A line is missing, or was not understood.');
  const { values } = options;
  const { address } = parsePlace(values.get('r') ?? '');
  if (command === 'd') return void vip.reals.delete(address.text);
  if (values.has('rf')) localReal(place, notes);
  const weight = wholeNumber(values.get('w') ?? '1', 2 ** 31 - 1, 'a weight');
  vip.reals.set(address.text, { place, address, weight });
}

function changeServerId(text: string, remove: boolean, place: Place, state: KatranState): void {
  const match = /^([^=]+)=(\d{1,10})$/.exec(text);
  if (match === null) throw new Unreadable(`"${cut(text)}" is not address=id`);
  const id = wholeNumber(match[2], 2 ** 31 - 1, 'a server id');
  if (id === 0) throw new Unreadable('server id 0 means none, in Katran too');
  if (remove) state.serverIds.delete(id);
  else state.serverIds.set(id, { place, address: parsePlace(match[1]).address.text });
}
