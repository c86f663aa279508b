{
  "variables": {
    "sanitize%": 0,
    "bpf_cflags": ["-O2", "-g", "-Wall", "-Werror", "-target", "bpf", "-mcpu=v3", "-I/usr/include/<!(uname -m)-linux-gnu"]
  },
  "targets": [
    {
      "target_name": "sluice",
      "sources": [
        "native/addon.cc",
        "native/errno_error.cc",
        "native/umem.cc",
        "native/umem_js.cc",
        "native/xsk_socket.cc",
        "native/xsk_socket_js.cc",
        "native/xsk_burst.cc",
        "native/xsk_compose.cc",
        "native/tap.cc",
        "native/readable.cc",
        "native/packet_socket.cc",
        "native/socket_filter.cc",
        "native/link.cc",
        "native/process.cc",
        "native/bpf_object.cc",
        "native/bpf_map.cc",
        "native/bpf_map_batch.cc",
        "native/bpf_map_memory.cc",
        "native/bpf_link.cc",
        "native/bpf_log.cc",
        "native/bpf_program.cc",
        "native/bpf_query.cc",
        "native/bpf_rodata.cc",
        "native/bpf_test_run.cc",
        "native/live_frames.cc",
        "native/live_frames_js.cc",
        "native/xdp_hold.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=9", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
      "cflags": ["-O2", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter"],
      "cflags_cc": ["-std=c++17", "-fno-exceptions", "-fno-rtti"],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-O3"],
      "libraries": ["-lbpf", "-lelf"],
      "conditions": [
        ["sanitize==1", {
          "cflags": ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-g"],
          "ldflags": ["-fsanitize=address,undefined"]
        }]
      ]
    },
    {
      "target_name": "sluice-pcap",
      "type": "executable",
      "sources": ["native/pcap/main.cc", "native/pcap/names.cc", "native/pcap/confine.cc"],
      "cflags": ["-O2", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter"],
      "cflags_cc": ["-std=c++17", "-fno-rtti"],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-O3"],
      "ldflags!": ["-rdynamic"],
      "libraries": ["-lpcap"],
      "conditions": [
        ["sanitize==1", {
          "cflags": ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-g"],
          "ldflags": ["-fsanitize=address,undefined"]
        }]
      ]
    },
    {
      "target_name": "bpf",
      "type": "none",
      "actions": [
        {
          "action_name": "redirect",
          "inputs": ["bpf/redirect.bpf.c", "bpf/parse.h", "bpf/maps.h", "bpf/types.h"],
          "outputs": ["<(PRODUCT_DIR)/../bpf/redirect.bpf.o"],
          "action": ["clang", "<@(bpf_cflags)", "-c", "bpf/redirect.bpf.c", "-o", "<@(_outputs)"]
        },
        {
          "action_name": "decap",
          "inputs": [
            "bpf/decap.bpf.c", "bpf/decap.h", "bpf/outer.h", "bpf/gue.h", "bpf/inner.h", "bpf/second_hop.h", "bpf/forward.h",
            "bpf/parse.h", "bpf/maps.h", "bpf/types.h"
          ],
          "outputs": ["<(PRODUCT_DIR)/../bpf/decap.bpf.o"],
          "action": ["clang", "<@(bpf_cflags)", "-c", "bpf/decap.bpf.c", "-o", "<@(_outputs)"]
        },
        {
          "action_name": "flow_cache",
          "inputs": ["bpf/flow_cache.bpf.c", "bpf/flow_outer.h", "bpf/flow_plain.h", "bpf/flow_sets.h", "bpf/parse.h", "bpf/maps.h", "bpf/types.h"],
          "outputs": ["<(PRODUCT_DIR)/../bpf/flow_cache.bpf.o"],
          "action": ["clang", "<@(bpf_cflags)", "-c", "bpf/flow_cache.bpf.c", "-o", "<@(_outputs)"]
        },
        {
          "action_name": "pass",
          "inputs": ["bpf/pass.bpf.c"],
          "outputs": ["<(PRODUCT_DIR)/../bpf/pass.bpf.o"],
          "action": ["clang", "<@(bpf_cflags)", "-c", "bpf/pass.bpf.c", "-o", "<@(_outputs)"]
        }
      ]
    }
  ]
}
