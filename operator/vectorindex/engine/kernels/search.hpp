// The search of a graph as hnswlib does it, step by step, and the exact scan.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <queue>
#include <utility>
#include <vector>

#include "graph.hpp"

namespace kernels {

using Found = std::pair<float, std::uint32_t>; // distance and element

struct NearerLast { // hnswlib's order: equal distances stay as the heap has them
    bool operator()(const Found &a, const Found &b) const noexcept { return a.first < b.first; }
};
using Heap = std::priority_queue<Found, std::vector<Found>, NearerLast>;

// What a heap holds, equal distances by element.
std::vector<Found> nearest_first(Heap heap);

// Which elements a search has seen; forgets all at once.
class Visited {
  public:
    explicit Visited(std::size_t count = 0) : marks_(count, 0) {}
    void make_room(std::size_t count) {
        if (marks_.size() < count) {
            marks_.resize(count, 0);
        }
    }
    void clear() {
        if (++mark_ == 0) {
            std::fill(marks_.begin(), marks_.end(), 0);
            mark_ = 1;
        }
    }
    // Whether it was not marked before.
    bool mark(std::uint32_t element) { return std::exchange(marks_[element], mark_) != mark_; }

  private:
    std::vector<std::uint32_t> marks_;
    std::uint32_t mark_ = 0;
};

// One level of a graph from `start`: the ef nearest that are not dead, farthest on top (hnswlib's searchBaseLayerST).
// list_of(e): count and links of an element; distance_to(e); dead(e): whether it is passed through but not answered.
template <class ListOf, class DistanceTo, class Dead>
Heap search_level(std::uint32_t start, std::size_t ef, Visited &visited, ListOf list_of, DistanceTo distance_to,
                  Dead dead) {
    Heap nearest, candidates; // the second by negative distance: nearest on top
    float bound = std::numeric_limits<float>::max();
    visited.clear();
    visited.mark(start);
    if (!dead(start)) {
        bound = distance_to(start);
        nearest.emplace(bound, start);
    }
    candidates.emplace(-bound, start);
    while (!candidates.empty()) {
        const Found current = candidates.top();
        if (-current.first > bound && nearest.size() == ef) {
            break;
        }
        candidates.pop();
        const std::uint32_t *links = list_of(current.second);
        const std::uint32_t size = links[0] & COUNT_MASK;
        for (std::uint32_t link = 1; link <= size; ++link) {
            const std::uint32_t element = links[link];
            if (!visited.mark(element)) {
                continue;
            }
            const float distance = distance_to(element);
            if (nearest.size() < ef || distance < bound) {
                candidates.emplace(-distance, element);
                if (!dead(element)) {
                    nearest.emplace(distance, element);
                }
                if (nearest.size() > ef) {
                    nearest.pop();
                }
                if (!nearest.empty()) {
                    bound = nearest.top().first;
                }
            }
        }
    }
    return nearest;
}

// Rows and distances (queries x width), nearest first; where fewer are found, the rest is -1 and infinity.
struct Answers {
    std::size_t width;
    std::vector<std::int64_t> rows;
    std::vector<float> distances;
    std::vector<std::uint32_t> computations; // of distances, by query; empty for a scan

    Answers(std::size_t queries, std::size_t width)
        : width(width), rows(queries * width, -1),
          distances(queries * width, std::numeric_limits<float>::infinity()) {}
    void put(std::size_t query, const std::vector<Found> &found);
};

// hnswlib's knn_query with ef >= k, counted. `dead` (one byte per element) is passed through and not answered.
Answers search(const Graph &graph, const float *queries, std::size_t count, const std::uint8_t *dead, std::size_t k,
               std::size_t ef, int threads);

// The width nearest of `rows` to each query, equal ones by row. A vector begins every `stride` floats.
Answers scan(const float *vectors, std::size_t stride, std::size_t dimensions, const std::int64_t *rows,
             std::size_t row_count, const float *queries, std::size_t count, std::size_t width, Space space,
             int threads);

} // namespace kernels
