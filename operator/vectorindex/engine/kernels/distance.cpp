#include "distance.hpp"

#include <cstring>

namespace kernels {
namespace {

// Eight lanes by GCC's and Clang's vector extension: one register with AVX2, two with SSE2 or NEON.
typedef float Lanes __attribute__((vector_size(32)));
constexpr std::size_t LANES = 8;

struct Difference {
    static inline __attribute__((always_inline)) void add(Lanes &sum, const Lanes &a, const Lanes &b) {
        const Lanes difference = a - b;
        sum += difference * difference;
    }
    static float add(float sum, float a, float b) { return sum + (a - b) * (a - b); }
};

struct Product {
    static inline __attribute__((always_inline)) void add(Lanes &sum, const Lanes &a, const Lanes &b) { sum += a * b; }
    static float add(float sum, float a, float b) { return sum + a * b; }
};

// Four independent sums hide the latency of an addition, and keep the rounding error of long vectors small.
template <class Term>
inline __attribute__((always_inline)) float accumulate(const float *a, const float *b, std::size_t dimensions) {
    Lanes sums[4] = {};
    std::size_t at = 0;
    for (; at + 4 * LANES <= dimensions; at += 4 * LANES) {
        for (std::size_t part = 0; part < 4; ++part) {
            Lanes left, right;
            std::memcpy(&left, a + at + part * LANES, sizeof left);
            std::memcpy(&right, b + at + part * LANES, sizeof right);
            Term::add(sums[part], left, right);
        }
    }
    for (; at + LANES <= dimensions; at += LANES) {
        Lanes left, right;
        std::memcpy(&left, a + at, sizeof left);
        std::memcpy(&right, b + at, sizeof right);
        Term::add(sums[0], left, right);
    }
    const Lanes sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    float total = ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
    for (; at < dimensions; ++at) {
        total = Term::add(total, a[at], b[at]);
    }
    return total;
}

float squared_l2(const float *a, const float *b, std::size_t dimensions) {
    return accumulate<Difference>(a, b, dimensions);
}

float inner_product(const float *a, const float *b, std::size_t dimensions) {
    return 1.0f - accumulate<Product>(a, b, dimensions);
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) float squared_l2_avx2(const float *a, const float *b, std::size_t dimensions) {
    return accumulate<Difference>(a, b, dimensions);
}

__attribute__((target("avx2,fma"))) float inner_product_avx2(const float *a, const float *b, std::size_t dimensions) {
    return 1.0f - accumulate<Product>(a, b, dimensions);
}
#endif

} // namespace

Distance distance_for(Space space) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        return space == Space::L2 ? squared_l2_avx2 : inner_product_avx2;
    }
#endif
    return space == Space::L2 ? squared_l2 : inner_product;
}

} // namespace kernels
