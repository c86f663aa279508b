#include "readable.h"

#include <node_api.h>

#include "errno_error.h"

namespace sluice {

struct Readable::Handle {
  uv_poll_t poll;
  napi_env env = nullptr;
  Napi::FunctionReference callback;
  std::shared_ptr<Napi::AsyncContext> context;

  static void OnReady(uv_poll_t* poll, int, int) {
    // Errors of the descriptor (the device is gone) are told too: whoever reads finds out.
    auto* handle = static_cast<Handle*>(poll->data);
    Napi::HandleScope scope(handle->env);
    // The callback may end the watch: what is needed until it returns is held here.
    const std::shared_ptr<Napi::AsyncContext> context = handle->context;
    Napi::Function callback = handle->callback.Value();
    napi_env env = handle->env;
    napi_value result = nullptr;
    const napi_status status = napi_make_callback(env, *context, Napi::Env(env).Global(), callback, 0,
                                                  nullptr, &result);
    if (status != napi_pending_exception) return;
    napi_value error = nullptr;
    if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
  }

  static void OnClosed(uv_handle_t* raw) { delete static_cast<Handle*>(raw->data); }
};

std::unique_ptr<Readable> Readable::Watch(Napi::Env env, int fd, Napi::Function callback) {
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) {
    Napi::Error::New(env, "this environment has no event loop").ThrowAsJavaScriptException();
    return nullptr;
  }
  auto handle = std::make_unique<Handle>();
  handle->env = env;
  handle->poll.data = handle.get();
  if (const int err = uv_poll_init(loop, &handle->poll, fd)) {
    ThrowErrno(env, -err, "uv_poll_init", "");
    return nullptr;
  }
  // From here on the loop knows the handle: only OnClosed may free it.
  handle->callback = Napi::Persistent(callback);
  handle->context = std::make_shared<Napi::AsyncContext>(env, "sluice.Readable");
  std::unique_ptr<Readable> watch(new Readable(handle.release()));
  uv_unref(reinterpret_cast<uv_handle_t*>(&watch->handle_->poll));
  if (const int err = uv_poll_start(&watch->handle_->poll, UV_READABLE, &Handle::OnReady)) {
    ThrowErrno(env, -err, "uv_poll_start", "");
    return nullptr;
  }
  return watch;
}

Readable::~Readable() {
  uv_poll_stop(&handle_->poll);
  // While JavaScript still runs: the handle's own end comes later, perhaps after the environment's.
  handle_->callback.Reset();
  handle_->context.reset();
  uv_close(reinterpret_cast<uv_handle_t*>(&handle_->poll), &Handle::OnClosed);
}

}  // namespace sluice
