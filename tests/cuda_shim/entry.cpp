// Runs one kernel of neuron.cu over all of its blocks; TEXT is the file with it, NAME its name.
#include "cuda_shim.h"
#include TEXT

template <int... I>
struct Places {};
template <int N, int... I>
struct Count : Count<N - 1, N - 1, I...> {};
template <int... I>
struct Count<0, I...> {
    typedef Places<I...> Result;
};

template <class... Types, int... I>
void run_block(void (*kernel)(Types...), const long long *arguments, Places<I...>) {
    kernel((Types)arguments[I]...);
}

template <class... Types>
void run_blocks(void (*kernel)(Types...), const long long *arguments, long long blocks) {
    for (shim_block = 0; shim_block < blocks; ++shim_block)
        run_block(kernel, arguments, typename Count<sizeof...(Types)>::Result());
}

// Addresses and numbers, the bytes behind each address, and how many there are; returns bytes read and written
// and the number of accesses outside of tensors.
extern "C" void run(
    const long long *arguments, const long long *sizes, int count, long long blocks, long long *report
) {
    for (int i = 0; i < SHIM_ARGUMENTS; ++i) {
        shim_starts[i] = i < count ? arguments[i] : 0;
        shim_sizes[i] = i < count ? sizes[i] : 0;
    }
    shim_bytes[0] = shim_bytes[1] = shim_outside = 0;
    run_blocks(NAME, arguments, blocks);
    report[0] = shim_bytes[0];
    report[1] = shim_bytes[1];
    report[2] = shim_outside;
}
