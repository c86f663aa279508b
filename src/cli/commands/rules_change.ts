/** `sluice rules add`, `remove`, `move`, `shadow`, `enforce`, `reset`: changes of the rules until the daemon restarts. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { Command, Option } from 'commander';
import { callControl } from '../../control/api/client.js';
import type { ControlMethod, ControlMethods, RuleChangeResult, RulePlace } from '../../control/api/contract.js';
import { rulesFromText, rulesFromTree } from '../../control/config/read_rules.js';
import { SluiceError } from '../../errors.js';
import { controlSocket, type Env } from '../env.js';
import { plain, plural, print, printJson } from '../output.js';

interface CommonOptions {
  socket?: string;
  json?: boolean;
}

interface PlaceOptions {
  before?: string;
  after?: string;
  first?: boolean;
  last?: boolean;
}

/** What a rule is made of on the command line; the texts are read as a configuration's. */
interface AddOptions extends CommonOptions, PlaceOptions {
  file?: string;
  action?: string;
  expr?: string;
  bytecode?: string;
  p0f?: string;
  dns?: string[];
  qtype?: string[];
  dnsResponse?: boolean;
  dnsMalformed?: boolean;
  src?: string;
  dst?: string;
  sport?: string;
  dport?: string;
  protocol?: string;
  family?: string;
  tcpFlags?: string;
  length?: string;
  ipTtl?: string;
  fragment?: boolean;
  all?: boolean;
  ttl?: string;
  shadow?: boolean;
  probability?: string;
  oneIn?: string;
  rate?: string;
  per?: string;
  replace?: boolean;
}

const MATCH_OPTIONS = {
  family: 'family',
  protocol: 'protocol',
  src: 'src',
  dst: 'dst',
  sport: 'sport',
  dport: 'dport',
  tcpFlags: 'tcp_flags',
  length: 'length',
  ipTtl: 'ttl',
  fragment: 'fragment',
  expr: 'expr',
  bytecode: 'bytecode',
  p0f: 'p0f',
} as const satisfies Partial<Record<keyof AddOptions, string>>;

const DNS_OPTIONS = ['dns', 'qtype', 'dnsResponse', 'dnsMalformed'] as const satisfies (keyof AddOptions)[];

export function rulesAddCommand(env: Env): Command {
  const command = new Command('add')
    .description('Add a rule, or the rules of a file, until the daemon restarts; last, unless said otherwise')
    .argument('[name]', 'name of the rule')
    .option('-f, --file <file>', 'rules in YAML, as a configuration has them; "-" is stdin')
    .option('--action <action>', 'what to do with packets that match: drop, pass, count, sample, limit, …')
    .option('--expr <expression>', 'pcap-filter expression')
    .option('--bytecode <text>', 'program of iptables -m bpf')
    .option('--p0f <signature>', 'TCP signature of p0f')
    .option('--dns <names...>', 'names of DNS queries: *.example.com')
    .option('--qtype <types...>', 'types of DNS queries: ANY')
    .option('--dns-response', 'DNS responses instead of queries')
    .option('--dns-malformed', 'packets to port 53 that are no well-formed query')
    .option('--src <prefixes>', 'source addresses')
    .option('--dst <prefixes>', 'destination addresses')
    .option('--sport <ports>', 'source ports: 53, 1-1023, several with commas')
    .option('--dport <ports>', 'destination ports')
    .option('--protocol <protocol>', 'tcp, udp, icmp, … or a number')
    .option('--family <family>', '4 or 6')
    .option('--tcp-flags <flags>', 'syn,!ack')
    .option('--length <range>', 'bytes of the IP packet')
    .option('--ip-ttl <range>', 'TTL or hop limit of the packet')
    .option('--fragment', 'fragments only')
    .option('--no-fragment', 'no fragments')
    .option('--all', 'every packet')
    .option('--ttl <time>', 'take the rule out after this: 30s, 10m, 2h, 7d')
    .option('--shadow', 'only count what it would do')
    .option('--probability <share>', 'use it on a share of the packets: 10%')
    .option('--one-in <number>', 'with --action sample: one packet in so many', '100')
    .option('--rate <rate>', 'with --action limit: 100/s, 10mb/s')
    .option('--per <fields>', 'with --action limit: what has a rate of its own: src,dport (default: src)')
    .option('--replace', 'a rule of the same name gives way, and its time begins anew');
  return common(placed(command))
    .addHelpText(
      'after',
      `
Whatever is given must fit all together. The config file is not written: sluice rules export prints what to put there.

Examples:
  sluice rules add ntp --expr 'udp src port 123 and greater 200' --action drop --ttl 10m
  sluice rules add office --src 192.0.2.0/24 --action pass --first
  sluice rules add trial --protocol udp --dport 53 --action drop --shadow
  sluice rules add -f emergency.yaml --before office`,
    )
    .action((name: string | undefined, options: AddOptions) => add(env, name, options));
}

export function rulesChangeCommands(env: Env): Command[] {
  const names = (name: string, description: string): Command =>
    common(new Command(name).description(description).argument('<name...>', 'names of rules'));
  return [
    names('remove', 'Remove rules until the daemon restarts').action((rules: string[], options: CommonOptions) =>
      change(env, 'rules.remove', { rules }, options, 'removed'),
    ),
    common(
      placed(new Command('move').description('Put a rule somewhere else').argument('<name>', 'name of the rule')),
    ).action((rule: string, options: CommonOptions & PlaceOptions) => {
      const place = placeOf(options);
      if (place === undefined) {
        throw new SluiceError('SLUICE_USAGE', 'where to?', 'Give --first, --last, --before NAME or --after NAME.');
      }
      return change(env, 'rules.move', { rule, place }, options, 'moved');
    }),
    names('shadow', 'Let rules only count what they would do').action((rules: string[], options: CommonOptions) =>
      change(env, 'rules.mode', { rules, mode: 'shadow' }, options, 'in shadow mode'),
    ),
    names('enforce', 'Let rules do what they say').action((rules: string[], options: CommonOptions) =>
      change(env, 'rules.mode', { rules, mode: 'enforce' }, options, 'enforced'),
    ),
    common(
      new Command('reset')
        .description('Forget what was changed at run time: rules are as the configuration has them')
        .argument('[name...]', 'of these rules only'),
    ).action((rules: string[], options: CommonOptions) =>
      change(env, 'rules.reset', rules.length === 0 ? {} : { rules }, options, 'reset'),
    ),
  ];
}

function common(command: Command): Command {
  return command
    .option('--socket <path>', 'control socket (default: $SLUICE_SOCKET or /run/sluice/control.sock)')
    .option('--json', 'print the result as JSON');
}

function placed(command: Command): Command {
  return command
    .addOption(new Option('--before <rule>', 'in front of this rule').conflicts(['after', 'first', 'last']))
    .addOption(new Option('--after <rule>', 'behind this rule').conflicts(['before', 'first', 'last']))
    .addOption(new Option('--first', 'in front of all rules').conflicts(['before', 'after', 'last']))
    .addOption(
      new Option('--last', 'behind all rules, also those of later configurations').conflicts([
        'before',
        'after',
        'first',
      ]),
    );
}

function placeOf({ before, after, first, last }: PlaceOptions): RulePlace | undefined {
  if (before !== undefined) return { before };
  if (after !== undefined) return { after };
  return first ? 'first' : last ? 'last' : undefined;
}

async function add(env: Env, name: string | undefined, options: AddOptions): Promise<void> {
  const rules = options.file === undefined ? [fromOptions(name, options)] : fromFile(env, name, options.file, options);
  const place = placeOf(options);
  const params = { rules, ...(place === undefined ? {} : { place }), ...(options.replace ? { replace: true } : {}) };
  await change(env, 'rules.add', params, options, 'added');
}

/** Read here too, so that what is wrong with a file is told with its lines. */
function fromFile(env: Env, name: string | undefined, file: string, options: AddOptions): unknown[] {
  const given = [...Object.keys(MATCH_OPTIONS), ...DNS_OPTIONS].find(
    (key) => options[key as keyof AddOptions] !== undefined,
  );
  const other = (['action', 'ttl', 'shadow', 'probability', 'all'] as const).find((key) => options[key] !== undefined);
  if (name !== undefined || given !== undefined || other !== undefined) {
    throw new SluiceError(
      'SLUICE_USAGE',
      'a file has all of its rules in it',
      'Give either --file or a name and what it is made of.',
    );
  }
  let text: string;
  try {
    text = readFileSync(file === '-' ? 0 : resolve(env.cwd, file), 'utf8');
  } catch (error) {
    throw new SluiceError(
      'SLUICE_FORMAT',
      `cannot read ${file}: ${(error as NodeJS.ErrnoException).code ?? String(error)}`,
    );
  }
  return rulesFromText(text, file).tree;
}

function fromOptions(name: string | undefined, options: AddOptions): unknown {
  if (name === undefined) throw new SluiceError('SLUICE_USAGE', 'the rule has no name', 'Give a name, or --file.');
  if (options.action === undefined) {
    throw new SluiceError(
      'SLUICE_USAGE',
      'the rule has no action',
      'Give --action drop, pass, count, sample or limit.',
    );
  }
  const match: Record<string, unknown> = {};
  for (const [key, name] of Object.entries(MATCH_OPTIONS)) {
    const value = options[key as keyof AddOptions];
    if (value !== undefined) match[name] = key === 'family' ? number(value as string) : value;
  }
  const dns = dnsOf(options);
  if (dns !== undefined) match.dns = dns;
  if (Object.keys(match).length === 0 && !options.all) {
    throw new SluiceError(
      'SLUICE_USAGE',
      'nothing says which packets match',
      'Give --expr, --src, …; or --all for every packet.',
    );
  }
  const rule: Record<string, unknown> = { name, match, action: options.action };
  if (options.shadow) rule.mode = 'shadow';
  if (options.probability !== undefined) rule.probability = number(options.probability);
  if (options.ttl !== undefined) rule.ttl = number(options.ttl);
  if (options.rate !== undefined)
    rule.limit = { rate: options.rate, ...(options.per === undefined ? {} : { per: options.per }) };
  if (options.action === 'sample') rule.sample = { one_in: number(options.oneIn ?? '100') };
  rulesFromTree([rule], 'rule');
  return rule;
}

/** As the key dns of a configuration has it; undefined when no option speaks of DNS. */
function dnsOf({ dns, qtype, dnsResponse, dnsMalformed }: AddOptions): unknown {
  const names = dns === undefined ? {} : { names: dns };
  const more = {
    ...(qtype === undefined ? {} : { qtype }),
    ...(dnsResponse ? { response: true } : {}),
    ...(dnsMalformed ? { malformed: true } : {}),
  };
  if (Object.keys(more).length > 0) return { ...names, ...more };
  return dns;
}

/** What YAML would make of it. */
function number(text: string): string | number {
  return /^\d+(\.\d+)?$/.test(text) ? Number(text) : text;
}

async function change<Method extends ControlMethod & `rules.${string}`>(
  env: Env,
  method: Method,
  params: ControlMethods[Method]['params'],
  options: CommonOptions,
  what: string,
): Promise<void> {
  const result = (await callControl(controlSocket(env, options.socket), method, params)) as RuleChangeResult;
  if (options.json) return printJson(env, result);
  const { rules, order, generation } = result;
  const lines = rules.slice(0, 20).map((name) => {
    const at = order.indexOf(name);
    return plain(`${name}: ${what}${at < 0 ? '' : `, ${at + 1} of ${order.length}`}`);
  });
  if (rules.length > 20) lines.push(`… and ${plural(rules.length - 20, 'rule')} more: ${what}`);
  print(env, ...lines, `generation ${generation}, ${plural(order.length, 'rule')} in force`);
}
