/** Programs made of p0f signatures against a reading of p0f's own code, over random SYNs. */
import { describe, expect, it } from 'vitest';
import { p0fProgram } from '../../src/control/expression/p0f_program.js';
import { readP0fFile } from '../../src/control/expression/p0f_file.js';
import { checkProgram } from '../../src/shared/cbpf/check.js';
import { necessary } from '../../src/shared/cbpf/facts.js';
import { interpret } from '../../src/shared/cbpf/interpret.js';
import { compileJavaScript } from '../../src/shared/cbpf/javascript.js';
import { link } from '../../src/shared/cbpf/link.js';
import { instructionCount } from '../../src/shared/cbpf/program.js';
import { SluiceError } from '../../src/errors.js';
import { randomSource } from '../support/cbpf_programs.js';
import { fits, synFields } from '../support/p0f_reference.js';
import { randomSyn, signatureNear } from '../support/p0f_random.js';

/** SLUICE_FUZZ_ROUNDS for a longer run, SEED to repeat one. */
const ROUNDS = Number(process.env.SLUICE_FUZZ_ROUNDS ?? 700);
const PACKETS = 12;
const seed = Number(process.env.SEED ?? 20261121);

describe('p0f signatures', () => {
  it('match the SYNs that p0f would match, compiled and interpreted', () => {
    const random = randomSource(seed);
    const seen = { signatures: 0, refused: 0, pairs: 0, matched: 0, bad: 0, longest: 0 };
    for (let round = 0; round < ROUNDS; round++) {
      const packets = Array.from({ length: PACKETS }, () => randomSyn(random));
      const all = packets.map(synFields);
      const own = random(PACKETS);
      const fields = all[own];
      if (fields === null) continue;
      const text = signatureNear(random, fields);
      let program;
      try {
        program = p0fProgram(text);
      } catch (error) {
        if (!(error instanceof SluiceError)) throw error;
        // A signature that is refused fits no packet, or it is written wrong; the packet it was made from is the likeliest one.
        const fit = all.findIndex((one) => one !== null && fits(one, text));
        if (fit >= 0)
          throw new Error(`seed ${seed}: ${text} was refused and fits ${hex(packets[fit])}: ${error.message}`, {
            cause: error,
          });
        seen.refused++;
        continue;
      }
      seen.signatures++;
      expect(checkProgram(program)).toBeNull();
      seen.longest = Math.max(seen.longest, instructionCount(program));
      const [match] = link(compileJavaScript([program]));
      packets.forEach((packet, i) => {
        const view = new DataView(packet.buffer);
        const one = all[i];
        const wanted = one !== null && fits(one, text);
        const results = [
          interpret(program, view, 0, packet.length, packet.length),
          match(view, 0, packet.length, packet.length),
        ];
        if (results.some((result) => (result !== 0) !== wanted)) {
          throw new Error(`seed ${seed}: ${text} gives ${results.join(', ')}, not ${wanted}: ${hex(packet)}`);
        }
        seen.pairs++;
        if (wanted) seen.matched++;
        if (wanted && one.quirks.has('bad')) seen.bad++;
      });
    }
    if (process.env.SLUICE_FUZZ_ROUNDS) console.log(seed, JSON.stringify(seen));
    expect(seen.signatures).toBeGreaterThan(ROUNDS / 2);
    expect(seen.matched).toBeGreaterThan(seen.signatures / 4);
    expect(seen.bad).toBeGreaterThan(seen.signatures / 30);
    expect(seen.refused).toBeLessThan(seen.signatures / 2);
  }, 3_600_000);

  it('have facts for an index of rules: the protocol, by family', () => {
    const { ipv4, ipv6, other } = necessary(p0fProgram('*:64:0:*:mss*44,7:mss,sok,ts,nop,ws:df,id+,flow:0'));
    expect([...ipv4, ...ipv6].map(({ protocols }) => protocols)).toEqual([[{ lo: 6, hi: 6 }], [{ lo: 6, hi: 6 }]]);
    expect(other).toBe(false);
    expect(necessary(p0fProgram('4:64:0:*:*,*:mss::0')).ipv6).toEqual([]);
    expect(necessary(p0fProgram('6:64:0:*:*,*:mss::0')).ipv4).toEqual([]);
  });

  it.each([
    ['', 'it is 1 field, not 8'],
    ['*:64:0:*:mss*20,7:mss,sok,ts,nop,ws:df,id+', 'it is 7 fields, not 8'],
    ['5:64:0:*:*,*:::0', 'ver is "5"'],
    ['4:0:0:*:*,*:::0', 'ittl is "0"'],
    ['4:250+6:0:*:*,*:::0', 'ittl is "250+6"'],
    ['4:54+?:0:*:*,*:::0', 'ittl is "54+?"'],
    ['4:64:44:*:*,*:::0', 'olen is "44"'],
    ['4:64:3:*:*,*:::0', 'olen is "3"'],
    ['6:64:8:*:*,*:::0', 'olen is "8"'],
    ['4:64:0:65536:*,*:::0', 'mss is "65536"'],
    ['4:64:0:*:*:::0', 'wsize,scale is "*"'],
    ['4:64:0:*:%1,*:::0', 'wsize is "1"'],
    ['4:64:0:*:mss*0,*:mss::0', 'wsize is "0"'],
    ['4:64:0:*:mss*20,*:nop::0', 'wsize is mss*20, and olayout has no mss'],
    ['4:64:0:*:*,256:ws::0', 'scale is "256"'],
    ['4:64:0:*:*,15:ws::0', 'scale is 15 without the quirk exws'],
    ['4:64:0:1460:*,*:::0', 'mss is 1460, and olayout has no mss'],
    ['4:64:0:*:*,*:mss,eol+1,nop::0', 'olayout is "mss,eol+1,nop"'],
    ['4:64:0:*:*,*:mss,foo::0', 'olayout is "foo"'],
    ['4:64:0:*:*,*:mss,ws,eol+1::0', 'olayout is 9 bytes long'],
    ['4:64:0:*:*,*:ts,ts,ts,ts,nop::0', 'olayout is 41 bytes long'],
    [`4:64:0:*:*,*:${new Array(25).fill('nop').join()}::0`, 'olayout is 25 options'],
    ['4:64:0:*:*,*::flow:0', 'quirks is flow in a signature for IPv4'],
    ['4:64:0:*:*,*::dg:0', 'quirks is "dg"'],
    ['4:64:0:*:*,*::ack-:0', 'quirks is ack-'],
    ['4:64:0:*:*,*::id+:0', 'quirks is id+ without df'],
    ['4:64:0:*:*,*::ts2+:0', 'quirks is ts2+, and olayout has no ts'],
    ['4:64:0:*:*,*:mss,eol+0:opt+:0', 'quirks is opt+, and olayout has nothing behind its end'],
    ['4:64:0:*:*,*:::1', 'pclass is "1"'],
  ])('%s is refused: %s', (text, message) => {
    try {
      p0fProgram(text);
    } catch (error) {
      expect(error).toBeInstanceOf(SluiceError);
      expect(error).toMatchObject({ code: 'SLUICE_CONFIG', message: expect.stringContaining(message) as string });
      expect((error as SluiceError).remedy).not.toBe('');
      return;
    }
    throw new Error('it was taken');
  });

  it('come from files of p0f’s syntax, by label; what is wrong in one is told by line', () => {
    const text = [
      '; a comment',
      'classes = unix',
      '[mtu]',
      'label = Ethernet',
      'sig   = 1500',
      '[tcp:request]',
      'sig   = *:64:0:*:*,*:::0',
      'label = s:unix:Linux:3.x',
      'sig   = *:64:0:*:mss*20,7:mss,sok,ts,nop,ws:df,id+:0',
      'sig   = *:64:0:*:mss*20,10:mss,sok,ts,nop,ws:df,id+:0',
      'label = s:!:NMap:SYN scan',
      'sys   = @unix',
      'sig   = *:64-:0:1460:1024,0:mss::0',
      'sig   = *:64-:0:1460:1024,0:mss:ack-:0',
      'nonsense',
      '[tcp:response]',
      'label = s:unix:Linux:3.x',
      'sig   = *:64:0:*:mss*10,0:mss:df:0',
    ];
    const { signatures, problems, others } = readP0fFile(text.join('\r\n'));
    expect(signatures.map(({ label, line }) => `${line} ${label}`)).toEqual([
      '9 s:unix:Linux:3.x',
      '10 s:unix:Linux:3.x',
      '13 s:!:NMap:SYN scan',
    ]);
    expect(signatures[0].signature).toBe('*:64:0:*:mss*20,7:mss,sok,ts,nop,ws:df,id+:0');
    expect(problems.map(({ line, message }) => `${line} ${message}`)).toEqual([
      '7 a signature without a label',
      '14 p0f signature: quirks is ack-',
      '15 not understood: "nonsense"',
    ]);
    expect([...others]).toEqual([
      ['mtu', 1],
      ['tcp:response', 1],
    ]);
  });
});

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
