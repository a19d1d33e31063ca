// The tournament of one document, and its gradient.
// A node is a candidate of any round: a token, or the result of merging a pair of the previous round. Nodes are
// numbered by their index in the round.

#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "bracket.h"
#include "ranking.h"

namespace pyramidion {

// Output buffers for the fields of one document's TournamentResult (tournament_torch.py).
template <typename T>
struct TournamentResult {
  T* slot_scores;
  T* weights;
  int64_t* slots;
  int64_t* members;
  bool* filled;  // null if all members are filled
};

// Runs tournaments, one document at a time, and holds their working memory.
template <typename T>
class Tournament {
 public:
  explicit Tournament(const Bracket& bracket)
      : bracket_(bracket),
        rank_(bracket.padded_length),
        strength_(bracket.base),
        values_(bracket.padded_length),
        next_values_(bracket.padded_length),
        strengths_(bracket.padded_length),
        shares_(bracket.padded_length),
        next_shares_(bracket.padded_length),
        nodes_(bracket.padded_length),
        next_nodes_(bracket.padded_length) {}

  void run(const T* scores, const bool* padding, bool sort, bool preserve_order, const Record<T>& record,
           const TournamentResult<T>& out) {
    load_scores(scores, padding, record);
    int64_t candidates = *record.tokens;  // non-empty candidates, which are first in every round
    const int64_t rounds = bracket_.rounds();
    for (int64_t round = 0; round < rounds; ++round) {
      const int64_t size = bracket_.size(round);
      const int64_t first = bracket_.first(round);
      int32_t* order = record.orders + first;
      T* ordered = record.scores + first;
      if (round > 0) std::fill(values_.begin() + candidates, values_.begin() + size, kPadScore);
      order_candidates(sort, size, order);
      for (int64_t i = 0; i < size; ++i) ordered[i] = i < candidates ? values_[order[i]] : T(0);
      merge_pairs(ordered, size, candidates, record.weights + first / 2);
      candidates = std::min(candidates, size / 2);
    }
    order_slots(candidates, *record.tokens <= bracket_.k || preserve_order, record);
    for (int64_t node = 0; node < bracket_.k; ++node) out.slot_scores[record.slots[node]] = values_[node];
    store_members(padding, record, out);
  }

  void differentiate(const bool* padding, const T* d_slot_scores, const T* d_weights, const Record<T>& record,
                     T* d_scores) {
    const std::vector<T> shares = node_shares(record);
    const std::vector<T> d_pairs = pair_gradients(padding, d_weights, shares, record);
    differentiate_scores(d_slot_scores, d_pairs, record);
    for (int64_t token = 0; token < bracket_.length; ++token) {
      d_scores[token] = is_token(token, padding) ? values_[token] : T(0);
    }
  }

 private:
  bool is_token(int64_t position, const bool* padding) const {
    return position < bracket_.length && !(padding != nullptr && padding[position]);
  }

  // Stores the scores of the first round in `values_`.
  void load_scores(const T* scores, const bool* padding, const Record<T>& record) {
    int32_t tokens = 0;
    for (int64_t position = 0; position < bracket_.padded_length; ++position) {
      const bool has_token = is_token(position, padding);
      values_[position] = has_token ? scores[position] : kPadScore;
      tokens += has_token;
    }
    *record.tokens = tokens;
  }

  // Orders the candidates, whose scores are `values_`. Without sorting, empty ones are only moved to the end.
  void order_candidates(bool sort, int64_t size, int32_t* order) {
    if (sort) {
      rank_(values_.data(), size, order);
      return;
    }
    std::iota(order, order + size, 0);
    std::stable_partition(order, order + size, [&](int32_t i) { return values_[i] != kPadScore; });
  }

  // Merges the pairs of a round: stores their weights, and their scores in `values_`.
  void merge_pairs(const T* ordered, int64_t size, int64_t candidates, T* weights) {
    const int64_t half = size / 2;
    const int64_t byes = std::min(half, size - candidates);  // the first candidates have byes
    strength_(ordered, strengths_.data(), size);
    for (int64_t i = 0; i < half; ++i) weights[i] = strengths_[i] - strengths_[size - 1 - i];
    sigmoid_in_place(weights, half);
    std::fill(weights, weights + byes, T(1));
    for (int64_t i = 0; i < half; ++i) {
      const T weight = weights[i];
      const T left = ordered[i];
      const T right = ordered[size - 1 - i];
      const T difference = left - right;
      values_[i] = weight < T(0.5) ? right + weight * difference : left - difference * (1 - weight);
    }
  }

  // Stores the slot of each last-round node: ordered by the positions of the winners, or by node number.
  void order_slots(int64_t candidates, bool by_position, const Record<T>& record) {
    std::vector<int32_t> nodes(bracket_.k);
    std::iota(nodes.begin(), nodes.end(), 0);
    if (by_position) {
      std::vector<int32_t> winners(nodes);
      for (int64_t round = bracket_.rounds() - 1; round >= 0; --round) {
        for (int32_t& winner : winners) winner = record.orders[bracket_.first(round) + winner];
      }
      std::sort(nodes.begin(), nodes.begin() + candidates,
                [&](int32_t a, int32_t b) { return winners[a] < winners[b]; });
    }
    for (int64_t slot = 0; slot < bracket_.k; ++slot) record.slots[nodes[slot]] = static_cast<int32_t>(slot);
  }

  // Expands the slots, round by round, to their tokens, and stores the members, their slots and weights.
  void store_members(const bool* padding, const Record<T>& record, const TournamentResult<T>& out) {
    const int64_t k = bracket_.k;
    const int64_t group = bracket_.padded_length / k;
    for (int64_t node = 0; node < k; ++node) nodes_[record.slots[node]] = static_cast<int32_t>(node);
    std::fill(shares_.begin(), shares_.begin() + k, T(1));
    for (int64_t round = bracket_.rounds() - 1, count = k; round >= 0; --round, count *= 2) {
      const int64_t size = bracket_.size(round);
      const int32_t* order = record.orders + bracket_.first(round);
      const T* weights = record.weights + bracket_.first(round) / 2;
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
      // Byes and padding point to the winner of their slot, or to that of the first slot if their slot is empty.
      const int64_t stand_in = is_token(nodes_[slot], padding) ? nodes_[slot] : nodes_[0];
      for (int64_t g = 0; g < group; ++g) {
        const int64_t token = nodes_[g * k + slot];
        const bool is_filled = is_token(token, padding);
        out.members[slot * group + g] = std::min(is_filled ? token : stand_in, bracket_.length - 1);
        if (out.filled != nullptr) out.filled[slot * group + g] = is_filled;
        if (is_filled) {
          out.slots[token] = slot;
          out.weights[token] = shares_[g * k + slot];
        }
      }
    }
  }

  // Returns the share of each pair of each round in its slot, from the slots to the tokens.
  std::vector<T> node_shares(const Record<T>& record) const {
    std::vector<T> shares(bracket_.first(bracket_.rounds()) / 2);
    std::fill(shares.end() - bracket_.k, shares.end(), T(1));
    for (int64_t round = bracket_.rounds() - 1; round > 0; --round) {
      const int64_t size = bracket_.size(round);
      const T* above = shares.data() + bracket_.first(round) / 2;
      const T* weights = record.weights + bracket_.first(round) / 2;
      const int32_t* order = record.orders + bracket_.first(round);
      T* below = shares.data() + bracket_.first(round - 1) / 2;
      for (int64_t i = 0; i < size / 2; ++i) {
        const T of_left = above[i] * weights[i];
        below[order[i]] = of_left;
        below[order[size - 1 - i]] = above[i] - of_left;
      }
    }
    return shares;
  }

  // Returns the gradients of the pair weights through the shares, from the tokens to the slots.
  std::vector<T> pair_gradients(const bool* padding, const T* d_weights, const std::vector<T>& shares,
                                const Record<T>& record) {
    std::vector<T> d_pairs(shares.size());
    std::vector<T>& d_shares = values_;
    std::vector<T>& d_shares_above = next_values_;
    for (int64_t position = 0; position < bracket_.padded_length; ++position) {
      d_shares[position] = is_token(position, padding) ? d_weights[position] : T(0);
    }
    for (int64_t round = 0; round < bracket_.rounds(); ++round) {
      const int64_t size = bracket_.size(round);
      const T* weights = record.weights + bracket_.first(round) / 2;
      const T* share = shares.data() + bracket_.first(round) / 2;
      const int32_t* order = record.orders + bracket_.first(round);
      T* d_pair = d_pairs.data() + bracket_.first(round) / 2;
      for (int64_t i = 0; i < size / 2; ++i) {
        const T left = d_shares[order[i]];
        const T right = d_shares[order[size - 1 - i]];
        d_pair[i] = share[i] * (left - right);
        d_shares_above[i] = right + weights[i] * (left - right);
      }
      d_shares.swap(d_shares_above);
    }
    return d_pairs;
  }

  // Computes the gradients of the first-round scores in `values_`, from the slots to the tokens.
  void differentiate_scores(const T* d_slot_scores, const std::vector<T>& d_pairs, const Record<T>& record) {
    std::vector<T>& d_above = values_;
    std::vector<T>& d_below = next_values_;
    for (int64_t node = 0; node < bracket_.k; ++node) d_above[node] = d_slot_scores[record.slots[node]];
    for (int64_t round = bracket_.rounds() - 1; round >= 0; --round) {
      const int64_t size = bracket_.size(round);
      const int64_t candidates = std::min<int64_t>(*record.tokens, size);
      const T* scores = record.scores + bracket_.first(round);
      const T* weights = record.weights + bracket_.first(round) / 2;
      const T* d_pair = d_pairs.data() + bracket_.first(round) / 2;
      const int32_t* order = record.orders + bracket_.first(round);
      strength_(scores, strengths_.data(), size);
      for (int64_t i = 0; i < size / 2; ++i) {
        const int64_t j = size - 1 - i;
        T d_left = d_above[i];
        T d_right = 0;
        if (j < candidates) {  // otherwise candidate i has a bye
          const T left = scores[i];
          const T right = scores[j];
          const T weight = weights[i];
          const T d_difference = (d_pair[i] + d_above[i] * (left - right)) * weight * (1 - weight);
          d_left = d_above[i] * weight + d_difference * strength_.derivative(left, strengths_[i]);
          d_right = d_above[i] * (1 - weight) - d_difference * strength_.derivative(right, strengths_[j]);
        }
        d_below[order[i]] = d_left;
        d_below[order[j]] = d_right;
      }
      d_above.swap(d_below);
    }
  }

  static constexpr T kPadScore = -std::numeric_limits<T>::infinity();  // score of padding, byes and empty pairs

  const Bracket bracket_;
  Ranking<T> rank_;
  const Strength<T> strength_;
  std::vector<T> values_;
  std::vector<T> next_values_;
  std::vector<T> strengths_;
  std::vector<T> shares_;
  std::vector<T> next_shares_;
  std::vector<int32_t> nodes_;
  std::vector<int32_t> next_nodes_;
};

}  // namespace pyramidion
