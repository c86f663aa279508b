#include "link.h"

#include <dirent.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "errno_error.h"
#include "fd.h"
#include "js_args.h"

namespace sluice {
namespace {

/// One interface and a socket to ask the device layer through. AF_UNIX: it needs no capability and no IP.
class LinkQuery {
 public:
  explicit LinkQuery(const std::string& name) : fd_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    memcpy(request_.ifr_name, name.c_str(), std::min<size_t>(name.size(), IFNAMSIZ - 1));
  }

  /// Answer in `request()`; 0 or errno.
  int Ask(unsigned long what) {
    if (!fd_) return errno;
    return ioctl(fd_.get(), what, &request_) == 0 ? 0 : errno;
  }

  /// SIOCETHTOOL with one of linux/ethtool.h's structs; 0 or errno.
  template <class Command>
  int Ethtool(Command* command) {
    request_.ifr_data = reinterpret_cast<char*>(command);
    return Ask(SIOCETHTOOL);
  }

  const ifreq& request() const { return request_; }

 private:
  Fd fd_;
  ifreq request_{};
};

/// Directories rx-N and tx-N below /sys/class/net; false when /sys shows another namespace (it belongs to the namespace
/// that mounted it, so the index must agree).
bool QueuesFromSys(const std::string& name, uint32_t ifindex, QueueCount* count) {
  const std::string base = "/sys/class/net/" + name;
  FILE* file = fopen((base + "/ifindex").c_str(), "re");
  if (!file) return false;
  unsigned found = 0;
  const bool same = fscanf(file, "%u", &found) == 1 && found == ifindex;
  fclose(file);
  DIR* dir = same ? opendir((base + "/queues").c_str()) : nullptr;
  if (!dir) return false;
  *count = {0, 0};
  while (const dirent* entry = readdir(dir)) {
    if (strncmp(entry->d_name, "rx-", 3) == 0) ++count->rx;
    if (strncmp(entry->d_name, "tx-", 3) == 0) ++count->tx;
  }
  closedir(dir);
  return count->rx > 0;
}

Napi::Value LinkInfo(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string name;
  if (!ArgInterfaceName(env, info[0], "interfaceName", &name)) return env.Undefined();
  uint32_t ifindex = 0;
  SysError error;
  if (!FindInterface(name, &ifindex, &error)) {
    ThrowErrno(env, error.err, error.syscall, error.subject);
    return env.Undefined();
  }
  LinkQuery link(name);
  const auto fail = [&](int err, const char* what) {
    ThrowErrno(env, err, what, name);
    return env.Undefined();
  };
  Napi::Object out = Napi::Object::New(env);
  out.Set("ifindex", ifindex);
  if (const int err = link.Ask(SIOCGIFFLAGS)) return fail(err, "SIOCGIFFLAGS");
  const auto flags = static_cast<unsigned short>(link.request().ifr_flags);
  if (const int err = link.Ask(SIOCGIFMTU)) return fail(err, "SIOCGIFMTU");
  out.Set("mtu", link.request().ifr_mtu);
  if (const int err = link.Ask(SIOCGIFHWADDR)) return fail(err, "SIOCGIFHWADDR");
  Napi::Uint8Array address = Napi::Uint8Array::New(env, 6);
  if (!address.IsEmpty()) memcpy(address.Data(), link.request().ifr_hwaddr.sa_data, 6);
  out.Set("address", address);
  out.Set("driver", DriverName(name));
  out.Set("up", (flags & IFF_UP) != 0);
  out.Set("running", (flags & IFF_RUNNING) != 0);
  const QueueCount queues = QueueCounts(name);
  out.Set("rxQueues", queues.rx);
  out.Set("txQueues", queues.tx);
  return out;
}

}  // namespace

bool FindInterface(const std::string& name, uint32_t* ifindex, SysError* error) {
  LinkQuery link(name);
  if (const int err = link.Ask(SIOCGIFINDEX)) {
    *error = {err, "SIOCGIFINDEX", name, ""};
    return false;
  }
  *ifindex = static_cast<uint32_t>(link.request().ifr_ifindex);
  return true;
}

std::string DriverName(const std::string& name) {
  ethtool_drvinfo info{};
  info.cmd = ETHTOOL_GDRVINFO;
  if (LinkQuery(name).Ethtool(&info) != 0) return "";  // not every device answers, lo for one
  info.driver[sizeof(info.driver) - 1] = '\0';
  return info.driver;
}

uint32_t LinkMtu(const std::string& name) {
  LinkQuery link(name);
  return link.Ask(SIOCGIFMTU) == 0 ? static_cast<uint32_t>(link.request().ifr_mtu) : 0;
}

QueueCount QueueCounts(const std::string& name) {
  ethtool_channels channels{};
  channels.cmd = ETHTOOL_GCHANNELS;
  if (LinkQuery(name).Ethtool(&channels) == 0 && channels.combined_count + channels.rx_count > 0) {
    return {channels.combined_count + channels.rx_count, channels.combined_count + channels.tx_count};
  }
  uint32_t ifindex = 0;
  SysError ignored;
  QueueCount count;
  if (FindInterface(name, &ifindex, &ignored) && QueuesFromSys(name, ifindex, &count)) return count;
  return {};
}

void InitLink(Napi::Env env, Napi::Object exports) {
  exports.Set("linkInfo", Napi::Function::New(env, LinkInfo, "linkInfo"));
}

}  // namespace sluice
