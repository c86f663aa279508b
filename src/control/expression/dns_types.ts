/** Names of DNS query types (IANA, Domain Name System Parameters), as far as floods and resolvers use them; others go by number. */
import { SluiceError } from '../../errors.js';

const TYPES: Readonly<Record<string, number>> = {
  ...{
    A: 1,
    NS: 2,
    CNAME: 5,
    SOA: 6,
    NULL: 10,
    PTR: 12,
    HINFO: 13,
    MX: 15,
    TXT: 16,
    RP: 17,
    SIG: 24,
    KEY: 25,
    AAAA: 28,
  },
  ...{ LOC: 29, SRV: 33, NAPTR: 35, CERT: 37, DNAME: 39, DS: 43, SSHFP: 44, RRSIG: 46, NSEC: 47, DNSKEY: 48 },
  ...{ NSEC3: 50, NSEC3PARAM: 51, TLSA: 52, CDS: 59, CDNSKEY: 60, OPENPGPKEY: 61, SVCB: 64, HTTPS: 65, SPF: 99 },
  ...{ TKEY: 249, TSIG: 250, IXFR: 251, AXFR: 252, ANY: 255, URI: 256, CAA: 257 },
};

/**
 * The number of a query type: 255 of "ANY", "any", "255" and "TYPE255" (RFC 3597 section 5).
 *
 * @throws SluiceError SLUICE_CONFIG
 */
export function queryType(type: string | number): number {
  const text = `${type}`.trim().toUpperCase();
  const digits = /^(?:TYPE)?(\d{1,5})$/.exec(text);
  const value = digits === null ? (Object.hasOwn(TYPES, text) ? TYPES[text] : -1) : Number(digits[1]);
  if (value >= 0 && value <= 65535) return value;
  throw new SluiceError(
    'SLUICE_CONFIG',
    `${JSON.stringify(type)} is no DNS query type`,
    'Write its name (A, TXT, ANY) or its number, 0 to 65535.',
  );
}
