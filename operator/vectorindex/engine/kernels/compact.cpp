#include "compact.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <stdexcept>

#include "parallel.hpp"
#include "search.hpp"

namespace kernels {
namespace {

constexpr std::size_t NEAREST_CANDIDATES = 64;
constexpr std::size_t MAX_DEAD_PASSED = 4096; // an item amid so many dead ones is left to the repair of reachability
constexpr std::size_t CHUNK = 256;
constexpr Reach UPPER_REACH{1.0f, 0.0f};

} // namespace

Compaction::Compaction(const Graph &graph, const std::uint8_t *dead) : graph_(graph), dead_(dead) {
    renumber_.resize(graph.count());
    std::size_t upper_words = 0;
    for (std::uint32_t element = 0; element < graph.count(); ++element) {
        if (dead[element]) {
            continue;
        }
        renumber_[element] = static_cast<std::uint32_t>(live_.size());
        if (live_.empty() || graph.levels()[element] > graph.levels()[live_[entry_point_]]) {
            entry_point_ = renumber_[element];
        }
        live_.push_back(element);
        upper_at_.push_back(upper_words);
        upper_words += 1 + graph.levels()[element] * graph.shape().list_words(1);
    }
    if (live_.empty()) {
        throw std::invalid_argument("all items are dead");
    }
    if (!dead[graph.entry_point()]) {
        entry_point_ = renumber_[graph.entry_point()];
    }
    upper_at_.push_back(upper_words);
    for (std::size_t &at : upper_at_) {
        at += live_.size() * graph.shape().element_words();
    }
}

std::size_t Compaction::write(std::uint32_t *target, std::size_t first, std::size_t last, const Reach &reach,
                              int threads) const {
    const Shape &shape = graph_.shape();
    std::atomic<std::size_t> added{0};
    parallel_chunks(last - first, CHUNK, threads, [&](std::size_t chunk_first, std::size_t chunk_last) {
        std::size_t added_here = 0;
        for (std::size_t place = first + chunk_first; place < first + chunk_last; ++place) {
            const std::uint32_t element = live_[place];
            std::uint32_t *lower = target + place * shape.element_words();
            added_here += write_list(0, element, reach, lower);
            std::memcpy(lower + shape.list_words(0), graph_.vector(element), 4 * (shape.dimensions + 2)); // and label
            std::uint32_t *upper = target + upper_at_[place];
            *upper++ = static_cast<std::uint32_t>(4 * graph_.levels()[element] * shape.list_words(1));
            for (int level = 1; level <= graph_.levels()[element]; ++level, upper += shape.list_words(1)) {
                added_here += write_list(level, element, UPPER_REACH, upper);
            }
        }
        added += added_here;
    });
    return added;
}

std::size_t Compaction::write_list(int level, std::uint32_t element, const Reach &reach, std::uint32_t *target) const {
    const std::uint32_t *links = graph_.list(level, element);
    const std::uint32_t size = links[0] & COUNT_MASK;
    std::vector<std::uint32_t> kept;
    std::copy_if(links + 1, links + 1 + size, std::back_inserter(kept),
                 [&](std::uint32_t link) { return !dead_[link]; });
    const std::size_t live = kept.size();
    if (live < size) {
        add_links(level, element, reach, kept);
    }
    std::fill(target, target + graph_.shape().list_words(level), 0);
    target[0] = static_cast<std::uint32_t>(kept.size());
    std::transform(kept.begin(), kept.end(), target + 1, [&](std::uint32_t link) { return renumber_[link]; });
    return kept.size() - live;
}

void Compaction::add_links(int level, std::uint32_t element, const Reach &reach,
                           std::vector<std::uint32_t> &kept) const {
    const std::size_t most = level == 0 ? graph_.shape().max_links(0) * 3 / 4 : graph_.shape().max_links(level);
    if (kept.size() >= most) {
        return;
    }
    std::vector<Found> nearest;
    for (const std::uint32_t candidate : candidates(level, element)) {
        if (std::find(kept.begin(), kept.end(), candidate) == kept.end()) {
            nearest.emplace_back(graph_.distance(element, candidate), candidate);
        }
    }
    const auto end = nearest.begin() + std::min(NEAREST_CANDIDATES, nearest.size());
    std::partial_sort(nearest.begin(), end, nearest.end());
    for (auto found = nearest.begin(); found != end && kept.size() < most; ++found) {
        // From the last: those accepted are nearest to the candidate, and mostly decide.
        const auto covers = [&](std::uint32_t link) {
            return graph_.distance(found->second, link) < reach.slope * found->first + reach.intercept;
        };
        if (std::none_of(kept.rbegin(), kept.rend(), covers)) {
            kept.push_back(found->second);
        }
    }
}

std::vector<std::uint32_t> Compaction::candidates(int level, std::uint32_t element) const {
    std::vector<std::uint32_t> found, passed, frontier{element};
    while (found.empty() && !frontier.empty() && passed.size() < MAX_DEAD_PASSED) {
        std::vector<std::uint32_t> next;
        for (const std::uint32_t from : frontier) {
            const std::uint32_t *links = graph_.list(level, from);
            for (std::uint32_t link = 1; link <= (links[0] & COUNT_MASK); ++link) {
                if (dead_[links[link]]) {
                    next.push_back(links[link]);
                } else if (from != element && links[link] != element) {
                    found.push_back(links[link]);
                }
            }
        }
        std::sort(next.begin(), next.end());
        next.erase(std::unique(next.begin(), next.end()), next.end());
        frontier.clear();
        std::set_difference(next.begin(), next.end(), passed.begin(), passed.end(), std::back_inserter(frontier));
        const auto middle = static_cast<std::ptrdiff_t>(passed.size());
        passed.insert(passed.end(), frontier.begin(), frontier.end());
        std::inplace_merge(passed.begin(), passed.begin() + middle, passed.end());
    }
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    return found;
}

} // namespace kernels
