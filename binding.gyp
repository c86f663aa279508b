{
  "variables": {
    "bpf_cflags": ["-O2", "-g", "-Wall", "-Werror", "-target", "bpf", "-mcpu=v3", "-I/usr/include/<!(uname -m)-linux-gnu"]
  },
  "targets": [
    {
      "target_name": "sluice",
      "sources": [
        "native/addon.cc",
        "native/errno_error.cc",
        "native/umem.cc",
        "native/xsk_socket.cc",
        "native/xsk_burst.cc",
        "native/tap.cc",
        "native/link.cc",
        "native/process.cc",
        "native/bpf_object.cc",
        "native/bpf_map.cc",
        "native/bpf_link.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=9", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
      "cflags": ["-O2", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter"],
      "cflags_cc": ["-std=c++17", "-fno-exceptions", "-fno-rtti"],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-O3"],
      "libraries": ["-lbpf", "-lelf"]
    },
    {
      "target_name": "bpf",
      "type": "none",
      "actions": [
        {
          "action_name": "redirect",
          "inputs": ["bpf/redirect.bpf.c", "bpf/parse.h", "bpf/maps.h", "bpf/types.h"],
          "outputs": ["build/bpf/redirect.bpf.o"],
          "action": ["clang", "<@(bpf_cflags)", "-c", "bpf/redirect.bpf.c", "-o", "build/bpf/redirect.bpf.o"]
        },
        {
          "action_name": "decap",
          "inputs": ["bpf/decap.bpf.c", "bpf/parse.h", "bpf/maps.h", "bpf/types.h"],
          "outputs": ["build/bpf/decap.bpf.o"],
          "action": ["clang", "<@(bpf_cflags)", "-c", "bpf/decap.bpf.c", "-o", "build/bpf/decap.bpf.o"]
        }
      ]
    }
  ]
}
