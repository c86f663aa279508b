/** DNS messages: what we ask, what we make of answers, and of what is none. */
import { createSocket } from 'node:dgram';
import { describe, expect, it, onTestFinished } from 'vitest';
import { encodeQuery, readResponse } from '../../src/control/health/checks/dns_message.js';
import { runCheck, startCheck } from '../../src/control/health/run_check.js';
import type { DnsCheckConfig } from '../../src/shared/health_config.js';

const hex = (text: string) => Buffer.from(text.replace(/[^0-9a-f]/g, ''), 'hex');
const QUESTION = '03777777 076578616d706c65 03636f6d 00 0001 0001';
/** Header of a response with one question and this many answers. */
const header = (answers: number, flags = '8180') => `1234 ${flags} 0001 000${answers} 0000 0000`;

describe('messages', () => {
  it('asks one question, recursion desired', () => {
    expect(Buffer.from(encodeQuery(0x1234, 'www.example.com', 1))).toEqual(
      hex(`1234 0100 0001 0000 0000 0000 ${QUESTION}`),
    );
    expect(Buffer.from(encodeQuery(1, '', 2))).toEqual(hex('0001 0100 0001 0000 0000 0000 00 0002 0001'));
  });

  // Records as in RFC 1035 §3.2.1: name (a pointer to the question), type, class, TTL, length, data.
  it.each([
    ['0001', '0004 c6336401', '198.51.100.1'],
    ['001c', '0010 20010db8 00000000 00000000 00000001', '2001:db8::1'],
    ['0005', '0006 03616c74 c010', 'alt.example.com.'],
    ['0002', '0005 026e73 c010', 'ns.example.com.'],
    ['000f', '0008 000a 036d7831 c010', '10 mx1.example.com.'],
    ['0010', '0009 03 763d31 04 20616c6c', 'v=1 all'],
    ['0021', '000a 0001 0002 0050 0161 c010', '1 2 80 a.example.com.'],
    ['0006', '0018 01 61 c010 01 62 c010 00000001 00000002 00000003 00000004', 'a.example.com. b.example.com.'],
    ['0063', '0003 010203', '010203'],
  ])('reads a record of type %s', (type, data, text) => {
    const message = hex(`${header(1)} ${QUESTION} c00c ${type} 0001 00000e10 ${data}`);
    expect(readResponse(message)).toEqual({ id: 0x1234, rcode: 0, truncated: false, answers: [text] });
  });

  it('reads code and truncation', () => {
    expect(readResponse(hex(`${header(0, '8183')} ${QUESTION}`))).toMatchObject({
      rcode: 3,
      truncated: false,
      answers: [],
    });
    expect(readResponse(hex(`${header(0, '8780')} ${QUESTION}`))).toMatchObject({ rcode: 0, truncated: true });
  });

  it.each([
    ['a query', `1234 0100 0001 0000 0000 0000 ${QUESTION}`, 'it is a query'],
    ['a few bytes', '1234 81', '3 bytes'],
    ['a name that points to itself', `${header(1)} ${QUESTION} c021 0001 0001 00000000 0000`, 'it ends too early'],
    ['data beyond the end', `${header(1)} ${QUESTION} c00c 0001 0001 00000000 0100 01`, 'it ends too early'],
    [
      'fewer answers than promised',
      `${header(2)} ${QUESTION} c00c 0001 0001 00000000 0004 01020304`,
      'it ends too early',
    ],
    ['more answers than fit', `1234 8180 0000 ffff 0000 0000`, '65535 answers'],
  ])('refuses %s', (_, message, why) => {
    expect(readResponse(hex(message))).toBe(why);
  });

  it('never throws, whatever the bytes', () => {
    let seed = 11;
    const random = (below: number) => (seed = (Math.imul(seed, 48271) >>> 0) % 0x7fffffff) % below;
    const valid = hex(
      `${header(3)} ${QUESTION} c00c 0006 0001 00000e10 0018 0161 c010 0162 c010 00000001 00000002 00000003 00000004`,
    );
    for (let i = 0; i < 20_000; i++) {
      const bytes = Buffer.from(valid.subarray(0, random(valid.length + 1)));
      for (let flips = random(6); flips > 0 && bytes.length > 0; flips--) bytes[random(bytes.length)] = random(256);
      const response = readResponse(bytes);
      expect(typeof response === 'string' || Array.isArray(response.answers)).toBe(true);
    }
  });
});

describe('a check', () => {
  /** A server that answers each query with these messages; "ID" stands for the query's. */
  async function ask(config: Partial<DnsCheckConfig>, answers: string[]): Promise<string> {
    const server = createSocket('udp4');
    server.on('message', (query, { port }) => {
      const id = query.subarray(0, 2).toString('hex');
      for (const answer of answers) server.send(hex(answer.replace('ID', id)), port, '127.0.0.1');
    });
    await new Promise<void>((resolve) => server.bind(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close());
    const whole: DnsCheckConfig = {
      type: 'dns',
      name: 'www.example.com',
      record: 1,
      rcode: 0,
      answer: null,
      ...config,
    };
    const endpoint = { host: '127.0.0.1', family: 4 as const, port: server.address().port };
    return new Promise((resolve) => {
      runCheck(
        startCheck,
        endpoint,
        whole,
        200,
        () => performance.now(),
        (outcome) => resolve(outcome.result === 'ok' ? 'ok' : outcome.reason),
      );
    });
  }

  const A = `8180 0001 0001 0000 0000 ${QUESTION} c00c 0001 0001 00000e10 0004 c6336401`;

  it('is good when code and answer are as expected', async () => {
    expect(await ask({}, [`ID ${A}`])).toBe('ok');
    expect(await ask({ answer: '198.51.100.1' }, [`ID ${A}`])).toBe('ok');
    expect(await ask({ answer: '198.51.100.2' }, [`ID ${A}`])).toBe('none of 1 answers has what is expected');
    expect(await ask({}, [`ID 8182 0001 0000 0000 0000 ${QUESTION}`])).toBe('response code SERVFAIL');
    expect(await ask({ rcode: 5 }, [`ID 8185 0001 0000 0000 0000 ${QUESTION}`])).toBe('ok');
  });

  it("waits on past an answer to another question's id", async () => {
    // One in 65,536 runs draws this id.
    expect(await ask({}, [`fffe ${A}`, `ID ${A}`])).toBe('ok');
    expect(await ask({}, [])).toBe('no answer within 200 ms');
    expect(await ask({}, ['ff'])).toBe('not a DNS response: 1 bytes');
  });
});
