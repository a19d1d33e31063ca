// Functions called from Python. Their references are the torch implementations in tournament_torch.py and
// partition_torch.py, which use the same names.

#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <tuple>

namespace pyramidion {

// Returns the size of the record of one document in bytes.
int64_t record_bytes(int64_t padded_length, int64_t k, int64_t element_size);

// Returns the fields of TournamentResult and a record for the backward pass. `base` is none for the plain softmax.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> tournament(
    const at::Tensor& scores, const std::optional<at::Tensor>& padding_mask, int64_t padded_length, int64_t k,
    std::optional<double> base, bool sort, bool preserve_order);

at::Tensor tournament_backward(const at::Tensor& d_slot_scores, const at::Tensor& d_weights,
                               const std::optional<at::Tensor>& padding_mask, const at::Tensor& record,
                               int64_t padded_length, std::optional<double> base);

at::Tensor partition_sums(const at::Tensor& embeddings, const at::Tensor& weights, const at::Tensor& members,
                          const std::optional<at::Tensor>& filled);

std::tuple<at::Tensor, at::Tensor> partition_gradients(const at::Tensor& grad, const at::Tensor& embeddings,
                                                       const at::Tensor& weights, const at::Tensor& slots,
                                                       bool of_embeddings, bool of_weights);

}  // namespace pyramidion
