// Makes every item of a graph one that searches can find.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "graph.hpp"

namespace kernels {

// New content of lists: where each begins in the graph's words, and `width` words of each.
struct ChangedLists {
    std::size_t width;
    std::vector<std::int64_t> at;
    std::vector<std::uint32_t> words;
};

struct Repair {
    std::size_t links; // added, or put in place of others
    ChangedLists lower, upper;
};

// Such that afterwards a path leads from the entry point to each element, on each of its levels by that level alone,
// and on level 0 back to it as well: so a search can begin anywhere on level 0 and finds as many items as it is asked
// for. Links are only changed where that does not hold. The same for any number of threads.
Repair repair(const Graph &graph, int threads);

} // namespace kernels
