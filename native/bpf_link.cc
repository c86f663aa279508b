#include "bpf_link.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>

#include "bpf_init.h"
#include "bpf_object.h"
#include "bpf_program.h"
#include "bpf_query.h"
#include "errno_error.h"
#include "js_args.h"
#include "js_class.h"

namespace sluice {
namespace {

/// What the kernel's answer means for this interface (net/core/dev.c, dev_xdp_attach(); ERANGE and the like are the
/// driver's). "" leaves it to the table of errno_error.cc.
std::string AttachRemedy(int err, int ifindex, bool native, const std::string& name) {
  const std::string holder = DescribeXdp(ifindex);
  switch (-err) {
    case EBUSY:
      return holder.empty() ? "Another XDP program was attached to " + name + " a moment ago: look with `ip link show`."
                            : name + " has XDP " + holder +
                                  " already, and it was left alone: stop the program that owns it, or detach it with "
                                  "`ip link set dev " + name + " xdp off`.";
    case EEXIST:
      return name + " has XDP " + (holder.empty() ? "a program" : holder) +
             " in the other mode, and native and generic cannot both be active: stop its owner, or use the same mode.";
    case EOPNOTSUPP:
      return native ? "The driver of " + name + " has no native XDP: use mode generic, or another interface."
                    : "The kernel cannot do generic XDP on " + name + ": use mode native.";
    case ERANGE:
      return "The MTU of " + name + " or of its peer is too large for native XDP in one page: lower it to 3506 or less, "
             "for example `ip link set dev " + name + " mtu 1500`.";
    case EPERM:
      return "Attaching XDP needs CAP_NET_ADMIN and CAP_BPF: run as root or grant both.";
    case EINVAL:
      return native ? "The driver of " + name + " refused: often the MTU is too large for native XDP, or LRO or too many "
                      "queues are on (ethtool -K, ethtool -L); the kernel log says which."
                    : "The kernel refused XDP on " + name + ": is it part of another device that has XDP?";
    default:
      return "";
  }
}

struct LinkSource {
  int fd;
  __u32 id;
  std::string where;
};

}  // namespace

Napi::Value AttachXdpLink(Napi::Env env, Napi::Value ifindex_value, Napi::Value mode_value, int program_fd) {
  int ifindex = 0;
  std::string mode;
  if (!ArgInteger(env, ifindex_value, "ifindex", 1, INT32_MAX, &ifindex) || !ArgString(env, mode_value, "mode", &mode)) {
    return env.Undefined();
  }
  if (mode != "native" && mode != "generic") {
    FailRange(env, "mode must be native or generic, got " + Show(mode_value));
    return env.Undefined();
  }
  const std::string name = InterfaceName(ifindex);
  char unused[IF_NAMESIZE];
  if (!if_indextoname(static_cast<unsigned>(ifindex), unused)) {
    ThrowErrno(env, ENODEV, "bpf", "attach XDP to " + name);
    return env.Undefined();
  }

  LIBBPF_OPTS(bpf_link_create_opts, options);
  options.flags = mode == "native" ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
  Fd fd(bpf_link_create(program_fd, ifindex, BPF_XDP, &options));
  if (!fd) {
    const int err = -errno;
    const std::string holder = err == -EBUSY || err == -EEXIST ? DescribeXdp(ifindex) : "";
    ThrowErrno(env, err, "bpf",
               "attach XDP to " + name + " in " + mode + " mode" + (holder.empty() ? "" : ", which has " + holder),
               AttachRemedy(err, ifindex, mode == "native", name));
    return env.Undefined();
  }
  bpf_link_info link = {};
  __u32 size = sizeof(link);
  if (bpf_obj_get_info_by_fd(fd.get(), &link, &size) != 0) {
    ThrowErrno(env, errno, "bpf", "look up the link on " + name);
    return env.Undefined();
  }
  LinkSource source = {fd.get(), link.id, name};
  Napi::Value result = Construct(env, BpfStateOf(env).link_class, &source);
  // Create() took the descriptor over, unless the environment is going down: then Fd detaches here.
  if (source.fd < 0) fd.release();
  return result;
}

std::unique_ptr<BpfLink> BpfLink::Create(const Napi::CallbackInfo& info) {
  auto* source = static_cast<LinkSource*>(ConstructionArgument(info, kName));
  if (!source) return nullptr;
  Fd fd(source->fd);
  source->fd = -1;
  return std::make_unique<BpfLink>(std::move(fd), source->id, source->where);
}

void BpfLink::Shutdown() {
  // Detaches even if another process has got hold of the descriptor. Fails harmlessly when the interface is gone.
  if (fd_) bpf_link_detach(fd_.get());
  fd_.reset();
}

Napi::Value BpfLink::Id(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), id_); }

Napi::Value BpfLink::FdNumber(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), fd_.get()); }

Napi::Value BpfLink::Update(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!fd_) {
    ThrowClosed(env, "link");
    return env.Undefined();
  }
  int program = -1;
  if (const BpfProgram* alone = JsClass<BpfProgram>::Unwrap(env, info[0], *AddonData::Of(env))) {
    if (alone->CheckOpen(env)) program = alone->fd();
  } else if (const BpfObject* object = JsClass<BpfObject>::Unwrap(env, info[0], *AddonData::Of(env))) {
    program = object->FindProgram(env, info[1]);
  } else {
    FailType(env, "object must be a BpfObject or a BpfProgram, got " + Show(info[0]));
  }
  if (program < 0) return env.Undefined();
  if (bpf_link_update(fd_.get(), program, nullptr) != 0) {
    const int err = errno;
    ThrowErrno(env, err, "bpf", "update the program on " + where_,
               err == ENOLINK ? "The interface is gone: close the link, and attach again once it is back." : "");
  }
  return env.Undefined();
}

Napi::Value BpfLink::Close(const Napi::CallbackInfo& info) {
  Shutdown();
  return info.Env().Undefined();
}

napi_ref DefineBpfLink(Napi::Env env) {
  using C = JsClass<BpfLink>;
  Napi::Object holder = Napi::Object::New(env);
  C::Define(env, holder,
            {C::Getter<&BpfLink::Id>("id"), C::Getter<&BpfLink::FdNumber>("fd"), C::Function<&BpfLink::Update>("update"),
             C::Function<&BpfLink::Close>("close")});
  napi_ref reference = nullptr;
  napi_create_reference(env, holder.Get(BpfLink::kName), 1, &reference);
  return reference;
}

}  // namespace sluice
