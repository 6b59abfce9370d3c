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
    static float distance(float sum) { return sum; }
};

struct Product {
    static inline __attribute__((always_inline)) void add(Lanes &sum, const Lanes &a, const Lanes &b) { sum += a * b; }
    static float add(float sum, float a, float b) { return sum + a * b; }
    static float distance(float sum) { return 1.0f - sum; }
};

inline __attribute__((always_inline)) float total_of(const Lanes &sum) {
    return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

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
    float total = total_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (; at < dimensions; ++at) {
        total = Term::add(total, a[at], b[at]);
    }
    return total;
}

// Two sums for each of four vectors: eight hide the latency, and with what is read they fit AVX2's sixteen registers.
template <class Term, std::size_t COUNT>
inline __attribute__((always_inline)) void accumulate_each(const float *const a[COUNT], const float *b,
                                                           std::size_t dimensions, float out[COUNT]) {
    Lanes sums[COUNT][2] = {};
    std::size_t at = 0;
    for (; at + 2 * LANES <= dimensions; at += 2 * LANES) {
        for (std::size_t part = 0; part < 2; ++part) {
            Lanes right;
            std::memcpy(&right, b + at + part * LANES, sizeof right);
            for (std::size_t which = 0; which < COUNT; ++which) {
                Lanes left;
                std::memcpy(&left, a[which] + at + part * LANES, sizeof left);
                Term::add(sums[which][part], left, right);
            }
        }
    }
    for (std::size_t which = 0; which < COUNT; ++which) {
        float total = total_of(sums[which][0] + sums[which][1]);
        for (std::size_t rest = at; rest < dimensions; ++rest) {
            total = Term::add(total, a[which][rest], b[rest]);
        }
        out[which] = Term::distance(total);
    }
}

template <class Term> float distance_of(const float *a, const float *b, std::size_t dimensions) {
    return Term::distance(accumulate<Term>(a, b, dimensions));
}

template <class Term, std::size_t COUNT>
void distances_of(const float *const *a, const float *b, std::size_t dimensions, float *out) {
    accumulate_each<Term, COUNT>(a, b, dimensions, out);
}

#if defined(__x86_64__)
template <class Term>
__attribute__((target("avx2,fma"))) float distance_of_avx2(const float *a, const float *b, std::size_t dimensions) {
    return Term::distance(accumulate<Term>(a, b, dimensions));
}

template <class Term, std::size_t COUNT>
__attribute__((target("avx2,fma"))) void distances_of_avx2(const float *const *a, const float *b,
                                                           std::size_t dimensions, float *out) {
    accumulate_each<Term, COUNT>(a, b, dimensions, out);
}

bool has_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

template <class Term> Distance chosen() {
#if defined(__x86_64__)
    if (has_avx2()) {
        return distance_of_avx2<Term>;
    }
#endif
    return distance_of<Term>;
}

template <class Term> ScanDistances chosen_for_scans() {
#if defined(__x86_64__)
    if (has_avx2()) {
        return {distances_of_avx2<Term, 1>, distances_of_avx2<Term, 4>};
    }
#endif
    return {distances_of<Term, 1>, distances_of<Term, 4>};
}

} // namespace

Distance distance_for(Space space) {
    return space == Space::L2 ? chosen<Difference>() : chosen<Product>();
}

ScanDistances scan_distances_for(Space space) {
    return space == Space::L2 ? chosen_for_scans<Difference>() : chosen_for_scans<Product>();
}

} // namespace kernels
