/** loadProgram and createMap of the addon: what they give, and what is said when something is wrong. */
import { describe, expect, it, onTestFinished } from 'vitest';
import { Assembler, encode, Label } from '../../src/control/ebpf/assembler.js';
import { disassembleEbpf } from '../../src/control/ebpf/disassemble.js';
import { Alu, Helper, Jump, Reg, Size, XdpMd } from '../../src/control/ebpf/instruction.js';
import { xdpProgram } from '../../src/control/ebpf/xdp_program.js';
import type { KernelError } from '../../src/errors.js';
import { native, type BpfProgram, type MapOptions, type ProgramOptions } from '../../src/native.js';
import { Code, programOf, type Instruction } from '../../src/shared/cbpf/program.js';
import { AddonChild } from '../support/bpf_child.js';

const FRAME = new Uint8Array(64);
/** BPF_MAP_TYPE_ARRAY and BPF_MAP_TYPE_PERCPU_HASH. */
const [ARRAY, PERCPU_HASH] = [2, 5];

function assemble(write: (asm: Assembler) => void): Uint8Array {
  const asm = new Assembler();
  write(asm);
  return encode(asm.instructions());
}

function returning(value: number): Uint8Array {
  return assemble((asm) => {
    asm.alu32(Alu.MOV, Reg.r0, value);
    asm.exit();
  });
}

function load(instructions: Uint8Array, options: Partial<ProgramOptions> = {}): BpfProgram {
  const program = native().loadProgram({ type: 'xdp', name: 'test', license: 'Apache-2.0', instructions, ...options });
  onTestFinished(() => program.close());
  return program;
}

/** The verifier's log of a program that it must refuse. */
function logOf(instructions: Uint8Array): string {
  try {
    load(instructions);
  } catch (error) {
    return (error as { verifierLog?: string }).verifierLog ?? '';
  }
  throw new Error('the program was loaded');
}

describe('loadProgram', () => {
  it('gives a program that runs, and tells of it', () => {
    const program = load(returning(3));
    expect(program.name).toBe('test');
    expect(program.fd).toBeGreaterThan(2);
    expect(program.info()).toMatchObject({ instructions: 2, verified: 2 });
    expect(program.testRun({ data: FRAME, repeat: 10 })).toMatchObject({ retval: 3, data: FRAME });
  });

  it('has the verifier say why it refuses', () => {
    const readsOutside = assemble((asm) => {
      asm.load(Size.W, Reg.r2, Reg.r1, XdpMd.data);
      asm.load(Size.W, Reg.r0, Reg.r2, 0);
      asm.exit();
    });
    const refused = expect.objectContaining<Partial<KernelError>>({
      code: 'EACCES',
      remedy: expect.stringMatching(/verifier refused it: .*R2 offset is outside of the packet/) as string,
    }) as Error;
    expect(() => load(readsOutside)).toThrow(refused);
    expect(logOf(readsOutside)).toContain('invalid access to packet');
  });

  it('runs many frames, each with its metadata', () => {
    // Returns data − data_meta + the first byte of the packet.
    const program = load(
      assemble((asm) => {
        const out = new Label();
        asm.load(Size.W, Reg.r2, Reg.r1, XdpMd.data);
        asm.load(Size.W, Reg.r3, Reg.r1, XdpMd.data_end);
        asm.load(Size.W, Reg.r4, Reg.r1, XdpMd.data_meta);
        asm.alu32(Alu.MOV, Reg.r0, 0);
        asm.alu64X(Alu.MOV, Reg.r5, Reg.r2);
        asm.alu64(Alu.ADD, Reg.r5, 1);
        asm.jump64X(Jump.JGT, Reg.r5, Reg.r3, out);
        asm.load(Size.B, Reg.r0, Reg.r2, 0);
        asm.alu64X(Alu.SUB, Reg.r2, Reg.r4);
        asm.alu64X(Alu.ADD, Reg.r0, Reg.r2);
        asm.place(out);
        asm.exit();
      }),
    );
    const frames = Uint8Array.from({ length: 3 * 20 }, (_, i) => i);
    expect([...program.runFrames(frames, Uint32Array.of(20, 40, 60))]).toEqual([0, 20, 40]);
    expect([...program.runFrames(frames, Uint32Array.of(20, 40, 60), 4)]).toEqual([8, 28, 48]);
    expect([...program.runFrames(frames, new Uint32Array())]).toEqual([]);
    for (const ends of [[20, 10], [61], [0xffffffff]]) {
      expect(() => program.runFrames(frames, Uint32Array.from(ends))).toThrow(RangeError);
    }
    expect(() => program.runFrames(frames, Uint32Array.of(13))).toThrow('test run of frame 0 with 13 bytes: EINVAL');
  });

  it('ends with close(), once and for all', () => {
    const program = load(returning(1));
    program.close();
    program.close();
    expect(program.fd).toBe(-1);
    for (const use of [() => program.info(), () => program.testRun({ data: FRAME })]) {
      expect(use).toThrow(
        expect.objectContaining({ code: 'SLUICE_STATE', message: 'the BPF program is closed' }) as Error,
      );
    }
  });

  it.each<[string, unknown, RegExp]>([
    ['type', 'tc', /type must be xdp/],
    ['name', 'a b', /name must have/],
    ['name', 'sixteen_letters_', /name must have/],
    ['license', 7, /license must be a string/],
    ['instructions', new Uint8Array(12), /8 bytes each, got 12/],
    ['instructions', new Uint8Array(), /8 bytes each, got 0/],
    ['instructions', [1], /must be a Uint8Array/],
    ['nosuch', 1, /no option "nosuch"/],
  ])('refuses %s = %j', (name, value, problem) => {
    expect(() => load(returning(1), { [name]: value })).toThrow(problem);
  });

  it('needs no more than CAP_BPF and CAP_NET_ADMIN', async () => {
    const program = programOf('ethernet', [
      [Code.LDX_MSH, 0, 0, 14],
      [Code.LD_H_IND, 0, 0, 16],
      [Code.STX, 0, 0, 3],
      [Code.LDX_LEN, 0, 0, 0],
      [Code.LDX_MEM, 0, 0, 3],
      [Code.RET_A, 0, 0, 0],
    ]);
    const xdp = xdpProgram(program, { access: 'helpers', length: 'packet' });
    if (!xdp.ok) throw new Error(xdp.error);
    const code = Buffer.from(encode(xdp.instructions)).toString('base64');
    const body = `
      const instructions = new Uint8Array(Buffer.from(args[0], 'base64'));
      const program = addon.loadProgram({ type: 'xdp', name: 'least', license: 'Apache-2.0', instructions });
      say('ran ' + program.testRun({ data: new Uint8Array(64).fill(1) }).retval);`;
    const all = await new AddonChild(body, [code]).ended;
    expect(all.stdout).toBe('ran 257\n');
    const child = new AddonChild(body, [code], undefined, [
      'setpriv',
      '--bounding-set=-all,+bpf,+net_admin',
      '--inh-caps=-all,+bpf,+net_admin',
      '--ambient-caps=-all,+bpf,+net_admin',
      '--reuid=65534',
      '--regid=65534',
      '--clear-groups',
    ]);
    expect(await child.ended).toMatchObject({ stdout: 'ran 257\n', stderr: '' });
  });
});

describe('createMap', () => {
  const make = (options: Partial<MapOptions> = {}) => {
    const map = native().createMap({
      type: ARRAY,
      keySize: 4,
      valueSize: 8,
      maxEntries: 4,
      name: 'test_map',
      ...options,
    });
    onTestFinished(() => map.close());
    return map;
  };
  const key = new Uint8Array(4);

  it('gives a map that programs write to', () => {
    const map = make({ maxEntries: 1 });
    expect(map).toMatchObject({ name: 'test_map', type: ARRAY, keySize: 4, valueSize: 8, maxEntries: 1 });
    const program = load(
      assemble((asm) => {
        asm.loadMapValue(Reg.r1, map.fd, 0);
        asm.alu32(Alu.MOV, Reg.r2, 77);
        asm.store(Size.DW, Reg.r1, 0, Reg.r2);
        asm.alu32(Alu.MOV, Reg.r0, 2);
        asm.exit();
      }),
    );
    program.testRun({ data: FRAME });
    expect(map.lookup(key)).toEqual(Uint8Array.of(77, 0, 0, 0, 0, 0, 0, 0));
    // The program keeps it.
    map.close();
    expect(program.testRun({ data: FRAME }).retval).toBe(2);
  });

  it('has all CPUs in per-CPU maps', () => {
    const map = make({ type: PERCPU_HASH, valueSize: 4 });
    expect(map.lookup(key)).toBeNull();
    expect(map.valueSize).toBe(8);
  });

  it('ends with close(), once and for all', () => {
    const map = make();
    map.close();
    map.close();
    expect(map.fd).toBe(-1);
    expect(() => map.lookup(key)).toThrow(
      expect.objectContaining({ code: 'SLUICE_STATE', message: 'the BPF map is closed' }) as Error,
    );
  });

  it.each<[Partial<MapOptions>, RegExp]>([
    [{ name: 'a b' }, /name must have/],
    [{ type: 0 }, /type must be/],
    [{ keySize: 8 }, /create map test_map: EINVAL/],
    [{ maxEntries: -1 }, /maxEntries must be/],
    [{ size: 1 } as never, /no option "size"/],
  ])('refuses %j', (options, problem) => {
    expect(() => make(options)).toThrow(problem);
  });
});

describe('the text of a program', () => {
  it("is the verifier's", () => {
    const classic: Instruction[] = [
      [Code.LD_W_ABS, 0, 0, 26],
      [Code.ST, 0, 0, 2],
      [Code.LDX_MSH, 0, 0, 14],
      [Code.LD_H_IND, 0, 0, 16],
      [Code.AND_K, 0, 0, 0xfff],
      [Code.LSH_K, 0, 0, 3],
      [Code.XOR_X, 0, 0, 0],
      [Code.NEG, 0, 0, 0],
      [Code.LDX_MEM, 0, 0, 2],
      [Code.DIV_X, 0, 0, 0],
      [Code.ADD_X, 0, 0, 0],
      [Code.LDX_LEN, 0, 0, 0],
      [Code.JSET_X, 0, 1, 0],
      [Code.RET_A, 0, 0, 0],
      [Code.RET_K, 0, 0, 7],
    ];
    for (const access of ['direct', 'helpers'] as const) {
      const xdp = xdpProgram(programOf('ethernet', classic), { access, length: 'packet' });
      if (!xdp.ok) throw new Error(xdp.error);
      const ours = disassembleEbpf(xdp.instructions)
        .trimEnd()
        .split('\n')
        .map((line) => line.trim());
      // It shows the way to what it stops at, here in front of the first exit; jumps lead there by the condition.
      const exit = xdp.instructions.findIndex(({ code }) => code === 0x95);
      const broken = xdp.instructions.with(exit - 1, { code: 0xbf, dst: Reg.r0, src: Reg.r5, off: 0, imm: 0 });
      const said = logOf(encode(broken))
        .split('\n')
        .map((line) => /^(\d+: \([0-9a-f]{2}\) [^;]*)/.exec(line)?.[1].trim())
        .filter((line) => line !== undefined);
      // A jump that goes on to the next line has the state there behind it.
      const lines = said.map((line) => line.replace(/ \d+: R\d.*/, ''));
      expect(lines.slice(0, -1)).toEqual(ours.slice(0, exit - 1).filter((line) => !line.includes('(05) goto')));
    }
  });

  it('names the helpers that are called', () => {
    const asm = new Assembler();
    asm.call(Helper.get_prandom_u32);
    asm.exit();
    expect(disassembleEbpf(asm.instructions())).toContain('call bpf_get_prandom_u32#7');
  });
});
