// Python bindings of the compiled functions.

#include <torch/csrc/utils/pybind.h>

#include "native.h"

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  using Unlocked = pybind11::call_guard<pybind11::gil_scoped_release>;
  module.attr("torch_version") = BUILT_FOR;
  module.attr("interface") = 2;  // version of the arguments below; must equal _INTERFACE in native.py
  module.def("record_bytes", &pyramidion::record_bytes);
  module.def("tournament", &pyramidion::tournament, Unlocked());
  module.def("tournament_backward", &pyramidion::tournament_backward, Unlocked());
  module.def("partition_sums", &pyramidion::partition_sums, Unlocked());
  module.def("partition_gradients", &pyramidion::partition_gradients, Unlocked());
}
