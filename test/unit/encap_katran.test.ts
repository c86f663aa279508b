import { describe, expect, it } from 'vitest';
import { encapsulateSpecial } from '../../src/dataplane/packet/encap_special.js';
import { OuterFlow } from '../../src/dataplane/packet/outer_flow.js';
import { DropReason } from '../../src/dataplane/verdict.js';
import { formatMac, parseAddress } from '../../src/shared/addr.js';
import { BackendField } from '../../src/shared/layout.js';
import { backendRecord } from '../support/backend_record.js';
import { readEncapsulated } from '../support/outer_reader.js';
import { bytesOf, parsed } from '../support/packets.js';
import { frameOf, katranVectors, NO_VECTORS } from '../support/vectors.js';

const vectors = katranVectors();
const SUITES = ['base', 'gue', 'cidr_vip', 'lpm_src', 'tpr', 'tpr_gue', 'udp_stable_rt'];
/** Sources that Katran's tests configure for GUE. */
const GUE_SOURCE = { 4: '10.0.13.37', 6: 'fc00:2307::1337' };

/**
 * Katran's fixtures: packet in, packet out. Which backend a packet gets, and what of its flow goes into source and port, is not
 * asked here: both are read from the packet that comes out. All the rest of that packet has to come out the same.
 */
describe('outer headers of the Katran fixtures', () => {
  it.for(SUITES)('%s', (suite, { skip }) => {
    skip(vectors === null, NO_VECTORS);
    const cases = vectors!.suites[suite].filter(({ kind }) => kind === 'encap');
    expect(cases.length).toBeGreaterThan(3);
    for (const { n, description, ...frames } of cases) {
      const what = `${suite} ${n}: ${description}`;
      const expected = Buffer.from(frameOf(frames.out));
      const outer = readEncapsulated(expected);
      const packet = parsed(frameOf(frames.in));
      const record = backendRecord({
        kind: outer.udp ? 'gue' : 'ipip',
        checksum: 'computed',
        port: outer.udp?.dport,
        address: outer.dst,
        source: outer.udp ? GUE_SOURCE[outer.version] : '',
        katran: true,
      });
      for (let word = 0; word < 3; word++) record[BackendField.eth0 + word] = expected.readInt32BE(word * 4);
      const flow = new OuterFlow();
      flow.hash = 0x55555555;
      flow.katranPort = outer.udp?.sport ?? 0;
      flow.katranSource = parseAddress(outer.src).words[outer.version === 4 ? 0 : 3];
      expect(encapsulateSpecial(packet, record, 0, flow, new Int32Array(0), 0, 4), what).toBe(DropReason.none);

      const sent = Buffer.from(bytesOf(packet));
      expect(formatMac(sent.subarray(0, 6)), what).toBe('00:00:de:ad:be:af');
      if (outer.udp && !outer.udp.checksumRight) {
        // Katran derives the checksum from that of TCP or UDP inside, and takes one where there is none: of ICMP errors it is wrong.
        expect(packet.protocol, what).toBe(packet.family === 4 ? 1 : 58);
        const field = expected.length - outer.inner.length - 2;
        expect(readEncapsulated(sent).udp!.checksumRight, what).toBe(true);
        expected.writeUInt16BE(sent.readUInt16BE(field), field);
      }
      expect(sent.toString('hex'), what).toBe(expected.toString('hex'));
    }
  });
});
