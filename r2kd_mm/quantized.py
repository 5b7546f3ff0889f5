"""Train a classifier with fake quantisation: training rounds weights and activations as the int8 file will.

The graph and the fake quantisation are those of torchao (PT2E), the quantiser is ExecuTorch's for XNNPACK. Both are
imported where they are used: ``pip install 'r2kd_mm[executorch]'``.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, fx, nn

from r2kd_mm.classifiers import num_classes
from r2kd_mm.registry import MODELS

SMALLEST_SCALE = 2**-12  # that of ExecuTorch's quantiser
PACKAGES = ('executorch', 'torchao')
# Operators whose argument says whether they train, and its place.
BATCH_NORM = {'aten.batch_norm.default': 5}
VARIANCE, MOMENTUM, EPS = 4, 6, 7  # places of other arguments of a batch norm
FOLDED_EPS = 1e-5  # in the patterns of torchao
DROPOUT = {'aten.dropout.default': 2, 'aten.dropout_.default': 2}


def quantizer(training: bool = False) -> Any:
    """Return the quantiser of all int8 graphs: weights per channel, activations per tensor, 8 bits each.

    Args:
        training: Learn with fake quantisation, with ranges that follow the images.

    Example:
        >>> quantizer(training=True)  # doctest: +SKIP
        <executorch.backends.xnnpack.quantizer.xnnpack_quantizer.XNNPACKQuantizer object at ...>
    """
    xnnpack = importlib.import_module('executorch.backends.xnnpack.quantizer.xnnpack_quantizer')
    config = xnnpack.get_symmetric_quantization_config(is_per_channel=True, is_qat=training)
    if training:
        # The fused operators of the default choose other scales than the conversion to int8 does, so that an int8 file
        # would not say what was trained.
        pt2e = importlib.import_module('torchao.quantization.pt2e')
        weight = pt2e.FakeQuantize.with_args(
            observer=pt2e.MovingAveragePerChannelMinMaxObserver, averaging_constant=1.0, eps=SMALLEST_SCALE
        )
        activation = pt2e.FakeQuantize.with_args(observer=pt2e.MovingAverageMinMaxObserver, eps=SMALLEST_SCALE)
        config = dataclasses.replace(
            config,
            input_activation=dataclasses.replace(config.input_activation, observer_or_fake_quant_ctr=activation),
            output_activation=dataclasses.replace(config.output_activation, observer_or_fake_quant_ctr=activation),
            weight=dataclasses.replace(config.weight, observer_or_fake_quant_ctr=weight),
        )
    return xnnpack.XNNPACKQuantizer().set_global(config)


@MODELS.register_module()
class FakeQuantizedClassifier(BaseModel):
    """Classifier whose weights and activations are rounded to int8 while it learns.

    It is the ``architecture`` of a distiller, or a model of its own. The batch norm is folded into the convolution for
    the rounding. In evaluation the ranges stay as they are, and so they do in training after :meth:`freeze_`.

    Args:
        classifier: Config of the classifier, with ``init_cfg`` if it starts from trained weights.
        image_shape: Shape of an image, ``(C, H, W)``.
        init_cfg: Not taken; give it to ``classifier``.
        data_preprocessor: As in other models; a distiller has one of its own.

    Raises:
        ImportError: torchao or ExecuTorch is missing.
        ValueError: The classifier cannot be followed as a graph, or ``init_cfg`` is given here.

    Example:
        >>> FakeQuantizedClassifier({}, (3, 8, 8), init_cfg=dict(type='Pretrained', checkpoint='a.pth'))
        Traceback (most recent call last):
        ...
        ValueError: FakeQuantizedClassifier takes no init_cfg, its weights are those of its classifier; give init_cfg to
        the classifier in it
    """

    def __init__(
        self,
        classifier: Mapping[str, Any],
        image_shape: Sequence[int],
        init_cfg: Any = None,
        data_preprocessor: Any = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        if init_cfg is not None:
            raise ValueError(
                'FakeQuantizedClassifier takes no init_cfg, its weights are those of its classifier; give init_cfg to '
                'the classifier in it'
            )
        missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            raise ImportError(
                f'FakeQuantizedClassifier needs {", ".join(missing)}, which is not installed; install the executorch '
                "extra: pip install 'r2kd_mm[executorch]'"
            )
        built: Any = MODELS.build(dict(classifier))
        built.init_weights()  # before the graph, which takes the weights over
        _check_batch_norm(built)
        self._rules = (getattr(built, 'head', None) or built,)  # loss and predictions; in a tuple, no submodule
        self.num_classes = num_classes(built)
        self.loss_module = self._rules[0].loss_module
        self.model = _fake_quantised(built, tuple(image_shape))
        self._frozen = False

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """Return logits, losses or predictions, as the classifier would."""
        logits = self.model(inputs)
        if mode == 'tensor':
            return logits
        if mode == 'loss':
            return self._rules[0]._get_loss(logits, data_samples)
        if mode == 'predict':
            return self._rules[0]._get_predictions(logits, data_samples)
        raise RuntimeError(f'mode must be tensor, loss or predict, got {mode!r}')

    def init_weights(self) -> None:
        """Do nothing: the classifier was initialised before it became a graph."""

    def train(self, mode: bool = True) -> FakeQuantizedClassifier:
        """Let batch norm, dropout and the ranges follow the images, as far as they are not frozen."""
        self.training = mode
        learning = mode and not self._frozen
        _let_train_(self.model, BATCH_NORM, learning)
        _let_train_(self.model, DROPOUT, mode)
        for module in _fake_quantisers(self.model):
            module.enable_observer(learning)
            _take_scale_of_range_(module)
        return self

    def freeze_(self, frozen: bool = True) -> None:
        """Keep the statistics of the batch norm and the ranges as they are while the weights learn on."""
        self._frozen = frozen
        self.train(self.training)

    def converted(self) -> fx.GraphModule:
        """Return the network in int8, in eval mode; this one is not changed."""
        network = copy.deepcopy(self).eval().model
        _fold_eps_(network)
        _let_train_(network, BATCH_NORM, True)  # the pattern that torchao folds
        return converted(network)


def converted(prepared: fx.GraphModule) -> fx.GraphModule:
    """Return an observed or fake-quantised graph with int8 weights; the given one is used up.

    Example:
        >>> network = converted(student.model)  # doctest: +SKIP
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of torch, about itself
        network = importlib.import_module('torchao.quantization.pt2e.quantize_pt2e').convert_pt2e(prepared)
    _let_train_(network, {**BATCH_NORM, **DROPOUT}, False)
    used = {node.target for node in network.graph.nodes if node.op in ('get_attr', 'call_module')}
    for name, _ in [*network.named_parameters(), *network.named_buffers()]:
        if name not in used:  # the weights in float32, which would double a file
            owner, _, attribute = name.rpartition('.')
            delattr(network.get_submodule(owner), attribute)
    return network


def _check_batch_norm(classifier: nn.Module) -> None:
    """Refuse weights of 0 in a batch norm: fake quantisation folds it into the convolution, and divides by them."""
    for name, module in classifier.named_modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine and bool((module.weight == 0).any()):
            raise ValueError(
                f'the batch norm {name!r} has weights of 0, and fake quantisation divides by them; start from trained '
                "weights, init_cfg=dict(type='Pretrained', ...) of the classifier, or without zero_init_residual"
            )


class _Logits(nn.Module):
    """Network from images to logits, for the graph."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(images, mode='tensor')


def _fake_quantised(classifier: nn.Module, image_shape: tuple[int, ...]) -> fx.GraphModule:
    prepare = importlib.import_module('torchao.quantization.pt2e.quantize_pt2e').prepare_qat_pt2e
    images = torch.zeros(2, *image_shape)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            program = torch.export.export(
                _Logits(classifier.train()), (images,), dynamic_shapes=({0: torch.export.Dim('batch')},), strict=False
            )
    except Exception as error:  # whatever torch.export raises
        raise ValueError(
            f'{type(classifier).__name__} cannot learn with fake quantisation: torch.export cannot follow it for '
            f'images of shape {image_shape} ({str(error).splitlines()[0]}); check image_shape, or take another network'
        ) from error
    graph = program.module()
    for node in list(graph.graph.nodes):
        if str(node.target) == 'aten.add_.Tensor' and str(node.args[0].target).endswith('num_batches_tracked'):
            graph.graph.erase_node(node)  # it would count in evaluation too, and nothing reads it
    literals = {node.args[VARIANCE].target: node.args[MOMENTUM : EPS + 1] for node in _batch_norms(graph)}
    graph.recompile()
    graph = prepare(graph, quantizer(training=True))
    for node in _batch_norms(graph):
        momentum, eps = literals[node.args[VARIANCE].target]
        node.update_arg(MOMENTUM, momentum)
        _set_eps_(node, eps)
    graph.recompile()
    # A copy has its modules in the order of the graph, as its own copies have: EMAHook pairs buffers by their place.
    graph = copy.deepcopy(graph)
    _shape_ranges_(graph, images)
    return graph


def _shape_ranges_(graph: fx.GraphModule, images: Tensor) -> None:
    """Give the ranges of channels their shape before the first step: EMAHook copies them before it."""
    _let_train_(graph, {**BATCH_NORM, **DROPOUT}, False)
    with torch.no_grad():
        graph(images)
    for module in _fake_quantisers(graph):
        if not module.is_per_channel:  # as if it had seen no image
            module.activation_post_process.reset_min_max_vals()
            module.scale.fill_(1.0)
            module.zero_point.fill_(0)
    _let_train_(graph, {**BATCH_NORM, **DROPOUT}, True)


def _fake_quantisers(graph: fx.GraphModule) -> list[Any]:
    kind = importlib.import_module('torchao.quantization.pt2e').FakeQuantize
    return [module for module in graph.modules() if isinstance(module, kind)]


def _take_scale_of_range_(module: Any) -> None:
    """Compute the scale from the range, as the conversion does; an average may have changed one without the other."""
    observer = module.activation_post_process
    observer.eps.fill_(SMALLEST_SCALE)  # torchao takes another where a state dict does not state its version
    if bool(observer.min_val.isfinite().all()):  # it has seen an image
        scale, zero_point = module.calculate_qparams()
        module.scale.copy_(scale)
        module.zero_point.copy_(zero_point)


def _batch_norms(graph: fx.GraphModule) -> list[Any]:
    return [node for node in graph.graph.nodes if str(node.target) in BATCH_NORM]


def _set_eps_(norm: Any, eps: float) -> None:
    """Set the constant of a batch norm, also where its convolution divides by its deviation; torchao writes 1e-5."""
    norm.update_arg(EPS, eps)
    for user in list(norm.args[VARIANCE].users):
        if str(user.target) == 'aten.add.Tensor':
            user.update_arg(1, eps)


def _fold_eps_(graph: fx.GraphModule) -> None:
    """Write each batch norm with the constant that torchao folds by; in evaluation it computes the same as before."""
    for node in _batch_norms(graph):
        variance = graph.get_buffer(node.args[VARIANCE].target)
        variance.add_(node.args[EPS] - FOLDED_EPS)
        _set_eps_(node, FOLDED_EPS)
    graph.recompile()


def _let_train_(graph: fx.GraphModule, places: Mapping[str, int], mode: bool) -> None:
    """Set the argument that says whether an operator trains; ``train()`` does not reach into a graph."""
    changed = False
    for node in graph.graph.nodes:
        place = places.get(str(node.target))
        if place is not None and node.args[place] != mode:
            node.update_arg(place, mode)
            changed = True
    if changed:
        graph.recompile()
