/** RFC 6040 §4.2: the ECN field of a decapsulated packet, over the complete table, for all four combinations. */
import { describe, expect, it } from 'vitest';
import { Decap, XDP } from '../support/bpf.js';
import { internetChecksum, PacketBuilder } from '../support/packet_builder.js';

const ECN = { 'Not-ECT': 0, 'ECT(1)': 1, 'ECT(0)': 2, CE: 3 } as const;
type Name = keyof typeof ECN;

/** Figure 4 of RFC 6040: rows are the arriving inner field, columns the arriving outer field. */
const COLUMNS: Name[] = ['Not-ECT', 'ECT(0)', 'ECT(1)', 'CE'];
const FIGURE_4: Record<Name, (Name | 'drop')[]> = {
  'Not-ECT': ['Not-ECT', 'Not-ECT', 'Not-ECT', 'drop'],
  'ECT(0)': ['ECT(0)', 'ECT(0)', 'ECT(1)', 'CE'],
  'ECT(1)': ['ECT(1)', 'ECT(1)', 'ECT(1)', 'CE'],
  CE: ['CE', 'CE', 'CE', 'CE'],
};

/** A DSCP in both headers: the inner one stays, the outer one goes with its header (RFC 2983 §4.1, pipe model). */
const INNER_DSCP = 46 << 2;
const OUTER_DSCP = 8 << 2;

const addresses = {
  4: { src: '192.0.2.1', dst: '192.0.2.2' },
  6: { src: '2001:db8:1::1', dst: '2001:db8:1::2' },
} as const;

function inner(builder: PacketBuilder, family: 4 | 6, ecn: number, id: number): PacketBuilder {
  return family === 4
    ? builder
        .ipv4({ tos: INNER_DSCP | ecn, id })
        .udp()
        .payload(5)
    : builder
        .ipv6({ trafficClass: INNER_DSCP | ecn, flowLabel: id })
        .udp()
        .payload(5);
}

const rows = Object.entries(FIGURE_4).flatMap(([inside, results]) =>
  results.map((result, column) => [inside as Name, COLUMNS[column], result] as const),
);

describe.each([
  [4, 4],
  [6, 4],
  [4, 6],
  [6, 6],
] as const)('%iin%i', (inside, outside) => {
  it.each(rows)('inner %s, outer %s: %s', (innerName, outerName, result) => {
    using decap = new Decap([addresses[outside].dst], [addresses[outside].src]);
    // Several ids, so that the incremental checksum meets carries.
    for (const id of [0, 1, 0x7fff, 0xb5a3, 0xfffe, 0xffff]) {
      const outer = new PacketBuilder().ethernet().ipip({ ...addresses[outside], tos: OUTER_DSCP | ECN[outerName] });
      const { retval, data } = decap.run(inner(outer, inside, ECN[innerName], id).build());
      if (result === 'drop') {
        expect(retval).toBe(XDP.DROP);
        continue;
      }
      const expected = inner(new PacketBuilder().ethernet(), inside, ECN[result], id).build();
      expect(retval).toBe(XDP.PASS);
      expect(Buffer.from(data).toString('hex')).toBe(Buffer.from(expected).toString('hex'));
      if (inside === 4) expect(internetChecksum(data.subarray(14, 34))).toBe(0);
    }
    const kind = result === 'drop' ? 'drop_ecn' : `decap_${inside}in${outside}`;
    expect(decap.stats()).toEqual({ seen: 6, [kind]: 6 });
  });
});
