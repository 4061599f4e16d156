"""Lists of modules whose type says what they hold, and what networks may have besides `forward`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast, overload, runtime_checkable

from torch import nn
from torch.utils.checkpoint import checkpoint

M = TypeVar("M", bound=nn.Module)

if TYPE_CHECKING:

    class ModulesOf(nn.ModuleList, Generic[M]):
        """An `nn.ModuleList` of one kind: torch's own says `Module` of whatever it holds."""

        def __iter__(self) -> Iterator[M]: ...

        @overload
        def __getitem__(self, idx: slice) -> ModulesOf[M]: ...
        @overload
        def __getitem__(self, idx: int) -> M: ...
        def __getitem__(self, idx: int | slice) -> M | ModulesOf[M]: ...

else:
    ModulesOf = nn.ModuleList


def modules(items: Iterable[M]) -> ModulesOf[M]:
    """Make a plain `nn.ModuleList`, the type of what it holds kept."""
    return cast("ModulesOf[M]", nn.ModuleList(items))


def recomputed(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function whose inner results are computed again in the backward pass, not kept."""
    return checkpoint(function, *args, use_reentrant=False)


@runtime_checkable
class Headed(Protocol):
    """A network whose classifier can be exchanged, as timm's can."""

    def reset_classifier(self, num_classes: int) -> None:
        """Put a fresh classifier in its place; 0: none, the pooled features come out."""
        ...


@runtime_checkable
class Recomputing(Protocol):
    """A network that can keep its blocks' inputs only, as timm's can."""

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory in training."""
        ...


@runtime_checkable
class Undecayed(Protocol):
    """A network that says which of its parameters are not decayed."""

    def weight_decay_exempt(self) -> set[str]:
        """Names of parameters."""
        ...


@runtime_checkable
class Scaled(Protocol):
    """A network some of whose parameters learn at other rates."""

    def rate_scales(self) -> dict[str, float]:
        """Factors of the learning rate by parameter, where they are not 1."""
        ...


@runtime_checkable
class Folds(Protocol):
    """A network with an inference form of its own."""

    def fold(self) -> nn.Module:
        """Return it; see `saccade.fold`."""
        ...
