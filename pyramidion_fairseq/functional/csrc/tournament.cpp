// Tournaments of a batch, and their gradients.
// Tensors must be contiguous. Each thread processes whole documents, so results do not depend on the number of
// threads.

#include "tournament.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <tuple>

#include "bracket.h"
#include "checks.h"
#include "native.h"

namespace pyramidion {

namespace {

// Raises an error if the sizes of a tournament are invalid.
void check(const Bracket& bracket) {
  const int64_t group = bracket.k > 0 ? bracket.padded_length / bracket.k : 0;
  const bool halves = group > 1 && group * bracket.k == bracket.padded_length && (group & (group - 1)) == 0;
  const bool fits = bracket.padded_length >= bracket.length &&
                    bracket.padded_length <= std::numeric_limits<int32_t>::max();
  TORCH_CHECK(halves && fits, "cannot hold a tournament of ", bracket.length, " tokens, padded to ",
              bracket.padded_length, ", for ", bracket.k, " slots");
  TORCH_CHECK(!bracket.base.has_value() || *bracket.base > 1, "base must be above 1, or None, got ",
              bracket.base.value_or(0));
}

}  // namespace

int64_t record_bytes(int64_t padded_length, int64_t k, int64_t element_size) {
  const int64_t candidates = 2 * (padded_length - k);  // of all rounds
  return (candidates / 2 * 3 * element_size + (candidates + k + 1) * 4 + 7) / 8 * 8 + 8;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> tournament(
    const Tensor& scores, const std::optional<Tensor>& padding_mask, int64_t padded_length, int64_t k,
    std::optional<double> base, bool sort, bool preserve_order) {
  TORCH_CHECK(scores.dim() == 2, "scores must be (B, n), got ", scores.sizes());
  const int64_t batch = scores.size(0);
  const int64_t length = scores.size(1);
  const Bracket bracket{length, padded_length, k, base};
  check(bracket);
  const int64_t group = padded_length / k;
  check(scores, "scores", {batch, length});
  check(padding_mask, "padding_mask", {batch, length});
  const bool may_be_empty = padding_mask.has_value() || padded_length != length;
  const auto indices = scores.options().dtype(at::kLong);
  const Tensor slot_scores = at::empty({batch, k}, scores.options());
  const Tensor weights = at::empty_like(scores);
  const Tensor slots = at::empty({batch, length}, indices);
  const Tensor members = at::empty({batch, k, group}, indices);
  const Tensor filled = at::empty({may_be_empty ? batch : 0, k, group}, scores.options().dtype(at::kBool));
  Tensor record;
  AT_DISPATCH_FLOATING_TYPES(scores.scalar_type(), "tournament", [&] {
    const int64_t bytes = record_bytes(padded_length, k, sizeof(scalar_t));
    const uint64_t mark = mark_of(bracket, sizeof(scalar_t));
    record = at::empty({batch, bytes}, scores.options().dtype(at::kByte));
    const scalar_t* scores_at = scores.const_data_ptr<scalar_t>();
    const bool* padding_at = data<bool>(padding_mask);
    uint8_t* record_at = record.mutable_data_ptr<uint8_t>();
    const TournamentResult<scalar_t> all{
        slot_scores.mutable_data_ptr<scalar_t>(), weights.mutable_data_ptr<scalar_t>(),
        slots.mutable_data_ptr<int64_t>(), members.mutable_data_ptr<int64_t>(),
        may_be_empty ? filled.mutable_data_ptr<bool>() : nullptr};
    at::parallel_for(0, batch, 1, [&](int64_t begin, int64_t end) {
      const at::AutoDispatchBelowADInplaceOrView guard;
      Tournament<scalar_t> of_document(bracket);
      for (int64_t b = begin; b < end; ++b) {
        const TournamentResult<scalar_t> out{all.slot_scores + b * k, all.weights + b * length, all.slots + b * length,
                                             all.members + b * padded_length, advance(all.filled, b * padded_length)};
        uint8_t* const record_end = record_at + (b + 1) * bytes;
        std::memset(record_end - kEnd, 0, kEnd);  // so that equal records have equal bytes
        of_document.run(scores_at + b * length, advance(padding_at, b * length), sort, preserve_order,
                        Record<scalar_t>(record_at + b * bytes, bracket), out);
        std::memcpy(record_end - sizeof mark, &mark, sizeof mark);
      }
    });
  });
  return {slot_scores, slots, weights, members, filled, record};
}

Tensor tournament_backward(const Tensor& d_slot_scores, const Tensor& d_weights,
                           const std::optional<Tensor>& padding_mask, const Tensor& record, int64_t padded_length,
                           std::optional<double> base) {
  TORCH_CHECK(d_weights.dim() == 2 && d_slot_scores.dim() == 2,
              "d_weights must be (B, n) and d_slot_scores (B, k), got ", d_weights.sizes(), " and ",
              d_slot_scores.sizes());
  const int64_t batch = d_weights.size(0);
  const int64_t length = d_weights.size(1);
  const int64_t k = d_slot_scores.size(1);
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
    const scalar_t* d_slot_scores_at = d_slot_scores.const_data_ptr<scalar_t>();
    const scalar_t* d_weights_at = d_weights.const_data_ptr<scalar_t>();
    const bool* padding_at = data<bool>(padding_mask);
    uint8_t* record_at = static_cast<uint8_t*>(record.data_ptr());
    scalar_t* d_scores_at = d_scores.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, batch, 1, [&](int64_t begin, int64_t end) {
      const at::AutoDispatchBelowADInplaceOrView guard;
      Tournament<scalar_t> of_document(bracket);
      for (int64_t b = begin; b < end; ++b) {
        const Record<scalar_t> own(record_at + b * bytes, bracket);
        const bool is_ours = std::memcmp(record_at + (b + 1) * bytes - sizeof mark, &mark, sizeof mark) == 0;
        TORCH_CHECK(is_ours && own.is_whole(bracket), "record must be what the tournament of these scores returned");
        of_document.differentiate(advance(padding_at, b * length), d_slot_scores_at + b * k, d_weights_at + b * length,
                                  own, d_scores_at + b * length);
      }
    });
  });
  return d_scores;
}

}  // namespace pyramidion
