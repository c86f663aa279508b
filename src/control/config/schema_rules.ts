/** The part of the schema that says what a rule is. */
import { z } from 'zod';
import { SluiceError } from '../../errors.js';
import { readBytecode } from '../../shared/cbpf/bytecode_text.js';
import type { Program } from '../../shared/cbpf/program.js';
import { p0fProgram } from '../expression/p0f_program.js';
import { show } from './problem.js';
import * as s from './scalars.js';
import { dnsSchema, type RawDns } from './schema_dns.js';
import { limitSchema } from './schema_limit.js';
import { condition, filled, listOf, required, short } from './schema_parts.js';
import { setReferences } from './schema_sets.js';

/** Text of a pcap-filter expression; check_rules.ts has it compiled, together with all the others. */
const expression = s.value((raw): string => {
  if (typeof raw === 'string' && raw.trim() !== '') return raw;
  throw new s.Refusal(`${show(raw)} is not an expression`, 'Write one as for tcpdump: "udp src port 53".');
});

/** A program and the text that it was made from. */
export interface Compiled {
  text: string;
  program: Program;
}

/** A text that is compiled here; `what` it is, and an example. */
function compiled(what: string, example: string, compile: (text: string) => Program) {
  return s.value((raw): Compiled => {
    if (typeof raw !== 'string')
      throw new s.Refusal(`${show(raw)} is not ${what}`, `Write it in quotes: "${example}".`);
    try {
      return { text: raw, program: compile(raw) };
    } catch (error) {
      if (error instanceof SluiceError) throw new s.Refusal(error.message, error.remedy);
      throw error;
    }
  });
}

/** A program as iptables' -m bpf --bytecode takes it, which begins at the IP header. */
const bytecode = compiled('bytecode', '4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0', (text) => readBytecode(text, 'ip'));

const p0f = compiled('a p0f signature', '4:64+0:0:*:*,*:mss,nop,ws:df,id+:0', p0fProgram);

/** 0.5, or "50%"; above 0, at most 1. */
const probability = s.value((raw): number => {
  const remedy = 'Write a share above 0, at most 1 (0.25), or a percentage ("25%").';
  const match = typeof raw === 'string' ? /^(\d{1,3}(?:\.\d{1,8})?) ?%$/.exec(raw) : null;
  const share = match !== null ? Number(match[1]) / 100 : raw;
  if (typeof share === 'number' && share > 0 && share <= 1) return share;
  throw new s.Refusal(`${show(raw)} is not a probability`, remedy);
});

const SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86400 };
/** The longest time to live, s. */
const MAX_TTL = 365 * 86400;

/** Seconds that a rule lives; a number of them, or "30s", "10m", "2h", "7d". */
const timeToLive = s.value((raw): number => {
  const match = typeof raw === 'string' ? /^(\d{1,8}) ?([smhd])$/.exec(raw) : null;
  const seconds = match !== null ? Number(match[1]) * SECONDS[match[2]] : raw;
  if (typeof seconds === 'number' && Number.isInteger(seconds) && seconds >= 1 && seconds <= MAX_TTL) return seconds;
  throw new s.Refusal(
    `${show(raw)} is not a time from 1s to 365d`,
    'Write whole seconds, or a number with s, m, h or d: 10m.',
  );
});

export const matchSchema = short(
  (raw) => (typeof raw === 'string' ? { expr: raw } : raw),
  z.strictObject({
    family: condition(s.family),
    protocol: condition(s.protocolOrAny),
    src: condition(listOf(s.prefix)),
    dst: condition(listOf(s.prefix)),
    sport: condition(listOf(s.range(65535, 'a port'))),
    dport: condition(listOf(s.range(65535, 'a port'))),
    tcp_flags: condition(s.tcpFlags),
    length: condition(s.range(65535, 'a packet length in bytes')),
    ttl: condition(s.range(255, 'a TTL')),
    fragment: condition(z.boolean()),
    expr: condition(expression),
    bytecode: condition(bytecode),
    set: condition(setReferences),
    p0f: condition(p0f),
    dns: condition(dnsSchema),
  }),
);

/** Without either number a sampler would take nothing: check_rules.ts. */
const sampleSchema = z.strictObject(
  filled({
    one_in: s.integer(1, 2 ** 30).optional(),
    first: s.integer(1, 1_000_000).optional(),
    snaplen: s.integer(14, 65535).default(128),
  }),
);

export const ruleSchema = z.strictObject(
  filled({
    name: required(s.name, 'drop-flood'),
    match: required(matchSchema, '{protocol: udp, dport: 9999}'),
    action: required(z.enum(['drop', 'pass', 'count', 'sample', 'limit', 'challenge']), 'drop'),
    mode: z.enum(['enforce', 'shadow']).default('enforce'),
    probability: probability.optional(),
    ttl: timeToLive.optional(),
    sample: sampleSchema.optional(),
    limit: limitSchema.optional(),
  }),
);

export type RawRule = z.output<typeof ruleSchema>;

type Lists = 'src' | 'dst' | 'sport' | 'dport';

/** A rule, with what could be read of it: list positions are those of the file. */
export interface RecoveredRule extends Partial<Omit<RawRule, 'match'>> {
  match?: Partial<Omit<RawRule['match'], Lists | 'dns'>> & {
    [K in Lists]?: (NonNullable<RawRule['match'][K]>[number] | undefined)[];
  } & {
    dns?: Omit<RawDns, 'names' | 'qtype'> & {
      names?: (string | undefined)[];
      qtype?: (string | number | undefined)[];
    };
  };
}
