// A loop over chunks of a range by a given number of threads, without a pool and without state that outlives it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace kernels {

// Calls body(first, last) for chunks that cover 0..count, each in one thread. What a body throws ends the loop and is
// thrown here. Which thread takes which chunk is not fixed: results must not depend on it.
template <class Body> void parallel_chunks(std::size_t count, std::size_t chunk, int threads, Body body) {
    std::atomic<std::size_t> next{0};
    std::exception_ptr failure;
    std::mutex failing;
    const auto work = [&] {
        try {
            for (std::size_t first; (first = next.fetch_add(chunk)) < count;) {
                body(first, std::min(first + chunk, count));
            }
        } catch (...) {
            next = count;
            const std::lock_guard<std::mutex> guard(failing);
            failure = std::current_exception();
        }
    };
    const std::size_t useful = std::min<std::size_t>(std::max(threads, 1), (count + chunk - 1) / chunk);
    std::vector<std::thread> others;
    try {
        for (std::size_t other = 1; other < useful; ++other) {
            others.emplace_back(work);
        }
    } catch (const std::system_error &) {
        // Fewer threads than asked for: those that there are do all of it.
    }
    work();
    for (std::thread &other : others) {
        other.join();
    }
    if (failure) {
        std::rethrow_exception(failure);
    }
}

} // namespace kernels
