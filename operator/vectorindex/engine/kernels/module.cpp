// vectorindex.engine._kernels: the bindings. Types, shapes and contiguity of arrays are checked here, and the GIL is
// released in everything that takes time. The stub beside the extension says what each function promises.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "compact.hpp"
#include "graph.hpp"
#include "repair.hpp"
#include "search.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <class T, std::size_t Dimensions>
using Array = nb::ndarray<T, nb::numpy, nb::ndim<Dimensions>, nb::c_contig, nb::device::cpu>;
template <class T, std::size_t Dimensions>
using Input = nb::ndarray<const T, nb::ndim<Dimensions>, nb::c_contig, nb::device::cpu>;
template <class T, std::size_t Dimensions>
using Output = nb::ndarray<T, nb::ndim<Dimensions>, nb::c_contig, nb::device::cpu>;
using Rows = nb::ndarray<const float, nb::ndim<2>, nb::device::cpu>; // any distance from row to row

void require(bool condition, const char *why) {
    if (!condition) {
        throw std::invalid_argument(why);
    }
}

template <class T> nb::capsule owner_of(std::vector<T> *content) {
    return nb::capsule(content, [](void *pointer) noexcept { delete static_cast<std::vector<T> *>(pointer); });
}

template <class T> Array<T, 1> to_numpy(std::vector<T> content) {
    auto *kept = new std::vector<T>(std::move(content));
    return Array<T, 1>(kept->data(), {kept->size()}, owner_of(kept));
}

template <class T> Array<T, 2> to_numpy(std::vector<T> content, std::size_t width) {
    auto *kept = new std::vector<T>(std::move(content));
    return Array<T, 2>(kept->data(), {width == 0 ? 0 : kept->size() / width, width}, owner_of(kept));
}

kernels::Space space_of(bool inner_product) {
    return inner_product ? kernels::Space::InnerProduct : kernels::Space::L2;
}

// A graph that keeps the array alive which it reads.
class PyGraph : public kernels::Graph {
  public:
    PyGraph(Input<std::uint32_t, 1> words, std::size_t count, std::size_t dimensions, std::size_t m,
            std::uint32_t entry_point, bool inner_product)
        : kernels::Graph(words.data(), words.size(), {count, dimensions, m, entry_point}, space_of(inner_product)),
          words_(std::move(words)) {}

  private:
    Input<std::uint32_t, 1> words_;
};

class PyCompaction {
  public:
    PyCompaction(nb::object graph, Input<std::uint8_t, 1> dead)
        : graph_(std::move(graph)), dead_(std::move(dead)),
          compaction_((require(dead_.size() == read().count(), "dead must have one value per element"), read()),
                      dead_.data()) {}

    const kernels::Compaction &compaction() const { return compaction_; }

    std::size_t write(Output<std::uint32_t, 1> target, std::size_t first, std::size_t last, float slope,
                      float intercept, int threads) const {
        require(target.size() == compaction_.words(), "target must have as many words as the new graph");
        require(first <= last && last <= compaction_.count(), "first..last must be within the new elements");
        const nb::gil_scoped_release release;
        return compaction_.write(target.data(), first, last, {slope, intercept}, threads);
    }

  private:
    const PyGraph &read() const { return nb::cast<const PyGraph &>(graph_); }

    nb::object graph_; // kept alive, like the array
    Input<std::uint8_t, 1> dead_;
    kernels::Compaction compaction_;
};

std::size_t check_links(const PyGraph &graph) {
    const nb::gil_scoped_release release;
    return kernels::check_links(graph);
}

Array<std::uint8_t, 1> reachable(const PyGraph &graph) {
    std::vector<std::uint8_t> reached;
    {
        const nb::gil_scoped_release release;
        reached = kernels::reachable(graph);
    }
    return to_numpy(std::move(reached));
}

using Lists = std::tuple<Array<std::int64_t, 1>, Array<std::uint32_t, 2>>;

Lists to_lists(kernels::ChangedLists changes) {
    return {to_numpy(std::move(changes.at)), to_numpy(std::move(changes.words), changes.width)};
}

std::tuple<std::size_t, Lists, Lists> repair(const PyGraph &graph, int threads) {
    kernels::Repair repaired;
    {
        const nb::gil_scoped_release release;
        repaired = kernels::repair(graph, threads);
    }
    return {repaired.links, to_lists(std::move(repaired.lower)), to_lists(std::move(repaired.upper))};
}

std::tuple<Array<std::int64_t, 2>, Array<float, 2>, Array<std::uint32_t, 1>>
search(const PyGraph &graph, Input<float, 2> queries, Input<std::uint8_t, 1> dead, std::size_t k, std::size_t ef,
       int threads) {
    require(queries.shape(1) == graph.shape().dimensions, "queries must have the dimensions of the graph");
    require(dead.size() == graph.count(), "dead must have one value per element");
    require(k >= 1 && ef >= k, "k must be at least 1, and ef at least k");
    kernels::Answers answers(0, 0);
    {
        const nb::gil_scoped_release release;
        answers = kernels::search(graph, queries.data(), queries.shape(0), dead.data(), k, ef, threads);
    }
    return {to_numpy(std::move(answers.rows), k), to_numpy(std::move(answers.distances), k),
            to_numpy(std::move(answers.computations))};
}

std::tuple<Array<std::int64_t, 2>, Array<float, 2>> scan(Rows vectors, Input<std::int64_t, 1> rows,
                                                         Input<float, 2> queries, std::size_t width,
                                                         bool inner_product, int threads) {
    const std::size_t dimensions = vectors.shape(1);
    require(queries.shape(1) == dimensions, "queries must have the dimensions of the vectors");
    require(dimensions >= 1 && (dimensions == 1 || vectors.stride(1) == 1) && vectors.stride(0) >= 0,
            "the components of a vector must lie side by side");
    require(width <= rows.size(), "width must not be more than there are rows");
    const auto in_range = [&](std::int64_t row) {
        return row >= 0 && static_cast<std::size_t>(row) < vectors.shape(0);
    };
    kernels::Answers answers(0, 0);
    {
        const nb::gil_scoped_release release;
        require(std::all_of(rows.data(), rows.data() + rows.size(), in_range), "rows must be rows of the vectors");
        answers = kernels::scan(vectors.data(), static_cast<std::size_t>(vectors.stride(0)), dimensions, rows.data(),
                                rows.size(), queries.data(), queries.shape(0), width, space_of(inner_product), threads);
    }
    auto shape = [&](auto content) {
        using T = typename decltype(content)::value_type;
        auto *kept = new std::vector<T>(std::move(content));
        return Array<T, 2>(kept->data(), {queries.shape(0), width}, owner_of(kept));
    };
    return {shape(std::move(answers.rows)), shape(std::move(answers.distances))};
}

} // namespace

NB_MODULE(_kernels, module) {
    nb::class_<PyGraph>(module, "Graph")
        .def(nb::init<Input<std::uint32_t, 1>, std::size_t, std::size_t, std::size_t, std::uint32_t, bool>(), "words"_a.noconvert(),
             "count"_a, "dimensions"_a, "m"_a, "entry_point"_a, "inner_product"_a, nb::call_guard<nb::gil_scoped_release>())
        .def("levels", [](const PyGraph &graph) { return to_numpy(std::vector<std::int32_t>(graph.levels())); });
    nb::class_<PyCompaction>(module, "Compaction")
        .def(nb::init<nb::object, Input<std::uint8_t, 1>>(), "graph"_a, "dead"_a.noconvert())
        .def_prop_ro("count", [](const PyCompaction &self) { return self.compaction().count(); })
        .def_prop_ro("words", [](const PyCompaction &self) { return self.compaction().words(); })
        .def_prop_ro("entry_point", [](const PyCompaction &self) { return self.compaction().entry_point(); })
        .def_prop_ro("max_level", [](const PyCompaction &self) { return self.compaction().max_level(); })
        .def("write", &PyCompaction::write, "target"_a.noconvert(), "first"_a, "last"_a, "slope"_a, "intercept"_a,
             "threads"_a);
    module.def("check_links", &check_links, "graph"_a);
    module.def("reachable", &reachable, "graph"_a);
    module.def("repair", &repair, "graph"_a, "threads"_a);
    module.def("search", &search, "graph"_a, "queries"_a.noconvert(), "dead"_a.noconvert(), "k"_a, "ef"_a, "threads"_a);
    module.def("scan", &scan, "vectors"_a.noconvert(), "rows"_a.noconvert(), "queries"_a.noconvert(), "width"_a, "inner_product"_a, "threads"_a);
}
