// The sizes of a tournament, what its backward pass needs, and the strengths of the scores.

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

// Sizes that all documents share. Round r has padded_length >> r candidates; number i meets number
// (padded_length >> r) - 1 - i.
struct Bracket {
  int64_t length;
  int64_t padded_length;
  int64_t k;
  std::optional<double> base;  // of the peaked softmax; none for the plain softmax

  // How many candidates a round has.
  int64_t size(int64_t round) const { return padded_length >> round; }
  // The index of a round's first candidate among those of all rounds.
  int64_t first(int64_t round) const { return 2 * padded_length - 2 * size(round); }
  int64_t rounds() const {
    int64_t count = 0;
    while (size(count) > k) ++count;
    return count;
  }
};

// The last bytes of a record: padding to a multiple of 8, then its mark.
constexpr int64_t kEnd = 16;

// Returns the number that a record ends with. It tells a record from other bytes, and from records of other sizes.
inline uint64_t mark_of(const Bracket& bracket, int64_t element_size) {
  uint64_t mark = 0x5079726D52656331U;
  for (const int64_t number : {bracket.length, bracket.padded_length, bracket.k, element_size}) {
    mark = (mark ^ static_cast<uint64_t>(number)) * 0x9E3779B97F4A7C15U;
  }
  return mark;
}

// What the backward pass needs of one document, in the bytes of a record.
template <typename T>
struct Record {
  T* scores;        // of the candidates of each round, in order; 0 where there is none
  T* weights;       // of the first one of each pair of each round
  int32_t* orders;  // the candidates of each round, in order, by their number in the round before
  int32_t* slots;   // (k) slot number of each winner of the last round
  int32_t* tokens;  // how many candidates are tokens

  Record(uint8_t* bytes, const Bracket& bracket) {
    const int64_t candidates = bracket.first(bracket.rounds());
    scores = reinterpret_cast<T*>(bytes);
    weights = scores + candidates;
    orders = reinterpret_cast<int32_t*>(weights + candidates / 2);
    slots = orders + candidates;
    tokens = slots + bracket.k;
  }

  // Returns whether all indices are in their ranges, so that no other memory is read or written.
  bool is_whole(const Bracket& bracket) const {
    bool good = *tokens >= 0 && *tokens <= bracket.padded_length;
    for (int64_t round = 0; round < bracket.rounds(); ++round) {
      good &= lie_in(orders + bracket.first(round), bracket.size(round), bracket.size(round));
    }
    return good && lie_in(slots, bracket.k, bracket.k);
  }
};

// Computes exp(x) in place by torch's vectorised function, for the same numbers as torch's operation.
template <typename T>
void exp_in_place(T* values, int64_t count) {
  Tensor tensor = at::from_blob(values, {count}, at::CppTypeToScalarType<T>::value);
  at::exp_(tensor);
}

// Computes sigmoid(x) in place, in the same way.
template <typename T>
void sigmoid_in_place(T* values, int64_t count) {
  Tensor tensor = at::from_blob(values, {count}, at::CppTypeToScalarType<T>::value);
  at::sigmoid_(tensor);
}

// What the softmax over a pair is taken of: base**score, or the score itself.
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

  // Returns the derivative of a strength by its score.
  T derivative(T score, T strength) const {
    if (!is_peaked) return 1;
    return score > highest ? 0 : log_base * strength;
  }
};

}  // namespace pyramidion
