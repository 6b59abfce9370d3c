// A graph without its dead: new links across the gaps that they leave, and the rest renumbered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "graph.hpp"

namespace kernels {

// How far a linked element covers a candidate of an element: d(candidate, linked) < slope * d(element, candidate) +
// intercept. With 1 and 0 it is the rule by which hnswlib builds; less reach, more links.
struct Reach {
    float slope, intercept;
};

// The live elements keep their order, levels, vectors and labels. Per live element with dead neighbours, on each level:
// all live links stay; candidates are the live neighbours of its dead neighbours, and deeper through dead ones only if
// there are none; of the 64 nearest one is linked unless a link covers it (RobustPrune of DiskANN; after FreshDiskANN's
// consolidation of deletes and Qdrant's graph healer). Lists are filled to three quarters on level 0, so that later
// repairs find room.
class Compaction {
  public:
    // dead: one byte per element, of which not all may be set. Both must outlive this.
    Compaction(const Graph &graph, const std::uint8_t *dead);

    std::size_t count() const { return live_.size(); }
    // Size of the new graph in words, after the header of its file.
    std::size_t words() const { return upper_at_.back(); }
    std::uint32_t entry_point() const { return entry_point_; } // the old one, or if it is dead, one of the highest level
    int max_level() const { return graph_.levels()[live_[entry_point_]]; }

    // Writes the new elements first..last into `target` of words() words, in parallel; returns how many links were
    // added. The reach is that on level 0; above it is hnswlib's. The same for any number of threads.
    std::size_t write(std::uint32_t *target, std::size_t first, std::size_t last, const Reach &reach, int threads) const;

  private:
    std::size_t write_list(int level, std::uint32_t element, const Reach &reach, std::uint32_t *target) const;
    void add_links(int level, std::uint32_t element, const Reach &reach, std::vector<std::uint32_t> &kept) const;
    std::vector<std::uint32_t> candidates(int level, std::uint32_t element) const;

    const Graph &graph_;
    const std::uint8_t *dead_;
    std::vector<std::uint32_t> live_;     // old number of each new element
    std::vector<std::uint32_t> renumber_; // new number of each old element that is live
    std::vector<std::size_t> upper_at_;   // where the size of each new element's upper lists stands, and the end
    std::uint32_t entry_point_ = 0;
};

} // namespace kernels
