// Deformable convolution and its gradients on the GPU.
//
// The samples of a run of output positions are written side by side, as columns
// [positions, groups, kh * kw, Cin / groups], so that the convolution and the gradients of the
// samples and of the weight are products of matrices. A warp has the sample of one position, tap
// and deformable group; its lanes go along the channels.
#include "deform_conv_gpu.h"
#include "gemm_gpu.h"
#include "gpu_kernels.h"

namespace tfdetect {
namespace {

constexpr int kWarps = 8;  // in a block
#ifdef TFDETECT_EMULATE_GPU
constexpr int64_t kMaxColumns = 6000;  // so that small tests have several runs
#else
constexpr int64_t kMaxColumns = int64_t{1} << 24;  // floats
#endif

// The terms of x's gradient are below 2^38 as whole numbers. At most one per tap and position
// falls on a value, so that no sum of the 2^24 that there are at a time exceeds 62 bits.
constexpr int kTermBits = 38;

struct Sample {
  int64_t corner[4];  // pixel of x, or -1: (low, low), (low, high), (high, low), (high, high)
  float y, x;         // beyond the low row and column
  float weight[4];
  float mask;
  bool is_near;
};

// Columns of positions [begin, begin + count), with what is needed to make or to use them.
struct Run {
  DeformConvShape shape;
  DeformConvInputs inputs;
  int64_t begin, count;
  float* columns;

  __host__ __device__ int64_t taps() const {
    return shape.deformable_groups * shape.kernel_height * shape.kernel_width;
  }
  __host__ __device__ int64_t samples() const { return count * taps(); }
};

// The sample of a warp, and where it lies in all arrays.
struct Place {
  int64_t position;  // of the output
  int64_t tap;       // of offset and mask, all positions counted
  int kernel, first_channel, end_channel;
};

// Which sample this warp has; false beyond the last.
__device__ bool FindPlace(const Run& run, Place* place) {
  const int64_t sample = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.y;
  if (sample >= run.samples()) return false;
  const DeformConvShape& s = run.shape;
  const int kernel_size = static_cast<int>(s.kernel_height * s.kernel_width);
  const int tap = static_cast<int>(sample % run.taps());
  const int channels = static_cast<int>(s.channels / s.deformable_groups);
  place->position = run.begin + sample / run.taps();
  place->tap = run.begin * run.taps() + sample;
  place->kernel = tap % kernel_size;
  place->first_channel = tap / kernel_size * channels;
  place->end_channel = place->first_channel + channels;
  return true;
}

// By the steps of DeformConv::SampleAt.
__device__ Sample SampleAt(const Run& run, const Place& place) {
  const DeformConvShape& s = run.shape;
  const int64_t image = place.position / (s.out_height * s.out_width);
  const int64_t row = place.position / s.out_width % s.out_height;
  const int64_t column = place.position % s.out_width;
  const int64_t grid_y = row * s.stride - s.padding + place.kernel / s.kernel_width * s.dilation;
  const int64_t grid_x =
      column * s.stride - s.padding + place.kernel % s.kernel_width * s.dilation;
  const float y = static_cast<float>(grid_y) + run.inputs.offset[2 * place.tap];
  const float x = static_cast<float>(grid_x) + run.inputs.offset[2 * place.tap + 1];
  const float low_y = floorf(y), low_x = floorf(x);
  Sample sample;
  sample.mask = run.inputs.mask ? run.inputs.mask[place.tap] : 1.0f;
  // Also false for what is not a number.
  sample.is_near = low_y >= -1.0f && low_y < static_cast<float>(s.height) && low_x >= -1.0f &&
                   low_x < static_cast<float>(s.width);
  sample.y = sample.is_near ? y - low_y : 0.0f;
  sample.x = sample.is_near ? x - low_x : 0.0f;
  for (int i = 0; i < 4; ++i) {
    sample.weight[i] = (i / 2 ? sample.y : 1.0f - sample.y) * (i % 2 ? sample.x : 1.0f - sample.x);
    sample.corner[i] = -1;
    if (!sample.is_near) continue;
    const int64_t cy = static_cast<int64_t>(low_y) + i / 2;
    const int64_t cx = static_cast<int64_t>(low_x) + i % 2;
    if (cy >= 0 && cy < s.height && cx >= 0 && cx < s.width)
      sample.corner[i] = (image * s.height + cy) * s.width + cx;
  }
  return sample;
}

// Where a channel of the sample lies in the columns.
__device__ float* Column(const Run& run, const Place& place, int channel) {
  const DeformConvShape& s = run.shape;
  const int per_group = static_cast<int>(s.channels / s.groups);
  const int64_t kernel_size = s.kernel_height * s.kernel_width;
  return run.columns + (place.position - run.begin) * kernel_size * s.channels +
         (channel / per_group * kernel_size + place.kernel) * per_group + channel % per_group;
}

__device__ float Corner(const Run& run, const Sample& sample, int i, int channel) {
  return sample.corner[i] < 0 ? 0.0f
                              : run.inputs.x[sample.corner[i] * run.shape.channels + channel];
}

__global__ void FillColumnsKernel(Run run) {
  Place place;
  if (!FindPlace(run, &place)) return;
  const Sample sample = SampleAt(run, place);
  for (int c = place.first_channel + threadIdx.x; c < place.end_channel; c += kWarp) {
    float sum = 0.0f;
    for (int i = 0; i < 4; ++i)
      sum += sample.weight[i] * sample.mask * Corner(run, sample, i, c);
    *Column(run, place, c) = sum;
  }
}

__device__ float SumOfWarp(float value) {
  for (int step = kWarp / 2; step > 0; step /= 2)
    value += __shfl_sync(kAllLanes, value, static_cast<int>(threadIdx.x) ^ step);
  return value;
}

__device__ float GreatestOfWarp(float value) {
  for (int step = kWarp / 2; step > 0; step /= 2)
    value = fmaxf(value, __shfl_sync(kAllLanes, value, static_cast<int>(threadIdx.x) ^ step));
  return value;
}

// From the columns' gradients: those of the offsets and of the mask, and the magnitude of the
// greatest term to x's gradient, as the bits of a float, which are in the floats' order.
__global__ void OffsetAndMaskGradientKernel(Run run, float* d_offset, float* d_mask,
                                            unsigned* greatest) {
  Place place;
  if (!FindPlace(run, &place)) return;  // the whole warp
  const Sample sample = SampleAt(run, place);
  float sums[4] = {}, most = 0.0f;  // the gradient times each corner
  for (int c = place.first_channel + threadIdx.x; c < place.end_channel; c += kWarp) {
    const float grad = *Column(run, place, c);
    for (int i = 0; i < 4; ++i) sums[i] += grad * Corner(run, sample, i, c);
    const float whole = fabsf(sample.mask * grad);
    if (sample.is_near && isfinite(whole)) most = fmaxf(most, whole);
  }
  for (int i = 0; i < 4; ++i) sums[i] = SumOfWarp(sums[i]);
  most = GreatestOfWarp(most);
  if (threadIdx.x != 0) return;
  const float y = sample.y, x = sample.x;
  d_offset[2 * place.tap] =
      sample.mask * (x * (sums[3] - sums[1]) + (1.0f - x) * (sums[2] - sums[0]));
  d_offset[2 * place.tap + 1] =
      sample.mask * (y * (sums[3] - sums[2]) + (1.0f - y) * (sums[1] - sums[0]));
  if (d_mask) {
    d_mask[place.tap] = sample.weight[0] * sums[0] + sample.weight[1] * sums[1] +
                        sample.weight[2] * sums[2] + sample.weight[3] * sums[3];
  }
  unsigned bits;
  memcpy(&bits, &most, sizeof(bits));
  atomicMax(greatest, bits);
}

// The power of two that multiplies terms to whole numbers.
__device__ int TermExponent(const unsigned* greatest) {
  const int exponent = static_cast<int>(*greatest >> 23) - 126;  // the greatest is below 2 to it
  return min(kTermBits - exponent, 126);
}

// Adds the columns' gradients to x's, in `sums` [H, W, Cin] for the one image of the run. What is
// not finite goes to d_x at once, as NaN.
__global__ void InputGradientKernel(Run run, const unsigned* greatest, unsigned long long* sums,
                                    float* d_x) {
  Place place;
  if (!FindPlace(run, &place)) return;
  const Sample sample = SampleAt(run, place);
  const float scale = ldexpf(1.0f, TermExponent(greatest));
  const DeformConvShape& s = run.shape;
  const int64_t image_start = place.position / (s.out_height * s.out_width) * s.height * s.width;
  for (int c = place.first_channel + threadIdx.x; c < place.end_channel; c += kWarp) {
    const float whole = sample.mask * *Column(run, place, c);
    for (int i = 0; i < 4; ++i) {
      if (sample.corner[i] < 0) continue;
      if (isfinite(whole))
        atomicAdd(&sums[(sample.corner[i] - image_start) * s.channels + c],
                  static_cast<unsigned long long>(llrintf(sample.weight[i] * whole * scale)));
      else
        d_x[sample.corner[i] * s.channels + c] = NAN;
    }
  }
}

// Adds those sums to d_x [n] and clears them.
__global__ void AddSumsKernel(int64_t n, const unsigned* greatest, unsigned long long* sums,
                              float* d_x) {
  const int64_t i = ThreadNumber(kWarp * kWarps);
  if (i >= n) return;
  const float unit = ldexpf(1.0f, -TermExponent(greatest));
  d_x[i] += static_cast<float>(static_cast<long long>(sums[i])) * unit;
  sums[i] = 0;
}

// Positions whose columns are held at a time.
int64_t MaxCount(const DeformConvShape& shape) {
  return max(min(kMaxColumns / (shape.kernel_size() * shape.channels), shape.positions()),
             int64_t{1});
}

int64_t ColumnBytes(const DeformConvShape& shape) {
  const int64_t bytes = MaxCount(shape) * shape.kernel_size() * shape.channels * sizeof(float);
  return (bytes + 63) / 64 * 64;
}

int64_t ImageSize(const DeformConvShape& shape) {
  return shape.height * shape.width * shape.channels;
}

dim3 SampleBlocks(const Run& run) { return Blocks(run.samples(), kWarps); }

// The run's columns as a matrix [positions, kh * kw * Cin / groups] per group.
GpuMatrix ColumnMatrix(const Run& run) {
  const int64_t row = run.shape.kernel_size() * run.shape.channels;
  return {run.columns, row, 1, row / run.shape.groups};
}

// Likewise the weight [kh * kw * Cin / groups, Cout / groups].
GpuMatrix WeightMatrix(const Run& run) {
  return {run.inputs.weight, run.shape.out_channels, 1, run.shape.group_out_channels()};
}

GpuMatrix Transposed(const GpuMatrix& matrix) {
  return {matrix.data, matrix.column_stride, matrix.row_stride, matrix.group_stride};
}

}  // namespace

int64_t DeformConvWorkspace(const DeformConvShape& shape) { return ColumnBytes(shape); }

const char* LaunchDeformConv(const DeformConvShape& shape, const DeformConvInputs& inputs,
                             void* workspace, float* y, GpuStream stream) {
  const int64_t depth = shape.kernel_size() * shape.group_channels();
  Run run = {shape, inputs, 0, 0, static_cast<float*>(workspace)};
  for (; run.begin < shape.positions(); run.begin += run.count) {
    run.count = min(MaxCount(shape), shape.positions() - run.begin);
    TFDETECT_LAUNCH(FillColumnsKernel, SampleBlocks(run), dim3(kWarp, kWarps), stream, run);
    LaunchGemm(ColumnMatrix(run), WeightMatrix(run), shape.groups, run.count, depth,
               shape.group_out_channels(), false, y + run.begin * shape.out_channels,
               shape.out_channels, shape.group_out_channels(), stream);
  }
  return LaunchError();
}

int64_t DeformConvGradientWorkspace(const DeformConvShape& shape) {
  return ColumnBytes(shape) + (ImageSize(shape) + 1) * sizeof(unsigned long long);
}

const char* LaunchDeformConvGradient(const DeformConvShape& shape, const DeformConvInputs& inputs,
                                     const float* dy, void* workspace,
                                     const DeformConvGradients& gradients, GpuStream stream) {
  const int64_t depth = shape.kernel_size() * shape.group_channels();
  const int64_t outputs = shape.group_out_channels(), image_size = ImageSize(shape);
  const int64_t image_positions = shape.out_height * shape.out_width;
  const int64_t column_row = shape.kernel_size() * shape.channels;
  Run run = {shape, inputs, 0, 0, static_cast<float*>(workspace)};
  auto* sums = reinterpret_cast<unsigned long long*>(static_cast<char*>(workspace) +
                                                     ColumnBytes(shape));
  auto* greatest = reinterpret_cast<unsigned*>(sums + image_size);
  cudaMemsetAsync(sums, 0, image_size * sizeof(*sums), stream);
  cudaMemsetAsync(gradients.x, 0, shape.images * image_size * sizeof(float), stream);
  cudaMemsetAsync(gradients.weight, 0, depth * shape.out_channels * sizeof(float), stream);
  for (; run.begin < shape.positions(); run.begin += run.count) {
    // Of one image, so that `sums` are of one.
    run.count = min(MaxCount(shape), image_positions - run.begin % image_positions);
    const GpuMatrix dy_matrix = {dy + run.begin * shape.out_channels, shape.out_channels, 1,
                                 outputs};
    float* d_x = gradients.x + run.begin / image_positions * image_size;
    cudaMemsetAsync(greatest, 0, sizeof(*greatest), stream);
    LaunchGemm(dy_matrix, Transposed(WeightMatrix(run)), shape.groups, run.count, outputs, depth,
               false, run.columns, column_row, depth, stream);
    TFDETECT_LAUNCH(OffsetAndMaskGradientKernel, SampleBlocks(run), dim3(kWarp, kWarps), stream,
                    run, gradients.offset, gradients.mask, greatest);
    TFDETECT_LAUNCH(InputGradientKernel, SampleBlocks(run), dim3(kWarp, kWarps), stream, run,
                    greatest, sums, gradients.x);
    if (image_size > 0)
      TFDETECT_LAUNCH(AddSumsKernel, Blocks(image_size, kWarp * kWarps), dim3(kWarp * kWarps),
                      stream, image_size, greatest, sums, d_x);
    TFDETECT_LAUNCH(FillColumnsKernel, SampleBlocks(run), dim3(kWarp, kWarps), stream, run);
    LaunchGemm(Transposed(ColumnMatrix(run)), dy_matrix, shape.groups, depth, run.count, outputs,
               true, gradients.weight, shape.out_channels, outputs, stream);
  }
  return LaunchError();
}

}  // namespace tfdetect
