/** enum bpf_map_type of include/uapi/linux/bpf.h. */
export const enum MapType {
  hash = 1,
  array = 2,
  progArray = 3,
  percpuArray = 6,
  lpmTrie = 11,
}

/** BPF_F_NO_PREALLOC: memory for an entry when it comes. Tries have no other way. */
export const NO_PREALLOC = 1;
