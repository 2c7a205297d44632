// Hot loops are compiled for several instruction sets, and the best that the processor has is chosen
// when the library is loaded: a library that was built on one machine runs on another, and every
// compiler (GCC from 9 on, clang) gives the same speed.
//
// By attributes of functions and not by `-march` for whole files: such a file's copies of the
// standard library's inline functions need AVX-512 as well, and of several equal ones the linker
// keeps any.
#ifndef TFDETECT_INSTRUCTION_SET_H_
#define TFDETECT_INSTRUCTION_SET_H_

#if defined(__x86_64__) && defined(__GNUC__)
#define TFDETECT_AVX2 __attribute__((target("avx2,fma")))
#define TFDETECT_AVX512 \
  __attribute__((target("avx2,fma,avx512f,avx512bw,avx512cd,avx512dq,avx512vl")))
#define TFDETECT_AVX512_VNNI \
  __attribute__((target("avx2,fma,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni")))
#endif

namespace tfdetect {

enum class InstructionSet { kBaseline, kAvx2, kAvx512 };

// The largest that loops are compiled for; kBaseline where there are no attributes for others.
InstructionSet CompiledInstructionSet();

// The largest that the processor and its operating system have.
InstructionSet ProcessorInstructionSet();

// The one in use: the lesser of both, and of TFDETECT_INSTRUCTION_SET (baseline, avx2 or avx512)
// where the environment has it.
InstructionSet UsedInstructionSet();

// Whether that is kAvx512 and the processor has its products of bytes too (VNNI).
bool UsesVnni();

// Whether the processor multiplies pairs of bfloat16 numbers (AVX512-BF16).
bool ProcessorHasBfloat16Products();

// One loop, an always_inline function, for each set.
template <auto kLoop>
struct Versions;
template <typename... Args, void (*kLoop)(Args...)>
struct Versions<kLoop> {
  static void Baseline(Args... args) { kLoop(args...); }
#ifdef TFDETECT_AVX2
  TFDETECT_AVX2 static void Avx2(Args... args) { kLoop(args...); }
  TFDETECT_AVX512 static void Avx512(Args... args) { kLoop(args...); }
#endif
};

// The version of a loop to call; `kWideLoop` is its form for AVX-512, where that wants another.
template <auto kLoop, auto kWideLoop = kLoop>
auto BestVersion() {
#ifdef TFDETECT_AVX2
  switch (UsedInstructionSet()) {
    case InstructionSet::kAvx512:
      return &Versions<kWideLoop>::Avx512;
    case InstructionSet::kAvx2:
      return &Versions<kLoop>::Avx2;
    case InstructionSet::kBaseline:
      break;
  }
#endif
  return &Versions<kLoop>::Baseline;
}

}  // namespace tfdetect

#endif  // TFDETECT_INSTRUCTION_SET_H_
