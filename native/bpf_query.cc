#include "bpf_query.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdio.h>

#include "bpf_log.h"
#include "errno_error.h"
#include "fd.h"
#include "js_args.h"

namespace sluice {
namespace {

void ReadProgramInfo(XdpProgram* program) {
  Fd fd(bpf_prog_get_fd_by_id(program->id));
  if (!fd) return;
  bpf_prog_info info = {};
  __u32 size = sizeof(info);
  if (bpf_obj_get_info_by_fd(fd.get(), &info, &size) != 0) return;
  program->name = info.name;
  char hex[3];
  for (const unsigned char byte : info.tag) {
    snprintf(hex, sizeof(hex), "%02x", byte);
    program->tag += hex;
  }
}

}  // namespace

int QueryXdp(int ifindex, XdpProgram* program) {
  *program = XdpProgram();
  char name[IF_NAMESIZE];
  // libbpf dumps all links and reports an interface that is not among them as one without a program.
  if (ifindex <= 0 || if_indextoname(static_cast<unsigned>(ifindex), name) == nullptr) return -ENODEV;

  BpfLog quiet;
  LIBBPF_OPTS(bpf_xdp_query_opts, options);
  const int err = bpf_xdp_query(ifindex, 0, &options);
  if (err != 0) return err;
  program->id = options.prog_id;
  switch (options.attach_mode) {
    case XDP_ATTACHED_NONE:
      return 0;
    case XDP_ATTACHED_DRV:
      program->mode = "native";
      break;
    case XDP_ATTACHED_SKB:
      program->mode = "generic";
      break;
    case XDP_ATTACHED_HW:
      program->mode = "offload";
      break;
    default:
      // Several at once: the native one sees the packets first.
      program->mode = "multi";
      program->id = options.drv_prog_id ? options.drv_prog_id : options.skb_prog_id;
      break;
  }
  ReadProgramInfo(program);
  return 0;
}

std::string DescribeXdp(int ifindex) {
  XdpProgram program;
  if (QueryXdp(ifindex, &program) != 0 || program.id == 0) return "";
  return "program " + std::to_string(program.id) + " (" + (program.name.empty() ? "" : program.name + ", ") +
         program.mode + ")";
}

std::string InterfaceName(int ifindex) {
  char name[IF_NAMESIZE];
  if (ifindex > 0 && if_indextoname(static_cast<unsigned>(ifindex), name) != nullptr) return name;
  return "interface " + std::to_string(ifindex);
}

Napi::Value QueryXdpFunction(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int ifindex = 0;
  if (!ArgInteger(env, info[0], "ifindex", 1, INT32_MAX, &ifindex)) return env.Undefined();
  XdpProgram program;
  const int err = QueryXdp(ifindex, &program);
  if (err != 0) {
    ThrowErrno(env, err, "RTM_GETLINK", InterfaceName(ifindex));
    return env.Undefined();
  }
  if (program.id == 0) return env.Null();
  Napi::Object result = Napi::Object::New(env);
  result.Set("programId", program.id);
  result.Set("mode", program.mode);
  result.Set("programName", program.name);
  result.Set("tag", program.tag);
  return result;
}

}  // namespace sluice
