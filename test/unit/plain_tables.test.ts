/** The short way where packets lie otherwise than usual, and where the tables change under it. */
import { describe, expect, it } from 'vitest';
import { Counter } from '../../src/shared/layout.js';
import { Lab, type LabOptions } from '../support/lab.js';
import { PacketBuilder } from '../support/packet_builder.js';
import { countSteps } from '../support/steps.js';

const service = (name: string, vip: string, rest: string, backends: string): string =>
  `  - { name: ${name}, vip: '${vip}', port: 53, protocol: udp, ${rest}, backends: [${backends}] }\n`;

const HEAD = 'interfaces: [{ name: net0 }]\n';
const CONFIG = `${HEAD}services:
${service('known', '198.51.100.10', 'encapsulation: ipip', "10.0.0.11, 'fd00::12'")}\
${service('known6', '2001:db8::10', 'encapsulation: gue', "10.0.0.21, 'fd00::22'")}\
${service('ring', '198.51.100.13', 'encapsulation: gue, flow_table: false', '10.0.0.31, 10.0.0.32, 10.0.0.33')}\
${service('ring6', '2001:db8::13', 'flow_table: false', "10.0.0.41, 'fd00::42', 'fd00::43'")}`;

const VIPS = ['198.51.100.10', '2001:db8::10', '198.51.100.13', '2001:db8::13'];

/** Of each service in turn, so that no two in a row are for the same one. */
const frames = Array.from({ length: 60 }, (_, n) => {
  const dst = VIPS[n % 4];
  const builder = new PacketBuilder().ethernet();
  const ip = dst.includes(':') ? builder.ipv6({ src: '2001:db8:1::1', dst }) : builder.ipv4({ src: '192.0.2.1', dst });
  return ip
    .udp({ sport: 1000 + n, dport: 53 })
    .payload('x')
    .build();
});

function twins(options: LabOptions = {}): [Lab, Lab] {
  const steps = new Lab(CONFIG, options);
  steps.path.takesShortWay = false;
  return [new Lab(CONFIG, options), steps];
}

/** What both send, which is the same; `stepped`: packets of the first that took the steps. */
function run([short, steps]: [Lab, Lab]): { sent: Uint8Array[]; stepped: number } {
  const stepped = countSteps(short);
  const results = [short, steps].map((lab) => lab.run(frames));
  expect(results[0]).toEqual(results[1]);
  return { sent: results[0].sent[0], stepped: stepped() };
}

describe('the short way', () => {
  it.each([
    [256, 0],
    [260, 0],
    [257, 60],
    [258, 60],
    [259, 60],
    [0, 60],
  ])('takes what is on a word boundary: headroom %i, %i of 60 packets take the steps', (headroom, left) => {
    const labs = twins({ headroom });
    run(labs);
    expect(run(labs).stepped).toBe(left);
    for (const lab of labs) expect(lab.violations()).toEqual([]);
  });

  it('leaves what has no room in front to the steps, which drop it, and that alone', () => {
    // IPv4 takes 20 bytes, with GUE 28; IPv6 takes 40 and 48.
    const labs = twins({ headroom: 28 });
    run(labs);
    const { sent, stepped } = run(labs);
    expect(sent.length).toBeGreaterThan(10);
    expect(sent.length + stepped).toBe(60);
    for (const lab of labs) expect(lab.violations()).toEqual([]);
  });

  it('knows services that come in turn, with a ring alone and with a flow table', () => {
    const labs = twins();
    run(labs);
    expect(run(labs)).toMatchObject({ stepped: 0, sent: { length: 60 } });
    expect(labs[0].total(Counter.flowMiss)).toBe(labs[1].total(Counter.flowMiss));
  });

  it('goes by the key, the rings and the backends of the tables in force', () => {
    const labs = twins();
    run(labs);
    const before = run(labs).sent;
    for (const lab of labs) lab.adopt(`hash_key: '000102030405060708090a0b0c0d0e0f'\n${CONFIG}`);
    const otherKey = run(labs);
    expect(otherKey.stepped).toBe(0);
    expect(otherKey.sent).not.toEqual(before);
    const fewer = CONFIG.replace('10.0.0.31, 10.0.0.32, 10.0.0.33', '10.0.0.33').replace(
      "10.0.0.11, 'fd00::12'",
      '10.0.0.11',
    );
    for (const lab of labs) lab.adopt(fewer);
    expect(run(labs).sent).toHaveLength(60);
    for (const lab of labs) lab.adopt(CONFIG);
    expect(run(labs).sent).toHaveLength(60);
    for (const lab of labs) lab.adopt(`${HEAD}services: []`);
    expect(run(labs)).toMatchObject({ sent: [] });
  });
});
