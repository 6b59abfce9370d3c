// Distances between float32 vectors, by the widest instructions that the processor has.
#pragma once

#include <cstddef>

namespace kernels {

enum class Space { L2, InnerProduct };

// Squared Euclidean distance, or one minus the inner product; any alignment of 4 bytes.
using Distance = float (*)(const float *, const float *, std::size_t dimensions);

// Chosen at run time: one binary runs on every x86-64 and uses AVX2 and FMA where they are.
Distance distance_for(Space space);

} // namespace kernels
