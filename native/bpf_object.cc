#include "bpf_object.h"

#include <errno.h>

#include "bpf_init.h"
#include "bpf_link.h"
#include "bpf_log.h"
#include "bpf_map.h"
#include "bpf_program.h"
#include "bpf_query.h"
#include "bpf_rodata.h"
#include "bpf_test_run.h"
#include "errno_error.h"
#include "js_args.h"
#include "js_class.h"

namespace sluice {
namespace {

constexpr char kRebuild[] = "Run: npm run build:native (it compiles the BPF objects).";

/// libbpf numbers its own errors from 4000; the kernel knows none of them.
int KernelErrno(int err) {
  err = err < 0 ? -err : err;
  return err >= __LIBBPF_ERRNO__START ? ENOEXEC : err;
}

/// Something done in the wrong order; code SLUICE_STATE.
Napi::Value FailState(Napi::Env env, const char* message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Value().Set("code", "SLUICE_STATE");
  error.ThrowAsJavaScriptException();
  return env.Undefined();
}

void ThrowLoadError(Napi::Env env, int err, const BpfHandle& handle, const BpfLog& log) {
  const std::string program = log.FailedProgram();
  const std::string verifier = log.VerifierLog();
  const std::string reason = log.Reason();
  err = KernelErrno(err);

  std::string remedy;
  if (!verifier.empty()) {
    remedy = "The kernel's verifier refused it: " + reason + ". The property verifierLog has the whole of what it says.";
  } else if (err != EPERM && !reason.empty()) {
    remedy = "libbpf says: " + reason;
  }
  Napi::Error error = MakeErrnoError(
      env, err, "bpf", (program.empty() ? "load " : "load program " + program + " of ") + handle.path, remedy);
  error.Value().Set("verifierLog", verifier.empty() ? log.text() : verifier);
  error.Value().Set("program", program);
  error.ThrowAsJavaScriptException();
}

}  // namespace

std::unique_ptr<BpfObject> BpfObject::Create(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto handle = std::make_shared<BpfHandle>();
  if (!ArgString(env, info[0], "path", &handle->path)) return nullptr;

  BpfLog log;
  handle->object = bpf_object__open_file(handle->path.c_str(), nullptr);
  if (!handle->object) {
    const int err = errno;
    const std::string reason = err == ENOENT ? "" : log.Reason();
    ThrowErrno(env, KernelErrno(err), "open", handle->path,
               kRebuild + (reason.empty() ? "" : " libbpf says: " + reason + "."));
    return nullptr;
  }
  return std::make_unique<BpfObject>(std::move(handle));
}

bool BpfObject::CheckOpen(Napi::Env env) const {
  if (handle_->object) return true;
  ThrowClosed(env, "BPF object");
  return false;
}

bool BpfObject::CheckLoaded(Napi::Env env) const {
  if (!CheckOpen(env)) return false;
  if (handle_->loaded) return true;
  FailState(env, "the BPF object is not loaded: call load() first");
  return false;
}

Napi::Value BpfObject::SetRodata(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!CheckOpen(env)) return env.Undefined();
  if (handle_->loaded) return FailState(env, "the BPF object is loaded, its settings are fixed: open a new one");
  if (!info[0].IsObject()) {
    FailType(env, "values must be an object, got " + Show(info[0]));
    return env.Undefined();
  }
  WriteRodata(env, handle_->object, info[0].As<Napi::Object>());
  return env.Undefined();
}

Napi::Value BpfObject::Load(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!CheckOpen(env)) return env.Undefined();
  if (handle_->loaded) return FailState(env, "the BPF object is loaded already");
  BpfLog log;
  const int err = bpf_object__load(handle_->object);
  if (err != 0) {
    // libbpf cannot load an object twice: it stays open for programs() and maps(), and every load() fails.
    ThrowLoadError(env, err, *handle_, log);
    return env.Undefined();
  }
  handle_->loaded = true;
  return env.Undefined();
}

Napi::Value BpfObject::Programs(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!CheckOpen(env)) return env.Undefined();
  Napi::Array names = Napi::Array::New(env);
  struct bpf_program* program = nullptr;
  bpf_object__for_each_program(program, handle_->object) {
    names.Set(names.Length(), Napi::String::New(env, bpf_program__name(program)));
  }
  return names;
}

Napi::Value BpfObject::Maps(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!CheckOpen(env)) return env.Undefined();
  Napi::Array names = Napi::Array::New(env);
  struct bpf_map* map = nullptr;
  bpf_object__for_each_map(map, handle_->object) {
    // .rodata, .bss and the like are libbpf's.
    if (!bpf_map__is_internal(map)) names.Set(names.Length(), Napi::String::New(env, bpf_map__name(map)));
  }
  return names;
}

int BpfObject::FindProgram(Napi::Env env, const Napi::Value& name) const {
  std::string wanted, known;
  if (!CheckLoaded(env) || !ArgString(env, name, "program", &wanted)) return -1;
  struct bpf_program* program = nullptr;
  bpf_object__for_each_program(program, handle_->object) {
    if (wanted == bpf_program__name(program)) return bpf_program__fd(program);
    known += (known.empty() ? "" : ", ") + std::string(bpf_program__name(program));
  }
  FailRange(env, handle_->path + " has no program \"" + wanted + "\"; it has: " + known);
  return -1;
}

Napi::Value BpfObject::ProgramFd(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int fd = FindProgram(env, info[0]);
  return fd < 0 ? env.Undefined() : Napi::Number::New(env, fd);
}

Napi::Value BpfObject::Map(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string wanted, known;
  if (!CheckLoaded(env) || !ArgString(env, info[0], "name", &wanted)) return env.Undefined();
  struct bpf_map* map = nullptr;
  bpf_object__for_each_map(map, handle_->object) {
    if (bpf_map__is_internal(map)) continue;
    if (wanted == bpf_map__name(map)) {
      BpfMapSource source = {handle_,
                             bpf_map__fd(map),
                             bpf_map__name(map),
                             bpf_map__type(map),
                             bpf_map__key_size(map),
                             bpf_map__value_size(map),
                             bpf_map__max_entries(map)};
      return Construct(env, BpfStateOf(env).map_class, &source);
    }
    known += (known.empty() ? "" : ", ") + std::string(bpf_map__name(map));
  }
  FailRange(env, handle_->path + " has no map \"" + wanted + "\"; it has: " + known);
  return env.Undefined();
}

Napi::Value BpfObject::AttachXdp(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int program = FindProgram(env, info[0]);
  return program < 0 ? env.Undefined() : AttachXdpLink(env, info[1], info[2], program);
}

Napi::Value BpfObject::TestRun(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int program = FindProgram(env, info[0]);
  return program < 0 ? env.Undefined() : RunTest(env, info[1], program);
}

Napi::Value BpfObject::Close(const Napi::CallbackInfo& info) {
  handle_->Close();
  return info.Env().Undefined();
}

// -- Registration -----------------------------------------------------------------------------------------------------

BpfState& BpfStateOf(Napi::Env env) { return *static_cast<BpfState*>(AddonData::Of(env)->bpf.get()); }

Napi::Value Construct(Napi::Env env, napi_ref constructor, void* argument) {
  napi_value function = nullptr, external = nullptr, instance = nullptr;
  if (napi_get_reference_value(env, constructor, &function) != napi_ok) return env.Undefined();
  if (napi_create_external(env, argument, nullptr, nullptr, &external) != napi_ok) return env.Undefined();
  if (napi_new_instance(env, function, 1, &external, &instance) != napi_ok) return env.Undefined();
  return Napi::Value(env, instance);
}

void* ConstructionArgument(const Napi::CallbackInfo& info, const char* class_name) {
  void* argument = nullptr;
  if (info[0].IsExternal() && napi_get_value_external(info.Env(), info[0], &argument) == napi_ok) return argument;
  FailType(info.Env(), std::string(class_name) + " objects are not made with new");
  return nullptr;
}

Napi::Object InitBpf(Napi::Env env, Napi::Object exports) {
  BpfLog::Install();
  auto state = std::make_shared<BpfState>();
  AddonData::Of(env)->bpf = state;

  using C = JsClass<BpfObject>;
  C::Define(env, exports,
            {C::Function<&BpfObject::SetRodata>("setRodata"), C::Function<&BpfObject::Load>("load"),
             C::Function<&BpfObject::Programs>("programs"), C::Function<&BpfObject::ProgramFd>("programFd"),
             C::Function<&BpfObject::Map>("map"), C::Function<&BpfObject::Maps>("maps"),
             C::Function<&BpfObject::AttachXdp>("attachXdp"), C::Function<&BpfObject::TestRun>("testRun"),
             C::Function<&BpfObject::Close>("close")});
  state->map_class = DefineBpfMap(env);
  state->link_class = DefineBpfLink(env);
  state->program_class = DefineBpfProgram(env, exports);
  exports.Set("queryXdp", Napi::Function::New(env, QueryXdpFunction, "queryXdp"));
  exports.Set("libbpfVersion", Napi::Function::New(
                                   env,
                                   [](const Napi::CallbackInfo& info) -> Napi::Value {
                                     return Napi::String::New(info.Env(), std::to_string(libbpf_major_version()) + "." +
                                                                              std::to_string(libbpf_minor_version()));
                                   },
                                   "libbpfVersion"));
  return exports;
}

}  // namespace sluice
