import { randomInt } from 'node:crypto';
import type { DnsCheckConfig } from '../../../shared/health_config.js';
import type { Done, Endpoint, Outcome, RunningCheck } from '../outcome.js';
import { encodeQuery, readResponse, type Response } from './dns_message.js';
import { exchange } from './udp.js';

const RCODES = ['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED'];

/** Asks over UDP. Good when the response code and, where it is asked for, an answer are as configured. */
export function checkDns(endpoint: Endpoint, config: DnsCheckConfig, done: Done): RunningCheck {
  const id = randomInt(0x10000);
  return exchange(endpoint, encodeQuery(id, config.name, config.record), done, (bytes) => {
    const response = readResponse(bytes);
    if (typeof response === 'string') return { result: 'failed', reason: `not a DNS response: ${response}` };
    // Somebody's late answer to another question: ours may still come.
    if (response.id !== id) return null;
    return judge(response, config);
  });
}

function judge({ rcode, answers, truncated }: Response, config: DnsCheckConfig): Outcome {
  if (rcode !== config.rcode) return { result: 'failed', reason: `response code ${RCODES[rcode] ?? rcode}` };
  const wanted = config.answer;
  if (wanted === null || answers.some((answer) => answer.includes(wanted))) return { result: 'ok' };
  const what = truncated ? ' (the response was cut to fit a datagram)' : '';
  return { result: 'failed', reason: `none of ${answers.length} answers has what is expected${what}` };
}
