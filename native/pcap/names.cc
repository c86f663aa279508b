#include "names.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/ether.h>
#include <netinet/in.h>
#include <string.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

// libpcap asks the C library for names while it compiles. The functions below have the C library's names and are defined in
// the executable, which the dynamic linker searches first: libpcap's calls end here, and no name service, file or socket
// of the C library is ever behind them. Hosts, networks and Ethernet addresses have no names at all.

namespace sluice {
namespace {

/// A line of services(5) or protocols(5).
struct Entry {
  std::string name;
  int number;
  /// "tcp", "udp", …; empty for a protocol.
  std::string protocol;
  std::vector<std::string> aliases;

  bool Is(const char* wanted) const {
    if (name == wanted) return true;
    for (const std::string& alias : aliases) {
      if (alias == wanted) return true;
    }
    return false;
  }
};

std::vector<Entry>& Services() {
  static std::vector<Entry> services;
  return services;
}

std::vector<Entry>& Protocols() {
  static std::vector<Entry> protocols;
  return protocols;
}

constexpr char kServices[] =
    "ftp-data 20/tcp\nftp 21/tcp\nssh 22/tcp\ntelnet 23/tcp\nsmtp 25/tcp mail\ndomain 53/tcp\ndomain 53/udp\n"
    "bootps 67/udp\nbootpc 68/udp\ntftp 69/udp\nhttp 80/tcp www\npop3 110/tcp pop-3\nsunrpc 111/tcp portmapper\n"
    "sunrpc 111/udp portmapper\nntp 123/udp\nnetbios-ns 137/udp\nnetbios-dgm 138/udp\nnetbios-ssn 139/tcp\n"
    "imap2 143/tcp imap\nsnmp 161/tcp\nsnmp 161/udp\nbgp 179/tcp\nldap 389/tcp\nldap 389/udp\nhttps 443/tcp\n"
    "https 443/udp\nisakmp 500/udp\nsyslog 514/udp\nimaps 993/tcp\nmysql 3306/tcp\n";
constexpr char kProtocols[] =
    "ip 0 IP\nicmp 1 ICMP\nigmp 2 IGMP\nipencap 4 IP-ENCAP\ntcp 6 TCP\negp 8 EGP\nigp 9 IGP\nudp 17 UDP\nipv6 41 IPv6\n"
    "ipv6-route 43 IPv6-Route\nipv6-frag 44 IPv6-Frag\nrsvp 46 RSVP\ngre 47 GRE\nesp 50 IPSEC-ESP\nah 51 IPSEC-AH\n"
    "ipv6-icmp 58 IPv6-ICMP\nipv6-nonxt 59 IPv6-NoNxt\nipv6-opts 60 IPv6-Opts\neigrp 88 EIGRP\nospf 89 OSPFIGP\n"
    "pim 103 PIM\nvrrp 112 VRRP\nl2tp 115 L2TP\nsctp 132 SCTP\nudplite 136 UDPLite\n";

/// Larger files are read up to here: far above any that exists.
constexpr size_t kFileMost = 4 << 20;

std::string ReadFile(const char* path, const char* otherwise) {
  FILE* file = fopen(path, "re");
  if (file == nullptr) return otherwise;
  std::string text;
  char block[8192];
  for (size_t got; text.size() < kFileMost && (got = fread(block, 1, sizeof block, file)) > 0;) text.append(block, got);
  fclose(file);
  return text;
}

std::vector<std::string> Words(const std::string& line) {
  std::vector<std::string> words;
  const char* const kBlank = " \t\r";
  for (size_t at = line.find_first_not_of(kBlank); at != std::string::npos;) {
    const size_t end = line.find_first_of(kBlank, at);
    words.push_back(line.substr(at, end - at));
    at = end == std::string::npos ? end : line.find_first_not_of(kBlank, end);
  }
  return words;
}

/// Lines of "name number[/protocol] alias… # comment"; others are left out.
std::vector<Entry> Parse(const std::string& text, bool services) {
  std::vector<Entry> entries;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    const std::vector<std::string> words = Words(line.substr(0, line.find('#')));
    if (words.size() < 2) continue;
    char* rest = nullptr;
    const long number = strtol(words[1].c_str(), &rest, 10);
    if (rest == words[1].c_str() || number < 0 || number > (services ? 65535 : 255)) continue;
    if (services ? *rest != '/' : *rest != '\0') continue;
    entries.push_back({words[0], static_cast<int>(number), services ? rest + 1 : "", {words.begin() + 2, words.end()}});
  }
  return entries;
}

const Entry* Find(const std::vector<Entry>& entries, const char* name, const char* protocol) {
  for (const Entry& entry : entries) {
    if ((protocol == nullptr || entry.protocol == protocol) && entry.Is(name)) return &entry;
  }
  return nullptr;
}

/// Port of a service as getaddrinfo(3) reads it: a decimal number, or a name. -1: unknown.
int Port(const char* service, int protocol) {
  char* rest = nullptr;
  const unsigned long number = strtoul(service, &rest, 10);
  if (*service != '\0' && *rest == '\0') return static_cast<int>(number & 0xffff);
  const char* name = protocol == IPPROTO_TCP ? "tcp" : protocol == IPPROTO_UDP ? "udp" : nullptr;
  const Entry* entry = Find(Services(), service, name);
  return entry == nullptr ? -1 : entry->number;
}

/// One addrinfo with its address behind it, in one piece of memory.
struct Answer {
  addrinfo info;
  sockaddr_storage address;
};

/// Where the strings of a servent, protoent or netent would go: they have none.
char* g_no_aliases[] = {nullptr};

}  // namespace

void ReadNames() {
  Services() = Parse(ReadFile("/etc/services", kServices), true);
  Protocols() = Parse(ReadFile("/etc/protocols", kProtocols), false);
}

}  // namespace sluice

using sluice::Answer;
using sluice::Entry;

extern "C" {

/// Numeric addresses (libpcap has IPv6 literals read by this) and services; any other host is unknown.
__attribute__((visibility("default"))) int getaddrinfo(const char* node, const char* service, const addrinfo* hints,
                                                       addrinfo** result) {
  int port = 0;
  if (service != nullptr) {
    port = sluice::Port(service, hints == nullptr ? 0 : hints->ai_protocol);
    if (port < 0) return EAI_SERVICE;
  } else if (node == nullptr) {
    return EAI_NONAME;
  }
  const int family = hints == nullptr ? AF_UNSPEC : hints->ai_family;
  auto* answer = static_cast<Answer*>(calloc(1, sizeof(Answer)));
  if (answer == nullptr) return EAI_MEMORY;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&answer->address);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&answer->address);
  if (node == nullptr ? family != AF_INET6 : family != AF_INET6 && inet_pton(AF_INET, node, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<uint16_t>(port));
    answer->info.ai_addrlen = sizeof(sockaddr_in);
  } else if (node == nullptr || (family != AF_INET && inet_pton(AF_INET6, node, &v6->sin6_addr) == 1)) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(static_cast<uint16_t>(port));
    answer->info.ai_addrlen = sizeof(sockaddr_in6);
  } else {
    free(answer);
    return EAI_NONAME;
  }
  answer->info.ai_family = answer->address.ss_family;
  answer->info.ai_socktype = hints == nullptr ? 0 : hints->ai_socktype;
  answer->info.ai_protocol = hints == nullptr ? 0 : hints->ai_protocol;
  answer->info.ai_addr = reinterpret_cast<sockaddr*>(&answer->address);
  *result = &answer->info;
  return 0;
}

__attribute__((visibility("default"))) void freeaddrinfo(addrinfo* info) { free(info); }

__attribute__((visibility("default"))) protoent* getprotobyname(const char* name) {
  static protoent found;
  const Entry* entry = sluice::Find(sluice::Protocols(), name, nullptr);
  if (entry == nullptr) return nullptr;
  found = {const_cast<char*>(entry->name.c_str()), sluice::g_no_aliases, entry->number};
  return &found;
}

__attribute__((visibility("default"))) int getprotobyname_r(const char* name, protoent* space, char*, size_t,
                                                            protoent** result) {
  const protoent* found = getprotobyname(name);
  *result = found == nullptr ? nullptr : space;
  if (found != nullptr) *space = *found;
  return 0;
}

__attribute__((visibility("default"))) servent* getservbyname(const char* name, const char* protocol) {
  static servent found;
  const Entry* entry = sluice::Find(sluice::Services(), name, protocol);
  if (entry == nullptr) return nullptr;
  found = {const_cast<char*>(entry->name.c_str()), sluice::g_no_aliases, htons(static_cast<uint16_t>(entry->number)),
           const_cast<char*>(entry->protocol.c_str())};
  return &found;
}

__attribute__((visibility("default"))) int getservbyname_r(const char* name, const char* protocol, servent* space, char*,
                                                           size_t, servent** result) {
  const servent* found = getservbyname(name, protocol);
  *result = found == nullptr ? nullptr : space;
  if (found != nullptr) *space = *found;
  return 0;
}

// What never has a name.

__attribute__((visibility("default"))) hostent* gethostbyname(const char*) {
  h_errno = HOST_NOT_FOUND;
  return nullptr;
}

__attribute__((visibility("default"))) hostent* gethostbyname2(const char*, int) {
  h_errno = HOST_NOT_FOUND;
  return nullptr;
}

__attribute__((visibility("default"))) int gethostbyname_r(const char*, hostent*, char*, size_t, hostent** result,
                                                           int* error) {
  *result = nullptr;
  *error = HOST_NOT_FOUND;
  return 0;
}

__attribute__((visibility("default"))) int gethostbyname2_r(const char*, int, hostent*, char*, size_t, hostent** result,
                                                            int* error) {
  *result = nullptr;
  *error = HOST_NOT_FOUND;
  return 0;
}

__attribute__((visibility("default"))) netent* getnetbyname(const char*) {
  h_errno = HOST_NOT_FOUND;
  return nullptr;
}

__attribute__((visibility("default"))) int getnetbyname_r(const char*, netent*, char*, size_t, netent** result,
                                                          int* error) {
  *result = nullptr;
  *error = HOST_NOT_FOUND;
  return 0;
}

__attribute__((visibility("default"))) int ether_hostton(const char*, ether_addr*) { return -1; }

}  // extern "C"
