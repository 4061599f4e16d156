# pyright: reportMissingImports=false, reportOptionalMemberAccess=false
"""The part that runs in another environment: a `.pt2` program in, a file of another runtime out, and running it.

Started as a script by `workers.py`, never imported by Saccade, and importing nothing of it. It talks over its own
standard input and output: one JSON line each way, followed by the bytes of a tensor where there is one. Whatever the
runtimes print goes to standard error.

    convert FORMAT PROGRAM FILE      one answer {"ok": true, ...}, then the end
    serve FORMAT FILE THREADS        {"ok": true}, then a request {"shape": [...]} + float32 bytes answered by
                                     {"shape": [...]} + float32 bytes, until the input ends
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[[Any], Any]
_ALLOCATION = ("alloc", "getitem", "sym_size", "Total")


def main() -> None:
    """Keep the real output for answers, send every other line to standard error, and do what was asked."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    try:
        if sys.argv[1] == "convert":
            _, _, form, program, file = sys.argv
            _answer(answers, {"ok": True, **CONVERTERS[form](program, file)})
        else:
            _, _, form, file, threads = sys.argv
            run = RUNNERS[form](file, int(threads))
            _answer(answers, {"ok": True})
            _serve(run, answers)
    except Exception as error:
        # The parent turns this into its own sentence.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        _answer(answers, {"ok": False, "error": f"{type(error).__name__}: {' '.join(lines[:3])[:500]}"})
        raise


def _answer(stream: Any, value: dict[str, Any], payload: bytes = b"") -> None:
    """Write one JSON line and the bytes that belong to it."""
    data = json.dumps(value).encode() + b"\n" + payload
    view = memoryview(data)
    while view:
        view = view[stream.write(view) :]


def _serve(run: Run, answers: Any) -> None:
    """Answer requests until the input ends."""
    import numpy as np

    requests = sys.stdin.buffer
    while line := requests.readline():
        shape = json.loads(line)["shape"]
        data = requests.read(4 * int(np.prod(shape)))
        try:
            output = np.ascontiguousarray(
                run(np.frombuffer(data, np.float32).reshape(shape).copy()), np.float32
            )
        except Exception as error:
            _answer(answers, {"ok": False, "error": f"{type(error).__name__}: {str(error)[:300]}"})
            continue
        _answer(answers, {"ok": True, "shape": list(output.shape)}, output.tobytes())


def _load(program: str) -> tuple[Any, Any]:
    """Open a program (checked by the parent) as a module, with its example shape at batch 1."""
    import torch

    exported = torch.export.load(program)
    place = next(n for n in exported.graph.nodes if n.op == "placeholder" and n.name == "image")
    shape = [int(n) if isinstance(n, int) else 1 for n in place.meta["val"].shape]
    return exported.module(), torch.randn(1, *shape[1:])


def _export(module: Any, image: Any) -> Any:
    """Export again with this torch, at batch 1, after rewriting what the delegates do not take."""
    import torch

    graph_module = torch.export.export(module, (image,)).module()
    rewrite(graph_module)
    return torch.export.export(graph_module, (image,))


def rewrite(module: Any) -> None:
    """Replace operators by equal ones that delegates take, in place.

    Products of equal batches become plain ones (the general operator expands its inputs first), splits become
    slices, norms and means over tokens become means over two trailing dimensions, softmax goes over the last
    dimension, and what is computed from weights alone is computed now.
    """
    import torch

    aten = torch.ops.aten
    makers = {
        aten.matmul.default: _plain_product,
        aten.split_with_sizes.default: _slices,
        aten.split.Tensor: _slices,
        aten.chunk.default: _slices,
        aten.group_norm.default: _norm_all,
        aten.layer_norm.default: _norm_last,
        aten.softmax.int: _softmax_last,
        aten.mean.dim: _mean_tokens,
    }
    graph = module.graph
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if node.all_input_nodes and all(i.op == "get_attr" for i in node.all_input_nodes):
            _compute_now(module, node)
            continue
        maker = makers.get(node.target)
        if maker is None:
            continue
        with graph.inserting_before(node):
            new = maker(graph, node, aten)
        if new is not None:
            new.meta.update(node.meta)
            node.replace_all_uses_with(new)
            graph.erase_node(node)
    graph.eliminate_dead_code()
    module.recompile()


def _shape(node: Any) -> tuple[int, ...]:
    """Shape of a node's value; every node that matters kept or was given one."""
    return tuple(node.meta["val"].shape)


def _argument(node: Any, place: int, name: str, default: Any = None) -> Any:
    """Read an argument given by place or by name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def _compute_now(module: Any, node: Any) -> None:
    """Replace a node that depends on weights alone by its value."""
    from functools import reduce

    import torch

    def value(item: Any) -> Any:
        if not isinstance(item, torch.fx.Node):
            return item
        return reduce(getattr, str(item.target).split("."), module)

    with torch.no_grad():
        done = node.target(*torch.fx.map_arg(node.args, value), **torch.fx.map_arg(node.kwargs, value))
    if not isinstance(done, torch.Tensor):
        return
    name = f"computed_{node.name}"
    module.register_buffer(name, done.detach().contiguous().clone())
    with module.graph.inserting_before(node):
        new = module.graph.get_attr(name)
    new.meta.update(node.meta)
    node.replace_all_uses_with(new)
    module.graph.erase_node(node)


def _plain_product(graph: Any, node: Any, aten: Any) -> Any:
    """Write a product of two three-dimensional tensors of one batch without the expansion."""
    left, right = (_shape(arg) for arg in node.args)
    if len(left) == len(right) == 3 and left[0] == right[0]:
        return graph.call_function(aten.bmm.default, node.args)
    return None


def _slices(graph: Any, node: Any, aten: Any) -> Any:
    """Write a split as one slice for each part; the split itself is left without users."""
    dim = _argument(node, 2, "dim", 0)
    start = 0
    parts = {user.args[1]: user for user in node.users}
    for place, value in enumerate(node.meta["val"]):
        length = value.shape[dim]
        if place in parts:
            part = graph.call_function(aten.slice.Tensor, (node.args[0], dim, start, start + length))
            part.meta.update(parts[place].meta)
            parts[place].replace_all_uses_with(part)
            graph.erase_node(parts[place])
        start += length


def _norm(graph: Any, x: Any, shape: tuple[int, ...], eps: float, aten: Any) -> Any:
    """Normalise a four-dimensional view over its last two dimensions and give it `shape` again."""
    call = graph.call_function
    centred = call(aten.sub.Tensor, (x, call(aten.mean.dim, (x, [2, 3], True))))
    variance = call(aten.mean.dim, (call(aten.mul.Tensor, (centred, centred)), [2, 3], True))
    factor = call(aten.rsqrt.default, (call(aten.add.Tensor, (variance, eps)),))
    return call(aten.reshape.default, (call(aten.mul.Tensor, (centred, factor)), list(shape)))


def _norm_all(graph: Any, node: Any, aten: Any) -> Any:
    """Write group norm with one group and without affine as arithmetic."""
    if (
        node.args[1] != 1
        or _argument(node, 2, "weight") is not None
        or _argument(node, 3, "bias") is not None
    ):
        return None
    batch, channels = (shape := _shape(node.args[0]))[:2]
    flat = graph.call_function(aten.reshape.default, (node.args[0], [batch, 1, channels, -1]))
    return _norm(graph, flat, shape, _argument(node, 4, "eps", 1e-5), aten)


def _norm_last(graph: Any, node: Any, aten: Any) -> Any:
    """Write layer norm over the last of three dimensions as arithmetic."""
    shape = _shape(node.args[0])
    if len(shape) != 3 or len(node.args[1]) != 1:
        return None
    wide = graph.call_function(aten.reshape.default, (node.args[0], [shape[0], shape[1], 1, shape[2]]))
    done = _norm(graph, wide, shape, _argument(node, 4, "eps", 1e-5), aten)
    weight, bias = _argument(node, 2, "weight"), _argument(node, 3, "bias")
    if weight is not None:
        done = graph.call_function(aten.mul.Tensor, (done, weight))
    return done if bias is None else graph.call_function(aten.add.Tensor, (done, bias))


def _softmax_last(graph: Any, node: Any, aten: Any) -> Any:
    """Write softmax over the middle of three dimensions as one over the last."""
    if len(_shape(node.args[0])) != 3 or node.args[1] not in (1, -2):
        return None
    call = graph.call_function
    turned = call(aten.permute.default, (node.args[0], [0, 2, 1]))
    return call(aten.permute.default, (call(aten.softmax.int, (turned, -1)), [0, 2, 1]))


def _mean_tokens(graph: Any, node: Any, aten: Any) -> Any:
    """Write means over the middle of three dimensions, or a picture's, as means over two trailing ones kept."""
    shape = _shape(node.args[0])
    dims = sorted(d % len(shape) for d in node.args[1])
    call = graph.call_function
    if _argument(node, 2, "keepdim", False):
        return None
    if len(shape) == 4 and dims == [2, 3]:
        mean = call(aten.mean.dim, (node.args[0], [2, 3], True))
    elif len(shape) == 3 and dims == [1]:
        turned = call(aten.permute.default, (node.args[0], [0, 2, 1]))
        wide = call(aten.reshape.default, (turned, [shape[0], shape[2], shape[1], 1]))
        mean = call(aten.mean.dim, (wide, [2, 3], True))
    else:
        return None
    return call(aten.reshape.default, (mean, list(_shape(node))))


def convert_executorch(program: str, file: str) -> dict[str, Any]:
    """Write a `.pte` with everything that XNNPACK takes delegated to it; count what it did not take."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.devtools.backend_debug import get_delegation_info
    from executorch.exir import to_edge_transform_and_lower

    lowered = to_edge_transform_and_lower(_export(*_load(program)), partitioner=[XnnpackPartitioner()])
    table = get_delegation_info(lowered.exported_program().graph_module).get_operator_delegation_dataframe()
    delegated, left = 0, Counter()
    for _, row in table.iterrows():
        if row["op_type"] in _ALLOCATION:
            continue
        delegated += int(row["occurrences_in_delegated_graphs"])
        left[row["op_type"]] += int(row["occurrences_in_non_delegated_graphs"])
    finished = lowered.to_executorch()
    Path(file).write_bytes(finished.buffer)
    portable = sum(left.values())
    return {
        "batch": 1,
        "delegated_ops": delegated,
        "portable_ops": portable,
        "delegated_share": round(delegated / max(1, delegated + portable), 4),
        "portable": {name: count for name, count in left.items() if count},
        "versions": _versions("torch", "executorch"),
    }


def run_executorch(file: str, threads: int) -> Run:
    """Open a `.pte`."""
    import torch
    from executorch.extension.pybindings import portable_lib

    portable_lib._unsafe_reset_threadpool(threads)
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(file).load_method("forward")
    return lambda images: method.execute([torch.from_numpy(images)])[0].numpy()


def convert_litert(program: str, file: str) -> dict[str, Any]:
    """Write a `.tflite`."""
    import litert_torch

    module, image = _load(program)
    exported = _export(module, image)
    litert_torch.convert(exported.module(), (image,)).export(file)
    return {"batch": 1, "versions": _versions("torch", "litert-torch", "ai-edge-litert")}


def run_litert(file: str, threads: int) -> Run:
    """Open a `.tflite`."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=file, num_threads=threads)
    interpreter.allocate_tensors()
    entry, exit_ = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(images: Any) -> Any:
        interpreter.set_tensor(entry, images)
        interpreter.invoke()
        return interpreter.get_tensor(exit_)

    return run


def convert_coreml(program: str, file: str) -> dict[str, Any]:
    """Write an ML program in float32 (`.mlpackage`, zipped into one file)."""
    import shutil
    import tempfile

    import coremltools

    module, image = _load(program)
    exported = _export(module, image).run_decompositions({})
    model = coremltools.convert(
        exported,
        inputs=[coremltools.TensorType(name="image", shape=tuple(image.shape))],
        outputs=[coremltools.TensorType(name="output")],
        minimum_deployment_target=coremltools.target.iOS16,
        compute_precision=coremltools.precision.FLOAT32,
    )
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.mlpackage")
        shutil.move(shutil.make_archive(f"{folder}/packed", "zip", folder, "model.mlpackage"), file)
    return {"batch": 1, "versions": _versions("torch", "coremltools")}


def run_coreml(file: str, threads: int) -> Run:
    """Open a zipped `.mlpackage`; macOS only. Core ML chooses its threads by itself."""
    import tempfile
    import zipfile

    import coremltools

    del threads
    folder = tempfile.mkdtemp()
    zipfile.ZipFile(file).extractall(folder)
    model = coremltools.models.MLModel(
        f"{folder}/model.mlpackage", compute_units=coremltools.ComputeUnit.CPU_ONLY
    )
    return lambda images: model.predict({"image": images})["output"]


def _versions(*names: str) -> dict[str, str]:
    """Versions of the packages that did the work."""
    from importlib.metadata import version

    return {name: version(name) for name in names}


CONVERTERS = {"executorch": convert_executorch, "litert": convert_litert, "coreml": convert_coreml}
RUNNERS = {"executorch": run_executorch, "litert": run_litert, "coreml": run_coreml}

if __name__ == "__main__":
    main()
