// What makes neuron.cu plain C++: blocks run one after the other, and in a block thread after thread.
//
// Macros that tell the GPU's compiler something are empty. Loads and stores are counted, and checked against
// the sizes of the tensors.
#pragma once
#define SHIM
#define KERNEL static void
#define DEVICE static inline
#define CONSTANT static const
#define SHARED static
#define RESTRICT
#define BLOCK shim_block
// All threads finish a phase before the next one starts, as __syncthreads() has it.
#define FOR_EACH_THREAD for (int thread = 0; thread < THREADS; ++thread)
#define UNROLL
#define ROLLED
#define UNROLL_FOUR
#define LOAD(pointer, index) (*shim_access((pointer), (index), 0))
#define STORE(pointer, index, value) (*shim_access((pointer), (index), 1) = (value))

extern "C" double exp(double);
extern "C" float expf(float);

static const int SHIM_ARGUMENTS = 32;
static long long shim_block;
static long long shim_bytes[2];  // read and written
static long long shim_outside;   // accesses outside of a tensor
static long long shim_starts[SHIM_ARGUMENTS], shim_sizes[SHIM_ARGUMENTS];

template <class Number>
Number *shim_access(Number *pointer, long long index, int writes) {
    static long long nothing;
    shim_bytes[writes] += sizeof(Number);
    for (int i = 0; i < SHIM_ARGUMENTS; ++i)
        if (shim_starts[i] == (long long)pointer && index >= 0 &&
            (index + 1) * (long long)sizeof(Number) <= shim_sizes[i])
            return pointer + index;
    ++shim_outside;
    return (Number *)&nothing;
}
