// The tournament on scores, and its gradient.
//
// Tensors come contiguous and of the dtypes that are told. Threads are torch's, one document (or some tokens) each, so
// that results do not depend on how many there are.

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>
#include <tuple>
#include <type_traits>
#include <vector>

#include "bracket.h"
#include "checks.h"
#include "native.h"
#include "ranking.h"

namespace pyramidion {

namespace {

template <typename T>
struct TournamentResult {
  T *slot_scores, *weights;
  int64_t *slots, *members;
  bool* filled;  // null where no place can be empty
};

template <typename T>
class Tournament {
 public:
  explicit Tournament(const Bracket& bracket)
      : bracket_(bracket),
        rank_(bracket.padded_length),
        strength_(bracket.base),
        now_(bracket.padded_length),
        next_(bracket.padded_length),
        strengths_(bracket.padded_length),
        shares_(bracket.padded_length),
        next_shares_(bracket.padded_length),
        nodes_(bracket.padded_length),
        next_nodes_(bracket.padded_length) {}

  void run(const T* scores, const bool* padding, bool sort, bool preserve_order, const Record<T>& record,
            const TournamentResult<T>& out) {
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
    for (int64_t place = 0; place < bracket_.padded_length; ++place)
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
    for (int64_t place = 0; place < bracket_.padded_length; ++place) {
      const bool taken = real(place, padding);
      now_[place] = taken ? scores[place] : kNothing;
      tokens += taken;
    }
    *record.tokens = tokens;
  }

  // The candidates in `now_` in order; without sorting, as they stand, but empty ones last.
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
  void expand(const bool* padding, const Record<T>& record, const TournamentResult<T>& out) {
    const int64_t k = bracket_.k, rounds = bracket_.rounds(), group = bracket_.padded_length / k;
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

void check(const Bracket& bracket) {
  const int64_t padded_length = bracket.padded_length, k = bracket.k;
  const int64_t group = k > 0 ? padded_length / k : 0;
  const bool halves = group > 1 && group * k == padded_length && (group & (group - 1)) == 0;
  TORCH_CHECK(halves && padded_length >= bracket.length && padded_length <= std::numeric_limits<int32_t>::max(),
              "cannot hold a tournament of ", bracket.length, " tokens, padded to ", padded_length, ", for ", k, " slots");
}

}  // namespace

// How many bytes a record has.
int64_t record_bytes(int64_t padded_length, int64_t k, int64_t element_size) {
  const int64_t candidates = 2 * (padded_length - k);  // of all rounds
  return (candidates / 2 * 3 * element_size + (candidates + k + 1) * 4 + 7) / 8 * 8 + 8;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> tournament(
    const Tensor& scores, const std::optional<Tensor>& padding_mask, int64_t padded_length, int64_t k, double base,
    bool sort, bool preserve_order) {
  TORCH_CHECK(scores.dim() == 2, "scores must be (B, n), got ", scores.sizes());
  const int64_t batch = scores.size(0), length = scores.size(1);
  const Bracket bracket{length, padded_length, k, base};
  check(bracket);
  const int64_t group = padded_length / k;
  check(scores, "scores", {batch, length});
  check(padding_mask, "padding_mask", {batch, length});
  const bool may_be_empty = padding_mask.has_value() || padded_length != length;
  const auto numbers = scores.options().dtype(at::kLong);
  const Tensor slot_scores = at::empty({batch, k}, scores.options()), weights = at::empty_like(scores),
               slots = at::empty({batch, length}, numbers), members = at::empty({batch, k, group}, numbers),
               filled = at::empty({may_be_empty ? batch : 0, k, group}, scores.options().dtype(at::kBool));
  Tensor record;
  AT_DISPATCH_FLOATING_TYPES(scores.scalar_type(), "tournament", [&] {
    const int64_t bytes = record_bytes(padded_length, k, sizeof(scalar_t));
    const uint64_t mark = mark_of(bracket, sizeof(scalar_t));
    record = at::empty({batch, bytes}, scores.options().dtype(at::kByte));
    const scalar_t* scores_at = scores.const_data_ptr<scalar_t>();
    const bool* padding_at = data<bool>(padding_mask);
    uint8_t* record_at = record.mutable_data_ptr<uint8_t>();
    const TournamentResult<scalar_t> out{slot_scores.mutable_data_ptr<scalar_t>(), weights.mutable_data_ptr<scalar_t>(),
                               slots.mutable_data_ptr<int64_t>(), members.mutable_data_ptr<int64_t>(),
                               may_be_empty ? filled.mutable_data_ptr<bool>() : nullptr};
    at::parallel_for(0, batch, 1, [&](int64_t begin, int64_t end) {
      const at::AutoDispatchBelowADInplaceOrView guard;
      Tournament<scalar_t> match(bracket);
      for (int64_t b = begin; b < end; ++b) {
        const TournamentResult<scalar_t> own{out.slot_scores + b * k, out.weights + b * length, out.slots + b * length,
                                   out.members + b * padded_length, beyond(out.filled, b * padded_length)};
        std::memset(record_at + (b + 1) * bytes - kEnd, 0, kEnd);  // the same bytes every time, also where nothing is
        match.run(scores_at + b * length, beyond(padding_at, b * length), sort, preserve_order,
                   Record<scalar_t>(record_at + b * bytes, bracket), own);
        std::memcpy(record_at + (b + 1) * bytes - sizeof mark, &mark, sizeof mark);
      }
    });
  });
  return {slot_scores, slots, weights, members, filled, record};
}

Tensor tournament_backward(const Tensor& d_slot_scores, const Tensor& d_weights,
                           const std::optional<Tensor>& padding_mask, const Tensor& record, int64_t padded_length,
                           double base) {
  TORCH_CHECK(d_weights.dim() == 2 && d_slot_scores.dim() == 2, "d_weights must be (B, n) and d_slot_scores (B, k), got ",
              d_weights.sizes(), " and ", d_slot_scores.sizes());
  const int64_t batch = d_weights.size(0), length = d_weights.size(1), k = d_slot_scores.size(1);
  const Bracket bracket{length, padded_length, k, base};
  check(bracket);
  check(d_weights, "d_weights", {batch, length});
  check(d_slot_scores, "d_slot_scores", {batch, k});
  check(padding_mask, "padding_mask", {batch, length});
  check(record, "record", {batch, record_bytes(padded_length, k, d_weights.element_size())});
  TORCH_CHECK(record.scalar_type() == at::kByte, "record must be of bytes, got ", record.scalar_type());
  const Tensor d_scores = at::empty_like(d_weights);
  AT_DISPATCH_FLOATING_TYPES(d_weights.scalar_type(), "tournament_backward", [&] {
    const int64_t bytes = record_bytes(padded_length, k, sizeof(scalar_t));
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

}  // namespace pyramidion
