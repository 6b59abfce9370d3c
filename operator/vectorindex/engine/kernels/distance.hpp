// Distances between float32 vectors, by the widest instructions that the processor has.
#pragma once

#include <cstddef>

namespace kernels {

enum class Space { L2, InnerProduct };

// Squared Euclidean distance, or one minus the inner product; any alignment of 4 bytes.
using Distance = float (*)(const float *, const float *, std::size_t dimensions);

// Of one or of four vectors `a` to one `b`, which is read once for all of them. How many are asked together changes no
// bit of an answer; Distance sums in another order.
struct ScanDistances {
    using Each = void (*)(const float *const *a, const float *b, std::size_t dimensions, float *out);
    Each one;
    Each four;
};

// Chosen at run time: one binary runs on every x86-64 and uses AVX2 and FMA where they are.
Distance distance_for(Space space);
ScanDistances scan_distances_for(Space space);

} // namespace kernels
