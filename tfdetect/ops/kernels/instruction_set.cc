#include "instruction_set.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>

#ifdef TFDETECT_AVX2
#include <cpuid.h>
#endif

namespace tfdetect {
namespace {

constexpr const char* kNames[] = {"baseline", "avx2", "avx512"};

const char* Name(InstructionSet set) { return kNames[static_cast<int>(set)]; }

// What the environment asks for at most.
InstructionSet Allowed() {
  const char* wanted = std::getenv("TFDETECT_INSTRUCTION_SET");
  for (int i = 0; wanted && i < static_cast<int>(std::size(kNames)); ++i)
    if (std::strcmp(wanted, kNames[i]) == 0) return static_cast<InstructionSet>(i);
  return InstructionSet::kAvx512;
}

}  // namespace

InstructionSet CompiledInstructionSet() {
#ifdef TFDETECT_AVX2
  return InstructionSet::kAvx512;
#else
  return InstructionSet::kBaseline;
#endif
}

InstructionSet ProcessorInstructionSet() {
#ifdef TFDETECT_AVX2
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
    return InstructionSet::kBaseline;
  const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512cd") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return has_avx512 ? InstructionSet::kAvx512 : InstructionSet::kAvx2;
#else
  return InstructionSet::kBaseline;
#endif
}

bool ProcessorHasBfloat16Products() {
#ifdef TFDETECT_AVX2
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
#else
  return false;
#endif
}

InstructionSet UsedInstructionSet() {
  static const InstructionSet used =
      std::min({CompiledInstructionSet(), ProcessorInstructionSet(), Allowed()});
  return used;
}

bool UsesVnni() {
#ifdef TFDETECT_AVX2
  return UsedInstructionSet() == InstructionSet::kAvx512 && __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

}  // namespace tfdetect

// For instruction_set.py.
#define TFDETECT_EXPORT extern "C" __attribute__((visibility("default")))
TFDETECT_EXPORT const char* tfdetect_compiled_instruction_set() {
  return tfdetect::Name(tfdetect::CompiledInstructionSet());
}
TFDETECT_EXPORT const char* tfdetect_processor_instruction_set() {
  return tfdetect::Name(tfdetect::ProcessorInstructionSet());
}
TFDETECT_EXPORT const char* tfdetect_used_instruction_set() {
  return tfdetect::Name(tfdetect::UsedInstructionSet());
}
