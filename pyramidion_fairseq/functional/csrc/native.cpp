// Pooling on a CPU, compiled: the tournament on scores, weighted sums over a partition, and the gradients of both.
//
// What the functions compute, and the words, are those of tournament.py and partition.py, whose operations of torch
// are their reference. Tensors come contiguous and of the dtypes that are told there. Threads are torch's, one document (or some tokens) each,
// so that results do not depend on how many there are.

#include <ATen/ATen.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/csrc/utils/pybind.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

// One binary for all processors of a cluster: the widest of these that the processor has is taken at run time.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

namespace {

using at::Tensor;

// ---- The order of the candidates ------------------------------------------------------------------------------------

// Whole numbers in the opposite order of the scores, NaN before everything, as torch sorts.
uint32_t key(float score) {
  if (std::isnan(score)) return 0;
  uint32_t bits;
  score += 0.0F;  // no negative zero
  std::memcpy(&bits, &score, sizeof bits);
  return bits >> 31 ? bits : ~(bits | 0x80000000U);
}

uint64_t key(double score) {
  if (std::isnan(score)) return 0;
  uint64_t bits;
  score += 0.0;
  std::memcpy(&bits, &score, sizeof bits);
  return bits >> 63 ? bits : ~(bits | 0x8000000000000000U);
}

// Sorts indices by score, the highest first, of equals the earlier. The candidates of later rounds mostly come out of
// the round before almost in order: by insertion, while that takes few moves; else by a radix sort, 11 bits at a time.
template <typename T>
class Ranking {
  using Key = decltype(key(T()));
  struct Item {
    Key key;
    int32_t index;
  };
  static constexpr int kBits = 11, kDigits = 1 << kBits, kPasses = (8 * sizeof(Key) + kBits - 1) / kBits;

 public:
  explicit Ranking(int64_t size) : items_(size), others_(size), counts_(kPasses * kDigits) {}

  void operator()(const T* scores, int64_t size, int32_t* order) {
    for (int64_t i = 0; i < size; ++i) items_[i] = {key(scores[i]), static_cast<int32_t>(i)};
    if (!insert(size, size)) {
      std::fill(counts_.begin(), counts_.end(), 0);
      for (int64_t i = 0; i < size; ++i)
        for (int pass = 0; pass < kPasses; ++pass) ++counts_[pass * kDigits + digit(items_[i].key, pass)];
      for (int pass = 0; pass < kPasses; ++pass) distribute(size, pass);
    }
    for (int64_t i = 0; i < size; ++i) order[i] = items_[i].index;
  }

 private:
  // Whether so many moves sort the items; if not, equals are still in their order.
  bool insert(int64_t size, int64_t moves) {
    for (int64_t i = 1; i < size; ++i) {
      const Item item = items_[i];
      int64_t to = i;
      for (; to > 0 && items_[to - 1].key > item.key && moves > 0; --to, --moves) items_[to] = items_[to - 1];
      items_[to] = item;
      if (moves == 0) return false;
    }
    return true;
  }

  static int digit(Key key, int pass) { return static_cast<int>(key >> (pass * kBits)) & (kDigits - 1); }

  void distribute(int64_t size, int pass) {
    int32_t* counts = counts_.data() + pass * kDigits;
    if (counts[digit(items_[0].key, pass)] == size) return;  // all the same
    int32_t start = 0;
    for (int d = 0; d < kDigits; ++d) start += std::exchange(counts[d], start);
    for (int64_t i = 0; i < size; ++i) others_[counts[digit(items_[i].key, pass)]++] = items_[i];
    items_.swap(others_);
  }

  std::vector<Item> items_, others_;
  std::vector<int32_t> counts_;
};

// ---- The tournament -------------------------------------------------------------------------------------------------

// Sizes that all documents share. Round r has places >> r candidates; number i meets number (places >> r) - 1 - i.
struct Bracket {
  int64_t length, places, k;
  double base;  // of the peaked softmax; 0 is the plain softmax

  int64_t size(int64_t round) const { return places >> round; }
  int64_t first(int64_t round) const { return 2 * places - 2 * size(round); }  // of a round, where all lie in a row
  int64_t rounds() const {
    int64_t count = 0;
    while (size(count) > k) ++count;
    return count;
  }
};

// The last bytes of a record: some that fill it up to a multiple of 8, then its mark.
constexpr int64_t kEnd = 16;

// How many bytes a record has.
int64_t record_bytes(int64_t places, int64_t k, int64_t element_size) {
  const int64_t candidates = 2 * (places - k);  // of all rounds
  return (candidates / 2 * 3 * element_size + (candidates + k + 1) * 4 + 7) / 8 * 8 + 8;
}

// What a record ends with, to tell it from other bytes and from those of other sizes.
uint64_t mark_of(const Bracket& bracket, int64_t element_size) {
  uint64_t mark = 0x5079726D52656331U;
  for (const int64_t number : {bracket.length, bracket.places, bracket.k, element_size})
    mark = (mark ^ static_cast<uint64_t>(number)) * 0x9E3779B97F4A7C15U;
  return mark;
}

// Whether numbers lie in [0, bound).
template <typename Number>
bool lie_in(const Number* numbers, int64_t count, int64_t bound) {
  bool good = true;
  for (int64_t i = 0; i < count; ++i) good &= static_cast<uint64_t>(numbers[i]) < static_cast<uint64_t>(bound);
  return good;
}

// What the backward pass needs of one document, in the bytes of `record`.
template <typename T>
struct Record {
  T* scores;        // of the candidates of each round in their order; 0 on empty places
  T* weights;       // of each pair of each round, that of its first one
  int32_t* orders;  // the candidates of each round in order, by their number in the round before
  int32_t* slots;   // (k) slot number of each winner of the last round
  int32_t* tokens;  // how many places are not empty

  Record(uint8_t* bytes, const Bracket& bracket) {
    const int64_t candidates = bracket.first(bracket.rounds());
    scores = reinterpret_cast<T*>(bytes);
    weights = scores + candidates;
    orders = reinterpret_cast<int32_t*>(weights + candidates / 2);
    slots = orders + candidates;
    tokens = slots + bracket.k;
  }

  // Whether it points nowhere outside of itself and of what its numbers are for.
  bool is_whole(const Bracket& bracket) const {
    bool good = *tokens >= 0 && *tokens <= bracket.places;
    for (int64_t round = 0; round < bracket.rounds(); ++round)
      good &= lie_in(orders + bracket.first(round), bracket.size(round), bracket.size(round));
    return good && lie_in(slots, bracket.k, bracket.k);
  }
};

// torch's vectorised functions, in place: the numbers of its operations.
template <typename T>
void exponentiate(T* values, int64_t count) {
  Tensor tensor = at::from_blob(values, {count}, at::CppTypeToScalarType<T>::value);
  at::exp_(tensor);
}
template <typename T>
void squash(T* values, int64_t count) {
  Tensor tensor = at::from_blob(values, {count}, at::CppTypeToScalarType<T>::value);
  at::sigmoid_(tensor);
}

// What the softmax over a pair is taken of: base**score, or the score itself.
template <typename T>
struct Strength {
  T log_base, highest;  // above, base**score would overflow

  explicit Strength(double base)
      : log_base(base > 0 ? std::log(base) : 0),
        highest(base > 0 ? std::log(static_cast<double>(std::numeric_limits<T>::max())) / std::log(base) - 1 : 0) {}
  void operator()(const T* scores, T* out, int64_t count) const {
    if (!(log_base > 0)) {
      std::copy(scores, scores + count, out);
      return;
    }
    for (int64_t i = 0; i < count; ++i) out[i] = std::min(scores[i], highest) * log_base;
    exponentiate(out, count);
  }
  // Of a strength by its score.
  T derivative(T score, T strength) const {
    if (!(log_base > 0)) return 1;
    return score > highest ? 0 : log_base * strength;
  }
};

template <typename T>
struct Played {
  T *slot_scores, *weights;
  int64_t *slots, *members;
  bool* filled;  // null where no place can be empty
};

template <typename T>
class Tournament {
 public:
  explicit Tournament(const Bracket& bracket)
      : bracket_(bracket),
        rank_(bracket.places),
        strength_(bracket.base),
        now_(bracket.places),
        next_(bracket.places),
        strengths_(bracket.places),
        shares_(bracket.places),
        next_shares_(bracket.places),
        nodes_(bracket.places),
        next_nodes_(bracket.places) {}

  void play(const T* scores, const bool* padding, bool sort, bool preserve_order, const Record<T>& record,
            const Played<T>& out) {
    enter(scores, padding, record);
    int64_t candidates = *record.tokens;  // that are not empty; these come first in every round
    const int64_t rounds = bracket_.rounds();
    for (int64_t round = 0; round < rounds; ++round) {
      const int64_t size = bracket_.size(round), first = bracket_.first(round);
      int32_t* order = record.orders + first;
      if (round > 0) std::fill(now_.begin() + candidates, now_.begin() + size, kNothing);
      rank(sort, size, order);
      T* ordered = record.scores + first;
      for (int64_t i = 0; i < size; ++i) ordered[i] = i < candidates ? now_[order[i]] : T(0);
      meet(ordered, size, candidates, record.weights + first / 2);
      candidates = std::min(candidates, size / 2);
    }
    line_up(candidates, *record.tokens <= bracket_.k || preserve_order, record);
    for (int64_t node = 0; node < bracket_.k; ++node) out.slot_scores[record.slots[node]] = now_[node];
    expand(padding, record, out);
  }

  void differentiate(const bool* padding, const T* d_slot_scores, const T* d_weights, const Record<T>& record,
                     T* d_scores) {
    const int64_t rounds = bracket_.rounds(), k = bracket_.k;
    // Down from the slots: the share of every node. Nodes are numbered by their place in the round that follows.
    std::vector<T> shares(bracket_.first(rounds) / 2), d_pairs(shares.size());
    std::fill(shares.end() - k, shares.end(), T(1));
    for (int64_t round = rounds - 1; round > 0; --round) {
      const int64_t half = bracket_.size(round) / 2, first = bracket_.first(round);
      const T *above = shares.data() + first / 2, *weights = record.weights + first / 2;
      const int32_t* order = record.orders + first;
      T* below = shares.data() + bracket_.first(round - 1) / 2;
      for (int64_t i = 0; i < half; ++i) {
        const T of_left = above[i] * weights[i];
        below[order[i]] = of_left;
        below[order[2 * half - 1 - i]] = above[i] - of_left;
      }
    }
    // Up from the tokens: the gradients of the shares, and what they are of the weights of each pair.
    std::vector<T>&d_shares = now_, &d_shares_above = next_;
    for (int64_t place = 0; place < bracket_.places; ++place)
      d_shares[place] = real(place, padding) ? d_weights[place] : T(0);
    for (int64_t round = 0; round < rounds; ++round) {
      const int64_t half = bracket_.size(round) / 2, first = bracket_.first(round);
      const T *weights = record.weights + first / 2, *share = shares.data() + first / 2;
      const int32_t* order = record.orders + first;
      T* d_pair = d_pairs.data() + first / 2;
      for (int64_t i = 0; i < half; ++i) {
        const T left = d_shares[order[i]], right = d_shares[order[2 * half - 1 - i]];
        d_pair[i] = share[i] * (left - right);
        d_shares_above[i] = right + weights[i] * (left - right);
      }
      d_shares.swap(d_shares_above);
    }
    // Down again: the gradients of the scores.
    std::vector<T>&d_of = now_, &d_below = next_;
    for (int64_t node = 0; node < k; ++node) d_of[node] = d_slot_scores[record.slots[node]];
    for (int64_t round = rounds - 1; round >= 0; --round) {
      const int64_t size = bracket_.size(round), first = bracket_.first(round);
      const T *scores = record.scores + first, *weights = record.weights + first / 2, *d_pair = d_pairs.data() + first / 2;
      const int32_t* order = record.orders + first;
      const int64_t candidates = std::min<int64_t>(*record.tokens, size);
      strength_(scores, strengths_.data(), size);
      for (int64_t i = 0; i < size / 2; ++i) {
        const int64_t j = size - 1 - i;
        T d_left = d_of[i], d_right = 0;
        if (j < candidates) {  // else whoever came here met nobody
          const T left = scores[i], right = scores[j], weight = weights[i];
          const T d_difference = (d_pair[i] + d_of[i] * (left - right)) * weight * (1 - weight);
          d_left = d_of[i] * weight + d_difference * strength_.derivative(left, strengths_[i]);
          d_right = d_of[i] * (1 - weight) - d_difference * strength_.derivative(right, strengths_[j]);
        }
        d_below[order[i]] = d_left;
        d_below[order[j]] = d_right;
      }
      d_of.swap(d_below);
    }
    for (int64_t token = 0; token < bracket_.length; ++token) d_scores[token] = real(token, padding) ? d_of[token] : T(0);
  }

 private:
  bool real(int64_t place, const bool* padding) const {
    return place < bracket_.length && !(padding != nullptr && padding[place]);
  }

  void enter(const T* scores, const bool* padding, const Record<T>& record) {
    int32_t tokens = 0;
    for (int64_t place = 0; place < bracket_.places; ++place) {
      const bool taken = real(place, padding);
      now_[place] = taken ? scores[place] : kNothing;
      tokens += taken;
    }
    *record.tokens = tokens;
  }

  // The candidates in `now_` in order; without sorting, as they stand, but empty places last.
  void rank(bool sort, int64_t size, int32_t* order) {
    if (sort) return rank_(now_.data(), size, order);
    std::iota(order, order + size, 0);
    std::stable_partition(order, order + size, [&](int32_t i) { return now_[i] != kNothing; });
  }

  // One round: what comes of each pair is left in `now_`.
  void meet(const T* ordered, int64_t size, int64_t candidates, T* weights) {
    const int64_t half = size / 2, alone = std::min(half, size - candidates);  // so many of the first meet nobody
    strength_(ordered, strengths_.data(), size);
    for (int64_t i = 0; i < half; ++i) weights[i] = strengths_[i] - strengths_[size - 1 - i];
    squash(weights, half);
    std::fill(weights, weights + alone, T(1));
    for (int64_t i = 0; i < half; ++i) {
      const T weight = weights[i], right = ordered[size - 1 - i], difference = ordered[i] - right;
      now_[i] = weight < T(0.5) ? right + weight * difference : ordered[i] - difference * (1 - weight);
    }
  }

  // Which slot does each winner of the last round get?
  void line_up(int64_t candidates, bool by_position, const Record<T>& record) {
    std::vector<int32_t> line(bracket_.k);
    std::iota(line.begin(), line.end(), 0);
    if (by_position) {
      std::vector<int32_t> positions(line);
      for (int64_t round = bracket_.rounds() - 1; round >= 0; --round)
        for (int32_t& position : positions) position = record.orders[bracket_.first(round) + position];
      std::sort(line.begin(), line.begin() + candidates,
                [&](int32_t a, int32_t b) { return positions[a] < positions[b]; });
    }
    for (int64_t slot = 0; slot < bracket_.k; ++slot) record.slots[line[slot]] = static_cast<int32_t>(slot);
  }

  // From the slots down to the tokens: who is in each, with what share.
  void expand(const bool* padding, const Record<T>& record, const Played<T>& out) {
    const int64_t k = bracket_.k, rounds = bracket_.rounds(), group = bracket_.places / k;
    for (int64_t node = 0; node < k; ++node) nodes_[record.slots[node]] = static_cast<int32_t>(node);
    std::fill(shares_.begin(), shares_.begin() + k, T(1));
    for (int64_t round = rounds - 1, count = k; round >= 0; --round, count *= 2) {
      const int64_t size = bracket_.size(round), first = bracket_.first(round);
      const int32_t* order = record.orders + first;
      const T* weights = record.weights + first / 2;
      for (int64_t i = 0; i < count; ++i) {
        const T of_left = shares_[i] * weights[nodes_[i]];
        next_nodes_[i] = order[nodes_[i]];
        next_nodes_[count + i] = order[size - 1 - nodes_[i]];
        next_shares_[i] = of_left;
        next_shares_[count + i] = shares_[i] - of_left;
      }
      nodes_.swap(next_nodes_);
      shares_.swap(next_shares_);
    }
    std::fill(out.slots, out.slots + bracket_.length, 0);
    std::fill(out.weights, out.weights + bracket_.length, T(0));
    for (int64_t slot = 0; slot < k; ++slot) {
      // A bye or a padded member points to its slot's winner, those of an empty slot to the first slot's.
      const int64_t stand_in = real(nodes_[slot], padding) ? nodes_[slot] : nodes_[0];
      for (int64_t g = 0; g < group; ++g) {
        const int64_t token = nodes_[g * k + slot];
        const bool taken = real(token, padding);
        out.members[slot * group + g] = std::min(taken ? token : stand_in, bracket_.length - 1);
        if (out.filled != nullptr) out.filled[slot * group + g] = taken;
        if (taken) {
          out.slots[token] = slot;
          out.weights[token] = shares_[g * k + slot];
        }
      }
    }
  }

  static constexpr T kNothing = -std::numeric_limits<T>::infinity();  // the score of an empty place

  const Bracket bracket_;
  Ranking<T> rank_;
  const Strength<T> strength_;
  std::vector<T> now_, next_, strengths_, shares_, next_shares_;
  std::vector<int32_t> nodes_, next_nodes_;
};

void check(const Tensor& tensor, const char* name, at::IntArrayRef sizes) {
  TORCH_CHECK(tensor.is_cpu() && tensor.is_contiguous() && tensor.sizes() == sizes, name,
              " must be on the CPU, contiguous and ", sizes, ", got ", tensor.sizes());
}

void check(const std::optional<Tensor>& tensor, const char* name, at::IntArrayRef sizes) {
  if (tensor.has_value()) check(*tensor, name, sizes);
}

// Raises where a number does not lie in [0, bound).
void check_numbers(const int64_t* numbers, int64_t count, int64_t bound, const char* name) {
  TORCH_CHECK_INDEX(lie_in(numbers, count, bound), name, " must lie in [0, ", bound, ")");
}

// Further on, but null stays null.
template <typename T>
T* beyond(T* pointer, int64_t count) {
  return pointer == nullptr ? nullptr : pointer + count;
}

template <typename T>
const T* data(const std::optional<Tensor>& tensor) {
  return tensor.has_value() ? tensor->const_data_ptr<T>() : nullptr;
}

void check(const Bracket& bracket) {
  const int64_t places = bracket.places, k = bracket.k;
  const bool halves = k > 0 && places > k && places % k == 0 && (places / k & (places / k - 1)) == 0;
  TORCH_CHECK(halves && places >= bracket.length && places <= std::numeric_limits<int32_t>::max(),
              "cannot play a tournament of ", bracket.length, " tokens in ", places, " places for ", k, " slots");
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> tournament(const Tensor& scores,
                                                                      const std::optional<Tensor>& padding_mask,
                                                                      int64_t places, int64_t k, double base, bool sort,
                                                                      bool preserve_order) {
  TORCH_CHECK(scores.dim() == 2, "scores must be (B, n), got ", scores.sizes());
  const int64_t batch = scores.size(0), length = scores.size(1);
  const Bracket bracket{length, places, k, base};
  check(bracket);
  const int64_t group = places / k;
  check(scores, "scores", {batch, length});
  check(padding_mask, "padding_mask", {batch, length});
  const bool may_be_empty = padding_mask.has_value() || places != length;
  const auto numbers = scores.options().dtype(at::kLong);
  const Tensor slot_scores = at::empty({batch, k}, scores.options()), weights = at::empty_like(scores),
               slots = at::empty({batch, length}, numbers), members = at::empty({batch, k, group}, numbers),
               filled = at::empty({may_be_empty ? batch : 0, k, group}, scores.options().dtype(at::kBool));
  Tensor record;
  AT_DISPATCH_FLOATING_TYPES(scores.scalar_type(), "tournament", [&] {
    const int64_t bytes = record_bytes(places, k, sizeof(scalar_t));
    const uint64_t mark = mark_of(bracket, sizeof(scalar_t));
    record = at::empty({batch, bytes}, scores.options().dtype(at::kByte));
    const scalar_t* scores_at = scores.const_data_ptr<scalar_t>();
    const bool* padding_at = data<bool>(padding_mask);
    uint8_t* record_at = record.mutable_data_ptr<uint8_t>();
    const Played<scalar_t> out{slot_scores.mutable_data_ptr<scalar_t>(), weights.mutable_data_ptr<scalar_t>(),
                               slots.mutable_data_ptr<int64_t>(), members.mutable_data_ptr<int64_t>(),
                               may_be_empty ? filled.mutable_data_ptr<bool>() : nullptr};
    at::parallel_for(0, batch, 1, [&](int64_t begin, int64_t end) {
      const at::AutoDispatchBelowADInplaceOrView guard;
      Tournament<scalar_t> match(bracket);
      for (int64_t b = begin; b < end; ++b) {
        const Played<scalar_t> own{out.slot_scores + b * k, out.weights + b * length, out.slots + b * length,
                                   out.members + b * places, beyond(out.filled, b * places)};
        std::memset(record_at + (b + 1) * bytes - kEnd, 0, kEnd);  // the same bytes every time, also where nothing is
        match.play(scores_at + b * length, beyond(padding_at, b * length), sort, preserve_order,
                   Record<scalar_t>(record_at + b * bytes, bracket), own);
        std::memcpy(record_at + (b + 1) * bytes - sizeof mark, &mark, sizeof mark);
      }
    });
  });
  return {slot_scores, slots, weights, members, filled, record};
}

Tensor tournament_backward(const Tensor& d_slot_scores, const Tensor& d_weights,
                           const std::optional<Tensor>& padding_mask, const Tensor& record, int64_t places,
                           double base) {
  TORCH_CHECK(d_weights.dim() == 2 && d_slot_scores.dim() == 2, "d_weights must be (B, n) and d_slot_scores (B, k), got ",
              d_weights.sizes(), " and ", d_slot_scores.sizes());
  const int64_t batch = d_weights.size(0), length = d_weights.size(1), k = d_slot_scores.size(1);
  const Bracket bracket{length, places, k, base};
  check(bracket);
  check(d_weights, "d_weights", {batch, length});
  check(d_slot_scores, "d_slot_scores", {batch, k});
  check(padding_mask, "padding_mask", {batch, length});
  check(record, "record", {batch, record_bytes(places, k, d_weights.element_size())});
  TORCH_CHECK(record.scalar_type() == at::kByte, "record must be of bytes, got ", record.scalar_type());
  const Tensor d_scores = at::empty_like(d_weights);
  AT_DISPATCH_FLOATING_TYPES(d_weights.scalar_type(), "tournament_backward", [&] {
    const int64_t bytes = record_bytes(places, k, sizeof(scalar_t));
    const uint64_t mark = mark_of(bracket, sizeof(scalar_t));
    const scalar_t *d_slot_scores_at = d_slot_scores.const_data_ptr<scalar_t>(),
                   *d_weights_at = d_weights.const_data_ptr<scalar_t>();
    const bool* padding_at = data<bool>(padding_mask);
    uint8_t* record_at = static_cast<uint8_t*>(record.data_ptr());
    scalar_t* d_scores_at = d_scores.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, batch, 1, [&](int64_t begin, int64_t end) {
      const at::AutoDispatchBelowADInplaceOrView guard;
      Tournament<scalar_t> match(bracket);
      for (int64_t b = begin; b < end; ++b) {
        const Record<scalar_t> own(record_at + b * bytes, bracket);
        const bool is_ours = std::memcmp(record_at + (b + 1) * bytes - sizeof mark, &mark, sizeof mark) == 0;
        TORCH_CHECK(is_ours && own.is_whole(bracket), "record must be what the tournament of these scores returned");
        match.differentiate(beyond(padding_at, b * length), d_slot_scores_at + b * k, d_weights_at + b * length, own,
                            d_scores_at + b * length);
      }
    });
  });
  return d_scores;
}

// ---- Weighted sums over a partition ---------------------------------------------------------------------------------

// Rows that are read together; meanwhile the processor fetches the next ones, which lie anywhere.
constexpr int64_t kTogether = 4;

// Adds the weighted rows to the sums, or begins with them.
template <int64_t rows, typename T, typename Sum>
inline __attribute__((always_inline)) void add_rows(Sum* sums, const T* const* from, const Sum* shares,
                                                    const T* const* next, int64_t dim, bool begins) {
  constexpr int64_t kLine = 64 / sizeof(T);
  int64_t column = 0;
  for (; column + kLine <= dim; column += kLine) {
    for (int64_t r = 0; r < kTogether; ++r) __builtin_prefetch(next[r] + column);
    for (int64_t i = column; i < column + kLine; ++i) {
      Sum sum = begins ? Sum(0) : sums[i];
      for (int64_t r = 0; r < rows; ++r) sum += shares[r] * static_cast<Sum>(from[r][i]);
      sums[i] = sum;
    }
  }
  for (; column < dim; ++column) {
    Sum sum = begins ? Sum(0) : sums[column];
    for (int64_t r = 0; r < rows; ++r) sum += shares[r] * static_cast<Sum>(from[r][column]);
    sums[column] = sum;
  }
}

// Some numbers to memory without going through the caches, which would first read what is overwritten anyhow.
template <typename T>
void write_past_caches(T* to, const T* from, int64_t count) {
#if defined(__x86_64__)
  const int64_t parts = count * static_cast<int64_t>(sizeof(T)) / 16;
  for (int64_t i = 0; i < parts; ++i)
    _mm_stream_si128(reinterpret_cast<__m128i*>(to) + i, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from) + i));
#else
  std::copy(from, from + count, to);
#endif
}

// What is written past the caches is written by so many numbers.
template <typename T>
constexpr int64_t kPart = 1024 / sizeof(T);

// Smaller results are still in a cache when they are read next.
bool is_past_caches(const Tensor& tensor) {
  return tensor.nbytes() >= (8 << 20) && tensor.size(-1) * tensor.element_size() % 16 == 0 &&
         reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % 16 == 0;
}

// Slots begin to end of one document. `part` is where numbers are put that are to go past the caches; null where none
// are to. `sums` is for one slot; `zeros` are read in the place of what is not filled, so that NaN there does not count.
template <typename T, typename Sum>
inline __attribute__((always_inline)) void slot_sums(T* out, const T* embeddings, const Sum* weights,
                                                     const int64_t* members, const bool* filled, int64_t begin,
                                                     int64_t end, int64_t group, int64_t dim, Sum* sums,
                                                     const T* zeros, T* part) {
  for (int64_t slot = begin; slot < end; ++slot) {
    for (int64_t g = 0; g < group;) {
      const int64_t first = slot * group + g, rows = group - g < kTogether ? 1 : kTogether;
      const T *from[kTogether], *next[kTogether];
      Sum shares[kTogether];
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t token = members[first + r];
        const bool taken = filled == nullptr || filled[first + r];
        from[r] = taken ? embeddings + token * dim : zeros;
        shares[r] = taken ? weights[token] : Sum(0);
      }
      for (int64_t r = 0; r < kTogether; ++r)
        next[r] = embeddings + members[std::min(first + rows + r, end * group - 1)] * dim;
      if (rows == 1)
        add_rows<1>(sums, from, shares, next, dim, g == 0);
      else
        add_rows<kTogether>(sums, from, shares, next, dim, g == 0);
      g += rows;
    }
    for (int64_t first = 0; first < dim; first += kPart<T>) {
      const int64_t last = std::min(dim, first + kPart<T>);
      T *to = out + slot * dim + first, *now = part == nullptr ? to : part;
      for (int64_t i = first; i < last; ++i) now[i - first] = static_cast<T>(sums[i]);
      if (part != nullptr) write_past_caches(to, part, last - first);
    }
  }
#if defined(__x86_64__)
  if (part != nullptr) _mm_sfence();
#endif
}

// Tokens begin to end of one document: each meets the gradient of its slot once, for both of its own gradients, a
// kilobyte at a time, while the processor fetches the gradient of the next one's slot.
template <typename T, typename Sum>
inline __attribute__((always_inline)) void token_gradients(T* d_embeddings, Sum* d_weights, const T* grad,
                                                           const T* embeddings, const Sum* weights,
                                                           const int64_t* slots, int64_t begin, int64_t end,
                                                           int64_t dim, T* part) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t token = begin; token < end; ++token) {
    const T *above = grad + slots[token] * dim, *next = grad + slots[std::min(token + 1, end - 1)] * dim;
    const T* own = embeddings + token * dim;
    T* out = d_embeddings + token * dim;
    const Sum weight = weights[token];
    const bool contributes = weight != 0;  // else its gradient is 0, also where that of its slot is NaN
    double sum = 0;
    for (int64_t first = 0; first < dim; first += kPart<T>) {
      const int64_t last = std::min(dim, first + kPart<T>);
      for (int64_t i = first; i < last; i += kLine) __builtin_prefetch(next + i);
      if (d_weights != nullptr) {
#pragma omp simd reduction(+ : sum)
        for (int64_t i = first; i < last; ++i) sum += static_cast<double>(above[i]) * static_cast<double>(own[i]);
      }
      if (d_embeddings != nullptr) {
        T* to = part == nullptr ? out + first : part;
#pragma omp simd
        for (int64_t i = first; i < last; ++i)
          to[i - first] = static_cast<T>(contributes ? weight * static_cast<Sum>(above[i]) : Sum(0));
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

// Calls work(document, begin, end) for parts of all documents, of so many items with so many numbers each.
template <typename Work>
void over_documents(int64_t batch, int64_t items, int64_t numbers, const Work& work) {
  const int64_t least = std::max<int64_t>(1, 32768 / std::max<int64_t>(numbers, 1));  // else not worth a thread
  at::parallel_for(0, batch * items, least, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t document = begin / items, start = document * items, stop = std::min(end, start + items);
      work(document, begin - start, stop - start);
      begin = stop;
    }
  });
}

Tensor partition_sums(const Tensor& embeddings, const Tensor& weights, const Tensor& members,
                      const std::optional<Tensor>& filled) {
  const int64_t batch = embeddings.size(0), length = embeddings.size(1), dim = embeddings.size(2),
                k = members.size(1), group = members.size(2);
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
              members_at + document * k * group, beyond(filled_at, document * k * group), begin, end, group,
              dim, sums.data(), zeros.data(), past_caches ? part : nullptr);
    });
  });
  return out;
}

std::tuple<Tensor, Tensor> partition_gradients(const Tensor& grad, const Tensor& embeddings, const Tensor& weights,
                                               const Tensor& slots, bool of_embeddings, bool of_weights) {
  const int64_t batch = embeddings.size(0), length = embeddings.size(1), dim = embeddings.size(2), k = grad.size(1);
  check(grad, "grad", {batch, k, dim});
  check(embeddings, "embeddings", {batch, length, dim});
  check(weights, "weights", {batch, length});
  check(slots, "slots", {batch, length});
  const Tensor d_embeddings = of_embeddings ? at::empty_like(embeddings) : at::empty({0}, embeddings.options());
  const Tensor d_weights = of_weights ? at::empty_like(weights) : at::empty({0}, weights.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, embeddings.scalar_type(), "partition_gradients", [&] {
        using Sum = SumOf<scalar_t>;
        scalar_t* d_embeddings_at = of_embeddings ? d_embeddings.mutable_data_ptr<scalar_t>() : nullptr;
        Sum* d_weights_at = of_weights ? d_weights.mutable_data_ptr<Sum>() : nullptr;
        const scalar_t *grad_at = grad.const_data_ptr<scalar_t>(), *embeddings_at = embeddings.const_data_ptr<scalar_t>();
        const Sum* weights_at = weights.const_data_ptr<Sum>();
        const int64_t* slots_at = slots.const_data_ptr<int64_t>();
        const bool past_caches = of_embeddings && is_past_caches(d_embeddings);
        over_documents(batch, length, dim, [&](int64_t document, int64_t begin, int64_t end) {
          const int64_t start = document * length;
          check_numbers(slots_at + start + begin, end - begin, k, "slots");
          scalar_t part[kPart<scalar_t>];
          gradients_of(beyond(d_embeddings_at, start * dim), beyond(d_weights_at, start), grad_at + document * k * dim,
                       embeddings_at + start * dim, weights_at + start, slots_at + start, begin, end, dim,
                       past_caches ? part : nullptr);
        });
      });
  return {d_embeddings, d_weights};
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  using Unlocked = pybind11::call_guard<pybind11::gil_scoped_release>;
  module.attr("torch_version") = BUILT_FOR;
  module.def("record_bytes", &record_bytes);
  module.def("tournament", &tournament, Unlocked());
  module.def("tournament_backward", &tournament_backward, Unlocked());
  module.def("partition_sums", &partition_sums, Unlocked());
  module.def("partition_gradients", &partition_gradients, Unlocked());
}
