// Argument checks.

#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>

namespace pyramidion {

using at::Tensor;

// Returns whether all numbers lie in [0, bound).
template <typename Number>
bool lie_in(const Number* numbers, int64_t count, int64_t bound) {
  bool good = true;
  for (int64_t i = 0; i < count; ++i) good &= static_cast<uint64_t>(numbers[i]) < static_cast<uint64_t>(bound);
  return good;
}

// Raises an error unless a tensor is contiguous, on the CPU and of the given sizes.
inline void check(const Tensor& tensor, const char* name, at::IntArrayRef sizes) {
  TORCH_CHECK(tensor.is_cpu() && tensor.is_contiguous() && tensor.sizes() == sizes, name,
              " must be on the CPU, contiguous and ", sizes, ", got ", tensor.sizes());
}

inline void check(const std::optional<Tensor>& tensor, const char* name, at::IntArrayRef sizes) {
  if (tensor.has_value()) check(*tensor, name, sizes);
}

// Raises an IndexError unless all numbers lie in [0, bound).
inline void check_numbers(const int64_t* numbers, int64_t count, int64_t bound, const char* name) {
  TORCH_CHECK_INDEX(lie_in(numbers, count, bound), name, " must lie in [0, ", bound, ")");
}

// Returns `pointer + count`, or null for a null pointer.
template <typename T>
T* advance(T* pointer, int64_t count) {
  return pointer == nullptr ? nullptr : pointer + count;
}

// Returns the data pointer of a tensor, or null if there is no tensor.
template <typename T>
const T* data(const std::optional<Tensor>& tensor) {
  return tensor.has_value() ? tensor->const_data_ptr<T>() : nullptr;
}

}  // namespace pyramidion
