// Sizes of a tournament, the record for its backward pass, and the strengths of its scores.

#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>

#include "checks.h"
#include "native.h"

namespace pyramidion {

// Sizes shared by all documents. Round r has padded_length >> r candidates. Candidate i is paired with candidate
// (padded_length >> r) - 1 - i.
struct Bracket {
  int64_t length;
  int64_t padded_length;
  int64_t k;
  std::optional<double> base;  // base of the peaked softmax; none for the plain softmax

  // Number of candidates of a round.
  int64_t size(int64_t round) const { return padded_length >> round; }
  // Index of a round's first candidate among the candidates of all rounds.
  int64_t first(int64_t round) const { return 2 * padded_length - 2 * size(round); }
  int64_t rounds() const {
    int64_t count = 0;
    while (size(count) > k) ++count;
    return count;
  }
};

// Number of bytes at the end of a record: padding to a multiple of 8, then the mark.
constexpr int64_t kEnd = 16;

// Returns the mark at the end of a record, which distinguishes it from other bytes and from records of other sizes.
inline uint64_t mark_of(const Bracket& bracket, int64_t element_size) {
  uint64_t mark = 0x5079726D52656331U;
  for (const int64_t number : {bracket.length, bracket.padded_length, bracket.k, element_size}) {
    mark = (mark ^ static_cast<uint64_t>(number)) * 0x9E3779B97F4A7C15U;
  }
  return mark;
}

// State of one document for the backward pass, stored in the bytes of a record.
template <typename T>
struct Record {
  T* scores;        // sorted scores of the candidates of each round; 0 for empty ones
  T* weights;       // weight of the first candidate of each pair of each round
  int32_t* orders;  // sorted candidates of each round, by their number in the previous round
  int32_t* slots;   // (k) slot of each winner of the last round
  int32_t* tokens;  // number of tokens

  Record(uint8_t* bytes, const Bracket& bracket) {
    const int64_t candidates = bracket.first(bracket.rounds());
    scores = reinterpret_cast<T*>(bytes);
    weights = scores + candidates;
    orders = reinterpret_cast<int32_t*>(weights + candidates / 2);
    slots = orders + candidates;
    tokens = slots + bracket.k;
  }

  // Returns whether all indices are in range, so that no memory is accessed out of bounds.
  bool is_whole(const Bracket& bracket) const {
    bool good = *tokens >= 0 && *tokens <= bracket.padded_length;
    for (int64_t round = 0; round < bracket.rounds(); ++round) {
      good &= lie_in(orders + bracket.first(round), bracket.size(round), bracket.size(round));
    }
    return good && lie_in(slots, bracket.k, bracket.k);
  }
};

// Computes exp(x) in place with torch's vectorised function, so that results equal those of torch's operation.
template <typename T>
void exp_in_place(T* values, int64_t count) {
  Tensor tensor = at::from_blob(values, {count}, at::CppTypeToScalarType<T>::value);
  at::exp_(tensor);
}

// Computes sigmoid(x) in place with torch's vectorised function.
template <typename T>
void sigmoid_in_place(T* values, int64_t count) {
  Tensor tensor = at::from_blob(values, {count}, at::CppTypeToScalarType<T>::value);
  at::sigmoid_(tensor);
}

// Logits of the softmax over a pair: base**score, or the score itself.
template <typename T>
struct Strength {
  bool is_peaked;
  T log_base;
  T highest;  // above this score, base**score would overflow

  explicit Strength(const std::optional<double>& base)
      : is_peaked(base.has_value()),
        log_base(is_peaked ? std::log(*base) : 0),
        highest(is_peaked ? std::log(static_cast<double>(std::numeric_limits<T>::max())) / std::log(*base) - 1 : 0) {}

  void operator()(const T* scores, T* out, int64_t count) const {
    if (!is_peaked) {
      std::copy(scores, scores + count, out);
      return;
    }
    for (int64_t i = 0; i < count; ++i) out[i] = std::min(scores[i], highest) * log_base;
    exp_in_place(out, count);
  }

  // Returns the derivative of a strength with respect to its score.
  T derivative(T score, T strength) const {
    if (!is_peaked) return 1;
    return score > highest ? 0 : log_base * strength;
  }
};

}  // namespace pyramidion
