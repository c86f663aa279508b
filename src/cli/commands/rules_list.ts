/** `sluice rules list` and `sluice rules export`: the rules of the running daemon. */
import { Command } from 'commander';
import { callControl } from '../../control/api/client.js';
import type { ListedRule, RuleListing } from '../../control/api/contract.js';
import { writeRules } from '../../control/rules/write.js';
import { controlSocket, type Env } from '../env.js';
import {
  bytes,
  count,
  duration,
  paint,
  plain,
  print,
  printJson,
  table,
  wantsColour,
  type Column,
  tableWidth,
} from '../output.js';
import { draw, intervalSeconds, positive, RATE_SECONDS, WATCH_SECONDS } from '../watch.js';

interface ListOptions {
  socket?: string;
  json?: boolean;
  watch?: boolean;
  interval?: number;
  count?: number;
  rates: boolean;
}

export function rulesListCommand(env: Env): Command {
  return new Command('list')
    .description('List the rules of the running sluice in order, with counters, rates and the time that is left')
    .option('--socket <path>', 'control socket (default: $SLUICE_SOCKET or /run/sluice/control.sock)')
    .option('--json', 'print the listing as JSON; with --watch one line a reading')
    .option('-w, --watch', 'go on until Ctrl-C')
    .option('-i, --interval <seconds>', 'time between readings (default: 0.5, with --watch 1)', intervalSeconds)
    .option('-n, --count <readings>', 'with --watch: end after so many readings', positive)
    .option('--no-rates', 'print at once, without packets a second')
    .addHelpText(
      'after',
      `
ACTED counts the packets that the rule dropped, limited, sampled or challenged; in shadow mode, those that it would have.

Examples:
  sluice rules list --watch
  sluice rules list --json | jq '.rules[] | {name, acted}'`,
    )
    .action((options: ListOptions) => (options.watch ? watch(env, options) : once(env, options)));
}

export function rulesExportCommand(env: Env): Command {
  return new Command('export')
    .description(
      'Print the rules of the running sluice as YAML for the configuration: what was changed at run time is in it',
    )
    .option('--socket <path>', 'control socket (default: $SLUICE_SOCKET or /run/sluice/control.sock)')
    .option('--added', 'only rules that are not of the configuration')
    .option('--json', 'print them as JSON')
    .action(async (options: { socket?: string; added?: boolean; json?: boolean }) => {
      const { rules } = await callControl(controlSocket(env, options.socket), 'rules.list', {});
      const wanted = rules.filter(({ origin }) => !options.added || origin === 'runtime').map(({ rule }) => rule);
      if (options.json) printJson(env, wanted);
      else env.stdout.write(writeRules(wanted, null));
    });
}

async function once(env: Env, options: ListOptions): Promise<void> {
  const path = controlSocket(env, options.socket);
  const listing = await callControl(path, 'rules.list', {});
  if (options.json) return printJson(env, listing);
  if (!options.rates) return print(env, ...page(env, listing, null));
  await env.sleep((options.interval ?? RATE_SECONDS) * 1000);
  print(env, ...page(env, await callControl(path, 'rules.list', {}), listing));
}

async function watch(env: Env, options: ListOptions): Promise<void> {
  const path = controlSocket(env, options.socket);
  let before: RuleListing | null = null;
  for (let reading = 0; reading < (options.count ?? Infinity) && !env.signal.aborted; reading++) {
    if (reading > 0) {
      await env.sleep((options.interval ?? WATCH_SECONDS) * 1000);
      if (env.signal.aborted) return;
    }
    const listing: RuleListing = await callControl(path, 'rules.list', {});
    if (options.json) printJson(env, listing, 0);
    else draw(env, page(env, listing, options.rates ? before : null), reading === 0);
    before = listing;
  }
}

const RIGHT = 'right' as const;

function page(env: Env, listing: RuleListing, earlier: RuleListing | null): string[] {
  const ink = paint(wantsColour(env));
  // Another process has other counters: no rate to be made from them.
  const before = earlier !== null && earlier.pid === listing.pid && earlier.clockMs < listing.clockMs ? earlier : null;
  const seconds = before === null ? 1 : (listing.clockMs - before.clockMs) / 1000;
  const former = new Map(before?.rules.map((rule) => [rule.name, rule]));
  const columns: Column[] = [
    { title: '#', align: RIGHT },
    { title: 'RULE', shrinkTo: 14, last: true },
    { title: 'ACTION' },
    { title: 'MODE', colour: (text) => (text === 'shadow' ? ink.yellow : (same) => same) },
    { title: 'PACKETS', align: RIGHT },
    ...(before === null ? [] : [{ title: 'A SECOND', align: RIGHT }]),
    { title: 'BYTES', align: RIGHT },
    { title: 'ACTED', align: RIGHT },
    { title: 'LEFT', align: RIGHT },
    { title: 'RUNS IN' },
    { title: 'FROM', shrinkTo: 7 },
    { title: 'MATCH', shrinkTo: 12 },
  ];
  const rows = listing.rules.map((rule, i) => [
    String(i + 1),
    rule.name,
    actionText(rule),
    rule.mode,
    count(rule.packets),
    ...(before === null ? [] : [rate(rule, former.get(rule.name), seconds)]),
    bytes(rule.bytes),
    count(rule.acted),
    rule.ttlLeftMs === null ? '' : duration(Math.ceil(rule.ttlLeftMs / 1000)),
    rule.runs,
    rule.changed === '' ? rule.origin : `${rule.origin} (${rule.changed})`,
    matchText(rule),
  ]);
  const lines = rows.length === 0 ? ['no rules'] : table(columns, rows, tableWidth(env), ink);
  lines.push(...notInKernel(listing).map(ink.dim));
  for (const why of ['removed', 'expired'] as const) {
    const names = listing.absent.filter((rule) => rule.why === why).map(({ name }) => plain(name));
    if (names.length > 0) lines.push(ink.dim(`${why}, though the configuration has them: ${names.join(', ')}`));
  }
  return lines;
}

/** Why rules are not, or not wholly, in the kernel, where that is wanted. */
function notInKernel({ offload, rules }: RuleListing): string[] {
  if (offload.mode === 'off' || rules.length === 0) return [];
  if (offload.why !== '') return [`no rule is in the kernel: ${plain(offload.why)}`];
  const names = new Map<string, string[]>();
  for (const { name, runs, why } of rules) {
    if (runs === 'kernel') continue;
    const text = `${runs === 'both' ? 'in both' : 'not in the kernel'}, because it ${why}`;
    const others = names.get(text);
    if (others) others.push(name);
    else names.set(text, [name]);
  }
  return [...names].map(([text, some]) => {
    const more = some.length > SHOWN ? ` and ${some.length - SHOWN} more` : '';
    return `${text}: ${some.slice(0, SHOWN).map(plain).join(', ')}${more}`;
  });
}

/** Names in such a line. */
const SHOWN = 8;

function rate(now: ListedRule, before: ListedRule | undefined, seconds: number): string {
  return before === undefined ? '-' : count(Math.max(0, now.packets - before.packets) / seconds);
}

function actionText({ action, rule }: ListedRule): string {
  return typeof rule.probability === 'number'
    ? `${action} ${Number((rule.probability * 100).toPrecision(4))}%`
    : action;
}

/** "protocol udp, sport 53"; an expression alone as it is. */
function matchText({ rule: { match } }: ListedRule): string {
  const entries = Object.entries(match);
  if (entries.length === 0) return 'every packet';
  if (entries.length === 1 && typeof match.expr === 'string') return match.expr;
  return entries.map(([key, value]) => `${key} ${valueText(value)}`).join(', ');
}

/** Of a list its entries, of a condition with parts (`set`, `dns`) what they say. */
function valueText(value: unknown): string {
  if (Array.isArray(value)) return value.map(valueText).join(',');
  if (typeof value !== 'object' || value === null) return String(value);
  return Object.entries(value)
    .map(([key, part]) => (part === true ? key : valueText(part)))
    .join(' ');
}
