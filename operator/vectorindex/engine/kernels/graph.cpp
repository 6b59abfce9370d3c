#include "graph.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

namespace kernels {
namespace {

[[noreturn]] void refuse(const std::string &why) { throw std::invalid_argument(why); }

} // namespace

Graph::Graph(const std::uint32_t *words, std::size_t size, const Shape &shape, Space space)
    : words_(words), shape_(shape), element_words_(shape.element_words()), distance_(distance_for(space)) {
    if (shape.m < 2 || shape.m > 512 || shape.dimensions < 1 || shape.count < 1 || shape.count > UINT32_MAX) {
        refuse("has a shape that no graph of ours has");
    }
    if (shape.entry_point >= shape.count) {
        refuse("has an entry point that is not there");
    }
    if (size / (element_words_ + 1) < shape.count) {
        refuse("is too short for " + std::to_string(shape.count) + " items");
    }
    read_levels(size);
    if (max_level() != *std::max_element(levels_.begin(), levels_.end())) {
        refuse("its entry point is not on the highest level");
    }
    check_lists();
    check_vectors();
}

void Graph::read_levels(std::size_t size) {
    const std::size_t list_bytes = 4 * shape_.list_words(1);
    levels_.resize(shape_.count);
    upper_at_.resize(shape_.count);
    std::size_t at = shape_.count * element_words_;
    for (std::size_t element = 0; element < shape_.count; ++element) {
        if (at >= size) {
            refuse("ends before the upper lists of item " + std::to_string(element));
        }
        const std::size_t bytes = words_[at++];
        if (bytes % list_bytes != 0) {
            refuse("item " + std::to_string(element) + " has upper lists of " + std::to_string(bytes) + " bytes");
        }
        if (bytes / 4 > size - at) {
            refuse("ends within the upper lists of item " + std::to_string(element));
        }
        levels_[element] = static_cast<std::int32_t>(bytes / list_bytes);
        upper_at_[element] = at;
        at += bytes / 4;
    }
    if (at != size) {
        refuse("has " + std::to_string(4 * (size - at)) + " bytes too many");
    }
}

void Graph::check_lists() const {
    for (std::uint32_t element = 0; element < shape_.count; ++element) {
        if (list(0, element)[0] & ~(COUNT_MASK | DELETED_BIT)) {
            refuse("has unknown flags on an item");
        }
        for (int level = 0; level <= levels_[element]; ++level) {
            const std::uint32_t *links = list(level, element);
            const std::size_t size = level == 0 ? links[0] & COUNT_MASK : links[0];
            if (size > shape_.max_links(level)) {
                refuse("has a link count above its limit on level " + std::to_string(level));
            }
            for (std::size_t link = 1; link <= size; ++link) {
                if (links[link] >= shape_.count) {
                    refuse("has a link on level " + std::to_string(level) + " to an item that is not there");
                }
                if (levels_[links[link]] < level) {
                    refuse("has a link on level " + std::to_string(level) + " to an item that is not on it");
                }
            }
        }
    }
}

void Graph::check_vectors() const {
    for (std::uint32_t element = 0; element < shape_.count; ++element) {
        const std::uint32_t *bits = words_ + element * element_words_ + shape_.list_words(0);
        std::uint32_t infinite = 0; // an exponent of ones is NaN or infinity
        for (std::size_t at = 0; at < shape_.dimensions; ++at) {
            infinite |= (bits[at] & 0x7F800000u) == 0x7F800000u;
        }
        if (infinite) {
            refuse("holds NaN or infinity in a vector");
        }
    }
}

std::size_t check_links(const Graph &graph) {
    std::size_t total = 0;
    std::vector<std::uint32_t> targets;
    for (std::uint32_t element = 0; element < graph.count(); ++element) {
        for (int level = 0; level <= graph.levels()[element]; ++level) {
            const std::uint32_t *links = graph.list(level, element);
            targets.assign(links + 1, links + 1 + (links[0] & COUNT_MASK));
            if (std::find(targets.begin(), targets.end(), element) != targets.end()) {
                refuse("an item has a link to itself on level " + std::to_string(level));
            }
            std::sort(targets.begin(), targets.end());
            if (std::adjacent_find(targets.begin(), targets.end()) != targets.end()) {
                refuse("an item has the same link twice on level " + std::to_string(level));
            }
            total += targets.size();
        }
    }
    return total;
}

std::vector<std::uint8_t> reachable(const Graph &graph) {
    std::vector<std::uint8_t> reached(graph.count(), 0);
    std::vector<std::uint32_t> found{graph.entry_point()};
    reached[graph.entry_point()] = 1;
    for (int level = graph.max_level(); level >= 0; --level) {
        for (std::size_t next = 0; next < found.size(); ++next) {
            const std::uint32_t *links = graph.list(level, found[next]);
            for (std::uint32_t link = 1; link <= (links[0] & COUNT_MASK); ++link) {
                if (!reached[links[link]]) {
                    reached[links[link]] = 1;
                    found.push_back(links[link]);
                }
            }
        }
    }
    return reached;
}

} // namespace kernels
