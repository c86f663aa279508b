#include "bpf_rodata.h"

#include <bpf/btf.h>
#include <string.h>

#include <string>
#include <vector>

#include "js_args.h"

namespace sluice {
namespace {

struct Setting {
  std::string name;
  __u32 offset;
  __u32 size;
  bool is_signed;
};

/// The section's map is called "<object>.rodata", cut to 15 characters on the left side.
struct bpf_map* RodataMap(struct bpf_object* object) {
  struct bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    const std::string name = bpf_map__name(map);
    if (bpf_map__is_internal(map) && name.size() >= 7 && name.compare(name.size() - 7, 7, ".rodata") == 0) return map;
  }
  return nullptr;
}

/// Type behind const, volatile and typedef.
const btf_type* Resolve(const btf* btf, __u32 id) {
  const btf_type* type = btf__type_by_id(btf, id);
  while (type && (btf_is_mod(type) || btf_is_typedef(type))) type = btf__type_by_id(btf, type->type);
  return type;
}

/// Every integer of .rodata that has a name.
std::vector<Setting> Settings(const struct bpf_object* object) {
  std::vector<Setting> settings;
  const btf* btf = bpf_object__btf(object);
  const int id = btf ? btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC) : -1;
  if (id < 0) return settings;
  const btf_type* section = btf__type_by_id(btf, static_cast<__u32>(id));
  const btf_var_secinfo* entry = btf_var_secinfos(section);
  for (int i = 0; i < btf_vlen(section); i++, entry++) {
    const btf_type* variable = btf__type_by_id(btf, entry->type);
    const btf_type* type = Resolve(btf, variable->type);
    if (!type || !(btf_is_int(type) || btf_is_any_enum(type))) continue;
    if (entry->size != 1 && entry->size != 2 && entry->size != 4 && entry->size != 8) continue;
    const bool is_signed = btf_is_int(type) ? (btf_int_encoding(type) & BTF_INT_SIGNED) != 0 : btf_kflag(type) != 0;
    settings.push_back({btf__name_by_offset(btf, variable->name_off), entry->offset, entry->size, is_signed});
  }
  return settings;
}

const Setting* Find(const std::vector<Setting>& settings, const std::string& name) {
  for (const Setting& setting : settings) {
    if (setting.name == name) return &setting;
  }
  return nullptr;
}

std::string Names(const std::vector<Setting>& settings) {
  std::string names;
  for (const Setting& setting : settings) names += (names.empty() ? "" : ", ") + setting.name;
  return names.empty() ? "none" : names;
}

/// A double holds integers up to 2^53; bigger ones never come from JavaScript unharmed.
int64_t Greatest(const Setting& setting) {
  const int bits = setting.size == 8 ? 53 : static_cast<int>(setting.size) * 8 - (setting.is_signed ? 1 : 0);
  return (int64_t{1} << bits) - 1;
}

int64_t Least(const Setting& setting) { return setting.is_signed ? -Greatest(setting) - 1 : 0; }

}  // namespace

void WriteRodata(Napi::Env env, struct bpf_object* object, Napi::Object values) {
  const std::vector<Setting> settings = Settings(object);
  struct bpf_map* map = RodataMap(object);
  size_t size = 0;
  auto* data = map ? static_cast<char*>(const_cast<void*>(bpf_map__initial_value(map, &size))) : nullptr;

  std::vector<std::pair<const Setting*, __s64>> writes;
  Napi::Array names = values.GetPropertyNames();
  if (env.IsExceptionPending()) return;
  for (uint32_t i = 0; i < names.Length(); i++) {
    const std::string name = Napi::Value(names[i]).As<Napi::String>().Utf8Value();
    const Setting* setting = Find(settings, name);
    if (!setting || !data || setting->offset + setting->size > size) {
      FailRange(env, "the BPF object has no setting \"" + name + "\"; it has: " + Names(settings));
      return;
    }
    Napi::Value value;
    if (!GetOption(env, values, name.c_str(), &value)) return;
    __s64 number = 0;
    if (!ArgInteger(env, value, ("setting " + name).c_str(), Least(*setting), Greatest(*setting), &number)) return;
    writes.push_back({setting, number});
  }
  for (const auto& [setting, value] : writes) {
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the low bytes of an integer come first only on little-endian machines"
#endif
    memcpy(data + setting->offset, &value, setting->size);
  }
}

}  // namespace sluice
