"""PyTorch itself as a runtime: the folded network, eager or compiled."""

import torch
from torch import Tensor, nn

from saccade.errors import ConfigError
from saccade.files import count_threads
from saccade.nn.fold import fold

_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


class EagerSession:
    """The folded network, called as it is.

    Args:
        model: In evaluation mode; folded here unless it is already. The original is untouched.
        precision: float32 or bf16; outputs are float32 either way.
        threads: Threads of PyTorch in this whole process; None leaves them.
        device: Where it runs.
    """

    def __init__(
        self, model: nn.Module, *, precision: str = "float32", threads: int | None = None, device: str = "cpu"
    ) -> None:
        if precision not in _DTYPES:
            raise ConfigError(
                f"PyTorch runs in float32 or bf16, not {precision!r}; int8 comes as an exported bundle"
            )
        if threads is not None:
            torch.set_num_threads(count_threads(threads))
        self.threads = torch.get_num_threads()
        self._device, self._dtype = torch.device(device), _DTYPES[precision]
        folded = model if getattr(model, "is_folded", False) else fold(model)
        self._model: nn.Module | None = folded.to(device=self._device, dtype=self._dtype)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to float32 outputs on the CPU."""
        assert self._model is not None, "the session was closed"
        (images,) = inputs
        with torch.no_grad():
            return self._run(images.to(self._device, self._dtype)).float().cpu()

    def _run(self, images: Tensor) -> Tensor:
        assert self._model is not None
        return self._model(images)

    def close(self) -> None:
        """Free the network."""
        self._model = None


class CompiledSession(EagerSession):
    """The folded network under torch.compile with frozen weights; compiles on the first call of every shape."""

    def __init__(
        self, model: nn.Module, *, precision: str = "float32", threads: int | None = None, device: str = "cpu"
    ) -> None:
        super().__init__(model, precision=precision, threads=threads, device=device)
        assert self._model is not None
        # Weights are constants to the compiler; without this it packs none of them.
        self._compiled = torch.compile(
            self._model, dynamic=False, options={"freezing": True, "cpp_wrapper": True}
        )

    def _run(self, images: Tensor) -> Tensor:
        return self._compiled(images.contiguous(memory_format=torch.channels_last))
