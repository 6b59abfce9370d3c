// The words of an hnswlib file after its header, proven to be a graph: every function on a Graph stays within them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "distance.hpp"

namespace kernels {

constexpr std::uint32_t COUNT_MASK = 0xFFFF; // of the first word of a list: how many links follow
constexpr std::uint32_t DELETED_BIT = 1u << 16;

struct Shape {
    std::size_t count;      // elements
    std::size_t dimensions;
    std::size_t m;          // links per element and level; twice that on level 0
    std::uint32_t entry_point;

    std::size_t max_links(int level) const { return level == 0 ? 2 * m : m; }
    // Words of one list: its count, and room for all links.
    std::size_t list_words(int level) const { return 1 + max_links(level); }
    // Words of one element on level 0: list, vector, label.
    std::size_t element_words() const { return list_words(0) + dimensions + 2; }
};

class Graph {
  public:
    // Throws std::invalid_argument, which says what is wrong, unless all counts, links, levels and vectors are valid.
    // The words must outlive the graph and not change.
    Graph(const std::uint32_t *words, std::size_t size, const Shape &shape, Space space);

    const Shape &shape() const { return shape_; }
    std::size_t count() const { return shape_.count; }
    std::uint32_t entry_point() const { return shape_.entry_point; }
    int max_level() const { return levels_[shape_.entry_point]; }
    const std::vector<std::int32_t> &levels() const { return levels_; }
    const std::uint32_t *words() const { return words_; }

    // Where a list begins, in words: its count, then its links. The element must be on the level.
    std::size_t list_at(int level, std::uint32_t element) const {
        return level == 0 ? element * element_words_
                          : upper_at_[element] + static_cast<std::size_t>(level - 1) * shape_.list_words(1);
    }
    const std::uint32_t *list(int level, std::uint32_t element) const { return words_ + list_at(level, element); }
    const float *vector(std::uint32_t element) const {
        return reinterpret_cast<const float *>(words_ + element * element_words_ + shape_.list_words(0));
    }
    bool deleted(std::uint32_t element) const { return list(0, element)[0] & DELETED_BIT; }

    Distance distance_function() const { return distance_; }
    float distance(const float *query, std::uint32_t element) const {
        return distance_(query, vector(element), shape_.dimensions);
    }
    float distance(std::uint32_t a, std::uint32_t b) const { return distance(vector(a), b); }

  private:
    void read_levels(std::size_t size);
    void check_lists() const;
    void check_vectors() const;

    const std::uint32_t *words_;
    Shape shape_;
    std::size_t element_words_;
    Distance distance_;
    std::vector<std::int32_t> levels_;    // of each element
    std::vector<std::size_t> upper_at_;   // where its list on level 1 begins
};

// How many links there are on all levels. Throws std::invalid_argument when an element has a link to itself, or two to
// the same one.
std::size_t check_links(const Graph &graph);

// Which elements a path leads to from the entry point: on the highest level, then from all that were reached on each
// lower one.
std::vector<std::uint8_t> reachable(const Graph &graph);

} // namespace kernels
