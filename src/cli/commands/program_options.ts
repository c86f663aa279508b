/** Matches that are no pcap-filter expressions, as options of commands: p0f signatures, DNS names. */
import type { Command } from 'commander';
import { malformedDnsProgram } from '../../control/expression/dns_malformed.js';
import { dnsProgram } from '../../control/expression/dns_program.js';
import { p0fProgram } from '../../control/expression/p0f_program.js';
import { SluiceError } from '../../errors.js';
import type { Program } from '../../shared/cbpf/program.js';

export interface ProgramOptions {
  p0f?: string;
  dns?: string[];
  qtype?: string[];
  dnsResponse?: boolean;
  dnsMalformed?: boolean;
}

export function withProgramOptions(command: Command): Command {
  return command
    .option('--p0f <signature>', 'instead of an expression: a p0f v3 signature of a TCP SYN')
    .option('--dns <name...>', 'instead of an expression: DNS names that queries ask for, *.example.com for all below')
    .option('--qtype <type...>', 'with --dns: types of the query, by name or number')
    .option('--dns-response', 'with --dns: responses from port 53 instead of queries to it')
    .option('--dns-malformed', 'instead of an expression: packets to port 53 that are no well-formed query');
}

/**
 * The program that the options ask for, with its text; null when they ask for none. `words`: an expression given beside them.
 *
 * @throws SluiceError SLUICE_USAGE for options that do not go together, SLUICE_FORMAT for a signature or name that is wrong
 */
export function programOfOptions(
  options: ProgramOptions,
  words: readonly string[],
): { text: string; program: Program } | null {
  const { p0f, dns, qtype, dnsResponse, dnsMalformed } = options;
  if (dns === undefined && (qtype !== undefined || dnsResponse === true)) {
    throw new SluiceError('SLUICE_USAGE', '--qtype and --dns-response say what --dns means', 'Add --dns NAME.');
  }
  const given = [words.length > 0, p0f !== undefined, dns !== undefined, dnsMalformed === true].filter(
    (one) => one,
  ).length;
  if (given > 1) {
    throw new SluiceError(
      'SLUICE_USAGE',
      'several of an expression, --p0f, --dns and --dns-malformed',
      'Give one of them.',
    );
  }
  if (dnsMalformed === true) return { text: 'malformed DNS', program: malformedDnsProgram() };
  try {
    if (p0f !== undefined) return { text: p0f, program: p0fProgram(p0f) };
    if (dns !== undefined) {
      return { text: dns.join(' '), program: dnsProgram(dns, { qtype, response: dnsResponse }) };
    }
  } catch (cause) {
    if (!(cause instanceof SluiceError)) throw cause;
    // It is no configuration that is wrong.
    throw new SluiceError('SLUICE_FORMAT', cause.message, cause.remedy, { cause });
  }
  return null;
}

/** VLAN tags (IEEE 802.1Q, 802.1ad). */
const TAGS = [0x8100, 0x88a8];
const IP_TYPES = [0x0800, 0x86dd];

/**
 * Bytes in front of the layer-3 header of an Ethernet frame with at most two VLAN tags, as the data path takes them; all bytes where there is none:
 * no program matches nothing.
 */
export function layer3Offset(frame: DataView): number {
  let at = 12;
  for (let tags = 0; tags < 2 && at + 2 <= frame.byteLength && TAGS.includes(frame.getUint16(at)); tags++) at += 4;
  const isIp = at + 2 <= frame.byteLength && IP_TYPES.includes(frame.getUint16(at));
  return isIp ? at + 2 : frame.byteLength;
}
