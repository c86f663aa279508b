/** The part of the schema that says which DNS messages a rule is about. */
import { z } from 'zod';
import { SluiceError } from '../../errors.js';
import type { DnsMatchConfig, RuleProgramConfig } from '../../shared/config.js';
import { malformedDnsProgram } from '../expression/dns_malformed.js';
import { readDnsPattern } from '../expression/dns_names.js';
import { dnsProgram } from '../expression/dns_program.js';
import { queryType } from '../expression/dns_types.js';
import { show } from './problem.js';
import * as s from './scalars.js';
import { condition, short } from './schema_parts.js';

/** A text that `read` takes; it stays as it is. */
function readable<T extends string | number>(
  isOne: (raw: unknown) => raw is T,
  what: string,
  read: (raw: T) => unknown,
) {
  return s.value((raw): T => {
    if (!isOne(raw)) throw new s.Refusal(`${show(raw)} is not ${what}`);
    try {
      read(raw);
    } catch (error) {
      if (error instanceof SluiceError) throw new s.Refusal(error.message, error.remedy);
      throw error;
    }
    return raw;
  });
}

const name = readable((raw) => typeof raw === 'string', 'a DNS name', readDnsPattern);
const type = readable(
  (raw): raw is string | number => typeof raw === 'string' || typeof raw === 'number',
  'a DNS query type',
  queryType,
);

const malformed = s.value((raw): boolean | 'strict' => {
  if (typeof raw === 'boolean' || raw === 'strict') return raw;
  throw new s.Refusal(`${show(raw)} is not one of true, false, strict`);
});

const oneOrMore = <T extends z.ZodType>(entry: T) => short((raw) => (Array.isArray(raw) ? raw : [raw]), z.array(entry));

/** A name or a list of them is short for { names }. No comma parts names: they may have one. */
export const dnsSchema = short(
  (raw) => (typeof raw === 'string' || Array.isArray(raw) ? { names: raw } : raw),
  z.strictObject({
    names: condition(oneOrMore(name)),
    qtype: condition(oneOrMore(type)),
    response: condition(z.boolean()),
    malformed: condition(malformed),
  }),
);

export type RawDns = z.output<typeof dnsSchema>;

/** What is wrong with it as a whole; null when nothing is. What could not be read of it is undefined, or not there. */
export function dnsProblem(dns: {
  [K in keyof RawDns]: K extends 'names' | 'qtype' ? readonly unknown[] : RawDns[K];
}): { key: string; message: string; remedy: string } | null {
  const { names, qtype, response, malformed } = dns;
  for (const [key, list] of [
    ['names', names],
    ['qtype', qtype],
  ] as const) {
    if (list?.length === 0) {
      return { key, message: 'is an empty list, which no packet matches', remedy: 'Leave the key out to match any.' };
    }
  }
  if (malformed !== undefined && malformed !== false) {
    const other = (['names', 'qtype', 'response'] as const).find((key) => dns[key] !== undefined);
    if (other === undefined) return null;
    return {
      key: other,
      message: 'goes without malformed: that has no names to compare',
      remedy: 'Make two rules of it.',
    };
  }
  if (names === undefined && qtype === undefined && response === undefined) {
    const message = 'says nothing of a message';
    return { key: '', message, remedy: 'Write names, qtype, response: true, or malformed: true.' };
  }
  if (names?.includes(undefined) || qtype?.includes(undefined)) return null;
  try {
    dnsMatch(dns as RawDns);
    return null;
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    return { key: 'names', message: error.message, remedy: error.remedy };
  }
}

/**
 * The program of a match without problems.
 *
 * @throws SluiceError SLUICE_CONFIG when it gets too long
 */
export function dnsMatch({ names, qtype, response, malformed }: RawDns): RuleProgramConfig {
  if (malformed !== undefined && malformed !== false) {
    const program = malformedDnsProgram({ strict: malformed === 'strict' });
    return {
      kind: 'dns',
      text: malformed === 'strict' ? 'malformed, strict' : 'malformed',
      dns: { malformed },
      program,
    };
  }
  const dns: DnsMatchConfig = {};
  const words: string[] = [];
  if (names !== undefined) words.push((dns.names = names).join(' '));
  if (qtype !== undefined) words.push(`type ${(dns.qtype = qtype).join(' ')}`);
  if (response === true) words.push('response');
  if (response === true) dns.response = true;
  return { kind: 'dns', text: words.join(', '), dns, program: dnsProgram(names ?? [], { qtype, response }) };
}
