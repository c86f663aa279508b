import { describe, expect, it } from 'vitest';
import { ConfigError, parseConfig } from '../../src/control/config/index.js';
import { rulesFromText, rulesFromTree } from '../../src/control/config/read_rules.js';
import { ruleDocument } from '../../src/control/rules/document.js';
import { instructionCount } from '../../src/shared/cbpf/program.js';
import type { RuleConfig } from '../../src/shared/config.js';

const HEAD = 'interfaces: [eth0]\nrules:\n';

function rule(text: string): RuleConfig {
  return parseConfig(`${HEAD}  - ${text}`).rules[0];
}

/** What is said of a rule's text: "line:column path: message". */
function problem(text: string): string {
  try {
    parseConfig(`${HEAD}${text}`);
  } catch (error) {
    const [{ line, column, path, message }] = (error as ConfigError).problems;
    return `${line}:${column} ${path}: ${message}`;
  }
  throw new Error('no problem was found');
}

describe('a rule', () => {
  it('takes lists of addresses and ports, of which one must fit', () => {
    const { match } = rule(
      '{name: a, match: {src: [192.0.2.0/24, "2001:db8::/32"], dport: "80,443,8000-8080"}, action: drop}',
    );
    expect(match.src).toMatchObject([
      { text: '192.0.2.0', length: 24 },
      { text: '2001:db8::', length: 32 },
    ]);
    expect(match.dport).toEqual([
      { first: 80, last: 80 },
      { first: 443, last: 443 },
      { first: 8000, last: 8080 },
    ]);
  });

  it('has one value where a list has one entry', () => {
    expect(rule('{name: a, match: {sport: [53], src: [10.0.0.0/8]}, action: drop}').match).toMatchObject({
      sport: { first: 53, last: 53 },
      src: { text: '10.0.0.0', length: 8 },
    });
  });

  it('takes an expression, and a text for a match is one', () => {
    const long = rule('{name: a, match: {expr: "udp src port 53"}, action: drop}');
    expect(long.match.program).toMatchObject({ kind: 'expr', text: 'udp src port 53', program: { link: 'ethernet' } });
    expect(instructionCount(long.match.program!.program)).toBeGreaterThan(5);
    expect(rule('{name: a, match: udp src port 53, action: drop}')).toEqual(long);
  });

  it('takes bytecode of iptables, which begins at the IP header', () => {
    const { program } = rule('{name: a, match: {bytecode: "4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0"}, action: drop}').match;
    expect(program).toMatchObject({ kind: 'bytecode', program: { link: 'ip' } });
    expect(program!.program.words).toHaveLength(16);
  });

  it('takes mode, probability and time to live, and leaves out what is usual', () => {
    expect(rule('{name: a, match: {}, action: drop, mode: shadow, probability: 2.5%, ttl: 10m}')).toEqual({
      name: 'a',
      match: {},
      action: 'drop',
      mode: 'shadow',
      probability: 0.025,
      ttl: 600,
    });
    expect(rule('{name: a, match: {}, action: drop, mode: enforce, probability: 100%}')).toEqual({
      name: 'a',
      match: {},
      action: 'drop',
    });
    expect(rule('{name: a, match: {}, action: drop, probability: 0.5, ttl: 7d}')).toMatchObject({
      probability: 0.5,
      ttl: 604_800,
    });
  });

  it.each([
    ['expr: udp prot 53', 'match: {\n      expr: udp prot 53}', /^4:13 rules\[0\]\.match\.expr: .*syntax error/],
    ['a name', 'match: "host example.com"', /^3:22 rules\[0\]\.match: .*example\.com/],
    [
      'bytecode',
      'match: {bytecode: "1,6 0 0"}',
      /^3:33 rules\[0\]\.match\.bytecode: .*instruction 0.*not "code jt jf k"/,
    ],
    ['jump out of bytecode', 'match: {bytecode: "2,21 9 9 6,6 0 0 0"}', /bytecode: .*jump/i],
    [
      'both programs',
      'match: {expr: udp, bytecode: "1,6 0 0 1"}',
      /rules\[0\]\.match\.bytecode: goes without expr: a rule has one of expr, bytecode, p0f and dns/,
    ],
    ['a signature', 'match: {p0f: "4:64:0"}', /^3:28 rules\[0\]\.match\.p0f: /],
    ['a DNS name', 'match: {dns: ["a..b"]}', /^3:28 rules\[0\]\.match\.dns: .*a\.\.b/],
    ['no DNS name', 'match: {dns: []}', /match\.dns: is an empty list, which no packet matches/],
    [
      'a DNS name in a map',
      'match: {dns: {names: [a.b, "a..b"]}}',
      /^3:42 rules\[0\]\.match\.dns\.names\[1\]: .*a\.\.b/,
    ],
    ['two DNS names in one text', 'match: {dns: "a.com b.com"}', /match\.dns: .* has a space in it/],
    ['a query type', 'match: {dns: {qtype: [A, XX]}}', /match\.dns\.qtype\[1\]: "XX" is no DNS query type/],
    ['names of malformed DNS', 'match: {dns: {names: a.b, malformed: true}}', /dns\.names: goes without malformed/],
    ['malformed as a word', 'match: {dns: {malformed: very}}', /malformed: "very" is not one of true, false, strict/],
    ['nothing of DNS', 'match: {dns: {malformed: false}}', /match\.dns: says nothing of a message/],
    [
      'too many DNS names',
      `match: {dns: [${Array.from({ length: 400 }, (_, i) => `n${i}.example`).join(', ')}]}`,
      /match\.dns: DNS names: 400 of them make a program of more than 4096 instructions/,
    ],
    ['no mode', 'match: {}, mode: ', /^3:\d+ rules\[0\]\.mode: has no value/],
    ['no time to live', 'match: {}, ttl: ', /rules\[0\]\.ttl: has no value/],
    ['no probability', 'match: {}, probability: ~', /rules\[0\]\.probability: has no value/],
    ['no limit', 'match: {}, limit: ', /rules\[0\]\.limit: has no value/],
    ['no sample', 'match: {}, sample: ', /rules\[0\]\.sample: has no value/],
    [
      'no length of samples',
      'match: {}, action: sample, sample: {one_in: 2, snaplen: }',
      /rules\[0\]\.sample\.snaplen: has no value/,
    ],
    ['no key of a set', 'match: {set: {name: a, key: }}', /rules\[0\]\.match\.set\[0\]\.key: has no value/],
    ['no value', 'match: {protocol: udp, src: }', /rules\[0\]\.match\.src: has no value/],
    [
      'a range',
      'match: {src: 10.0.0.1-10.0.0.9}',
      /rules\[0\]\.match\.src: "10\.0\.0\.1-10\.0\.0\.9" is not an IP address/,
    ],
    ['no type', 'match: {dns: {names: a.b, qtype: }}', /rules\[0\]\.match\.dns\.qtype: has no value/],
    ['no set', 'match: {set: []}', /rules\[0\]\.match\.set: is an empty list/],
    ['an empty list', 'match: {src: []}', /rules\[0\]\.match\.src: is an empty list, which no packet matches/],
    ['a port of a list', 'match: {dport: [80, 70000]}', /rules\[0\]\.match\.dport\[1\]: 70000 is not a port/],
    ['families', 'match: {family: 4, src: [10.0.0.1, "fd00::1"]}', /match\.src\[1\]: .*family is 4, src is IPv6/],
    [
      'no common family',
      'match: {src: 10.0.0.1, dst: "fd00::1"}',
      /match\.dst: no packet matches: src is IPv4, dst is IPv6/,
    ],
    ['probability 0', 'match: {}, probability: 0', /"?0"? is not a probability/],
    ['probability 101%', 'match: {}, probability: 101%', /"101%" is not a probability/],
    ['ttl', 'match: {}, ttl: 100ms', /"100ms" is not a time from 1s to 365d/],
    ['mode', 'match: {}, mode: shaddow', /"shaddow" is not one of enforce, shadow/],
    ['an unknown key', 'match: {sprot: 53}', /rules\[0\]\.match\.sprot: unknown key/],
    ['an action', 'match: {}, action: dorp', /"dorp" is not one of/],
  ])('is refused in words, with line and column: %s', (_, text, words) => {
    const action = text.includes('action:') ? '' : ', action: drop';
    expect(problem(`  - {name: a, ${text}${action}}`)).toMatch(words);
  });

  it('is refused when the lists make too many combinations', () => {
    const ports = Array.from({ length: 100 }, (_, i) => i * 2).join(', ');
    expect(problem(`  - {name: a, match: {sport: [${ports}], dport: [${ports}]}, action: drop}`)).toMatch(
      /rules: the lists in them make 10000 combinations, at most 8192 fit/,
    );
    // Of two families, only equal ones make a combination.
    const mixed = 'src: [10.0.0.1, "fd00::1"], dst: [10.0.0.2, "fd00::2"]';
    expect(parseConfig(`${HEAD}  - {name: a, match: {${mixed}, sport: [${ports}]}, action: drop}`).rules).toHaveLength(
      1,
    );
  });

  it('is written as a configuration has it, and read as the same', () => {
    const texts = [
      '{name: a, match: {}, action: pass}',
      '{name: b, match: {family: 6, protocol: 47, length: 0-64, ttl: 5, fragment: true}, action: count}',
      '{name: c, match: {src: [10.0.0.0/8, 192.0.2.1], dst: "2001:db8::/32,198.51.100.7", sport: 1-1023, dport: [80, 443]}, action: drop}',
      '{name: d, match: {tcp_flags: "syn,!ack"}, action: drop, mode: shadow, probability: 0.125, ttl: 90s}',
      '{name: e, match: {tcp_flags: none, protocol: tcp}, action: drop, ttl: 86400}',
      '{name: f, match: {protocol: udp, expr: "greater 512"}, action: drop}',
      '{name: g, match: {bytecode: "1,6 0 0 1"}, action: drop}',
      '{name: j, match: {p0f: "4:64+0:0:*:*,*:mss,nop,ws:df,id+:0", dst: 192.0.2.1}, action: drop}',
      '{name: k, match: {dns: "*.example.com"}, action: drop}',
      '{name: l, match: {dns: ["*.example.com", example.com]}, action: drop}',
      '{name: m, match: {dns: [a\\ b.example, "a\\\\032b.example", "x,y.example"]}, action: drop}',
      '{name: n, match: {dns: {qtype: [ANY, 64]}, dst: 192.0.2.1}, action: drop}',
      '{name: o, match: {dns: {names: "*.example", qtype: A, response: true}}, action: drop}',
      '{name: p, match: {dns: {malformed: true}}, action: drop}',
      '{name: q, match: {dns: {malformed: strict}}, action: drop}',
      '{name: h, match: {}, action: sample, sample: {one_in: 100}}',
      '{name: i, match: {}, action: sample, sample: {first: 3, snaplen: 64}}',
    ];
    const { rules } = parseConfig(`${HEAD}${texts.map((text) => `  - ${text}\n`).join('')}`);
    expect(rulesFromTree(JSON.parse(JSON.stringify(rules.map(ruleDocument))), 'x')).toEqual(rules);
    expect(rules.slice(-7, -2).map(({ match }) => match.program?.text)).toEqual([
      'a\\ b.example a\\032b.example x,y.example',
      'type ANY 64',
      '*.example, type A, response',
      'malformed',
      'malformed, strict',
    ]);
    expect(ruleDocument(rules[4])).toEqual({ name: 'e', match: { tcp_flags: 'none' }, action: 'drop', ttl: '1d' });
  });
});

describe('rules of a file', () => {
  it('are a list, or the rules of a configuration', () => {
    const list = '- {name: a, match: udp, action: drop}\n';
    const whole = `services: what
rules:
  ${list}`;
    const { rules, tree } = rulesFromText(list, 'x.yaml');
    expect(rules).toMatchObject([{ name: 'a', match: { program: { text: 'udp' } }, action: 'drop' }]);
    expect(rulesFromTree(JSON.parse(JSON.stringify(tree)), 'x')).toEqual(rules);
    expect(rulesFromText(whole, 'x.yaml').rules).toEqual(rules);
  });

  it.each([
    ['- {name: a, match: udpp foo, action: drop}', /^x\.yaml:1:20: \[0\]\.match: .*syntax error/],
    [
      'rules:\n  - {name: a, match: {}, action: drop}\n  - {name: a, match: {}, action: drop}',
      /:3:\d+: rules\[1\]\.name: there is another rule of the name a, on line 2/,
    ],
    ['services: []', /there are no rules in it/],
    ['', /there are no rules in it/],
    ['5', /is 5, not a list/],
    ['[', /x\.yaml:\d+:\d+: /],
  ])('are refused with their place: %s', (text, words) => {
    expect(() => rulesFromText(text, 'x.yaml')).toThrow(words);
  });

  it('from a request are refused by path', () => {
    expect(() => rulesFromTree([{ name: 'a', match: { src: 'x' }, action: 'drop' }], 'request')).toThrow(
      /request: \[0\]\.match\.src: "x" is not an IP address/,
    );
    expect(() => rulesFromTree({ name: 'a' }, 'request')).toThrow(/is a map, not a list/);
    expect(() => rulesFromTree(null, 'request')).toThrow(ConfigError);
  });
});
