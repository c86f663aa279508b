/** What the backend agent is told, by options or by a small YAML file, read into what it works with. */
import { readFileSync } from 'node:fs';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { SluiceError } from '../../errors.js';
import { parseAddress, parseEndpoint, parsePrefix } from '../../shared/addr.js';
import type { Address, Prefix } from '../../shared/config.js';
import { GUE_PORT_SETTINGS } from '../bpf_layout.js';
import { DEFAULT_GUE_PORT, type XdpMode } from './decapsulator.js';

export interface AgentSettings {
  interfaces: readonly string[];
  vips: readonly Prefix[];
  /** Outer sources that are let in. */
  sources: readonly Prefix[];
  /** Outer destinations that are ours; empty: the global addresses of the interfaces, followed when they change. */
  addresses: readonly Address[];
  guePorts: readonly number[];
  secondHop: boolean;
  verifyUdpChecksum: boolean;
  mode: XdpMode;
  /** Set what the host needs below /proc/sys, and set it back at the end. */
  sysctl: boolean;
  /** Between two reports, ms; 0: only at the end. */
  statsIntervalMs: number;
  metrics: { host: string; port: number } | null;
}

const list = z.union([z.array(z.string()), z.string().transform((text) => [text])]);

/** What `parse` makes of a text. What it throws is a problem of the key that has the text, with its remedy. */
function read<T>(parse: (text: string) => T): (text: string, context: z.RefinementCtx) => T {
  return (text, context) => {
    try {
      return parse(text);
    } catch (error) {
      if (!(error instanceof SluiceError)) throw error;
      context.addIssue({ code: 'custom', message: error.message, params: { remedy: error.remedy } });
      return z.NEVER;
    }
  };
}

function listOf<T>(parse: (text: string) => T) {
  return list.transform((texts, context) => texts.map((text) => read(parse)(text, context)));
}

const port = z.coerce.number().int().min(1).max(65535);
const onOff = z.union([z.boolean(), z.enum(['on', 'off']).transform((text) => text === 'on')]);

/** Keys of the file; options have the same names with dashes. */
const schema = z.strictObject({
  interface: list.optional(),
  vip: listOf(parsePrefix).optional(),
  from: listOf(parsePrefix).optional(),
  address: listOf(parseAddress).optional(),
  gue_port: z.union([z.array(port), port.transform((one) => [one])]).optional(),
  second_hop: onOff.optional(),
  udp_checksum: z.enum(['verify', 'ignore']).optional(),
  mode: z.enum(['auto', 'native', 'generic']).optional(),
  sysctl: onOff.optional(),
  /** Seconds. */
  stats_interval: z.coerce.number().min(0).max(86_400).optional(),
  metrics: z.string().transform(read(parseEndpoint)).optional(),
});

/** Names as in the file, values as they were typed. */
export type RawSettings = Partial<Record<keyof z.infer<typeof schema>, unknown>>;

/** Linux: at most 15 bytes, no slash, no blank (net/core/dev.c, dev_valid_name). */
const INTERFACE_NAME = /^(?!\.{1,2}$)[^\s/:]{1,15}$/;

/** Reads a settings file. Throws SLUICE_CONFIG with every value that is wrong. */
export function readSettings(path: string): RawSettings {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new SluiceError('SLUICE_CONFIG', `cannot read ${path}: ${(cause as Error).message}`, '', { cause });
  }
  const document = parseDocument(text);
  if (document.errors.length > 0) throw new SluiceError('SLUICE_CONFIG', `${path}: ${document.errors[0].message}`);
  const value: unknown = document.toJS() ?? {};
  check(value, (problem, remedy) => new SluiceError('SLUICE_CONFIG', `${path}: ${problem}`, remedy));
  return value as RawSettings;
}

/** Settings from what was read, later ones instead of earlier ones. Throws SLUICE_USAGE and says what to write. */
export function resolveSettings(...raw: RawSettings[]): AgentSettings {
  const usage = (problem: string, remedy = ''): SluiceError => new SluiceError('SLUICE_USAGE', problem, remedy);
  const known = check(Object.assign({}, ...raw), usage);
  const {
    interface: interfaces = [],
    vip = [],
    from = [],
    address = [],
    gue_port: guePorts = [DEFAULT_GUE_PORT],
    second_hop: secondHop = true,
  } = known;
  if (interfaces.length === 0) throw usage('no interface is named', 'Where tunnel packets come in: --interface eth0');
  for (const name of interfaces) {
    if (!INTERFACE_NAME.test(name)) throw usage(`${JSON.stringify(name)} is no name of an interface`);
  }
  if (from.length === 0) {
    throw usage(
      'no outer source is named, so nobody could send here',
      'Name the balancers, and with second hop the other backends: --from 10.0.0.0/28',
    );
  }
  if (guePorts.length > GUE_PORT_SETTINGS.length) {
    throw usage(`${guePorts.length} GUE ports are too many`, `At most ${GUE_PORT_SETTINGS.length} fit.`);
  }
  return {
    interfaces: [...new Set(interfaces)],
    vips: vip,
    sources: from,
    addresses: address,
    guePorts: [...new Set(guePorts)],
    secondHop,
    verifyUdpChecksum: known.udp_checksum !== 'ignore',
    mode: known.mode ?? 'auto',
    sysctl: known.sysctl ?? false,
    statsIntervalMs: 1000 * (known.stats_interval ?? 60),
    metrics: known.metrics ?? null,
  };
}

function check(value: unknown, fail: (problem: string, remedy: string) => SluiceError): z.infer<typeof schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues.map(({ path, message, code, ...rest }) =>
    code === 'unrecognized_keys'
      ? `there is no ${(rest as { keys: string[] }).keys.join(', ')}; there are ${Object.keys(schema.shape).join(', ')}`
      : `${path.join('.') || 'the settings'}: ${message}`,
  );
  const remedies = result.error.issues.map((issue) => ('params' in issue ? (issue.params?.remedy as string) : ''));
  throw fail(problems.join('; '), remedies.filter((remedy) => remedy !== '').join(' '));
}
