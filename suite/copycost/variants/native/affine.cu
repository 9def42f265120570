// y = x * factor + summand of each channel, for images with channels last: the recipes that are one multiplication and
// one addition. A thread reads four elements at once and keeps four such reads in flight, because the memory, and not
// the arithmetic, limits the speed. The arrays begin at multiples of 16 bytes.

__device__ __forceinline__ float4 widen(uchar4 v) { return make_float4(v.x, v.y, v.z, v.w); }
__device__ __forceinline__ float4 widen(float4 v) { return v; }

struct Channels {
  float factor[3], summand[3];
  __device__ __forceinline__ float operator()(float x, unsigned c) const { return fmaf(x, factor[c], summand[c]); }
};

// The channels stay where they are. The number of threads is a multiple of 3, so that a thread's elements always begin
// with the same channel: element 4 i is of channel i mod 3.
template <typename Scalar, typename Quad>
__device__ __forceinline__ void affine(const Scalar *x, float *y, unsigned n, Channels channels) {
  const Quad *quads = reinterpret_cast<const Quad *>(x);
  float4 *results = reinterpret_cast<float4 *>(y);
  const unsigned threads = gridDim.x * blockDim.x, thread = blockIdx.x * blockDim.x + threadIdx.x, end = n / 4;
  const unsigned c = thread % 3;
  const float a0 = c == 0 ? channels.factor[0] : c == 1 ? channels.factor[1] : channels.factor[2];
  const float a1 = c == 0 ? channels.factor[1] : c == 1 ? channels.factor[2] : channels.factor[0];
  const float a2 = c == 0 ? channels.factor[2] : c == 1 ? channels.factor[0] : channels.factor[1];
  const float b0 = c == 0 ? channels.summand[0] : c == 1 ? channels.summand[1] : channels.summand[2];
  const float b1 = c == 0 ? channels.summand[1] : c == 1 ? channels.summand[2] : channels.summand[0];
  const float b2 = c == 0 ? channels.summand[2] : c == 1 ? channels.summand[0] : channels.summand[1];
#define RESULT(v) make_float4(fmaf(v.x, a0, b0), fmaf(v.y, a1, b1), fmaf(v.z, a2, b2), fmaf(v.w, a0, b0))
  unsigned i = thread;
  for (; i + 3 * threads < end; i += 4 * threads) {
    const float4 p = widen(__ldcs(quads + i)), q = widen(__ldcs(quads + i + threads));
    const float4 r = widen(__ldcs(quads + i + 2 * threads)), s = widen(__ldcs(quads + i + 3 * threads));
    __stcs(results + i, RESULT(p));
    __stcs(results + i + threads, RESULT(q));
    __stcs(results + i + 2 * threads, RESULT(r));
    __stcs(results + i + 3 * threads, RESULT(s));
  }
  for (; i < end; i += threads) {
    const float4 p = widen(__ldcs(quads + i));
    __stcs(results + i, RESULT(p));
  }
#undef RESULT
  for (unsigned k = 4 * end + thread; k < n; k += threads) y[k] = channels(x[k], k % 3);
}

// The channels are reversed. A thread takes four pixels, twelve elements, so that the reversal stays in registers.
template <typename Scalar, typename Quad>
__device__ __forceinline__ void reversed(const Scalar *x, float *y, unsigned n, Channels channels) {
  const Quad *quads = reinterpret_cast<const Quad *>(x);
  float4 *results = reinterpret_cast<float4 *>(y);
  const unsigned threads = gridDim.x * blockDim.x, thread = blockIdx.x * blockDim.x + threadIdx.x, end = n / 12;
  for (unsigned i = thread; i < end; i += threads) {
    const float4 p = widen(__ldcs(quads + 3 * i)), q = widen(__ldcs(quads + 3 * i + 1));
    const float4 r = widen(__ldcs(quads + 3 * i + 2));
    __stcs(results + 3 * i, make_float4(channels(p.z, 0), channels(p.y, 1), channels(p.x, 2), channels(q.y, 0)));
    __stcs(results + 3 * i + 1, make_float4(channels(q.x, 1), channels(p.w, 2), channels(r.x, 0), channels(q.w, 1)));
    __stcs(results + 3 * i + 2, make_float4(channels(q.z, 2), channels(r.w, 0), channels(r.z, 1), channels(r.y, 2)));
  }
  for (unsigned k = 12 * end + thread; k < n; k += threads) y[k] = channels(x[k + 2 - 2 * (k % 3)], k % 3);
}

#define KERNEL(name, function, Scalar, Quad)                                                                      \
  extern "C" __global__ void __launch_bounds__(192)                                                               \
      name(const Scalar *x, float *y, unsigned n, float a0, float a1, float a2, float b0, float b1, float b2) {   \
    function<Scalar, Quad>(x, y, n, Channels{{a0, a1, a2}, {b0, b1, b2}});                                        \
  }

KERNEL(affine_uint8, affine, unsigned char, uchar4)
KERNEL(affine_float32, affine, float, float4)
KERNEL(reversed_uint8, reversed, unsigned char, uchar4)
KERNEL(reversed_float32, reversed, float, float4)
