"""Write binarised corpora."""

import torch
from fairseq.data.indexed_dataset import make_builder


def write_split(folder, split, documents, summaries):
    for side, rows in (("source", documents), ("target", summaries)):
        prefix = str(folder / f"{split}.source-target.{side}")
        builder = make_builder(prefix + ".bin", "mmap", vocab_size=40)
        for row in rows:
            builder.add_item(torch.tensor(row))
        builder.finalize(prefix + ".idx")
