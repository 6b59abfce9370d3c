#include "search.hpp"

#include <algorithm>

#include "parallel.hpp"

namespace kernels {
namespace {

constexpr std::size_t QUERIES_AT_ONCE = 16; // share the vectors of a block, which lie in the cache
constexpr std::size_t BLOCK_BYTES = 128 * 1024;

} // namespace

std::vector<Found> nearest_first(Heap heap) {
    std::vector<Found> found;
    for (; !heap.empty(); heap.pop()) {
        found.push_back(heap.top());
    }
    std::sort(found.begin(), found.end());
    return found;
}

void Answers::put(std::size_t query, const std::vector<Found> &found) {
    for (std::size_t place = 0; place < std::min(width, found.size()); ++place) {
        distances[query * width + place] = found[place].first;
        rows[query * width + place] = found[place].second;
    }
}

Answers search(const Graph &graph, const float *queries, std::size_t count, const std::uint8_t *dead, std::size_t k,
               std::size_t ef, int threads) {
    Answers answers(count, k);
    answers.computations.resize(count);
    parallel_chunks(count, QUERIES_AT_ONCE, threads, [&](std::size_t first, std::size_t last) {
        // Kept by the thread: to make and clear one for each query would cost more than a search of a large graph.
        thread_local Visited visited;
        visited.make_room(graph.count());
        for (std::size_t query = first; query < last; ++query) {
            std::uint32_t computations = 0;
            const auto distance_to = [&](std::uint32_t element) {
                ++computations;
                return graph.distance(queries + query * graph.shape().dimensions, element);
            };
            std::uint32_t start = graph.entry_point();
            float best = distance_to(start);
            for (int level = graph.max_level(); level > 0; --level) {
                for (bool nearer = true; nearer;) {
                    nearer = false;
                    const std::uint32_t *links = graph.list(level, start);
                    for (std::uint32_t link = 1; link <= links[0]; ++link) {
                        const float distance = distance_to(links[link]);
                        if (distance < best) {
                            best = distance;
                            start = links[link];
                            nearer = true;
                        }
                    }
                }
            }
            Heap found = search_level(
                start, ef, visited, [&](std::uint32_t element) { return graph.list(0, element); }, distance_to,
                [&](std::uint32_t element) { return dead[element] != 0; });
            answers.put(query, nearest_first(std::move(found)));
            answers.computations[query] = computations;
        }
    });
    return answers;
}

Answers scan(const float *vectors, std::size_t stride, std::size_t dimensions, const std::int64_t *rows,
             std::size_t row_count, const float *queries, std::size_t count, std::size_t width, Space space,
             int threads) {
    Answers answers(count, width);
    if (width == 0) {
        return answers;
    }
    const ScanDistances distances_for = scan_distances_for(space);
    const std::size_t block = std::max<std::size_t>(1, BLOCK_BYTES / (4 * dimensions));
    parallel_chunks(count, QUERIES_AT_ONCE, threads, [&](std::size_t first, std::size_t last) {
        std::vector<std::priority_queue<Found>> best(last - first); // by distance, then by place in `rows`
        const auto keep = [&](std::size_t query, const Found &found) {
            auto &heap = best[query - first];
            if (heap.size() < width) {
                heap.push(found);
            } else if (found < heap.top()) {
                heap.pop();
                heap.push(found);
            }
        };
        for (std::size_t start = 0; start < row_count; start += block) {
            const std::size_t end = std::min(start + block, row_count);
            for (std::size_t query = first; query < last;) {
                const std::size_t together = last - query < 4 ? 1 : 4;
                const float *asked[4];
                for (std::size_t which = 0; which < together; ++which) {
                    asked[which] = queries + (query + which) * dimensions;
                }
                const auto distances_to = together == 4 ? distances_for.four : distances_for.one;
                for (std::size_t place = start; place < end; ++place) {
                    float distances[4];
                    distances_to(asked, vectors + rows[place] * stride, dimensions, distances);
                    for (std::size_t which = 0; which < together; ++which) {
                        keep(query + which, Found(distances[which], static_cast<std::uint32_t>(place)));
                    }
                }
                query += together;
            }
        }
        for (std::size_t query = first; query < last; ++query) {
            auto &heap = best[query - first];
            for (std::size_t place = heap.size(); place-- > 0; heap.pop()) {
                answers.distances[query * width + place] = heap.top().first;
                answers.rows[query * width + place] = rows[heap.top().second];
            }
        }
    });
    return answers;
}

} // namespace kernels
