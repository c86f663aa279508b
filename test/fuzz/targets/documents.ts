/** Whole texts: rules of iptables, sets of ipset, configurations; and packets in words. */
import { isDeepStrictEqual } from 'node:util';
import { ConfigError, parseConfig } from '../../../src/control/config/index.js';
import { frameFromWords } from '../../../src/control/explain/words.js';
import { importIptables } from '../../../src/control/import/iptables/index.js';
import { ruleDocument } from '../../../src/control/rules/document.js';
import { restoreSets, saveSet, SetRegistry } from '../../../src/control/sets/index.js';
import { parse } from '../../../src/dataplane/packet/parse.js';
import { place } from '../../support/packets.js';
import type { FuzzTarget } from '../engine.js';
import { checkWords, unlessRefused } from '../programs.js';

export const iptablesTarget: FuzzTarget = {
  name: 'iptables',
  words: (
    '-A INPUT FORWARD -s -d ! -p tcp udp icmp -m set --match-set bad src src,dst hashlimit --hashlimit-above --hashlimit-upto --hashlimit-mode srcip,dstport ' +
    '--hashlimit-name --hashlimit-burst connlimit --connlimit-above --connlimit-upto --connlimit-mask limit --limit --limit-burst 5/sec 10mb/s ' +
    '--dport --sports 1,2:3 --tcp-flags ALL NONE SYN --syn -f --icmp-type -j DROP ACCEPT RETURN REJECT LOG X -g *filter *raw COMMIT :X - [0:0] # 192.0.2.0/24 2001:db8::/32 -c'
  ).split(' '),
  mutations: 300,
  check([text]) {
    const made = unlessRefused(() => importIptables({ name: 'f', text }, null, 'eth0'));
    if (made === null) return 0;
    const { rules, notes, yaml } = made;
    const wrong = notes.find(({ line }) => line === 0);
    if (wrong !== undefined) throw new Error(`the result is refused: ${wrong.message}`);
    if (parseConfig(yaml).rules.length !== rules.length) throw new Error('the configuration has other rules');
    for (const { message } of notes) {
      checkWords(message);
      if (message.length > 1000) throw new Error(`a note of ${message.length} characters`);
    }
    return 1;
  },
};

export const ipsetTarget: FuzzTarget = {
  name: 'ipset',
  words: (
    'create add del flush destroy rename swap -exist a b hash:ip hash:net hash:ip,port hash:net,port family inet inet6 timeout counters comment forceadd maxelem ' +
    'hashsize netmask bitmask nomatch packets bytes skbinfo 192.0.2.1 10.0.0.0/8 0.0.0.0/0 2001:db8::/32 ::/0 10.0.0.1-10.0.0.9 tcp:80 udp:1-9 icmp:ping 255.0.255.0 "x"'
  ).split(' '),
  mutations: 300,
  check([text]) {
    const saved = (registry: SetRegistry): string[] =>
      registry.names.flatMap((name) => [...saveSet(registry.get(name))]);
    const restored = unlessRefused(() => {
      const registry = new SetRegistry({ seconds: () => 5000 });
      for (const { message } of restoreSets(text, registry, 'f').notes) checkWords(message);
      return registry;
    });
    if (restored === null) return 0;
    const once = saved(restored).join('\n');
    const again = new SetRegistry({ seconds: () => 5000 });
    restoreSets(once, again, 'f');
    const twice = saved(again);
    if (once.split('\n').sort().join('\n') !== twice.sort().join('\n'))
      throw new Error(`is saved as ${once}, then ${twice.join('\n')}`);
    return 1;
  },
};

export const tupleTarget: FuzzTarget = {
  name: 'tuple',
  words:
    'tcp udp icmp icmp6 sctp gre 47 255 192.0.2.1:1 [2001:db8::1]:443 2001:db8::1 > flags S SA none length ttl tos vlan fragment 0 65535 20 40 4094'.split(
      ' ',
    ),
  mutations: 3000,
  check([text]) {
    const frame = unlessRefused(() => frameFromWords(text, 'Write a packet.'));
    if (frame === null) return 0;
    if (frame.length < 34 || frame.length > 65_535 + 18 + 40) throw new Error(`a frame of ${frame.length} bytes`);
    // Those that fit into a frame of the data path's.
    if (frame.length > 1700) return 1;
    const packet = place(frame);
    parse(packet);
    if (packet.family === 0) throw new Error('the frame is not IP');
    return 1;
  },
};

export const configTarget: FuzzTarget = {
  name: 'config',
  words: (
    'rules sets mitigation match action drop pass count limit sample challenge src dst sport dport protocol tcp_flags length ttl fragment p0f dns names qtype malformed ' +
    'strict response bytecode set key name mode shadow probability 10% 10m rate 5/s burst per [] {} [ ] { } null true : , - 192.0.2.0/24 1-9 "syn,!ack" &a *a'
  ).split(' '),
  mutations: 200,
  check([text]) {
    try {
      const { rules, sets } = parseConfig(text);
      const document = {
        interfaces: ['eth0'],
        sets: sets.map(({ name, type }) => ({ name, type })),
        rules: rules.map(ruleDocument),
      };
      const again = parseConfig(JSON.stringify(document));
      if (!isDeepStrictEqual(again.rules, rules)) throw new Error('rules are not what was written');
      return 1;
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      if (error.problems.length === 0) throw new Error('refused without a problem', { cause: error });
      for (const { message } of error.problems) checkWords(message);
      return 0;
    }
  },
};
