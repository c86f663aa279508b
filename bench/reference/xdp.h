// The XDP program of the reference programs: each packet of a queue to the socket of that queue, the others to the host. It is attached by a bpf_link, so that it
// goes with the program.

#pragma once

#include <linux/bpf.h>
#include <linux/if_link.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "xsk.h"

enum { QUEUES_MOST = 64, XDP_MD_QUEUE = 16, HELPER_REDIRECT_MAP = 51, ACTION_PASS = 2 };

static inline int bpf(int command, union bpf_attr* attributes) {
  return (int)syscall(SYS_bpf, command, attributes, sizeof *attributes);
}

static inline struct bpf_insn instruction(uint8_t code, uint8_t dst, uint8_t src, int16_t off, int32_t imm) {
  struct bpf_insn insn;
  memset(&insn, 0, sizeof insn);
  insn.code = code;
  insn.dst_reg = dst & 15;
  insn.src_reg = src & 15;
  insn.off = off;
  insn.imm = imm;
  return insn;
}

static inline int redirect_program(int map) {
  const struct bpf_insn code[] = {
      instruction(BPF_LDX | BPF_MEM | BPF_W, 2, 1, XDP_MD_QUEUE, 0),
      instruction(BPF_LD | BPF_IMM | BPF_DW, 1, BPF_PSEUDO_MAP_FD, 0, map),
      instruction(0, 0, 0, 0, 0),
      instruction(BPF_ALU64 | BPF_MOV | BPF_K, 3, 0, 0, ACTION_PASS),
      instruction(BPF_JMP | BPF_CALL, 0, 0, 0, HELPER_REDIRECT_MAP),
      instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
  };
  static const char license[] = "Dual BSD/GPL";
  union bpf_attr attributes;
  memset(&attributes, 0, sizeof attributes);
  attributes.prog_type = BPF_PROG_TYPE_XDP;
  attributes.insns = (uint64_t)(uintptr_t)code;
  attributes.insn_cnt = sizeof code / sizeof code[0];
  attributes.license = (uint64_t)(uintptr_t)license;
  return bpf(BPF_PROG_LOAD, &attributes);
}

/** Has the interface's packets come to the socket, in native XDP or generic. Ends the program when that cannot be. */
static inline void xdp_attach(const struct port* port, uint32_t queue, int generic) {
  union bpf_attr attributes;
  memset(&attributes, 0, sizeof attributes);
  attributes.map_type = BPF_MAP_TYPE_XSKMAP;
  attributes.key_size = attributes.value_size = 4;
  attributes.max_entries = QUEUES_MOST;
  const int map = bpf(BPF_MAP_CREATE, &attributes);
  if (map < 0) die("BPF_MAP_CREATE");
  const int program = redirect_program(map);
  if (program < 0) die("BPF_PROG_LOAD");

  memset(&attributes, 0, sizeof attributes);
  attributes.map_fd = (uint32_t)map;
  attributes.key = (uint64_t)(uintptr_t)&queue;
  attributes.value = (uint64_t)(uintptr_t)&port->fd;
  if (bpf(BPF_MAP_UPDATE_ELEM, &attributes) != 0) die("XSKMAP");

  memset(&attributes, 0, sizeof attributes);
  attributes.link_create.prog_fd = (uint32_t)program;
  attributes.link_create.target_ifindex = port->ifindex;
  attributes.link_create.attach_type = BPF_XDP;
  attributes.link_create.flags = generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE;
  // The descriptor stays open for the life of the process.
  if (bpf(BPF_LINK_CREATE, &attributes) < 0) die("BPF_LINK_CREATE");
  close(program);
  close(map);
}
