#include "bpf_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "bpf_init.h"
#include "bpf_link.h"
#include "bpf_log.h"
#include "bpf_map.h"
#include "bpf_test_run.h"
#include "errno_error.h"
#include "js_args.h"
#include "js_class.h"

namespace sluice {
namespace {

/// Bytes of the verifier's log that are kept. Kernels from 6.4 on keep its end when it is longer, which has the reason.
constexpr size_t kLogBytes = 1 << 20;

/// More than a few types need.
constexpr size_t kBtfLogBytes = 1 << 14;

/// Found out after seconds, so it is not asked twice; and what the log would say is this.
constexpr char kTooLarge[] =
    "It has more instructions, or more ways through them, than the kernel's verifier goes through (a million steps).";

struct ProgramSource {
  int fd;
  std::string name;
};

bool ArgBytes(Napi::Env env, Napi::Value value, const char* name, Napi::Uint8Array* out) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    return FailType(env, std::string(name) + " must be a Uint8Array, got " + Show(value));
  }
  *out = value.As<Napi::Uint8Array>();
  return true;
}

/// A name as the kernel takes it: bpf_obj_name_cpy in kernel/bpf/syscall.c.
bool ArgBpfName(Napi::Env env, Napi::Value value, std::string* out) {
  if (!ArgString(env, value, "name", out)) return false;
  const auto valid = [](unsigned char c) { return isalnum(c) || c == '_' || c == '.'; };
  return (out->size() < BPF_OBJ_NAME_LEN && std::all_of(out->begin(), out->end(), valid)) ||
         FailRange(env, "name must have at most 15 letters, digits, _ and ., got " + Show(value));
}

/// The last line of a verifier's log that says something: what it stopped at.
std::string LastLine(std::string log) {
  std::string last;
  size_t at = 0;
  while (at < log.size()) {
    const size_t end = std::min(log.find('\n', at), log.size());
    const std::string line = log.substr(at, end - at);
    const bool statistics = line.rfind("processed ", 0) == 0 || line.rfind("verification time", 0) == 0 ||
                            line.rfind("stack depth", 0) == 0;
    if (!line.empty() && !statistics) last = line;
    at = end + 1;
  }
  return last;
}

void ThrowRefused(Napi::Env env, int err, const std::string& name, const std::string& log) {
  const std::string reason = LastLine(log);
  Napi::Error error =
      MakeErrnoError(env, err, "bpf", "load program " + name,
                     reason.empty() ? "" : "The kernel's verifier refused it: " + reason +
                                               ". The property verifierLog has the whole of what it says.");
  error.Value().Set("verifierLog", log);
  error.Value().Set("program", name);
  error.ThrowAsJavaScriptException();
}

/// loadProgram of src/native.ts.
Napi::Value LoadProgram(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object options;
  Napi::Value type_value, bytes_value, name_value, license_value;
  std::string type, name, license;
  Napi::Uint8Array bytes;
  if (!ArgOptions(env, info[0], "options", {"type", "instructions", "name", "license"}, &options) ||
      !GetOption(env, options, "type", &type_value) || !ArgString(env, type_value, "type", &type) ||
      !GetOption(env, options, "name", &name_value) || !ArgBpfName(env, name_value, &name) ||
      !GetOption(env, options, "license", &license_value) || !ArgString(env, license_value, "license", &license) ||
      !GetOption(env, options, "instructions", &bytes_value) || !ArgBytes(env, bytes_value, "instructions", &bytes)) {
    return env.Undefined();
  }
  if (type != "xdp") {
    FailRange(env, "type must be xdp, got " + Show(type_value));
    return env.Undefined();
  }
  if (bytes.ByteLength() == 0 || bytes.ByteLength() % sizeof(bpf_insn) != 0) {
    FailRange(env, "instructions must have 8 bytes each, got " + std::to_string(bytes.ByteLength()) + " bytes");
    return env.Undefined();
  }
  // A copy: a view into an ArrayBuffer need not be aligned.
  std::vector<bpf_insn> code(bytes.ByteLength() / sizeof(bpf_insn));
  std::copy_n(bytes.Data(), bytes.ByteLength(), reinterpret_cast<uint8_t*>(code.data()));

  BpfLog quiet;
  LIBBPF_OPTS(bpf_prog_load_opts, load);
  // As libbpf sets it for section "xdp": programs that call each other by PROG_ARRAY have to have the same.
  load.expected_attach_type = BPF_XDP;
  Fd fd(bpf_prog_load(BPF_PROG_TYPE_XDP, name.c_str(), license.c_str(), code.data(), code.size(), &load));
  if (!fd) {
    const int err = errno;
    if (err == E2BIG) {
      ThrowErrno(env, err, "bpf", "load program " + name, kTooLarge);
      return env.Undefined();
    }
    // Again for the log, which costs the verifier time that a program that loads need not spend.
    std::string log(kLogBytes, '\0');
    load.log_level = 1;
    load.log_buf = &log[0];
    load.log_size = static_cast<__u32>(log.size());
    fd.reset(bpf_prog_load(BPF_PROG_TYPE_XDP, name.c_str(), license.c_str(), code.data(), code.size(), &load));
    if (!fd) {
      log.resize(log.find('\0') == std::string::npos ? log.size() : log.find('\0'));
      ThrowRefused(env, err, name, log);
      return env.Undefined();
    }
  }
  ProgramSource source = {fd.get(), name};
  Napi::Value result = Construct(env, BpfStateOf(env).program_class, &source);
  // Create() took the descriptor over, unless the environment is going down.
  if (source.fd < 0) fd.release();
  return result;
}

/// The option `btf` of createMap: loads the types and names those of key and value. True when it is left out.
bool LoadMapBtf(Napi::Env env, Napi::Object options, Fd* fd, bpf_map_create_opts* create) {
  Napi::Value value, types_value;
  Napi::Object btf;
  Napi::Uint8Array types;
  uint32_t key = 0, content = 0;
  if (!GetOption(env, options, "btf", &value)) return false;
  if (value.IsUndefined()) return true;
  if (!ArgOptions(env, value, "btf", {"types", "key", "value"}, &btf) || !GetOption(env, btf, "types", &types_value) ||
      !ArgBytes(env, types_value, "types", &types) || !OptInteger(env, btf, "key", 0, INT32_MAX, &key) ||
      !OptInteger(env, btf, "value", 0, INT32_MAX, &content)) {
    return false;
  }
  std::string log(kBtfLogBytes, '\0');
  LIBBPF_OPTS(bpf_btf_load_opts, load);
  load.log_level = 1;
  load.log_buf = &log[0];
  load.log_size = static_cast<__u32>(log.size());
  fd->reset(bpf_btf_load(types.Data(), types.ByteLength(), &load));
  if (!*fd) {
    const int err = errno;
    log.resize(log.find('\0') == std::string::npos ? log.size() : log.find('\0'));
    ThrowErrno(env, err, "bpf", "load the types of a map", log.empty() ? "" : "The kernel refused them: " + LastLine(log));
    return false;
  }
  create->btf_fd = static_cast<__u32>(fd->get());
  create->btf_key_type_id = key;
  create->btf_value_type_id = content;
  return true;
}

/// createMap of src/native.ts.
Napi::Value CreateMap(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object options;
  Napi::Value name_value;
  std::string name;
  uint32_t type = 0, key_size = 0, value_size = 0, max_entries = 0, flags = 0;
  constexpr int64_t kMax = UINT32_MAX;
  if (!ArgOptions(env, info[0], "options", {"type", "keySize", "valueSize", "maxEntries", "flags", "name", "btf"}, &options) ||
      !GetOption(env, options, "name", &name_value) || !ArgBpfName(env, name_value, &name) ||
      !OptInteger(env, options, "type", 1, INT32_MAX, &type) ||
      !OptInteger(env, options, "keySize", 0, 512, &key_size) ||
      !OptInteger(env, options, "valueSize", 0, 1 << 20, &value_size) ||
      !OptInteger(env, options, "maxEntries", 0, kMax, &max_entries) || !OptInteger(env, options, "flags", 0, kMax, &flags)) {
    return env.Undefined();
  }
  BpfLog quiet;
  LIBBPF_OPTS(bpf_map_create_opts, create);
  create.map_flags = flags;
  // The map holds the types: the descriptor is only for its making.
  Fd btf;
  if (!LoadMapBtf(env, options, &btf, &create)) return env.Undefined();
  const auto map_type = static_cast<bpf_map_type>(type);
  Fd fd(bpf_map_create(map_type, name.c_str(), key_size, value_size, max_entries, &create));
  if (!fd) {
    const int err = errno;
    ThrowErrno(env, err, "bpf", "create map " + name,
               err == EINVAL ? "The kernel takes no map of this type, with these sizes and flags."
                             : err == E2BIG || err == ENOMEM ? "The map is larger than the kernel allows: ask for fewer entries." : "");
    return env.Undefined();
  }
  BpfMapSource source = {nullptr, fd.get(), name, map_type, key_size, value_size, max_entries};
  Napi::Value result = Construct(env, BpfStateOf(env).map_class, &source);
  if (source.fd < 0) fd.release();
  return result;
}

/// mapByFd of src/native.ts.
Napi::Value MapByFd(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int given = -1;
  if (!ArgInteger(env, info[0], "fd", 0, INT32_MAX, &given)) return env.Undefined();
  bpf_map_info about{};
  __u32 length = sizeof(about);
  Fd fd(fcntl(given, F_DUPFD_CLOEXEC, 3));
  // The kernel answers for programs too, with what a program has.
  char kind[32] = {};
  if (fd && readlink(("/proc/self/fd/" + std::to_string(fd.get())).c_str(), kind, sizeof(kind) - 1) > 0 &&
      strcmp(kind, "anon_inode:bpf-map") != 0) {
    errno = EINVAL;
    fd = Fd();
  }
  if (!fd || bpf_obj_get_info_by_fd(fd.get(), &about, &length) != 0) {
    ThrowErrno(env, errno, "bpf", "descriptor " + std::to_string(given), "Give the descriptor of a BPF map of this process.");
    return env.Undefined();
  }
  const auto type = static_cast<bpf_map_type>(about.type);
  BpfMapSource source = {nullptr, fd.get(), about.name, type, about.key_size, about.value_size, about.max_entries};
  Napi::Value result = Construct(env, BpfStateOf(env).map_class, &source);
  if (source.fd < 0) fd.release();
  return result;
}

}  // namespace

std::unique_ptr<BpfProgram> BpfProgram::Create(const Napi::CallbackInfo& info) {
  auto* source = static_cast<ProgramSource*>(ConstructionArgument(info, kName));
  if (!source) return nullptr;
  Fd fd(source->fd);
  source->fd = -1;
  return std::make_unique<BpfProgram>(std::move(fd), source->name);
}

bool BpfProgram::CheckOpen(Napi::Env env) const {
  if (fd_) return true;
  ThrowClosed(env, "BPF program");
  return false;
}

Napi::Value BpfProgram::Name(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), name_); }

Napi::Value BpfProgram::FdNumber(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), fd_.get()); }

Napi::Value BpfProgram::Info(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!CheckOpen(env)) return env.Undefined();
  bpf_prog_info program = {};
  __u32 size = sizeof(program);
  if (bpf_obj_get_info_by_fd(fd_.get(), &program, &size) != 0) {
    ThrowErrno(env, errno, "bpf", "ask for program " + name_);
    return env.Undefined();
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("id", program.id);
  result.Set("instructions", static_cast<double>(program.xlated_prog_len / sizeof(bpf_insn)));
  result.Set("machineBytes", program.jited_prog_len);
  result.Set("verified", program.verified_insns);
  return result;
}

Napi::Value BpfProgram::TestRun(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return CheckOpen(env) ? RunTest(env, info[0], fd_.get()) : env.Undefined();
}

Napi::Value BpfProgram::RunFrames(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return CheckOpen(env) ? RunTestFrames(info, fd_.get()) : env.Undefined();
}

Napi::Value BpfProgram::AttachXdp(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return CheckOpen(env) ? AttachXdpLink(env, info[0], info[1], fd_.get()) : env.Undefined();
}

Napi::Value BpfProgram::Close(const Napi::CallbackInfo& info) {
  Shutdown();
  return info.Env().Undefined();
}

napi_ref DefineBpfProgram(Napi::Env env, Napi::Object exports) {
  using C = JsClass<BpfProgram>;
  Napi::Object holder = Napi::Object::New(env);
  C::Define(env, holder,
            {C::Getter<&BpfProgram::Name>("name"), C::Getter<&BpfProgram::FdNumber>("fd"),
             C::Function<&BpfProgram::Info>("info"), C::Function<&BpfProgram::TestRun>("testRun"),
             C::Function<&BpfProgram::RunFrames>("runFrames"),
             C::Function<&BpfProgram::AttachXdp>("attachXdp"), C::Function<&BpfProgram::Close>("close")});
  napi_ref reference = nullptr;
  napi_create_reference(env, holder.Get(BpfProgram::kName), 1, &reference);
  exports.Set("loadProgram", Napi::Function::New(env, LoadProgram, "loadProgram"));
  exports.Set("createMap", Napi::Function::New(env, CreateMap, "createMap"));
  exports.Set("mapByFd", Napi::Function::New(env, MapByFd, "mapByFd"));
  return reference;
}

}  // namespace sluice
