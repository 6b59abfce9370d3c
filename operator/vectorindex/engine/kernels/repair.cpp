#include "repair.hpp"

#include <algorithm>
#include <stdexcept>

#include "parallel.hpp"
#include "search.hpp"

namespace kernels {
namespace {

constexpr std::uint32_t NONE = UINT32_MAX;
constexpr std::size_t EF = 16;        // width of the search for the nearest elements that can take a link
constexpr std::size_t BATCH = 1024;   // elements whose searches see the same graph
constexpr std::size_t CHUNK = 64;     // of a batch, by one thread

// The lists of one level, copied, to be changed. `parent` is a tree over what the entry point reaches: links of the
// tree are never removed, so what is reached stays reached. A tree of n elements has n - 1 links, and n lists have room
// for more: somewhere there is always a link that may be replaced.
class Level {
  public:
    Level(const Graph &graph, int level)
        : graph_(graph), level_(level), width_(graph.shape().list_words(level)), row_(graph.count(), NONE),
          parent_(graph.count(), NONE) {
        const auto on_level = [&](std::int32_t highest) { return highest >= level; };
        const auto count = std::count_if(graph.levels().begin(), graph.levels().end(), on_level);
        members_.reserve(count);
        lists_.reserve(count * width_); // exactly: growing by doubling would hold them twice
        for (std::uint32_t element = 0; element < graph.count(); ++element) {
            if (graph.levels()[element] >= level) {
                row_[element] = static_cast<std::uint32_t>(members_.size());
                members_.push_back(element);
                const std::uint32_t *list = graph.list(level, element);
                lists_.insert(lists_.end(), list, list + width_);
            }
        }
        changed_.resize(members_.size(), 0);
        parent_[graph.entry_point()] = graph.entry_point();
        spread(graph.entry_point());
    }

    // A path from the entry point to each element.
    void connect_from_entry(int threads) {
        std::vector<std::uint32_t> unreached;
        for (const std::uint32_t element : members_) {
            if (parent_[element] == NONE) {
                unreached.push_back(element);
            }
        }
        for (std::size_t start = 0; start < unreached.size(); start += BATCH) {
            const std::size_t end = std::min(start + BATCH, unreached.size());
            const std::vector<std::uint32_t> batch(unreached.begin() + start, unreached.begin() + end);
            const auto nearest = nearest_reached(batch, threads);
            for (std::size_t place = 0; place < batch.size(); ++place) {
                if (parent_[batch[place]] == NONE) { // no other of the batch leads to it by now
                    attach(batch[place], nearest[place]);
                }
            }
        }
    }

    // A path from each element to the entry point.
    void connect_to_entry() {
        const Reverse reverse(*this);
        std::vector<std::uint8_t> returns(graph_.count(), 0);
        reverse.spread(graph_.entry_point(), returns);
        Visited visited(graph_.count());
        // An element whose links are all of the tree is left to its descendants: a leaf of the tree has a link to
        // spare, and its ancestors come to the entry point through it.
        for (const std::uint32_t element : members_) {
            if (returns[element]) {
                continue;
            }
            const std::uint32_t place = free_place(element);
            if (place == 0) {
                continue;
            }
            std::uint32_t target = graph_.entry_point();
            for (const Found &found : nearest_to(element, graph_.entry_point(), visited)) {
                if (returns[found.second]) {
                    target = found.second;
                    break;
                }
            }
            put(element, place, target);
            reverse.spread(element, returns);
        }
    }

    std::size_t links() const { return links_; }

    void add_changes(ChangedLists &changes) const {
        for (std::size_t row = 0; row < members_.size(); ++row) {
            if (changed_[row]) {
                changes.at.push_back(static_cast<std::int64_t>(graph_.list_at(level_, members_[row])));
                changes.words.insert(changes.words.end(), lists_.begin() + row * width_,
                                     lists_.begin() + (row + 1) * width_);
            }
        }
    }

  private:
    // Who links to whom.
    class Reverse {
      public:
        explicit Reverse(const Level &level) : starts_(level.graph_.count() + 1, 0) {
            level.each_link([&](std::uint32_t, std::uint32_t target) { ++starts_[target + 1]; });
            for (std::size_t element = 1; element < starts_.size(); ++element) {
                starts_[element] += starts_[element - 1];
            }
            sources_.resize(starts_.back());
            std::vector<std::size_t> next(starts_.begin(), starts_.end() - 1);
            level.each_link([&](std::uint32_t source, std::uint32_t target) { sources_[next[target]++] = source; });
        }

        // Marks all from which links lead to `element`. A link that was replaced since does no harm: its element was
        // marked when it was.
        void spread(std::uint32_t element, std::vector<std::uint8_t> &marks) const {
            std::vector<std::uint32_t> found{element};
            marks[element] = 1;
            for (std::size_t next = 0; next < found.size(); ++next) {
                for (std::size_t at = starts_[found[next]]; at < starts_[found[next] + 1]; ++at) {
                    if (!std::exchange(marks[sources_[at]], 1)) {
                        found.push_back(sources_[at]);
                    }
                }
            }
        }

      private:
        std::vector<std::size_t> starts_;
        std::vector<std::uint32_t> sources_;
    };

    std::uint32_t *list(std::uint32_t element) { return lists_.data() + row_[element] * width_; }
    const std::uint32_t *list(std::uint32_t element) const { return lists_.data() + row_[element] * width_; }
    std::uint32_t size(std::uint32_t element) const { return list(element)[0] & COUNT_MASK; }
    bool full(std::uint32_t element) const { return size(element) == width_ - 1; }

    template <class Body> void each_link(Body body) const {
        for (const std::uint32_t element : members_) {
            for (std::uint32_t link = 1; link <= size(element); ++link) {
                body(element, list(element)[link]);
            }
        }
    }

    // Adds to the tree all that links lead to from `element`.
    void spread(std::uint32_t element) {
        std::vector<std::uint32_t> found{element};
        for (std::size_t next = 0; next < found.size(); ++next) {
            for (std::uint32_t link = 1; link <= size(found[next]); ++link) {
                const std::uint32_t target = list(found[next])[link];
                if (parent_[target] == NONE) {
                    parent_[target] = found[next];
                    found.push_back(target);
                }
            }
        }
    }

    // For each of a batch, the reached elements nearest to it, nearest first. What is reached leads to what is reached
    // alone, so that a search that begins there stays there.
    std::vector<std::vector<Found>> nearest_reached(const std::vector<std::uint32_t> &batch, int threads) const {
        std::vector<std::vector<Found>> nearest(batch.size());
        parallel_chunks(batch.size(), CHUNK, threads, [&](std::size_t first, std::size_t last) {
            Visited visited(graph_.count());
            for (std::size_t place = first; place < last; ++place) {
                nearest[place] = nearest_to(batch[place], reached_start(batch[place]), visited);
            }
        });
        return nearest;
    }

    // Its nearest link that is reached, from which the way is short; or the entry point.
    std::uint32_t reached_start(std::uint32_t element) const {
        Found best(std::numeric_limits<float>::infinity(), graph_.entry_point());
        for (std::uint32_t link = 1; link <= size(element); ++link) {
            const std::uint32_t target = list(element)[link];
            if (parent_[target] != NONE) {
                best = std::min(best, Found(euclidean(element, target), target));
            }
        }
        return best.second;
    }

    // Under an inner product all is near to the few longest vectors, which every search passes: links put there would be
    // paid for, and room made for them, by all searches. So neighbours are those in space under every metric.
    float euclidean(std::uint32_t a, std::uint32_t b) const {
        return euclidean_(graph_.vector(a), graph_.vector(b), graph_.shape().dimensions);
    }

    std::vector<Found> nearest_to(std::uint32_t element, std::uint32_t start, Visited &visited) const {
        return nearest_first(search_level(
            start, EF, visited, [&](std::uint32_t other) { return list(other); },
            [&](std::uint32_t other) { return euclidean(element, other); }, [](std::uint32_t) { return false; }));
    }

    // Links `element` from the nearest that has room; or else from the nearest that has a link to spare.
    void attach(std::uint32_t element, const std::vector<Found> &nearest) {
        std::uint32_t source = NONE;
        for (const Found &found : nearest) {
            if (!full(found.second)) {
                source = found.second;
                break;
            }
        }
        for (auto found = nearest.begin(); source == NONE && found != nearest.end(); ++found) {
            source = free_place(found->second) ? found->second : NONE;
        }
        for (auto member = members_.begin(); source == NONE && member != members_.end(); ++member) {
            source = parent_[*member] != NONE && free_place(*member) ? *member : NONE;
        }
        if (source == NONE) {
            throw std::logic_error("no list has room for a link: an item has the same link twice");
        }
        put(source, free_place(source), element);
        parent_[element] = source;
        spread(element);
    }

    // Where in its list an element can take a link: after the last, or in place of the longest that is not of the tree;
    // 0 if all are.
    std::uint32_t free_place(std::uint32_t element) const {
        if (!full(element)) {
            return size(element) + 1;
        }
        std::uint32_t place = 0;
        float longest = -std::numeric_limits<float>::infinity();
        for (std::uint32_t link = 1; link <= size(element); ++link) {
            const std::uint32_t target = list(element)[link];
            if (parent_[target] != element) {
                const float length = graph_.distance(element, target);
                if (length > longest) {
                    longest = length;
                    place = link;
                }
            }
        }
        return place;
    }

    void put(std::uint32_t element, std::uint32_t place, std::uint32_t target) {
        if (place > size(element)) {
            ++list(element)[0];
        }
        list(element)[place] = target;
        changed_[row_[element]] = 1;
        ++links_;
    }

    const Graph &graph_;
    Distance euclidean_ = distance_for(Space::L2);
    int level_;
    std::size_t width_;
    std::vector<std::uint32_t> members_; // ascending
    std::vector<std::uint32_t> row_;     // of each element among them
    std::vector<std::uint32_t> lists_;
    std::vector<std::uint8_t> changed_;
    std::vector<std::uint32_t> parent_; // NONE: not reached; the entry point's is itself
    std::size_t links_ = 0;
};

} // namespace

Repair repair(const Graph &graph, int threads) {
    Repair result{0, {graph.shape().list_words(0), {}, {}}, {graph.shape().list_words(1), {}, {}}};
    for (int number = graph.max_level(); number >= 0; --number) {
        Level level(graph, number);
        level.connect_from_entry(threads);
        if (number == 0) {
            level.connect_to_entry();
        }
        level.add_changes(number == 0 ? result.lower : result.upper);
        result.links += level.links();
    }
    return result;
}

} // namespace kernels
