// Weighted sums over a partition, and their gradients.
// Tensors must be contiguous. Each thread processes a document, or some of its slots or tokens, so results do not
// depend on the number of threads.

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>
#include <tuple>
#include <type_traits>
#include <vector>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include "checks.h"
#include "native.h"

// One binary runs on all processors of a cluster: the widest instruction set of each is selected at run time.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

namespace pyramidion {

namespace {

// Number of rows read together, while the next ones, which may be anywhere in memory, are prefetched.
constexpr int64_t kTogether = 4;

// Adds weighted rows to the sums. The first rows of a slot are added to zero.
template <int64_t rows, typename T, typename Sum>
inline __attribute__((always_inline)) void add_rows(Sum* sums, const T* const* from, const Sum* shares,
                                                    const T* const* next, int64_t dim, bool is_first) {
  constexpr int64_t kLine = 64 / sizeof(T);
  int64_t column = 0;
  for (; column + kLine <= dim; column += kLine) {
    for (int64_t r = 0; r < kTogether; ++r) __builtin_prefetch(next[r] + column);
    for (int64_t i = column; i < column + kLine; ++i) {
      Sum sum = is_first ? Sum(0) : sums[i];
      for (int64_t r = 0; r < rows; ++r) sum += shares[r] * static_cast<Sum>(from[r][i]);
      sums[i] = sum;
    }
  }
  for (; column < dim; ++column) {
    Sum sum = is_first ? Sum(0) : sums[column];
    for (int64_t r = 0; r < rows; ++r) sum += shares[r] * static_cast<Sum>(from[r][column]);
    sums[column] = sum;
  }
}

// Writes numbers with non-temporal stores, which bypass the caches and do not read the overwritten memory first.
template <typename T>
void write_past_caches(T* to, const T* from, int64_t count) {
#if defined(__x86_64__)
  const int64_t parts = count * static_cast<int64_t>(sizeof(T)) / 16;
  for (int64_t i = 0; i < parts; ++i) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(to) + i, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from) + i));
  }
#else
  std::copy(from, from + count, to);
#endif
}

// Number of elements per non-temporal write: a kilobyte.
template <typename T>
constexpr int64_t kPart = 1024 / sizeof(T);

// Returns whether to write a result with non-temporal stores. Smaller results are still cached when read next.
bool is_past_caches(const Tensor& tensor) {
  return tensor.nbytes() >= (8 << 20) && tensor.size(-1) * tensor.element_size() % 16 == 0 &&
         reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % 16 == 0;
}

// Sums the members of the slots from begin to end of one document. `sums` holds the sums of one slot. `zeros` is read
// instead of a member that is not filled, which may be NaN. `part` buffers non-temporal writes; null if there are
// none.
template <typename T, typename Sum>
inline __attribute__((always_inline)) void slot_sums(T* out, const T* embeddings, const Sum* weights,
                                                     const int64_t* members, const bool* filled, int64_t begin,
                                                     int64_t end, int64_t group, int64_t dim, Sum* sums,
                                                     const T* zeros, T* part) {
  for (int64_t slot = begin; slot < end; ++slot) {
    for (int64_t g = 0; g < group;) {
      const int64_t first = slot * group + g;
      const int64_t rows = group - g < kTogether ? 1 : kTogether;
      const T* from[kTogether];
      const T* next[kTogether];
      Sum shares[kTogether];
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t token = members[first + r];
        const bool is_filled = filled == nullptr || filled[first + r];
        from[r] = is_filled ? embeddings + token * dim : zeros;
        shares[r] = is_filled ? weights[token] : Sum(0);
      }
      for (int64_t r = 0; r < kTogether; ++r) {
        next[r] = embeddings + members[std::min(first + rows + r, end * group - 1)] * dim;
      }
      if (rows == 1) {
        add_rows<1>(sums, from, shares, next, dim, g == 0);
      } else {
        add_rows<kTogether>(sums, from, shares, next, dim, g == 0);
      }
      g += rows;
    }
    for (int64_t first = 0; first < dim; first += kPart<T>) {
      const int64_t last = std::min(dim, first + kPart<T>);
      T* to = out + slot * dim + first;
      T* buffer = part == nullptr ? to : part;
      for (int64_t i = first; i < last; ++i) buffer[i - first] = static_cast<T>(sums[i]);
      if (part != nullptr) write_past_caches(to, part, last - first);
    }
  }
#if defined(__x86_64__)
  if (part != nullptr) _mm_sfence();
#endif
}

// Computes the gradients of the tokens from begin to end of one document. The gradient of a token's slot is read once
// for both, a kilobyte at a time, while that of the next token's slot is prefetched.
template <typename T, typename Sum>
inline __attribute__((always_inline)) void token_gradients(T* d_embeddings, Sum* d_weights, const T* grad,
                                                           const T* embeddings, const Sum* weights,
                                                           const int64_t* slots, int64_t begin, int64_t end,
                                                           int64_t dim, T* part) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t token = begin; token < end; ++token) {
    const T* slot_grad = grad + slots[token] * dim;
    const T* next = grad + slots[std::min(token + 1, end - 1)] * dim;
    const T* own = embeddings + token * dim;
    T* out = d_embeddings + token * dim;
    const Sum weight = weights[token];
    const bool contributes = weight != 0;  // otherwise its gradient is 0, even if that of its slot is NaN
    double sum = 0;
    for (int64_t first = 0; first < dim; first += kPart<T>) {
      const int64_t last = std::min(dim, first + kPart<T>);
      for (int64_t i = first; i < last; i += kLine) __builtin_prefetch(next + i);
      if (d_weights != nullptr) {
#pragma omp simd reduction(+ : sum)
        for (int64_t i = first; i < last; ++i) sum += static_cast<double>(slot_grad[i]) * static_cast<double>(own[i]);
      }
      if (d_embeddings != nullptr) {
        T* to = part == nullptr ? out + first : part;
#pragma omp simd
        for (int64_t i = first; i < last; ++i) {
          to[i - first] = static_cast<T>(contributes ? weight * static_cast<Sum>(slot_grad[i]) : Sum(0));
        }
        if (part != nullptr) write_past_caches(out + first, part, last - first);
      }
    }
    if (d_weights != nullptr) d_weights[token] = static_cast<Sum>(sum);
  }
#if defined(__x86_64__)
  if (part != nullptr) _mm_sfence();
#endif
}

#define SUMS_AND_GRADIENTS(T, Sum)                                                                                     \
  FOR_EACH_PROCESSOR void sums_of(T* out, const T* embeddings, const Sum* weights, const int64_t* members,             \
                                  const bool* filled, int64_t begin, int64_t end, int64_t group, int64_t dim,          \
                                  Sum* sums, const T* zeros, T* part) {                                                \
    slot_sums(out, embeddings, weights, members, filled, begin, end, group, dim, sums, zeros, part);                   \
  }                                                                                                                    \
  FOR_EACH_PROCESSOR void gradients_of(T* d_embeddings, Sum* d_weights, const T* grad, const T* embeddings,            \
                                       const Sum* weights, const int64_t* slots, int64_t begin, int64_t end,           \
                                       int64_t dim, T* part) {                                                         \
    token_gradients(d_embeddings, d_weights, grad, embeddings, weights, slots, begin, end, dim, part);                 \
  }
SUMS_AND_GRADIENTS(float, float)
SUMS_AND_GRADIENTS(double, double)
SUMS_AND_GRADIENTS(at::BFloat16, float)
SUMS_AND_GRADIENTS(at::Half, float)

template <typename T>
using SumOf = std::conditional_t<std::is_same_v<T, double>, double, float>;

// Calls work(document, begin, end) for ranges of items of all documents, in parallel. `numbers` is the size of an
// item.
template <typename Work>
void over_documents(int64_t batch, int64_t items, int64_t numbers, const Work& work) {
  const int64_t least = std::max<int64_t>(1, 32768 / std::max<int64_t>(numbers, 1));  // less is not worth a thread
  at::parallel_for(0, batch * items, least, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t document = begin / items;
      const int64_t start = document * items;
      const int64_t stop = std::min(end, start + items);
      work(document, begin - start, stop - start);
      begin = stop;
    }
  });
}

}  // namespace

Tensor partition_sums(const Tensor& embeddings, const Tensor& weights, const Tensor& members,
                      const std::optional<Tensor>& filled) {
  const int64_t batch = embeddings.size(0);
  const int64_t length = embeddings.size(1);
  const int64_t dim = embeddings.size(2);
  const int64_t k = members.size(1);
  const int64_t group = members.size(2);
  check(embeddings, "embeddings", {batch, length, dim});
  check(weights, "weights", {batch, length});
  check(members, "members", {batch, k, group});
  check(filled, "filled", {batch, k, group});
  const Tensor out = at::empty({batch, k, dim}, embeddings.options());
  const bool past_caches = is_past_caches(out);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, embeddings.scalar_type(), "partition_sums", [&] {
    using Sum = SumOf<scalar_t>;
    scalar_t* out_at = out.mutable_data_ptr<scalar_t>();
    const scalar_t* embeddings_at = embeddings.const_data_ptr<scalar_t>();
    const Sum* weights_at = weights.const_data_ptr<Sum>();
    const int64_t* members_at = members.const_data_ptr<int64_t>();
    const bool* filled_at = data<bool>(filled);
    const std::vector<scalar_t> zeros(filled.has_value() ? dim : 0, scalar_t(0));
    over_documents(batch, k, group * dim, [&](int64_t document, int64_t begin, int64_t end) {
      check_numbers(members_at + (document * k + begin) * group, (end - begin) * group, length, "members");
      std::vector<Sum> sums(dim);
      scalar_t part[kPart<scalar_t>];
      sums_of(out_at + document * k * dim, embeddings_at + document * length * dim, weights_at + document * length,
              members_at + document * k * group, advance(filled_at, document * k * group), begin, end, group, dim,
              sums.data(), zeros.data(), past_caches ? part : nullptr);
    });
  });
  return out;
}

std::tuple<Tensor, Tensor> partition_gradients(const Tensor& grad, const Tensor& embeddings, const Tensor& weights,
                                               const Tensor& slots, bool of_embeddings, bool of_weights) {
  const int64_t batch = embeddings.size(0);
  const int64_t length = embeddings.size(1);
  const int64_t dim = embeddings.size(2);
  const int64_t k = grad.size(1);
  check(grad, "grad", {batch, k, dim});
  check(embeddings, "embeddings", {batch, length, dim});
  check(weights, "weights", {batch, length});
  check(slots, "slots", {batch, length});
  const Tensor d_embeddings = of_embeddings ? at::empty_like(embeddings) : at::empty({0}, embeddings.options());
  const Tensor d_weights = of_weights ? at::empty_like(weights) : at::empty({0}, weights.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, embeddings.scalar_type(), "partition_gradients", [&] {
    using Sum = SumOf<scalar_t>;
    scalar_t* d_embeddings_at = of_embeddings ? d_embeddings.mutable_data_ptr<scalar_t>() : nullptr;
    Sum* d_weights_at = of_weights ? d_weights.mutable_data_ptr<Sum>() : nullptr;
    const scalar_t* grad_at = grad.const_data_ptr<scalar_t>();
    const scalar_t* embeddings_at = embeddings.const_data_ptr<scalar_t>();
    const Sum* weights_at = weights.const_data_ptr<Sum>();
    const int64_t* slots_at = slots.const_data_ptr<int64_t>();
    const bool past_caches = of_embeddings && is_past_caches(d_embeddings);
    over_documents(batch, length, dim, [&](int64_t document, int64_t begin, int64_t end) {
      const int64_t start = document * length;
      check_numbers(slots_at + start + begin, end - begin, k, "slots");
      scalar_t part[kPart<scalar_t>];
      gradients_of(advance(d_embeddings_at, start * dim), advance(d_weights_at, start), grad_at + document * k * dim,
                   embeddings_at + start * dim, weights_at + start, slots_at + start, begin, end, dim,
                   past_caches ? part : nullptr);
    });
  });
  return {d_embeddings, d_weights};
}

}  // namespace pyramidion
