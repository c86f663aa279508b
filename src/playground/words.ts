/** The demo's longer texts. */
import { ECHO_PORT, HTTP_PORT } from './backends.js';
import { DISCARD_PORT } from './daemon_config.js';
import type { Stage } from './scenes/scene.js';
import { WEIGHTS } from './stage.js';
import { VIP4 } from './topology.js';

/** What is about to be built, with a picture. */
export function opening(): string {
  return `A little internet on this machine, in network namespaces that vanish at the end:

   client   10.77.0.1  ──┐              ┌── b1  10.77.0.11  weight ${WEIGHTS[0]}
   attacker 10.77.0.66 ──┼── switch ────┼── b2  10.77.0.12  weight ${WEIGHTS[1]}
   sluice   10.77.0.2  ──┘              └── b3  10.77.0.13  weight ${WEIGHTS[2]}

   The service is ${VIP4} (the VIP). No host answers for it on the wire: client and attacker send it to sluice,
   sluice sends each packet on, wrapped, to a backend, and the backend answers the client past sluice.

   client ─▶ XDP program ─▶ AF_XDP socket ─▶ TypeScript: parse, filter, balance, wrap ─▶ backend: unwrap ─▶ TCP
     ▲                                                                                        │
     └────────────────────────────────────────────────────────────────────────────────────────┘
`;
}

/** How to play with a playground that was left up. */
export function byHand({ topology, daemon }: Stage): string {
  const inside = (host: { namespace: { name: string } }, command: string) =>
    `ip netns exec ${host.namespace.name} ${command}`;
  const socket = `--socket ${daemon.controlSocket}`;
  const sluice = 'node dist/cli/main.js';
  const [first] = topology.backends;
  return `
The playground is up. Play with it:
  ${inside(topology.client, `curl http://${VIP4}:${HTTP_PORT}/`)}
  ${inside(topology.client, `bash -c 'echo hello > /dev/udp/${VIP4}/${ECHO_PORT}'`)}
  ${inside({ namespace: topology.switch }, 'tcpdump -ni lb proto 4')}
  ${inside(topology.lb, 'curl -s http://127.0.0.1:9477/metrics')}
  ${sluice} status ${socket}
  ${sluice} backend drain http ${first.address4} ${socket}
  $EDITOR ${daemon.configPath} && ${sluice} reload ${socket}
  tail -f ${daemon.logPath}
Services: HTTP on port ${HTTP_PORT}, UDP echo on ${ECHO_PORT}, UDP to nobody on ${DISCARD_PORT}; UDP from the attacker is dropped by a rule.
Remove it:
  ${sluice} demo --clean`;
}
