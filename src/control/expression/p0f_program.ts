/**
 * p0f v3 signatures of TCP SYNs as match programs. They begin at the layer-3 header; IPv6 with extension headers does not match, as in p0f.
 *
 * A signature can be met in several ways: by either family, and with the quirk `bad` by options that are malformed in different manners. The program
 * tries the ways one after the other.
 */
import { SluiceError } from '../../errors.js';
import { Assembler } from '../../shared/cbpf/assembler.js';
import { Code, type Program } from '../../shared/cbpf/program.js';
import { checkP0f } from './p0f_check.js';
import { writeEnd, writeFlags, writeIpv4, writeIpv6, writeTcpQuirks, writeTtl } from './p0f_headers.js';
import { fixedBytes, readOptions, TCP_BYTES, writeOptions } from './p0f_options.js';
import { OPTION_SIZE, OPTIONS_MOST, readP0f, TcpOption, type P0fSignature, type Quirk } from './p0f_signature.js';
import { writeLinux, writeMultiple } from './p0f_window.js';
import { Cell, P0fWriter, type Ending } from './p0f_writer.js';

/**
 * Compiles a signature, `ver:ittl:olen:mss:wsize,scale:olayout:quirks:pclass`. What matches: a SYN without ACK, FIN and RST, not a
 * fragment, all of which is there; TTL at most ittl and above ittl − 35; all else as docs/expressions.md has it.
 *
 * @throws SluiceError SLUICE_CONFIG that names the field and what would be right, also where no packet could match
 */
export function p0fProgram(text: string): Program {
  const written = readP0f(text);
  const padded = checkP0f(written, /eol\+/.test(written.text));
  const asm = new Assembler();
  const matches = asm.label();
  let ways = 0;
  for (const family of familiesOf(written)) {
    for (const ending of endingsOf(written)) {
      const fail = asm.label();
      const writer = new P0fWriter(asm, fail, ending === 'complete' ? padded : written, family, ending);
      if (!isPossible(writer)) continue;
      writeWay(writer);
      asm.jump(matches);
      asm.place(fail);
      ways++;
    }
  }
  asm.op(Code.RET_K, 0);
  asm.place(matches);
  asm.op(Code.RET_K, 1);
  if (ways === 0) {
    const remedy = 'Leave out what contradicts, or write * in its place.';
    throw new SluiceError('SLUICE_CONFIG', `p0f signature: no packet could have all of ${written.text}`, remedy);
  }
  const program = asm.build('ip');
  // 24 options in at most six ways stay far below.
  if (program === null) throw new SluiceError('SLUICE_CONFIG', 'p0f signature: it makes too long a program');
  return program;
}

function familiesOf({ family, optionBytes, quirks, otherQuirks }: P0fSignature): (4 | 6)[] {
  const families: (4 | 6)[] = [];
  const has = (quirk: Quirk): boolean => quirks.has(quirk);
  // Of IPv6 these are not asked, however little they go together.
  const contradict = has('id-') ? has('id+') || has('df') : has('id+') && !has('df') && !otherQuirks;
  if (family !== 6 && !contradict) families.push(4);
  if (family !== 4 && (optionBytes ?? 0) === 0) families.push(6);
  return families;
}

function endingsOf({ quirks, otherQuirks, layout }: P0fSignature): Ending[] {
  const endings: Ending[] = ['complete'];
  if (!quirks.has('bad') && !otherQuirks) return endings;
  const last = layout.at(-1);
  if (last !== undefined && last !== TcpOption.eol && last !== TcpOption.nop) endings.push('aborted');
  if (layout.length === OPTIONS_MOST && last !== TcpOption.eol) endings.push('more');
  return endings;
}

/** Whether some packet could match this way. Counts the options of each kind on the way. */
function isPossible(writer: P0fWriter): boolean {
  const kinds = readOptions(writer);
  const count = (kind: TcpOption): number => kinds.filter((one) => one === kind).length;
  const { mss, scale, window } = writer.signature;
  writer.count('ts1-', count(TcpOption.ts));
  writer.count('ts2+', count(TcpOption.ts));
  writer.count('exws', count(TcpOption.ws));
  writer.count('bad', kinds.filter((kind) => (OPTION_SIZE.get(kind) ?? 0) > 1).length);
  if (!writer.possible) return false;
  const needsMss = (mss !== null && mss > 0) || window.kind === 'mss' || window.kind === 'mtu';
  if (needsMss && count(TcpOption.mss) === 0) return false;
  if (scale !== null && scale > 0 && count(TcpOption.ws) === 0) return false;
  if (writer.wants('linux') === true && count(TcpOption.ts) === 0) return false;
  const bytes = fixedBytes(writer);
  return bytes === null || (bytes <= 40 && bytes % 4 === 0);
}

function writeWay(writer: P0fWriter): void {
  const { signature, family } = writer;
  const { window } = signature;
  if (family === 4) writeIpv4(writer);
  else writeIpv6(writer);
  const options = fixedBytes(writer);
  const header = options === null ? null : TCP_BYTES + options;
  writeFlags(writer, header);
  writeTtl(writer);
  writeEnd(writer, header);
  writeTcpQuirks(writer);
  if (window.kind === 'equal') writer.expect(14, window.value >> 8, window.value & 0xff);
  writer.flush();
  const isMultiple = window.kind === 'mss' || window.kind === 'mtu';
  if (window.kind === 'modulo' || isMultiple) writer.load(2, 14);
  if (isMultiple) writer.asm.op(Code.ST, Cell.window);
  if (window.kind === 'modulo') {
    writer.asm.op(Code.MOD_K, window.value);
    writer.must(Code.JEQ_K, 0);
  }
  const hasTimestamp = readOptions(writer).includes(TcpOption.ts);
  const timestamp = hasTimestamp && (window.kind === 'mss' || writer.wants('linux') === true);
  writer.beginTally();
  const tcp = writer.origin;
  writeOptions(writer, { mss: isMultiple && signature.mss === null, timestamp });
  writer.endTally();
  if (isMultiple) writeMultiple(writer, hasTimestamp, header);
  if (writer.wants('linux') === true) writeLinux(writer, tcp);
}
