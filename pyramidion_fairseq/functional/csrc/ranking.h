// Sorting the candidates of a round.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace pyramidion {

// Returns an integer key whose ascending order is the descending order of the scores, with NaN first, as in torch.
inline uint32_t key(float score) {
  if (std::isnan(score)) return 0;
  uint32_t bits;
  score += 0.0F;  // no negative zero
  std::memcpy(&bits, &score, sizeof bits);
  return bits >> 31 ? bits : ~(bits | 0x80000000U);
}

inline uint64_t key(double score) {
  if (std::isnan(score)) return 0;
  uint64_t bits;
  score += 0.0;
  std::memcpy(&bits, &score, sizeof bits);
  return bits >> 63 ? bits : ~(bits | 0x8000000000000000U);
}

// Sorts indices by descending score, stably. The candidates of later rounds are mostly almost sorted, so insertion
// sort is tried first. If it takes too many moves, radix sort with 11 bits per pass takes over.
template <typename T>
class Ranking {
  using Key = decltype(key(T()));
  struct Item {
    Key key;
    int32_t index;
  };
  static constexpr int kBits = 11;
  static constexpr int kDigits = 1 << kBits;
  static constexpr int kPasses = (8 * sizeof(Key) + kBits - 1) / kBits;

 public:
  explicit Ranking(int64_t size) : items_(size), others_(size), counts_(kPasses * kDigits) {}

  void operator()(const T* scores, int64_t size, int32_t* order) {
    for (int64_t i = 0; i < size; ++i) items_[i] = {key(scores[i]), static_cast<int32_t>(i)};
    if (!insert(size, size)) {
      std::fill(counts_.begin(), counts_.end(), 0);
      for (int64_t i = 0; i < size; ++i) {
        for (int pass = 0; pass < kPasses; ++pass) ++counts_[pass * kDigits + digit(items_[i].key, pass)];
      }
      for (int pass = 0; pass < kPasses; ++pass) distribute(size, pass);
    }
    for (int64_t i = 0; i < size; ++i) order[i] = items_[i].index;
  }

 private:
  // Sorts the items with at most `moves` moves, and returns whether that was enough. If not, equal items keep their
  // order.
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

  // Sorts the items by one digit of their keys.
  void distribute(int64_t size, int pass) {
    int32_t* counts = counts_.data() + pass * kDigits;
    if (counts[digit(items_[0].key, pass)] == size) return;  // all digits are equal
    int32_t start = 0;
    for (int d = 0; d < kDigits; ++d) start += std::exchange(counts[d], start);
    for (int64_t i = 0; i < size; ++i) others_[counts[digit(items_[i].key, pass)]++] = items_[i];
    items_.swap(others_);
  }

  std::vector<Item> items_;
  std::vector<Item> others_;
  std::vector<int32_t> counts_;
};

}  // namespace pyramidion
