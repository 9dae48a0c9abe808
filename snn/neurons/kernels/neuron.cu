// Fused neurons in CUDA C: all T steps of a layer in one kernel, and all of them backward in another.
//
// This text is never compiled alone. `cuda_text.py` puts #defines before it that fix the options of the
// neuron (named as in `snn.neurons.settings`), the number of steps, the number format and the mapping, so that
// every branch on them is decided by the preprocessor. It includes nothing: NVRTC needs no headers, and with a
// few other macros it is plain C++ that runs block after block on a CPU (tests/cuda_shim).
//
// One thread runs one neuron, or the four neurons of a 2x2 window, over all steps. The thread's items are
// spread over blocks in one of three mappings:
//
//     FLAT     nothing depends on the channel: one range of neurons
//     PLANES   [B, C, H, W] in memory: a block belongs to one channel and takes a slice of its B * H * W
//     ROWS     [B, H, W, C] in memory: a block belongs to 32 channels, one per column of its threads
//
// Sums leave a block as one number per channel, in `partials`; torch adds up the blocks. There are no
// atomics, so sums come out the same every time.

// Names for what the #defines choose.
#define FLAT 0
#define PLANES 1
#define ROWS 2
#define FLOAT16 0
#define BFLOAT16 1
#define FLOAT32 2
#define FLOAT64 3
#define NO_POOL 0
#define AVERAGE 1
#define MAXIMUM 2
#define HARD 0
#define SOFT 1
#define SOFT_VALUE 2
#define EVERY 3
#define TRIANGLE 0
#define TRIANGLE_MEMBRANE 1
#define PRODUCT 2
#define PRODUCT_ATAN 3
#define IDENTITY 4
#define SIGMOID 5
#define ATAN 6
#define BY_MEMBRANE 0
#define BY_THRESHOLD 1
#define BY_LANE 2
#define IGNORE_THRESHOLD 3
#define NONE 0
#define SUBTRACT 1
#define SUBTRACT_EXPLICIT 2
#define SUBTRACT_SQUARED 3
#define STACKED 0
#define PASS 1
#define ZERO 2

#ifndef SHIM
// The 1 asks for no more than one block at a time, or registers would be spilled to fit another.
#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS, 1)
#define DEVICE __device__ __forceinline__
#define CONSTANT static __constant__ const
#define SHARED __shared__
#define RESTRICT __restrict__
#define BLOCK ((INT)blockIdx.x)
// One phase of a block: its threads meet at the end of it.
#define FOR_EACH_THREAD for (int thread = threadIdx.x, once = 1; once; once = 0, __syncthreads())
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")
#define UNROLL_FOUR _Pragma("unroll 4")
// Every access to tensors of the size of a step; the sizes of what moves are counted through these.
#define LOAD(pointer, index) ((pointer)[index])
#define STORE(pointer, index, value) ((pointer)[index] = (value))
#endif

typedef long long INT;

#if FORMAT == FLOAT64
typedef double REAL;
#else
typedef float REAL;
#endif

// A constant of Python, rounded once to the state's format as torch does.
#define R(number) ((REAL)(number))

// ---- number formats -------------------------------------------------------------------------------------

#if FORMAT == FLOAT32 || FORMAT == FLOAT64
typedef REAL IO;
DEVICE REAL to_real(IO value) { return value; }
DEVICE IO from_real(REAL value) { return value; }
#else
typedef unsigned short IO;

union Bits {
    float number;
    unsigned bits;
};
#endif

#if FORMAT == BFLOAT16
DEVICE REAL to_real(IO value) {
    Bits result;
    result.bits = (unsigned)value << 16;
    return result.number;
}

// To the nearest, of two equally near to the even one.
DEVICE IO from_real(REAL value) {
    Bits given;
    given.number = value;
    if ((given.bits & 0x7fffffffu) > 0x7f800000u) return (IO)((given.bits >> 16) | 0x40u);  // NaN stays NaN
    return (IO)((given.bits + 0x7fffu + ((given.bits >> 16) & 1u)) >> 16);
}
#endif

#if FORMAT == FLOAT16 && defined(__CUDA_ARCH__)
DEVICE REAL to_real(IO value) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value));
    return result;
}

DEVICE IO from_real(REAL value) {
    IO result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result) : "f"(value));
    return result;
}
#elif FORMAT == FLOAT16
DEVICE REAL to_real(IO value) {
    const unsigned sign = (value & 0x8000u) << 16, exponent = (value >> 10) & 31u, fraction = value & 0x3ffu;
    Bits result;
    if (exponent == 0) {  // below 2^-14: multiples of 2^-24
        result.number = (float)fraction * 5.9604644775390625e-8f;
        result.bits |= sign;
    } else if (exponent == 31) {  // infinity, NaN
        result.bits = sign | 0x7f800000u | (fraction << 13);
    } else {
        result.bits = sign | ((exponent + 112u) << 23) | (fraction << 13);
    }
    return result.number;
}

DEVICE IO from_real(REAL value) {
    Bits given;
    given.number = value;
    const unsigned sign = (given.bits >> 16) & 0x8000u, size = given.bits & 0x7fffffffu;
    if (size > 0x7f800000u) return (IO)(sign | 0x7e00u);  // NaN
    if (size >= 0x477ff000u) return (IO)(sign | 0x7c00u);  // from 65520 up: infinity
    if (size < 0x38800000u) {  // below 2^-14: beside 0.5 the processor itself rounds to multiples of 2^-24
        given.bits = size;
        given.number += 0.5f;
        return (IO)(sign | (given.bits - 0x3f000000u));
    }
    return (IO)(sign | ((size + 0xfffu + ((size >> 13) & 1u) - 0x38000000u) >> 13));
}
#endif

// ---- the recurrence -------------------------------------------------------------------------------------

struct Parameters {
    REAL threshold, decay, scale, shift;
};

// Current of a neuron: affine map of y, then the mask.
DEVICE REAL current(REAL y, REAL mask, Parameters p) {
    REAL x = y;
#if AFFINE
    x = p.scale * x + p.shift;
#endif
#if MASKED
    x = x * mask;
#endif
    return x;
}

// Membrane before the spike. Products and sums in the order of the reference, so that spikes agree.
DEVICE REAL charge(REAL x, REAL v, Parameters p) {
#if RESTS_AT_ZERO
    const REAL above_rest = v;
#else
    const REAL above_rest = v - R(REST);
#endif
#if DECAY_INPUT
    return v + (R(1) - p.decay) * (x - above_rest);
#elif RESTS_AT_ZERO
    return p.decay * above_rest + x;
#else
    return p.decay * above_rest + x + R(REST);
#endif
}

DEVICE bool reaches(REAL a, REAL c) {
#if OPEN_AT_THRESHOLD
    return a > c;
#else
    return a >= c;
#endif
}

// Value of the spike: that of the highest lane reached, or the sum of all that are.
DEVICE REAL spike_value(REAL a, REAL threshold) {
    const REAL values[LANES] = LANE_VALUES;
    REAL value = 0;
    UNROLL
    for (int s = 0; s < LANES; ++s) {
        const bool reached = reaches(a, values[s] * threshold);
#if CUMULATIVE
        value = reached ? value + values[s] : value;
#else
        value = reached ? values[s] : value;
#endif
    }
    return value;
}

// 1 where any lane fired.
DEVICE REAL fired_at_all(REAL a, REAL value, REAL threshold) {
#if CUMULATIVE
    const REAL values[LANES] = LANE_VALUES;
    return reaches(a, values[0] * threshold) ? R(1) : R(0);
#else
    return value != 0 ? R(1) : R(0);
#endif
}

// Membrane after the reset.
DEVICE REAL reset(REAL a, REAL value, REAL fired, REAL threshold) {
#if RESET == EVERY
    return R(REST);
#elif RESET == SOFT_VALUE
    return a - threshold * value;
#elif RESET == SOFT
    return a - threshold * fired;
#elif RESTS_AT_ZERO
    return a - a * fired;
#else
    return (R(1) - fired) * a + fired * R(REST);
#endif
}

#if LEVELS
CONSTANT REAL level_values[LEVELS] = LEVEL_VALUES;
CONSTANT REAL boundaries[LEVELS - 1] = BOUNDARIES;
// Long tables are walked, short ones written out.
#if LEVELS > 8
#define FOR_EACH_BOUNDARY ROLLED for (int i = 0; i < LEVELS - 1; ++i)
#else
#define FOR_EACH_BOUNDARY UNROLL for (int i = 0; i < LEVELS - 1; ++i)
#endif
#endif

// The level of a membrane.
DEVICE REAL quantise(REAL r) {
#if LEVELS
    REAL v = level_values[0];
    FOR_EACH_BOUNDARY {
#if FLOOR
        v = r >= boundaries[i] ? level_values[i + 1] : v;
#else
        v = r > boundaries[i] ? level_values[i + 1] : v;
#endif
    }
    return v;
#else
    return r;
#endif
}

// Membrane after a step, from the membrane before its spike.
DEVICE REAL settle(REAL a, REAL threshold) {
    const REAL value = spike_value(a, threshold);
    return quantise(reset(a, value, fired_at_all(a, value, threshold), threshold));
}

// ---- the recurrence going backward ----------------------------------------------------------------------

#if BACKWARD

DEVICE REAL exponential(REAL x) {
#if FORMAT == FLOAT64
    return exp(x);
#else
    return expf(x);
#endif
}

DEVICE REAL sigmoid(REAL x) { return R(1) / (R(1) + exponential(-x)); }

#if LEVELS && MEMBRANE_GRADIENT == STACKED
CONSTANT REAL bump_heights[LEVELS - 1] = BUMP_HEIGHTS;
#endif

// Stand-in for the derivative of the level of a membrane.
DEVICE REAL membrane_slope(REAL r) {
#if !LEVELS
    return R(1);
#elif MEMBRANE_GRADIENT == ZERO
    return R(0);
#elif MEMBRANE_GRADIENT == PASS
    return r <= R(MEMBRANE_TOP) ? R(1) : R(0);
#else
    REAL slope = 0;
    FOR_EACH_BOUNDARY {
        const REAL z = sigmoid(R(MEMBRANE_SLOPE) * (r - boundaries[i]));
        slope += bump_heights[i] * R(MEMBRANE_SLOPE) * z * (R(1) - z);
    }
    return slope;
#endif
}

DEVICE REAL triangle(REAL u) {
    const REAL height = R(GAMMA) - (u < 0 ? -u : u);
    return (height > 0 ? height : R(0)) * R(1.0 / (GAMMA * GAMMA));
}

// Stand-in for the derivative of a spike at distance u from its threshold.
DEVICE REAL surrogate(REAL u, REAL threshold) {
#if SURROGATE == TRIANGLE
    return triangle(u);
#elif SURROGATE == TRIANGLE_MEMBRANE
    return triangle(u + threshold);
#elif SURROGATE == PRODUCT
    const REAL z = sigmoid(threshold * u);
    return z * (R(1) - z) * threshold * triangle(u);
#elif SURROGATE == PRODUCT_ATAN
    const REAL w = R(PI) * threshold * u / R(2);
    return threshold / R(2) / (R(1) + w * w) * triangle(u);
#elif SURROGATE == IDENTITY
    return R(1);
#elif SURROGATE == SIGMOID
    const REAL z = sigmoid(R(SLOPE) * u);
    return R(SLOPE) * z * (R(1) - z);
#else
    const REAL w = R(PI * SLOPE / 2) * u;
    return R(SLOPE / 2) / (R(1) + w * w);
#endif
}

// Stand-in for the derivative of [a reaches the lane of value w], with 1 / threshold at hand.
DEVICE REAL edge_slope(REAL a, REAL w, REAL threshold, REAL inverse) {
#if SURROGATE_WIDTH == BY_MEMBRANE
    return R(SURROGATE_SCALE) * surrogate(a - w * threshold, threshold);
#elif SURROGATE_WIDTH == BY_THRESHOLD
    return R(SURROGATE_SCALE) * inverse * surrogate(a * inverse - w, threshold);
#elif SURROGATE_WIDTH == BY_LANE
    const REAL lane_inverse = inverse * (R(1) / w);
    return R(SURROGATE_SCALE) * lane_inverse * surrogate(a * lane_inverse - R(1), threshold);
#else
    return R(SURROGATE_SCALE) * surrogate(a - w, threshold);
#endif
}

// What a thread adds up over its neurons and steps.
struct Sums {
    REAL threshold, decay, g, g_times_y;
};

// Go back through one step.
//
//     a           membrane before the spike
//     v_before    membrane before the step
//     x           current; only read with DECAY_INPUT
//     grad_spike  gradient of the spike's value
//     grad_v      in: gradient of the membrane after the step; out: of the one before it
//
// Returns the gradient of the current.
DEVICE REAL step_back(
    REAL a, REAL v_before, REAL x, REAL grad_spike, REAL &grad_v, Parameters p, REAL inverse, Sums &sums
) {
    const REAL values[LANES] = LANE_VALUES, jumps[LANES] = JUMPS;
    const REAL value = spike_value(a, p.threshold), fired = fired_at_all(a, value, p.threshold);
    const REAL rho = grad_v * membrane_slope(reset(a, value, fired, p.threshold));
    REAL grad_value = grad_spike, grad_a = 0, grad_threshold = 0;
#if RESET == HARD
    grad_a = rho * (R(1) - fired);
#if !DETACHED
    const REAL grad_fired = rho * (R(REST) - a);
#endif
#elif RESET == SOFT
    grad_a = rho;
    grad_threshold = -rho * fired;
#if !DETACHED
    const REAL grad_fired = -p.threshold * rho;
#endif
#elif RESET == SOFT_VALUE
    grad_a = rho;
    grad_threshold = -rho * value;
#if !DETACHED
    grad_value = grad_spike - p.threshold * rho;
#endif
#endif
    REAL fire = 0, weighted = 0;
    UNROLL
    for (int s = 0; s < LANES; ++s) {
        REAL edge = jumps[s] * grad_value;
#if !DETACHED && (RESET == HARD || RESET == SOFT)
        const REAL fired_jumps[LANES] = FIRED_JUMPS;
        edge += fired_jumps[s] * grad_fired;
#endif
        const REAL psi = edge * edge_slope(a, values[s], p.threshold, inverse);
        fire += psi;
        weighted += values[s] * psi;
#if THRESHOLD_GRADIENT == SUBTRACT_EXPLICIT
        const REAL u = a - p.threshold;
        if (u >= 0) grad_threshold -= psi * sigmoid(u);
#elif THRESHOLD_GRADIENT == SUBTRACT_SQUARED
        if (a - p.threshold >= 0) grad_threshold -= psi * edge;
#endif
    }
#if SURROGATE_WIDTH == BY_MEMBRANE
    grad_threshold -= weighted;
#elif SURROGATE_WIDTH != IGNORE_THRESHOLD
    grad_threshold -= fire * a * inverse;
#endif
#if THRESHOLD_GRADIENT != NONE
    sums.threshold += grad_threshold;
#endif
    grad_a += fire;
    grad_v = p.decay * grad_a;
#if DECAY_INPUT
    sums.decay -= grad_a * (x - (v_before - R(REST)));
    return (R(1) - p.decay) * grad_a;
#else
    sums.decay += grad_a * (v_before - R(REST));
    return grad_a;
#endif
}

#endif  // BACKWARD

// ---- where a thread works -------------------------------------------------------------------------------

// Neurons of a thread: one, or the window of a pool.
#if POOL == NO_POOL
#define NEURONS 1
#else
#define NEURONS 4
#endif
#define UP_TO_CHUNK (STEPS < CHUNK ? STEPS : CHUNK)
#define CHUNKS ((STEPS + CHUNK - 1) / CHUNK)
// Whether step `t` after `start`, in a part of `length` steps, is one of the T steps; mostly known before.
#define IS_STEP(start, t, length) (STEPS % (length) == 0 || (start) + (t) < STEPS)
#define BLOCK_ROWS (THREADS / COLUMNS)

struct Sizes {
    INT batch, channels, height, width;
};

// An item of work: where its neurons lie within a step.
struct Site {
    INT sample, first, across, down, out;
    bool whole;       // a whole window, which has a place in the pooled output
    bool right, low;  // whether the window has a right column and a lower row
};

// Items of one channel: its neurons or windows in the whole batch.
DEVICE INT count_items(Sizes sizes) {
#if POOL == NO_POOL
    return sizes.batch * sizes.height * sizes.width;
#else
    return sizes.batch * ((sizes.height + 1) / 2) * ((sizes.width + 1) / 2);
#endif
}

DEVICE INT place_in_step(INT sample, INT channel, INT channels, INT pixel, INT pixels) {
#if MAPPING == FLAT
    return pixel;
#elif MAPPING == PLANES
    return (sample * channels + channel) * pixels + pixel;
#else
    return (sample * pixels + pixel) * channels + channel;
#endif
}

DEVICE Site find_site(INT item, INT channel, Sizes sizes) {
    Site site;
    const INT pixels = sizes.height * sizes.width;
#if POOL == NO_POOL
#if MAPPING == FLAT
    site.sample = 0;
#else
    site.sample = item / pixels;
#endif
    const INT pixel = item - site.sample * pixels;
    site.first = site.out = place_in_step(site.sample, channel, sizes.channels, pixel, pixels);
    site.across = site.down = 0;
    site.whole = site.right = site.low = true;
#else
    const INT wide = (sizes.width + 1) / 2, windows = (sizes.height + 1) / 2 * wide;
    site.sample = item / windows;
    const INT window = item - site.sample * windows, i = window / wide, j = window - i * wide;
    site.first = place_in_step(site.sample, channel, sizes.channels, 2 * i * sizes.width + 2 * j, pixels);
    site.across = MAPPING == ROWS ? sizes.channels : 1;
    site.down = site.across * sizes.width;
    site.right = !LEFTOVER || 2 * j + 1 < sizes.width;
    site.low = !LEFTOVER || 2 * i + 1 < sizes.height;
    site.whole = site.right && site.low;
    const INT out_width = sizes.width / 2, out_pixels = sizes.height / 2 * out_width;
    site.out = place_in_step(site.sample, channel, sizes.channels, i * out_width + j, out_pixels);
#endif
    return site;
}

// Whether neuron k of a window is there: not past the edge of an odd height or width.
DEVICE bool is_neuron(Site site, int k) { return (!(k & 1) || site.right) && (!(k & 2) || site.low); }

DEVICE INT neuron_place(Site site, int k) {
    return site.first + ((k & 1) ? site.across : 0) + ((k & 2) ? site.down : 0);
}

DEVICE INT count_neurons(Sizes sizes) { return sizes.batch * sizes.channels * sizes.height * sizes.width; }

// Size of one step of the output.
DEVICE INT count_outputs(Sizes sizes) {
#if POOL == NO_POOL
    return count_neurons(sizes);
#else
    return sizes.batch * sizes.channels * (sizes.height / 2) * (sizes.width / 2);
#endif
}

DEVICE Parameters read_parameters(
    const REAL *threshold, const REAL *decay, const REAL *scale, const REAL *shift, INT channel
) {
    Parameters p;
    p.threshold = threshold[THRESHOLD_PER_CHANNEL ? channel : 0];
    p.decay = decay[DECAY_PER_CHANNEL ? channel : 0];
    p.scale = AFFINE ? scale[channel] : R(1);
    p.shift = AFFINE ? shift[channel] : R(0);
    return p;
}

// The mask of a step, [T, B, C].
DEVICE REAL read_mask(const REAL *mask, INT step, INT sample, INT channel, Sizes sizes) {
    return MASKED ? mask[(step * sizes.batch + sample) * sizes.channels + channel] : R(1);
}

// ---- forward --------------------------------------------------------------------------------------------

#if !BACKWARD

KERNEL neuron_forward(
    const IO *RESTRICT y, const REAL *RESTRICT v_first, const REAL *RESTRICT threshold,
    const REAL *RESTRICT decay, const REAL *RESTRICT scale, const REAL *RESTRICT shift,
    const REAL *RESTRICT mask, IO *RESTRICT out, REAL *RESTRICT v_last, REAL *RESTRICT checkpoints,
    INT batch, INT channels, INT height, INT width, INT slices
) {
    const Sizes sizes = {batch, channels, height, width};
    const INT items = count_items(sizes), neurons = count_neurons(sizes), outputs = count_outputs(sizes);
    FOR_EACH_THREAD {
        const INT channel = BLOCK / slices * COLUMNS + thread % COLUMNS;
        INT item = channel < channels ? BLOCK % slices * BLOCK_ROWS + thread / COLUMNS : items;
        const Parameters p = read_parameters(threshold, decay, scale, shift, item < items ? channel : 0);
        for (; item < items; item += slices * BLOCK_ROWS) {
            const Site site = find_site(item, channel, sizes);
            REAL v[NEURONS];
            UNROLL
            for (int k = 0; k < NEURONS; ++k) {
                v[k] = R(REST);
                if (V_GIVEN && is_neuron(site, k)) v[k] = LOAD(v_first, neuron_place(site, k));
            }
            ROLLED
            for (int start = 0; start < STEPS; start += GROUP) {
                IO part[GROUP][NEURONS];
                // The loads do not wait for the recurrence: they all start before it does.
                UNROLL
                for (int t = 0; t < GROUP; ++t) {
                    UNROLL
                    for (int k = 0; k < NEURONS; ++k) {
                        part[t][k] = 0;
                        if (IS_STEP(start, t, GROUP) && is_neuron(site, k))
                            part[t][k] = LOAD(y, (start + t) * neurons + neuron_place(site, k));
                    }
                }
                if (CHUNKS > 1 && start > 0 && start % CHUNK == 0) {
                    UNROLL
                    for (int k = 0; k < NEURONS; ++k) {
                        if (is_neuron(site, k))
                            STORE(checkpoints, (start / CHUNK - 1) * neurons + neuron_place(site, k), v[k]);
                    }
                }
                UNROLL
                for (int t = 0; t < GROUP; ++t) {
                    if (IS_STEP(start, t, GROUP)) {
                        const REAL share = read_mask(mask, start + t, site.sample, channel, sizes);
                        REAL pooled = 0;
                        UNROLL
                        for (int k = 0; k < NEURONS; ++k) {
                            const REAL a = charge(current(to_real(part[t][k]), share, p), v[k], p);
                            const REAL value = spike_value(a, p.threshold);
                            v[k] = settle(a, p.threshold);
#if POOL == MAXIMUM
                            pooled = value > pooled ? value : pooled;
#else
                            pooled += value;
#endif
                        }
#if POOL == AVERAGE
                        pooled *= R(0.25);
#endif
                        if (site.whole) STORE(out, (start + t) * outputs + site.out, from_real(pooled));
                    }
                }
            }
            UNROLL
            for (int k = 0; k < NEURONS; ++k) {
                if (is_neuron(site, k)) STORE(v_last, neuron_place(site, k), v[k]);
            }
        }
    }
}

#endif  // !BACKWARD

// ---- backward -------------------------------------------------------------------------------------------

#if BACKWARD

// Share of the pooled gradient that each neuron of a window gets; of equal maxima the first takes all of it.
DEVICE void spread(const REAL *a, REAL threshold, REAL grad_out, REAL *grad_spike) {
#if POOL == NO_POOL
    grad_spike[0] = grad_out;
#elif POOL == AVERAGE
    UNROLL
    for (int k = 0; k < NEURONS; ++k) grad_spike[k] = grad_out * R(0.25);
#else
    int winner = 0;
    REAL highest = spike_value(a[0], threshold);
    UNROLL
    for (int k = 1; k < NEURONS; ++k) {
        const REAL value = spike_value(a[k], threshold);
        winner = value > highest ? k : winner;
        highest = value > highest ? value : highest;
    }
    UNROLL
    for (int k = 0; k < NEURONS; ++k) grad_spike[k] = k == winner ? grad_out : R(0);
#endif
}

#define QUANTITIES (WITH_SUMS ? 4 : 2)

// What a thread keeps of a chunk: y, the gradient of out, and the membrane before each spike, in whose place
// y waits where it is not needed again. Where all of it fits in registers the steps are written out; else it
// lies in the thread's own columns of shared memory, and the steps are a loop.
#if CHUNK_IN_SHARED
#define COLUMN(array, t, k) array[t][k][thread]
#define LOAD_STEPS UNROLL_FOUR
#define WALK_STEPS ROLLED
#else
#define COLUMN(array, t, k) array[t][k]
#define LOAD_STEPS UNROLL
#define WALK_STEPS UNROLL
#endif
#if KEEP_Y
#define Y_OF(t, k) to_real(COLUMN(kept_y, t, k))
#else
#define Y_OF(t, k) COLUMN(charged, t, k)
#endif

KERNEL neuron_backward(
    const IO *RESTRICT y, const REAL *RESTRICT v_first, const REAL *RESTRICT threshold,
    const REAL *RESTRICT decay, const REAL *RESTRICT scale, const REAL *RESTRICT shift,
    const REAL *RESTRICT mask, const REAL *RESTRICT checkpoints, const IO *RESTRICT grad_out,
    const REAL *RESTRICT grad_last, const REAL *RESTRICT sums_mean, const REAL *RESTRICT g_scale,
    const REAL *RESTRICT y_scale, const REAL *RESTRICT y_mean, const REAL *RESTRICT g_shift,
    IO *RESTRICT grad_y, REAL *RESTRICT grad_first, REAL *RESTRICT partials,
    INT batch, INT channels, INT height, INT width, INT slices
) {
    SHARED REAL totals[QUANTITIES][THREADS];
#if CHUNK_IN_SHARED
    SHARED REAL charged[UP_TO_CHUNK][NEURONS][THREADS];
    SHARED IO above[UP_TO_CHUNK][1][THREADS];
#if KEEP_Y
    SHARED IO kept_y[UP_TO_CHUNK][NEURONS][THREADS];
#endif
#endif
    const Sizes sizes = {batch, channels, height, width};
    const INT items = count_items(sizes), neurons = count_neurons(sizes), outputs = count_outputs(sizes);
    FOR_EACH_THREAD {
        const INT channel = BLOCK / slices * COLUMNS + thread % COLUMNS;
        INT item = channel < channels ? BLOCK % slices * BLOCK_ROWS + thread / COLUMNS : items;
        const INT known = item < items ? channel : 0;
        const Parameters p = read_parameters(threshold, decay, scale, shift, known);
        const REAL inverse = R(1) / p.threshold;
#if WITH_SUMS
        const REAL mean = sums_mean[known];
#endif
        Sums sums = {0, 0, 0, 0};
        for (; item < items; item += slices * BLOCK_ROWS) {
            const Site site = find_site(item, channel, sizes);
            REAL grad_v[NEURONS];
            UNROLL
            for (int k = 0; k < NEURONS; ++k) {
                grad_v[k] = 0;
                if (GRAD_LAST_GIVEN && is_neuron(site, k)) grad_v[k] = LOAD(grad_last, neuron_place(site, k));
            }
            ROLLED
            for (int chunk = CHUNKS - 1; chunk >= 0; --chunk) {
                const int start = chunk * CHUNK;
#if !CHUNK_IN_SHARED
                REAL charged[UP_TO_CHUNK][NEURONS];
                IO above[UP_TO_CHUNK][1];
#if KEEP_Y
                IO kept_y[UP_TO_CHUNK][NEURONS];
#endif
#endif
                LOAD_STEPS
                for (int t = 0; t < UP_TO_CHUNK; ++t) {
                    if (IS_STEP(start, t, UP_TO_CHUNK)) {
                        UNROLL
                        for (int k = 0; k < NEURONS; ++k) {
                            const INT place = (start + t) * neurons + neuron_place(site, k);
                            IO value = 0;
                            if (is_neuron(site, k)) value = LOAD(y, place);
#if KEEP_Y
                            COLUMN(kept_y, t, k) = value;
#else
                            COLUMN(charged, t, k) = to_real(value);
#endif
                        }
                        IO gradient = 0;
                        if (site.whole) gradient = LOAD(grad_out, (start + t) * outputs + site.out);
                        COLUMN(above, t, 0) = gradient;
                    }
                }
                REAL v_start[NEURONS], v[NEURONS];
                UNROLL
                for (int k = 0; k < NEURONS; ++k) {
                    v_start[k] = R(REST);
                    if (is_neuron(site, k)) {
                        if (CHUNKS > 1 && chunk > 0)
                            v_start[k] = LOAD(checkpoints, (chunk - 1) * neurons + neuron_place(site, k));
                        else if (V_GIVEN)
                            v_start[k] = LOAD(v_first, neuron_place(site, k));
                    }
                    v[k] = v_start[k];
                }
                WALK_STEPS
                for (int t = 0; t < UP_TO_CHUNK; ++t) {
                    if (IS_STEP(start, t, UP_TO_CHUNK)) {
                        const REAL share = read_mask(mask, start + t, site.sample, channel, sizes);
                        UNROLL
                        for (int k = 0; k < NEURONS; ++k) {
                            const REAL a = charge(current(Y_OF(t, k), share, p), v[k], p);
                            v[k] = settle(a, p.threshold);
                            COLUMN(charged, t, k) = a;
                        }
                    }
                }
                WALK_STEPS
                for (int t = UP_TO_CHUNK - 1; t >= 0; --t) {
                    if (IS_STEP(start, t, UP_TO_CHUNK)) {
                        REAL a[NEURONS], grad_spike[NEURONS];
                        UNROLL
                        for (int k = 0; k < NEURONS; ++k) a[k] = COLUMN(charged, t, k);
                        spread(a, p.threshold, to_real(COLUMN(above, t, 0)), grad_spike);
                        const REAL share = read_mask(mask, start + t, site.sample, channel, sizes);
                        UNROLL
                        for (int k = 0; k < NEURONS; ++k) {
                            if (is_neuron(site, k)) {
                                const INT place = (start + t) * neurons + neuron_place(site, k);
                                const REAL earlier = COLUMN(charged, t > 0 ? t - 1 : 0, k);
                                const REAL v_before = t > 0 ? settle(earlier, p.threshold) : v_start[k];
                                const REAL x = DECAY_INPUT ? current(Y_OF(t, k), share, p) : R(0);
                                REAL g =
                                    step_back(a[k], v_before, x, grad_spike[k], grad_v[k], p, inverse, sums);
                                if (MASKED) g *= share;
#if WITH_SUMS
                                sums.g += g;
                                sums.g_times_y += g * (Y_OF(t, k) - mean);
#endif
#if INPUT_GRADIENT
                                g = g_scale[channel] * g + g_shift[channel]
                                    + y_scale[channel] * (Y_OF(t, k) - y_mean[channel]);
#endif
                                if (WRITE) STORE(grad_y, place, from_real(g));
                            }
                        }
                    }
                }
            }
            if (WRITE && V_GIVEN) {
                UNROLL
                for (int k = 0; k < NEURONS; ++k) {
                    if (is_neuron(site, k)) STORE(grad_first, neuron_place(site, k), grad_v[k]);
                }
            }
        }
        totals[0][thread] = sums.threshold;
        totals[1][thread] = sums.decay;
#if WITH_SUMS
        totals[2][thread] = sums.g;
        totals[3][thread] = sums.g_times_y;
#endif
    }
    // Halves are added until one row of threads is left, in the same order every time.
    for (int half = THREADS / 2; half >= COLUMNS; half /= 2) {
        FOR_EACH_THREAD {
            if (thread < half) {
                UNROLL
                for (int q = 0; q < QUANTITIES; ++q) totals[q][thread] += totals[q][thread + half];
            }
        }
    }
    FOR_EACH_THREAD {
        const INT channel = BLOCK / slices * COLUMNS + thread;
        if (thread < COLUMNS && channel < channels) {
            UNROLL
            for (int q = 0; q < QUANTITIES; ++q)
                partials[(q * slices + BLOCK % slices) * channels + channel] = totals[q][thread];
        }
    }
}

#endif  // BACKWARD
