#include "symbols.h"

#include <cxxabi.h>
#include <elf.h>
#include <link.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

#include "machine.h"

namespace simt {
namespace {

struct Symbol {
  uintptr_t begin, end;  // address in the file, or offset in the thread-local block
  std::string name;
};

struct Symbols {
  std::string path;
  std::vector<Symbol> functions, statics;  // sorted by address

  explicit Symbols(const std::string& file) : path(file) {
    std::ifstream in(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(in), {}};
    if (bytes.size() < sizeof(ElfW(Ehdr))) return;
    const char* base = bytes.data();
    const auto* header = reinterpret_cast<const ElfW(Ehdr)*>(base);
    const auto* sections = reinterpret_cast<const ElfW(Shdr)*>(base + header->e_shoff);
    for (int s = 0; s < header->e_shnum; ++s) {
      if (sections[s].sh_type != SHT_SYMTAB) continue;
      const auto* symbols = reinterpret_cast<const ElfW(Sym)*>(base + sections[s].sh_offset);
      const char* names = base + sections[sections[s].sh_link].sh_offset;
      for (size_t i = 0; i < sections[s].sh_size / sizeof(ElfW(Sym)); ++i) add(symbols[i], names);
    }
    for (auto* all : {&functions, &statics})
      std::sort(all->begin(), all->end(),
                [](const Symbol& a, const Symbol& b) { return a.begin < b.begin; });
  }

  void add(const ElfW(Sym) & s, const char* names) {
    const int type = ELF64_ST_TYPE(s.st_info);
    if (s.st_shndx == SHN_UNDEF || s.st_size == 0) return;
    if (type == STT_FUNC)
      functions.push_back({s.st_value, s.st_value + s.st_size, names + s.st_name});
    if (type == STT_TLS) statics.push_back({s.st_value, s.st_value + s.st_size, names + s.st_name});
  }
};

int index_of(const std::vector<Symbol>& all, uintptr_t at) {
  auto after = std::upper_bound(all.begin(), all.end(), at,
                                [](uintptr_t a, const Symbol& s) { return a < s.begin; });
  if (after == all.begin() || at >= (after - 1)->end) return -1;
  return int(after - all.begin()) - 1;
}

std::string demangled(const std::string& name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  std::string out = status == 0 ? text : name;
  free(text);
  for (const char* noise : {"(anonymous namespace)::", "detcore::"})
    for (size_t at; (at = out.find(noise)) != std::string::npos;) out.erase(at, strlen(noise));
  return out;
}

struct Found {
  Module module;
  std::string path;
};

int find_module(dl_phdr_info* info, size_t, void* out) {
  auto* found = static_cast<Found*>(out);
  const auto here = reinterpret_cast<uintptr_t>(&find_module);
  Module m;
  m.bias = info->dlpi_addr, m.begin = UINTPTR_MAX;
  bool ours = false;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr) & p = info->dlpi_phdr[i];
    const uintptr_t begin = m.bias + p.p_vaddr, end = begin + p.p_memsz;
    if (p.p_type == PT_LOAD) {
      ours |= begin <= here && here < end;
      m.begin = std::min(m.begin, begin), m.end = std::max(m.end, end);
    } else if (p.p_type == PT_TLS) {
      m.statics_begin = reinterpret_cast<uintptr_t>(info->dlpi_tls_data);
      m.statics_end = m.statics_begin + p.p_memsz;
    }
  }
  if (!ours) return 0;
  found->module = m;
  found->path = info->dlpi_name[0] ? info->dlpi_name : "/proc/self/exe";
  return 1;
}

Found found_module() {
  Found found;
  // the first access allocates the thread-local block
  static thread_local char touched;
  asm volatile("" : : "r"(&touched));
  dl_iterate_phdr(find_module, &found);
  return found;
}

const Symbols& symbols() {
  static const Symbols all(found_module().path);
  return all;
}

// Removes the parameters: the last group of parentheses and everything after it.
std::string without_parameters(std::string name) {
  int depth = 0;
  for (size_t at = name.rfind(')'); at != std::string::npos && at < name.size(); --at) {
    depth += (name[at] == ')') - (name[at] == '(');
    if (depth == 0) return name.substr(0, at);
  }
  return name;
}

}  // namespace

const Module& this_module() {
  static thread_local const Module module = found_module().module;
  return module;
}

size_t static_variables() { return symbols().statics.size(); }

Variable static_variable(uintptr_t address) {
  const uintptr_t base = this_module().statics_begin;
  const int i = index_of(symbols().statics, address - base);
  if (i < 0) return {};
  const Symbol& s = symbols().statics[size_t(i)];
  return {i, base + s.begin, base + s.end};
}

std::string name_of(const Variable& v) {
  const std::string name = demangled(symbols().statics[size_t(v.index)].name);
  const size_t colons = name.rfind("::");
  return colons == std::string::npos ? name : name.substr(colons + 2);
}

std::string function_name(const void* function) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(function) - this_module().bias;
  const int i = index_of(symbols().functions, at);
  if (i < 0) return "unknown";
  std::string name = without_parameters(demangled(symbols().functions[size_t(i)].name));
  return name.compare(0, 5, "void ") == 0 ? name.substr(5) : name;
}

std::string code_place(const void* pc) {
  char offset[32];
  // the address of the call, not of the next instruction
  snprintf(offset, sizeof offset, "0x%zx",
           size_t(reinterpret_cast<uintptr_t>(pc) - this_module().bias - 1));
  return offset + std::string(" of ") + symbols().path;
}

}  // namespace simt
