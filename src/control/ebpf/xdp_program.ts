import type { KernelError } from '../../errors.js';
import { native, type BpfProgram } from '../../native.js';
import { Bpf, isConditional, isPacketLoad, Word, type Program } from '../../shared/cbpf/program.js';
import { Assembler, encode, JumpTooFar } from './assembler.js';
import { emitClassic, emitEntry, refusedAsEbpf, type Access, type Environment } from './from_cbpf.js';
import { Alu, Reg, type Instruction } from './instruction.js';

export type XdpOptions = Pick<Environment, 'access' | 'length'>;

export type XdpResult = { ok: true; instructions: readonly Instruction[] } | { ok: false; error: string };

/**
 * A classic program as a program of type XDP, which returns what that returns. Offset 0 is the packet's first byte, whatever `link` says. Takes
 * programs that have passed checkProgram.
 */
export function xdpProgram(program: Program, options: XdpOptions): XdpResult {
  const refused = refusedAsEbpf(program);
  if (refused !== null) return { ok: false, error: refused };
  const asm = new Assembler();
  const leave = (value: number): void => {
    asm.alu32(Alu.MOV, Reg.r0, value);
    asm.exit();
  };
  emitEntry(asm);
  emitClassic(asm, program, {
    ...options,
    returns: leave,
    fails: () => leave(0),
    returnsA: () => {
      asm.alu32X(Alu.MOV, Reg.r0, Reg.r8);
      asm.exit();
    },
  });
  try {
    return { ok: true, instructions: asm.instructions() };
  } catch (error) {
    if (error instanceof JumpTooFar) return { ok: false, error: error.message };
    throw error;
  }
}

export type LoadedXdp = { ok: true; program: BpfProgram; access: Access } | { ok: false; error: string };

/**
 * Loads a classic program as XDP, with direct access where the kernel takes that and with helpers where it does not: it may know no end of the ways
 * through a large program, or want CAP_PERFMON. `length` as in Environment. Needs CAP_BPF and CAP_NET_ADMIN: without them it throws the
 * kernel's EPERM.
 */
export function loadXdp(program: Program, length: XdpOptions['length']): LoadedXdp {
  let error = '';
  for (const access of accessesFor(program)) {
    const xdp = xdpProgram(program, { access, length });
    if (!xdp.ok) return xdp;
    try {
      const instructions = encode(xdp.instructions);
      const loaded = native().loadProgram({ type: 'xdp', name: 'sluice_match', license: LICENSE, instructions });
      return { ok: true, program: loaded, access };
    } catch (cause) {
      const { code, remedy } = cause as KernelError;
      // EACCES and EINVAL are the verifier's, E2BIG is a program of too many ways for it.
      if (code !== 'EACCES' && code !== 'EINVAL' && code !== 'E2BIG') throw cause;
      error = `the kernel refuses it (${code}): ${remedy}`;
    }
  }
  return { ok: false, error };
}

/** More than this, and the verifier may spend seconds to find that there are too many ways: then it is not tried. */
const DIRECT_MOST = { indirectLoads: 24, branches: 512 };

function accessesFor({ words }: Program): readonly Access[] {
  let [indirectLoads, branches] = [0, 0];
  for (let at = 0; at < words.length; at += Word.SIZE) {
    if (isPacketLoad(words[at]) && (words[at] & Bpf.MODE) === Bpf.IND) indirectLoads++;
    else if (isConditional(words[at])) branches++;
  }
  const many = indirectLoads > DIRECT_MOST.indirectLoads || branches > DIRECT_MOST.branches;
  return many ? ['helpers'] : ['direct', 'helpers'];
}

/** The helpers that programs here call are not for GPL programs only. */
const LICENSE = 'Apache-2.0';
